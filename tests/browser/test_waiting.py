"""From the button to the score: progress, long polls, lost networks, reloads, and the order of results."""

import re
import time

from tests.browser.pictures import draw
from tests.browser.support import PLAYWRIGHT, PageCase, names_in_order, posts, row, score_of, unique
from tests.processes import until

if PLAYWRIGHT:
    from playwright.sync_api import Page, Request, expect

OFFLINE = "No connection. It goes on by itself when the network is back."


class ProgressTest(PageCase):
    """What is shown while one waits."""

    def test_sending(self) -> None:
        """The percentage rises with the bytes that are really sent: on a slow line, in five steps or more."""
        self.scorer()
        (name,) = unique("Ada")
        page = self.open()
        photo = draw(900, 900, noise=True)
        seconds = 3
        rate = len(photo) / seconds
        conditions = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": rate}
        self.cdp(page, "Network.emulateNetworkConditions", **conditions)

        began = time.monotonic()
        self.choose(page, photo)
        self.send(page, name)
        expect(row(page, name).get_by_role("progressbar")).to_be_visible()
        expect(score_of(page, name)).to_be_visible()

        self.assertGreater(time.monotonic() - began, seconds / 2)
        percents = page.evaluate("percents")
        self.assertGreaterEqual(len(percents), 5, percents)
        self.assertEqual(percents, sorted(set(percents)))

    def test_time_so_far(self) -> None:
        """While it is scored, the seconds are counted, and no live region reads them out."""
        scorer = self.scorer()
        scorer.hold()
        (name,) = unique("Ada")
        page = self.open()
        self.choose(page, draw())
        self.send(page, name)

        expect(row(page, name)).to_contain_text(re.compile(r"Being scored for [12] s"))
        expect(row(page, name)).to_contain_text(re.compile(r"Being scored for [34] s"))
        scorer.release()

        expect(score_of(page, name)).to_be_visible()
        self.assertNotIn("Being scored", " ".join(self.heard(page)))

    def test_longer_than_usual(self) -> None:
        """After a minute the page says that one may close it."""
        self.scorer().hold()
        (name,) = unique("Ada")
        page = self.open()
        page.clock.install()
        self.choose(page, draw())
        self.send(page, name)
        expect(row(page, name)).to_contain_text("Being scored for")
        text = "This takes longer than usual. You may close the page: it goes on, and the result will be here."
        expect(page.get_by_text(text)).to_be_hidden()

        page.clock.run_for(61_000)

        expect(page.get_by_text(text)).to_be_visible()


class Watched:
    """The long polls of a page: how many are open, and how many have been at most."""

    def __init__(self, page: "Page") -> None:
        self._open: set[Request] = set()
        self.most = 0
        page.on("request", self._began)
        page.on("requestfinished", self._ended)
        page.on("requestfailed", self._ended)

    def _began(self, request: "Request") -> None:
        if request.method == "GET" and "wait=" in request.headers.get("prefer", ""):
            self._open.add(request)
            self.most = max(self.most, len(self._open))

    def _ended(self, request: "Request") -> None:
        self._open.discard(request)

    @property
    def open(self) -> int:
        """How many are open now."""
        return len(self._open)


class LongPollTest(PageCase):
    """One long poll a task, and few at a time."""

    def test_twenty_names(self) -> None:
        """With twenty tasks four long polls are open, never more, and each score is shown all the same."""
        scorer = self.scorer()
        scorer.hold()
        names = unique(*(f"N{number:02}" for number in range(20)))
        page = self.open()
        watched = Watched(page)
        self.choose(page, draw())
        self.send(page, ", ".join(names))
        self.sent(*names)
        expect(page.get_by_text(re.compile("Being scored for"))).to_have_count(20)
        self.assertEqual(watched.open, 4)

        scorer.release(*names[::-1])

        expect(page.get_by_role("meter")).to_have_count(20)
        self.assertEqual(watched.most, 4)

    def test_wait(self) -> None:
        """Each long poll waits for 25 seconds: less than what proxies and networks put up with."""
        self.scorer().hold()
        (name,) = unique("Ada")
        page = self.open()
        self.choose(page, draw())
        with page.expect_request(lambda request: "prefer" in request.headers and request.method == "GET") as seen:
            self.send(page, name)
        self.assertEqual(seen.value.headers["prefer"], "wait=25")


