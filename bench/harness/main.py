"""The command line of the bench: ``python3 bench/run.py --help``."""

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
from harness.common import FULL, QUICK
from harness.processes import BENCH, Kind, peer, snapshot
from harness.workloads import WORKLOADS

PEERS = "fastapi,aiohttp"
ENOUGH_DISK = 12 * 10**9
"""Bytes that have to be free before a run."""

DELETED = BENCH / ".work" / "deleted"
"""Its time is when a run's data was deleted last."""

REMEMBERED = 360
"""Seconds for which ext4 without a journal passes over what was deleted, inode by inode, to make a file."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/run.py", description="Measure merlind against its peers.")
    parser.add_argument("--only", default=",".join(WORKLOADS), help="workloads, such as W1,W2 (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is run, interleaved (default: 5)")
    parser.add_argument("--quick", action="store_true", help="short runs with fewer tasks, to see that it works")
    parser.add_argument("--peers", default=PEERS, help=f"which of {PEERS} (default: all)")
    parser.add_argument("--also", action="append", default=[], metavar="NAME=DIR", help="another tree of merlind's")
    parser.add_argument("--scaling", action="store_true", help="merlind alone, with ever more tasks and connections")
    parser.add_argument("--most", type=int, default=1_000_000, help="the most tasks of --scaling")
    parser.add_argument(
        "--keep", action="store_true", help="leave the data in bench/.work, so that the next run need not wait"
    )
    parser.add_argument("--name", default="latest", help="the results' name in bench/results/ (default: latest)")
    return parser.parse_args()


def kinds(options: argparse.Namespace) -> list[Kind]:
    """merlind first, then other trees of it, then the peers."""
    work = BENCH / ".work"
    found = [Kind("merlind", snapshot(BENCH.parent, work / "tree"))]
    for also in options.also:
        name, _, tree = also.partition("=")
        found.append(Kind(name, snapshot(Path(tree), work / f"tree-{name}")))
    return found + [peer(name) for name in options.peers.split(",") if name]


def touch_memory() -> None:
    """Use memory for a moment: an idle machine has given it back to its host, and gets it anew page by page."""
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    child = os.fork()
    if child == 0:
        held = bytearray(b"x") * min(4 * 2**30, available // 2)
        os._exit(0 if held else 1)
    os.waitpid(child, 0)


def let_disk_forget() -> None:
    """Wait until the data that the last run deleted makes the disk no slower."""
    left = DELETED.stat().st_mtime + REMEMBERED - time.time() if DELETED.exists() else 0.0
    if left > 0:
        print(
            f"waiting for {left:.0f} s: files were deleted a short while ago, which makes new ones dearer", flush=True
        )
        time.sleep(left)


def machine() -> dict[str, object]:
    """What it was measured on."""
    return {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "kernel": platform.release(),
        "cores": os.cpu_count(),
        "time": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": "python3 bench/run.py " + " ".join(sys.argv[1:]),
    }


async def measure(options: argparse.Namespace, servers: list[Kind], work: Path) -> report.Runs:
    """All rounds of all workloads, the servers taking turns."""
    size = QUICK if options.quick else FULL
    runs: report.Runs = {}
    for workload in options.only.split(","):
        run = WORKLOADS[workload]
        by_kind = runs.setdefault(workload, {kind.name: [] for kind in servers})
        for round_number in range(options.rounds):
            shift = round_number % len(servers)
            for kind in servers[shift:] + servers[:shift]:
                if shutil.disk_usage(work).free < ENOUGH_DISK:
                    raise SystemExit("the disk is too full to measure on")
                folder = work / f"{workload}-{round_number}-{kind.name}"
                touch_memory()
                try:
                    figures = await run(kind, folder, size)
                except (RuntimeError, OSError) as error:
                    # The others' hours are not lost for it.
                    print(f"{workload} {round_number + 1} {kind.name}: FAILED, {error}", flush=True)
                    continue
                by_kind[kind.name].append(figures)
                told = ", ".join(f"{name} {report.shown(value)}" for name, value in figures.items())
                print(f"{workload} {round_number + 1} {kind.name}: {told}", flush=True)
    return runs


def main() -> None:
    options = arguments()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    for what, asked, known in (("workload", options.only, list(WORKLOADS)), ("peer", options.peers, PEERS.split(","))):
        if unknown := set(asked.split(",")) - {*known, ""}:
            raise SystemExit(f"no such {what}: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    work = BENCH / ".work" / f"run-{os.getpid()}"
    work.mkdir(parents=True)
    let_disk_forget()
    servers = kinds(options)
    try:
        if options.scaling:
            size = QUICK if options.quick else FULL
            series = uvloop.run(scaling.measure(servers[0], work, size, options.most))
            print(scaling.table(series))
            keep(f"{options.name}-scaling", {"scaling": series})
            return
        runs = uvloop.run(measure(options, servers, work))
    finally:
        # Only now, as making files gets dearer by it.
        if not options.keep:
            shutil.rmtree(work, ignore_errors=True)
            DELETED.touch()
    print("\n" + report.table(runs, [kind.name for kind in servers], report.PEER))
    print("\n".join(report.health(runs)))
    keep(options.name, {"runs": runs})


def keep(name: str, figures: dict[str, object]) -> None:
    """Write the results as JSON, and plots of them as SVG."""
    results = BENCH / "results" / f"{name}.json"
    results.parent.mkdir(exist_ok=True)
    results.write_text(json.dumps({"machine": machine(), **figures}, indent=1) + "\n", "utf-8")
    plot.draw(results)


if __name__ == "__main__":
    main()
