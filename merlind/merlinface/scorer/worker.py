"""A worker: a process of its own that judges photos and scores names, one request at a time (frames.py).

    python -m merlind.merlinface.scorer.worker --photo-seconds 10 --memory 1073741824

Photos are decoded here and nowhere else, so whatever a broken or hostile one does, it does to a process that can be
replaced. A photo never touches the disk, and nothing of it is kept. The worker ends when its standard input does.
"""

import ctypes
import os
import resource
import signal
import sys
import traceback
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from datetime import date
from typing import BinaryIO, NoReturn

from merlind.merlinface.scorer.frames import READY, NameScore, read_request, write_answer
from merlind.merlinface.scorer.judgement import TOO_MANY_PIXELS, Judgement, Refused

ALARM_MARGIN = 5
"""Seconds past the photo limit after which a worker ends itself; its parent, if there is one yet, kills it sooner."""

_PR_SET_PDEATHSIG = 1

Look = Callable[[bytes], Judgement]
Score = Callable[[str, Judgement], NameScore]


def main() -> None:
    """Run one worker until its standard input ends."""
    options = ArgumentParser()
    options.add_argument("--photo-seconds", type=float, required=True)
    options.add_argument("--memory", type=int, required=True)
    options.add_argument("--names", action="append", default=[], help="a file of national name statistics")
    given = options.parse_args()
    guard(given.memory)
    look, score = load(given.names)
    serve(sys.stdin.buffer, sys.stdout.buffer, look, score, given.photo_seconds + ALARM_MARGIN)


def guard(memory: int) -> None:
    """Limit the address space to so many bytes (on Linux), write no core dumps, and end with the parent."""
    # Ctrl-C reaches all processes of a terminal: the parent stops this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        most = memory if hard == resource.RLIM_INFINITY else min(memory, hard)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        # Elsewhere the end of standard input and the alarm do, which takes longer if the worker is stuck.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def give_memory_back() -> Callable[[], object]:
    """Return a function that gives freed memory back to the system: glibc keeps what a large photo took."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return (lambda: trim(0)) if trim else (lambda: None)


def load(names_files: Sequence[str] = ()) -> tuple[Look, Score]:
    """Load models and names; takes a second, and longer with files of names."""
    from merlind.merlinface.scorer import formula
    from merlind.merlinface.scorer.judge import Judge
    from merlind.merlinface.scorer.names import Names
    from merlind.merlinface.scorer.national import read

    judge, names = Judge(), Names.load([read(file) for file in names_files])

    def score(name: str, judgement: Judgement) -> NameScore:
        statistics = names.find(name)
        return NameScore(formula.score(judgement, statistics, date.today().year), statistics.known)

    return judge.look, score


def serve(take: BinaryIO, give: BinaryIO, look: Look, score: Score, alarm_seconds: float) -> None:
    """Say ``ready``, and answer requests until ``take`` ends. Ends the process at an error that nobody foresaw."""
    give.write(READY + b"\n")
    give.flush()
    trim = give_memory_back()
    fresh = True
    while (request := read_request(take.read)) is not None:
        head, photo = request
        del request
        signal.setitimer(signal.ITIMER_REAL, alarm_seconds)  # SIGALRM ends the process, whatever it hangs in
        try:
            answer: Judgement | NameScore | Refused
            if head["do"] == "look":
                answer = look(photo)
            else:
                answer = score(head["name"], Judgement(head["female"], head["age"]))
        except Refused as refused:
            answer = Refused(refused.reason)  # the one that was raised holds on to the frames, and those to the photo
        except MemoryError as error:
            if not fresh:
                _end(error)  # earlier photos may have left little room: the parent tries this one in a fresh worker
            answer = Refused(TOO_MANY_PIXELS)
        except Exception as error:
            _end(error)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        fresh = False
        give.write(write_answer(answer))
        give.flush()
        if photo:
            del photo
            trim()  # after the answer, so that nobody waits for it


def _end(error: BaseException) -> NoReturn:
    """End with a line that says what and where. The error's own message might quote a name."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    print(f"{type(error).__name__} in {os.path.basename(where.filename)}, line {where.lineno}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    main()
