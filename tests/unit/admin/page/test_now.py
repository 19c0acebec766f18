"""How the page says how merlind stands."""

from dataclasses import replace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from merlind.admin.health import Progress
from merlind.admin.overview import Snapshot, UpstreamLimit
from merlind.admin.page.now import now_section, summary, why_limited
from merlind.core.limiter import LimiterState
from merlind.core.pause import Pause
from tests.unit.admin.page.support import Html
from tests.unit.support import EPOCH

FULL = UpstreamLimit(LimiterState.FULL, 32, 32, None)
REDUCED = UpstreamLimit(LimiterState.REDUCED, 6, 32, "http 503")
OUTAGE = UpstreamLimit(LimiterState.OUTAGE, 1, 32, "timed out", 312.0, 42.0)

WELL = Snapshot(
    wall=EPOCH,
    version="1.0.0",
    uptime=100.0,
    not_taking=[],
    progress=Progress(),
    pause=Pause(),
    pause_left=None,
    upstream=FULL,
    by_state={"upload": 3, "poll": 4, "ready": 1234, "failed": 5},
    unfinished=7,
    due=2,
    in_flight=1,
    oldest=75.0,
    disk_free=3 * 1024**3,
    min_disk_free=256 * 1024**2,
    spool_bytes=2048,
)


class NowTests(SynchronousTestCase):
    """What an operator sees first."""

    def section(self, **changes: Any) -> Html:
        return Html.of(now_section(replace(WELL, **changes)))

    def verdicts(self, **changes: Any) -> list[tuple[str, str]]:
        found = self.section(**changes).all("p")
        return [(p.attrib["class"], p.text or "") for p in found if p.attrib.get("class", "").startswith("verdict")]

    def test_all_is_well(self) -> None:
        """Then every answer is good, and says nothing more."""
        verdicts = [("verdict good", text) for text in ("Yes", "Yes", "32 of 32 at once", "Not paused")]
        self.assertEqual(self.verdicts(), verdicts)
        self.assertEqual(self.section().all("li"), [])

    def test_reasons(self) -> None:
        """Whatever is wrong has its reasons, and what slows it down its notes."""
        section = self.section(
            not_taking=["storage: the disk is almost full", "stopping"],
            progress=Progress(["upstream: <away>"], ["tasks: 2 keep failing"]),
        )
        self.assertEqual(
            section.texts("li"),
            ["storage: the disk is almost full", "stopping", "upstream: <away>", "tasks: 2 keep failing"],
        )
        self.assertEqual(self.verdicts(not_taking=["stopping"])[0], ("verdict bad", "No"))
        notes = self.verdicts(progress=Progress([], ["tasks: 2 keep failing"]))
        self.assertEqual(notes[1], ("verdict good", "Yes"))

    def test_upstream_limit(self) -> None:
        """It says how many requests the upstream may have, why, and until when."""
        for upstream, paused, verdict, text in (
            (FULL, False, ("verdict good", "32 of 32 at once"), "Nothing holds it back."),
            (
                REDUCED,
                False,
                ("verdict fair", "6 of 32 at once"),
                "Reduced (last error: http 503). It grows with each good response.",
            ),
            (
                replace(REDUCED, last_error=None),
                False,
                ("verdict fair", "6 of 32 at once"),
                "Reduced. It grows with each good response.",
            ),
            (
                OUTAGE,
                False,
                ("verdict bad", "1 of 32 at once"),
                "Nobody has got a score for 5 min 12 s (last error: timed out). One probe at a time, the next one in "
                "42 s; the first good response ends this.",
            ),
        ):
            self.assertEqual(self.verdicts(upstream=upstream)[2], verdict)
            self.assertEqual(why_limited(upstream, paused), text)
        self.assertIn("the next one now;", why_limited(replace(OUTAGE, next_request_in=0.0), False))
        self.assertIn("the next one when the pause ends;", why_limited(OUTAGE, True))

    def test_pause(self) -> None:
        """It can be paused; in a pause, it says until when, and can be resumed or get another end."""
        section = self.section()
        self.assertEqual(section.fields("Pause"), {"do": "pause", "seconds": "1800"})
        for until, left, text in (
            (EPOCH + 90.0, 90.0, "Until 2027-01-15 08:01:30 UTC, in 1 min 30 s."),
            (None, None, "Until somebody resumes."),
        ):
            section = self.section(pause=Pause(0.0, 5.0, until, left), pause_left=left)
            self.assertIn(text, section.text)
            self.assertEqual(section.fields("Resume now"), {"do": "resume"})
            self.assertEqual(section.fields("Change")["do"], "pause")

    def test_figures(self) -> None:
        """The numbers of the moment; what nobody knows is left out."""
        figures = dict(zip(self.section().texts("dt"), self.section().texts("dd/b"), strict=True))
        self.assertEqual(
            figures,
            {
                "Unfinished": "7", "Due": "2", "In flight": "1", "Oldest": "1 min 15 s", "Scored": "1,234",
                "Failed": "5", "Disk free": "3.0 GB", "Photos": "2.0 KB",
            },
        )  # fmt: skip
        unknown = self.section(oldest=None, disk_free=None)
        self.assertEqual([unknown.texts("dd/b")[index] for index in (3, 6)], ["–", "–"])

    def test_title(self) -> None:
        """The title says what matters most: one sees it among many tabs."""
        self.assertEqual(summary(WELL), "merlind: all is well, 7 unfinished tasks")
        bad = replace(WELL, not_taking=["x"], progress=Progress(["y"]), unfinished=1)
        self.assertEqual(summary(bad), "merlind: not taking photos, not working, 1 unfinished task")
        paused = replace(WELL, progress=Progress(["paused"]), pause=Pause(0.0, 1.0))
        self.assertEqual(summary(paused), "merlind: paused, 7 unfinished tasks")
