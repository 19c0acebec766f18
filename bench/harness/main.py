"""The command line of the bench: what to run, in which order, and where the results go."""

import argparse
import json
import os
import platform
import resource
import shutil
import sqlite3
import sys
import time
from pathlib import Path

import uvloop

from harness import plot, report, scaling
from harness.measuring import FULL, QUICK
from harness.processes import BENCH, Kind, snapshot
from harness.workloads import WORKLOADS

PEERS = ("fastapi", "aiohttp")
NGINX = Kind("nginx")  # for W9 alone, where it is installed
WORK = BENCH / ".work"
DELETED = WORK / "deleted"  # touched when the data of a run is deleted
REMEMBERED = 360  # s for which ext4 without a journal steps over deleted inodes, one by one, to make a file
ENOUGH_DISK = 12 * 10**9  # bytes that have to be free before each run


def main() -> None:
    options = parse_options()
    most_files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    work = WORK / f"run-{os.getpid()}"
    work.mkdir(parents=True)
    wait_for_disk()
    try:
        trees = [("merlind", str(BENCH.parent)), *(also.split("=", 1) for also in options.also)]
        kinds = [Kind(name, snapshot(Path(tree), work / f"tree-{name}")) for name, tree in trees]
        if options.scaling:
            size = QUICK if options.quick else FULL
            series = uvloop.run(scaling.measure(kinds[0], work, size, options.most))
            print(scaling.tables(series))
            keep(f"{options.name}-scaling", {"scaling": series})
        else:
            kinds += map(Kind, options.peers)
            if "W9" in options.only and shutil.which("nginx"):
                kinds.append(NGINX)
            runs = uvloop.run(measure(options, kinds, work))
            print("\n" + report.table(runs, [kind.name for kind in kinds]))
            print("\n".join(report.saturation(runs)))
            keep(options.name, {"runs": runs})
    finally:
        # Never between the rounds: making files gets dearer by it.
        if not options.keep:
            shutil.rmtree(work, ignore_errors=True)
            DELETED.touch()


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/run.py", description="Measure merlind against its peers.")
    add = parser.add_argument
    add("--only", default=",".join(WORKLOADS), help="workloads, such as W1,W2 (default: all)")
    add("--rounds", type=int, default=5, help="how often each is run, interleaved (default: 5)")
    add("--quick", action="store_true", help="short runs with fewer tasks, to see that it works")
    add("--peers", default=",".join(PEERS), help="fastapi, aiohttp or both (default)")
    add("--also", action="append", default=[], metavar="NAME=TREE", help="another tree of merlind")
    add("--scaling", action="store_true", help="merlind alone, with ever more tasks and connections")
    add("--most", type=int, default=1_000_000, help="the most tasks of --scaling (default: 1000000)")
    add("--keep", action="store_true", help="leave the data in bench/.work, so that the next run need not wait")
    add("--name", default="latest", help="the name of the results in bench/results/ (default: latest)")
    options = parser.parse_args()
    for name, known in (("only", list(WORKLOADS)), ("peers", PEERS)):
        chosen = [word for word in getattr(options, name).split(",") if word]
        if not set(chosen) <= set(known):
            parser.error(f"--{name} takes {', '.join(known)}")
        setattr(options, name, chosen)
    return options


async def measure(options: argparse.Namespace, kinds: list[Kind], work: Path) -> report.Runs:
    """Run all rounds of all workloads; the servers take turns, and the order changes from round to round."""
    size = QUICK if options.quick else FULL
    runs: report.Runs = {}
    for workload in options.only:
        by_kind = runs[workload] = {kind.name: [] for kind in kinds}
        able = [kind for kind in kinds if kind is not NGINX or workload == "W9"]
        for number in range(options.rounds):
            shift = number % len(able)
            for kind in able[shift:] + able[:shift]:
                if shutil.disk_usage(work).free < ENOUGH_DISK:
                    raise SystemExit("the disk is too full to measure on")
                touch_memory()
                title = f"{workload} {number + 1} {kind.name}"
                try:
                    figures = await WORKLOADS[workload](kind, work / title.replace(" ", "-"), size)
                except Exception as error:  # the other runs go on, hours of them
                    print(f"{title}: FAILED, {type(error).__name__}: {error}", flush=True)
                else:
                    by_kind[kind.name].append(figures)
                    print(f"{title}: {report.figures_line(figures)}", flush=True)
    return runs


def touch_memory() -> None:
    """Use much memory for a moment: an idle machine has given it back to its host, and gets it anew page by page."""
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    child = os.fork()
    if child == 0:
        touched = bytearray(b"x") * min(4 * 2**30, available // 2)
        os._exit(0 if touched else 1)
    os.waitpid(child, 0)


def wait_for_disk() -> None:
    """Wait until the data that the last run deleted no longer slows the disk down."""
    left = DELETED.stat().st_mtime + REMEMBERED - time.time() if DELETED.exists() else 0.0
    if left > 0:
        print(f"waiting for {left:.0f} s: new files are dear shortly after others were deleted", flush=True)
        time.sleep(left)


def keep(name: str, figures: dict[str, object]) -> None:
    """Write the results as JSON, with the machine that they were measured on, and plots of them as SVG."""
    machine = {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "kernel": platform.release(),
        "cores": os.cpu_count(),
        "time": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": "python3 bench/run.py " + " ".join(sys.argv[1:]),
    }
    results = BENCH / "results" / f"{name}.json"
    results.write_text(json.dumps({"machine": machine, **figures}, indent=1) + "\n", "utf-8")
    plot.draw(results)


if __name__ == "__main__":
    main()
