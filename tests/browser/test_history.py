"""What the page remembers on this device, and how it forgets, on the server too."""

import json
import re
from functools import partial

from tests.browser.pictures import draw
from tests.browser.support import PLAYWRIGHT, PageCase, posts, remembered, row, score_of, unique
from tests.client import post, request
from tests.processes import until

if PLAYWRIGHT:
    from playwright.sync_api import Page, Request, expect


def task_of(request: "Request") -> int:
    """Return the number that a POST got."""
    response = request.response()
    assert response is not None
    number: int = response.json()["task"]
    return number


class HistoryTest(PageCase):
    """The list on this device."""

    def scored(self, *names: str) -> "tuple[Page, list[int]]":
        """Return a page that shows a score for each name, and the numbers of the tasks."""
        self.scorer()
        page = self.open()
        sent = posts(page)
        self.choose(page, draw(900, 600))
        self.send(page, ",".join(names))
        expect(page.get_by_role("meter")).to_have_count(len(names))
        return page, [task_of(request) for request in sent]

    def status(self, task: int) -> int:
        """Ask merlind about a task."""
        return request(self.shared.port, "GET", f"/?task_id={task}").code

    def gone(self, task: int) -> bool:
        """Whether merlind no longer knows a task."""
        return self.status(task) == 404

    def assert_erased(self, page: "Page", tasks: list[int]) -> None:
        """Check that merlind no longer knows the tasks, once the page's requests are through."""
        for task in tasks:
            with self.subTest(task=task):
                page.wait_for_load_state("networkidle")
                until(partial(self.gone, task), "the task to be gone", seconds=5)

    def test_kept(self) -> None:
        """Names, scores and small pictures are there after a reload, and nothing of it is asked for again."""
        names = unique("Ada", "Bob")
        page, tasks = self.scored(*names)
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))

        page.reload()

        expect(page.get_by_role("meter")).to_have_count(2)
        for name in names:
            expect(row(page, name)).to_contain_text("0.50")
        self.assertEqual([url for url in requests if "task_id" in url], [])
        thumbnails = page.get_by_role("region", name="Results").locator("img")
        expect(thumbnails.first).to_be_visible()
        sizes = thumbnails.evaluate_all("images => images.map(i => Math.max(i.naturalWidth, i.naturalHeight))")
        self.assertEqual(set(sizes), {128})
        self.assertTrue(all(str(task) in json.dumps(remembered(page)) for task in tasks))

    def test_a_hundred(self) -> None:
        """The list has 100 entries at most; the oldest go first."""
        names = unique(*(f"N{number:03}x" for number in range(102)))
        page, _ = self.scored(*names[:60])
        self.send(page, ",".join(names[60:]))
        expect(page.get_by_role("meter")).to_have_count(102)
        page.reload()
        expect(page.get_by_role("meter")).to_have_count(100)

    def test_forget(self) -> None:
        """ "Forget" erases one entry here and on the server."""
        names = unique("Ada", "Bob")
        page, tasks = self.scored(*names)

        row(page, names[0]).get_by_role("button", name="Forget").click()

        expect(row(page, names[0])).to_have_count(0)
        expect(score_of(page, names[1])).to_be_visible()
        self.assertNotIn(names[0], json.dumps(remembered(page)))
        statuses = {self.status(task) for task in tasks}
        until(lambda: sorted(self.status(task) for task in tasks) == [200, 404], f"one to be gone of {statuses}")

    def test_forget_all(self) -> None:
        """ "Forget all" leaves nothing here, and nothing on the server."""
        page, tasks = self.scored(*unique("Ada", "Bob", "Eve"))
        page.on("dialog", lambda dialog: dialog.accept())

        page.get_by_role("button", name="Forget all").click()

        expect(page.get_by_role("meter")).to_have_count(0)
        self.assert_erased(page, tasks)
        self.assertEqual(remembered(page), {})
        page.reload()
        expect(page.get_by_text("Nothing yet.")).to_be_visible()
        self.assertEqual(remembered(page), {})

    def test_forget_while_it_is_scored(self) -> None:
        """A task can be forgotten before its score is there, and does not come back."""
        scorer = self.scorer()
        scorer.hold()
        (name,) = unique("Ada")
        page = self.open()
        self.choose(page, draw())
        with page.expect_response(lambda response: response.request.method == "POST") as posted:
            self.send(page, name)
        task = posted.value.json()["task"]
        expect(row(page, name)).to_contain_text("Being scored for")

        row(page, name).get_by_role("button", name="Forget").click()
        expect(row(page, name)).to_have_count(0)
        self.assert_erased(page, [task])
        scorer.release()

        page.reload()
        expect(page.get_by_text("Nothing yet.")).to_be_visible()
        self.assertEqual(remembered(page), {})

    def test_forget_without_network(self) -> None:
        """Without a network the server is told when the network is back."""
        self.expect_failed_loads()
        (name,) = unique("Ada")
        page, tasks = self.scored(name)
        page.context.set_offline(True)
        row(page, name).get_by_role("button", name="Forget").click()
        page.context.set_offline(False)
        self.assert_erased(page, tasks)
        expect(row(page, name)).to_have_count(0)

    def test_forget_what_the_server_has_forgotten(self) -> None:
        """An entry that the server no longer has can be forgotten all the same."""
        self.expect_failed_loads()
        (name,) = unique("Ada")
        page, tasks = self.scored(name)
        request(self.shared.port, "DELETE", f"/?task_id={tasks[0]}")
        row(page, name).get_by_role("button", name="Forget").click()
        expect(row(page, name)).to_have_count(0)
        self.assertNotIn(name, json.dumps(remembered(page)))

    def test_dont_remember(self) -> None:
        """With "don't remember" names, pictures and scores are shown, and kept nowhere on the device."""
        self.scorer()
        (name,) = unique("Ada")
        page = self.open()
        page.get_by_label(re.compile("Don’t remember")).check()
        self.choose(page, draw())
        self.send(page, name)
        expect(score_of(page, name)).to_be_visible()

        kept = json.dumps(remembered(page), ensure_ascii=False)
        self.assertNotIn(name, kept)
        self.assertNotIn("data:", kept)
        page.reload()
        expect(page.get_by_role("meter")).to_have_count(0)

    def test_broken_memory(self) -> None:
        """Whatever stands in the device's memory, the page works."""
        self.scorer()
        (name,) = unique("Ada")
        page, _ = self.scored(*unique("Bob"))
        for broken in ("{", "null", "[]", '[{"task": "x"}]', "7", '{"tasks": [null, 7]}'):
            with self.subTest(broken=broken):
                page.evaluate(
                    "text => { for (const key of Object.keys(localStorage)) localStorage[key] = text }", broken
                )
                page.reload()
                expect(page.get_by_label("Choose photos", exact=True)).to_be_attached()
        self.choose(page, draw())
        self.send(page, name)
        expect(score_of(page, name)).to_be_visible()

    def test_full_memory(self) -> None:
        """A full memory costs pictures or entries, not the score."""
        self.scorer()
        (name,) = unique("Ada")
        page = self.open()
        page.evaluate("for (let n = 22; n >= 0; n--) try { localStorage['fill' + n] = 'x'.repeat(2 ** n) } catch {}")
        self.choose(page, draw())
        self.send(page, name)
        expect(score_of(page, name)).to_be_visible()

    def test_no_cookies(self) -> None:
        """The page sets no cookie."""
        page, _ = self.scored(*unique("Ada"))
        self.assertEqual(page.context.cookies(), [])

    def test_someone_elses_number(self) -> None:
        """A task that another client sent is not in the list."""
        self.scorer()
        (name,) = unique("Ada")
        post(self.shared.port, name, draw(kind="png"))
        page = self.open()
        expect(page.get_by_text("Nothing yet.")).to_be_visible()