class LostNetworkTest(PageCase):
    """A network that goes, and comes back."""

    def test_offline_while_waiting(self) -> None:
        """The page says within two seconds that the network is gone, and goes on when it is back."""
        self.expect_failed_loads()
        scorer = self.scorer()
        scorer.hold()
        (name,) = unique("Ada")
        page = self.open()
        sent = posts(page)
        self.choose(page, draw())
        self.send(page, name)
        expect(row(page, name)).to_contain_text("Being scored for")

        page.context.set_offline(True)
        expect(page.get_by_text(OFFLINE).first).to_be_visible(timeout=2000)
        scorer.release()
        self.assertEqual(score_of(page, name).count(), 0)
        page.context.set_offline(False)

        expect(score_of(page, name)).to_be_visible()
        expect(page.get_by_text(OFFLINE)).to_have_count(0)
        self.assertEqual(len(sent), 1)

    def test_offline_when_sending(self) -> None:
        """A photo that is sent without a network goes out when it is back."""
        self.expect_failed_loads()
        self.scorer()
        (name,) = unique("Ada")
        page = self.open()
        self.choose(page, draw())
        page.context.set_offline(True)
        self.send(page, name)
        expect(page.get_by_text(OFFLINE).first).to_be_visible(timeout=2000)

        page.context.set_offline(False)

        expect(score_of(page, name)).to_be_visible()
        self.assertEqual(len(self.sent(name)), 1)

    def test_offline_in_mid_upload(self) -> None:
        """A photo cut off on its way is sent again as a whole."""
        self.expect_failed_loads()
        self.scorer()
        (name,) = unique("Ada")
        page = self.open()
        photo = draw(900, 900, noise=True)
        slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": len(photo) / 20}
        session = page.context.new_cdp_session(page)
        session.send("Network.emulateNetworkConditions", slow)
        self.choose(page, photo)
        self.send(page, name)
        expect(row(page, name)).to_contain_text(re.compile(r"Sending: \d+ %"))

        page.context.set_offline(True)
        expect(page.get_by_text(OFFLINE).first).to_be_visible(timeout=2000)
        session.send("Network.emulateNetworkConditions", {**slow, "uploadThroughput": -1})
        page.context.set_offline(False)

        expect(score_of(page, name)).to_be_visible()
        (upload,) = self.sent(name)
        self.assertGreater(len(upload.fields["photo"]), len(photo) * 0.9)

    def test_server_away(self) -> None:
        """A merlind that is restarted while a page waits has the score for it afterwards."""
        self.expect_failed_loads()
        scorer = self.scorer()
        scorer.hold()
        merlind = self.merlind(upstream=self.upstream.url).start()
        (name,) = unique("Ada")
        page = self.open(merlind)
        sent = posts(page)
        self.choose(page, draw())
        self.send(page, name)
        expect(row(page, name)).to_contain_text("Being scored for")

        merlind.kill()
        expect(page.get_by_text("The server can’t be reached. We keep trying.").first).to_be_visible()
        scorer.release()
        merlind.start()

        expect(score_of(page, name)).to_be_visible(timeout=30_000)
        self.assertEqual(len(sent), 1)


class ReloadTest(PageCase):
    """A page that goes, and comes back."""

    def waiting(self, *options: str) -> "tuple[Page, str, list[Request]]":
        """Return a page that waits for a name's score, the name, and the list of its POSTs."""
        self.held = self.scorer()
        self.held.hold()
        (name,) = unique("Ada")
        page = self.open()
        sent = posts(page)
        self.choose(page, draw())
        self.send(page, name)
        expect(row(page, name)).to_contain_text("Being scored for")
        return page, name, sent

    def test_reload(self) -> None:
        """A reload in mid-way posts nothing, and the score is shown when it is there."""
        page, name, sent = self.waiting()
        page.reload()
        expect(row(page, name)).to_contain_text("Being scored for")
        self.held.release()
        expect(score_of(page, name)).to_be_visible()
        self.assertEqual((len(sent), len(self.sent(name))), (1, 1))

    def test_closed_tab(self) -> None:
        """A tab that is closed while it waits: a new one has the score, which came in the meantime."""
        page, name, sent = self.waiting()
        page.close()
        self.held.release()
        again = self.tab(page.context)
        again.goto("/")
        expect(score_of(again, name)).to_be_visible()
        self.assertEqual(len(sent), 1)

    def test_sleep(self) -> None:
        """A page that was frozen, as on a phone in a pocket, has the score when it wakes up."""
        page, name, sent = self.waiting()
        session = page.context.new_cdp_session(page)
        session.send("Page.setWebLifecycleState", {"state": "frozen"})
        self.held.release()
        until(lambda: self.shared.unfinished() == 0, "the score")
        session.send("Page.setWebLifecycleState", {"state": "active"})
        expect(score_of(page, name)).to_be_visible()
        self.assertEqual(len(sent), 1)

    def test_two_tabs(self) -> None:
        """What one tab sends is not lost by another that was open before."""
        page, name, _ = self.waiting()
        other = self.tab(page.context)
        other.goto("/")
        expect(row(other, name)).to_be_visible()
        (second,) = unique("Bob")
        self.choose(other, draw())
        self.send(other, second)
        self.held.release()
        for tab in (page, other):
            expect(score_of(tab, name)).to_be_visible()
        expect(score_of(other, second)).to_be_visible()
        page.reload()
        for each in (name, second):
            expect(score_of(page, each)).to_be_visible()


class OrderTest(PageCase):
    """Several results side by side."""

    def test_sorted_when_all_are_there(self) -> None:
        """Lines stay where they are until the last score is there; then the best comes first."""
        scorer = self.scorer()
        scorer.hold()
        names = unique("Ada", "Bob", "Eve")
        scorer.scores = dict(zip(names, (0.2, 0.9, 0.5), strict=True))
        page = self.open()
        self.choose(page, draw())
        self.send(page, ",".join(names))
        expect(page.get_by_text(re.compile("Being scored for"))).to_have_count(3)
        first = names_in_order(page, set(names))
        self.assertEqual(sorted(first), sorted(names))

        for count, name in enumerate((names[1], names[2]), 1):
            scorer.release(name)
            expect(page.get_by_role("meter")).to_have_count(count)
            self.assertEqual(names_in_order(page, set(names)), first)
        scorer.release(names[0])

        expect(page.get_by_role("meter")).to_have_count(3)
        self.assertEqual(names_in_order(page, set(names)), [names[1], names[2], names[0]])

    def test_nothing_jumps(self) -> None:
        """A line is as high when its score is there as it was before."""
        scorer = self.scorer()
        scorer.hold()
        names = unique("Ada", "Bob")
        page = self.open()
        self.choose(page, draw())
        self.send(page, ",".join(names))
        expect(page.get_by_text(re.compile("Being scored for"))).to_have_count(2)
        before = [row(page, name).bounding_box() for name in names]

        scorer.release(names[0])
        expect(score_of(page, names[0])).to_be_visible()

        self.assertEqual([row(page, name).bounding_box() for name in names], before)
