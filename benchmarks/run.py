"""Measures a fresh stack: speed, latency, CPU per task over all processes, memory; see README.md beside this.

The client is of the standard library alone and costs about 0.1 ms of CPU a request.
"""

import argparse
import asyncio
import json
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results.jsonl"
WINDLASS = (sys.executable, "-m", "windlass.cli")
ENDED = frozenset({"COMPLETED", "FAILED", "CANCELLED"})
PAGE = 20
"""Jobs on a page of the list; the server gives no more."""
READY_S = 60
STOP_S = 40
ENDED_S = 600
"""How long a workload may take."""
LOOK_S = 0.1
PAUSE_S = 0.01
"""Between two jobs of a latency workload, so that each meets an idle engine."""
LATENCY_JOBS = 200
SETTLE_S = 2.0
IDLE_S = 5.0
CHECKED = ("skip", "skip10", "seq10")
"""Long enough to be steady and short enough to be run often."""
TOLERANCE = 1.25

Document = dict[str, Any]


def task(*, skipped: bool) -> Document:
    """A task that runs `true`, or is skipped."""
    made: Document = {"name": "t", "run": "true"}
    return made | {"if": "false"} if skipped else made


def row(name: str, tasks: Sequence[Document]) -> Document:
    """A job of tasks in sequence."""
    return {"name": name, "tasks": list(tasks)}


def waiting(name: str, *, skipped: bool) -> list[Document]:
    """Jobs of one task whose submission is answered at their end."""
    return [{**row(name, [task(skipped=skipped)]), "wait": {"timeout": "30s"}}] * LATENCY_JOBS


def each(name: str, size: int, *, skipped: bool) -> Document:
    """A job of one list, whose elements all have a task that runs `true`, or is skipped."""
    return row(name, [{"name": "each", "each": {"list": f"{{{{ sequence(0, {size}) }}}}", "task": task(skipped=skipped)}}])


def long(name: str, size: int, jobs: int, *, skipped: bool) -> list[Document]:
    """Jobs of so many tasks in sequence, one job at a time."""
    return [{**row(name, [task(skipped=skipped)] * size), "wait": {"timeout": "10m"}}] * jobs


def count(document: Document) -> int:
    """How many tasks of a job are not composites."""
    return sum(_inside(one) for one in document["tasks"])


def _inside(one: Document) -> int:
    if "each" in one:
        return int(re.findall(r"\d+", one["each"]["list"])[-1])
    return len(one["parallel"]["tasks"]) if "parallel" in one else 1


WORKLOADS: Mapping[str, Callable[[int], list[Document]]] = {
    "latency0": lambda _: waiting("latency0", skipped=True),
    "latency": lambda _: waiting("latency", skipped=False),
    "skip": lambda n: [row("skip", [task(skipped=True)])] * n,
    "skip10": lambda n: [row("skip10", [task(skipped=True)] * 10)] * max(1, n // 10),
    "hello": lambda n: [row("hello", [task(skipped=False)])] * n,
    "seq10": lambda n: [row("seq10", [task(skipped=False)] * 10)] * max(1, n // 10),
    "parallel": lambda n: [row("parallel", [{"name": "p", "parallel": {"tasks": [task(skipped=False)] * 10}}])] * max(1, n // 10),
    "each-run": lambda n: [each("each-run", n, skipped=False)],
    "each": lambda n: [each("each", 5 * n, skipped=True)],
    "skip100": lambda n: long("skip100", 100, max(1, n // 20), skipped=True),
    "skip10000": lambda _: long("skip10000", 10_000, 1, skipped=True),
    "run100": lambda n: long("run100", 100, max(1, n // 100), skipped=False),
    "run10000": lambda _: long("run10000", 10_000, 1, skipped=False),
    "each100000": lambda _: [each("each100000", 100_000, skipped=True)],
}
USUAL = ("latency0", "latency", "skip", "skip10", "hello", "seq10", "parallel", "each-run", "each", "skip100", "skip10000")
"""The others take long, and are run by their names."""


# -- the client ---------------------------------------------------------------------------------------------------------


class Refused(Exception):
    """The engine did not take or find something."""


class Connection:
    """One connection, kept open."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Status and body of the answer."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port, limit=1 << 26)
        reader, writer = self._streams
        head = f"{method} {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n"
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        writer.write(head.encode() + b"\r\n" + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = re.search(rb"\r\ncontent-length: *(\d+)", answer)
        if length is None:
            raise Refused(f"{method} {path}: an answer without a length")
        text = await reader.readexactly(int(length[1]))
        if b"\r\nconnection: close" in answer:
            self.close()
        return int(answer[9:12]), text

    def close(self) -> None:
        """Close it; the next request opens another."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


class Client:
    """Requests over a number of connections."""

    def __init__(self, url: str, connections: int) -> None:
        place = urlsplit(url)
        self._all = [Connection(place.hostname or "127.0.0.1", place.port or 80) for _ in range(connections)]
        self._free: asyncio.LifoQueue[Connection] = asyncio.LifoQueue()
        for connection in self._all:
            self._free.put_nowait(connection)

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Status and body of the answer."""
        connection = await self._free.get()
        try:
            return await connection.ask(method, path, body)
        finally:
            self._free.put_nowait(connection)

    async def submit(self, body: bytes) -> Document:
        """Submit a job, again where the engine is busy."""
        while True:
            status, text = await self.ask("POST", "/jobs", body)
            if status not in (429, 503):
                return _read(status, text, "POST /jobs")
            await asyncio.sleep(LOOK_S)

    async def have_ended(self, ids: Sequence[str]) -> bool:
        """Whether jobs have ended; asked of the list, so they have to be among the newest."""
        listed: dict[str, str] = {}
        for page in (1, 2):
            path = f"/jobs?page={page}&size={PAGE}"
            listed |= {job["id"]: job["state"] for job in _read(*await self.ask("GET", path), path)["items"]}
        return all(listed.get(name) in ENDED for name in ids)

    async def job(self, name: str) -> Document:
        """A whole job."""
        path = f"/jobs/{name}"
        return _read(*await self.ask("GET", path), path)

    def close(self) -> None:
        """Close all connections."""
        for connection in self._all:
            connection.close()


def _read(status: int, text: bytes, what: str) -> Document:
    if status >= 300:
        raise Refused(f"{what}: {status} {text[:300]!r}")
    found: Document = json.loads(text)
    return found


# -- processes ----------------------------------------------------------------------------------------------------------


def _children() -> dict[int, tuple[int, float]]:
    """Of each process: its parent, and the CPU seconds that it and its ended children have used."""
    tick, found = os.sysconf("SC_CLK_TCK"), {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        found[int(name)] = int(fields[1]), sum(map(int, fields[11:15])) / tick
    return found


def tree(root: int) -> dict[int, float]:
    """The processes below and including `root`, with the CPU seconds of each."""
    everybody = _children()
    found = {root}
    for pid in everybody:
        above = [pid]
        while above[-1] in everybody and above[-1] not in found:
            above.append(everybody[above[-1]][0])
        if above[-1] in found:
            found.update(above)
    return {pid: everybody[pid][1] for pid in found if pid in everybody}


def cpu_s(root: int) -> float:
    """CPU seconds of a tree so far, the ended included."""
    return sum(tree(root).values())


def resident_mb(pid: int, which: str = "VmRSS") -> float:
    """Resident memory of one process, or the most it had (`VmHWM`); of PostgreSQL's many, use `proportional_mb`."""
    found = re.search(rf"^{which}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return round(int(found[1]) / 1024, 1) if found else 0.0


def proportional_mb(root: int) -> float:
    """Memory of a tree, what its processes share divided among them."""
    total = 0
    for pid in tree(root):
        try:
            found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
        except OSError:  # it has just ended, or is another user's
            continue
        total += int(found[1]) if found else 0
    return round(total / 1024, 1)


# -- the stack ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stack:
    """A running `windlass up`."""

    url: str
    pid: int
    data: str

    def status(self) -> Document:
        """What `windlass status` says."""
        told = subprocess.run([*WINDLASS, "status", "--data", self.data, "--json"], capture_output=True, text=True, check=False)
        found: Document = json.loads(told.stdout)
        return found

    def idle_mb(self) -> dict[str, float]:
        """Memory of each service and server."""
        status = self.status()
        found = {service["instance"]: resident_mb(service["pid"]) for service in status["services"]}
        return found | {"nats": resident_mb(status["nats"]["pid"]), "postgres": proportional_mb(status["postgres"]["pid"])}

    def peak_mb(self) -> dict[str, float]:
        """The most memory that each service has had."""
        return {service["instance"]: resident_mb(service["pid"], "VmHWM") for service in self.status()["services"]}

    def servers(self) -> dict[str, str]:
        """Versions, and what durability depends on, as the running servers say it."""
        import psycopg  # the engine's own driver; the client above needs none

        told = subprocess.run([*WINDLASS, "env", "--data", self.data], capture_output=True, text=True, check=True).stdout
        dsn = re.search(r"WINDLASS_POSTGRES_DSN='?([^'\n]+)", told)
        assert dsn is not None
        found = {}
        with psycopg.connect(dsn[1]) as connection:
            for name in ("fsync", "synchronous_commit", "server_version"):
                answer = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
                found["postgres" if name == "server_version" else name] = str(answer[0]) if answer else ""
        interval = re.search(r'^\s*sync_interval: "?(\w+)', (Path(self.data) / "nats" / "nats.conf").read_text(), re.MULTILINE)
        nats = Path(f"/proc/{self.status()['nats']['pid']}/exe").resolve()
        version = subprocess.run([nats, "--version"], capture_output=True, text=True, check=True).stdout
        return found | {"sync_interval": interval[1] if interval else "", "nats": version.rpartition("v")[2].strip()}


@contextmanager
def stack(options: Sequence[str]) -> Iterator[Stack]:
    """A fresh stack, with everything of it gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="windlass-bench-"))
    folder.chmod(0o755)  # PostgreSQL may have to run as another user
    log = folder / "up.log"
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("WINDLASS_", "TORK_"))}
    command = [*WINDLASS, "up", "--port", "0", "--data", str(folder / "data"), *options]
    with log.open("wb") as said:
        up = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, env=environ, text=True, start_new_session=True)
    try:
        yield _await_ready(up, log)
    finally:
        up.send_signal(signal.SIGTERM)
        try:
            up.wait(STOP_S)
        except subprocess.TimeoutExpired:
            up.kill()
            up.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _await_ready(up: "subprocess.Popen[str]", log: Path) -> Stack:
    assert up.stdout is not None
    alarm = signal.signal(signal.SIGALRM, lambda *_: up.terminate())
    signal.alarm(READY_S)
    line = up.stdout.readline()
    signal.alarm(0)
    signal.signal(signal.SIGALRM, alarm)
    ready = re.match(r"windlass ready url=(\S+) data=(.*) pid=(\d+)$", line)
    if ready is None:
        raise Refused(f"`windlass up` did not get ready:\n{log.read_text()[-3000:]}")
    return Stack(ready[1], int(ready[3]), ready[2])


# -- measuring ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Figures:
    """Of one run of one workload."""

    workload: str
    jobs: int
    tasks: int
    failed: int
    wall_s: float
    jobs_s: float
    tasks_s: float
    submit_s: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    cpu_read_ms: float

    def line(self) -> str:
        """For people."""
        return (
            f"{self.workload:<9} {self.jobs:>6} jobs {self.jobs_s:>8,.0f} jobs/s {self.tasks_s:>8,.0f} tasks/s"
            f"   p50 {self.p50_ms:>8,.1f} ms   p99 {self.p99_ms:>8,.1f} ms"
            f"   cpu {self.cpu_ms:>7.3f} ms/task + {self.cpu_read_ms:.3f} ms/job to read"
            + (f"   {self.failed} FAILED" if self.failed else "")
        )


@dataclass(slots=True)
class _Clock:
    """Wall time and CPU since the start of a workload."""

    pid: int
    began: float = field(init=False)
    cpu: float = field(init=False)

    def __post_init__(self) -> None:
        self.cpu, self.began = cpu_s(self.pid), time.perf_counter()

    def read(self) -> tuple[float, float]:
        """Both, so far."""
        return time.perf_counter() - self.began, cpu_s(self.pid) - self.cpu


async def measure(running: Stack, kind: str, jobs: int, connections: int) -> Figures:
    """Run one workload."""
    documents = WORKLOADS[kind](jobs)
    bodies = [json.dumps(document).encode() for document in documents]
    tasks = sum(map(count, documents))
    client = Client(running.url, connections)
    try:
        async with asyncio.timeout(ENDED_S):
            way = _one_by_one if "wait" in documents[0] else _all_at_once
            told = await way(client, bodies, running.pid)
    finally:
        client.close()
    failed = sum(job["state"] != "COMPLETED" for job in told.jobs)
    took = sorted(told.took_ms)
    return Figures(
        workload=kind,
        jobs=len(told.jobs),
        tasks=tasks,
        failed=failed,
        wall_s=round(told.wall_s, 3),
        jobs_s=round((len(told.jobs) - failed) / told.wall_s, 1),
        tasks_s=round(tasks / told.wall_s, 1),
        submit_s=round(len(told.jobs) / told.submitted_s, 1),
        p50_ms=round(statistics.median(took), 2),
        p99_ms=round(took[min(len(took) - 1, int(len(took) * 0.99))], 2),
        cpu_ms=round(told.cpu / tasks * 1000, 4),
        cpu_read_ms=round(told.cpu_read / len(told.jobs) * 1000, 4),
    )


@dataclass(slots=True)
class _Measured:
    jobs: list[Document]
    took_ms: list[float]
    submitted_s: float
    wall_s: float
    cpu: float
    cpu_read: float
    """What the reading of every job cost after that."""


async def _one_by_one(client: Client, bodies: Sequence[bytes], pid: int) -> _Measured:
    found, took, clock = [], [], _Clock(pid)
    for body in bodies:
        began = time.perf_counter()
        found.append(await client.submit(body))
        took.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(PAUSE_S)
    wall_s, cpu = clock.read()
    return _Measured(found, took, wall_s, wall_s, cpu, 0.0)


async def _all_at_once(client: Client, bodies: Sequence[bytes], pid: int) -> _Measured:
    clock = _Clock(pid)
    ids = [job["id"] for job in await asyncio.gather(*(client.submit(body) for body in bodies))]
    submitted_s, _ = clock.read()
    newest = ids[-PAGE:]
    while not await client.have_ended(newest):
        await asyncio.sleep(LOOK_S)
    wall_s, cpu = clock.read()
    found = await asyncio.gather(*map(client.job, ids))
    # Jobs end about in their order, so all have ended by now; where one has not, the time until it has is what counts.
    while late := [at for at, job in enumerate(found) if job["state"] not in ENDED]:
        await asyncio.sleep(LOOK_S)
        for at in late:
            found[at] = await client.job(ids[at])
        wall_s, cpu = clock.read()
    _, cpu_all = clock.read()
    took = [(_seconds(job.get("completedAt") or job["createdAt"]) - _seconds(job["createdAt"])) * 1000 for job in found]
    return _Measured(found, took, submitted_s, wall_s, cpu, cpu_all - cpu)


def _seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()


# -- results ------------------------------------------------------------------------------------------------------------


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def machine() -> dict[str, object]:
    """What it ran on."""
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": found[1] if found else platform.machine(),
        "python": platform.python_version(),
    }


def record(
    servers: Mapping[str, str], options: Sequence[str], load: float, idle: Mapping[str, object], figures: Sequence[Figures]
) -> Document:
    """A line of the results."""
    from windlass.release import RELEASE

    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),  # noqa: TID251 the wall clock is meant
        "commit": _git("rev-parse", "--short=12", "HEAD"),
        "changed": bool(_git("status", "--porcelain", "--untracked-files=no", "--", "services", "shared", "pyproject.toml")),
        "release": RELEASE,
        "machine": machine(),
        "servers": dict(servers),
        "up": list(options),
        "load": load,
        **idle,
        "workloads": [asdict(one) for one in figures],
    }


def best(lines: Sequence[Document], kind: str) -> float | None:
    """The least CPU per task ever recorded for a workload on a machine like this."""
    here = machine()
    alike = [line for line in lines if (line["machine"]["cores"], line["machine"]["cpu"]) == (here["cores"], here["cpu"])]
    return min((one["cpu_ms"] for line in alike for one in line["workloads"] if one["workload"] == kind), default=None)


def check(figures: Sequence[Figures]) -> int:
    """Compare with what is on record; 1 if something has become dearer."""
    lines = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    worse = 0
    for kind in dict.fromkeys(one.workload for one in figures):
        now, then = min(one.cpu_ms for one in figures if one.workload == kind), best(lines, kind)
        if then is None:
            print(f"{kind}: nothing on record for this machine")
            continue
        is_worse = now > then * TOLERANCE
        worse += is_worse
        print(f"{kind}: {now:.3f} ms of CPU a task, {now / then:.2f} times the best on record{'  TOO MUCH' if is_worse else ''}")
    return 1 if worse else 0


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Measure a fresh stack.", epilog="What comes after -- is handed on to `windlass up`."
    )
    parser.add_argument(
        "--workload", default=",".join(USUAL), metavar="W,W", help=f"of {','.join(WORKLOADS)} (default: {','.join(USUAL)})"
    )
    parser.add_argument("--jobs", type=int, default=2000, metavar="N", help="N of the table in README.md (default 2000)")
    parser.add_argument("--connections", type=int, default=32, help="of the client (default 32)")
    parser.add_argument("--repeat", type=int, default=1, help="how often each workload runs (default 1)")
    parser.add_argument("--no-record", action="store_true", help="append nothing to results.jsonl")
    parser.add_argument("--check", action="store_true", help="record nothing; fail if CPU per task has grown since the best line")
    parser.add_argument("up", nargs="*", metavar="-- OPTION", help="of `windlass up` (default: --runtime shell)")
    args = parser.parse_args()
    unknown = set(args.workload.split(",")) - set(WORKLOADS)
    if unknown:
        parser.error(f"unknown workload {', '.join(sorted(unknown))}; known: {', '.join(WORKLOADS)}")
    return args


def main() -> int:
    """Measure, print, and append or compare; 1 if a job did not complete or a comparison failed."""
    args = arguments()
    options = args.up or ["--runtime", "shell"]
    load = round(os.getloadavg()[0], 2)
    kinds = CHECKED if args.check else args.workload.split(",")
    figures: list[Figures] = []
    print(f"load {load}, {machine()['cores']} cores, {machine()['cpu']}")
    with stack(options) as running:
        time.sleep(SETTLE_S)
        idle_cpu = cpu_s(running.pid)
        time.sleep(IDLE_S)
        idle: dict[str, object] = {
            "idle_cpu": round((cpu_s(running.pid) - idle_cpu) / IDLE_S, 4),
            "idle_mb": running.idle_mb(),
        }
        print(f"idle: {idle['idle_cpu']:.1%} of a core; MB: {idle['idle_mb']}")
        servers = running.servers()
        for kind in ("skip", "hello"):  # what is loaded at its first use is loaded now
            asyncio.run(measure(running, kind, 20, 4))
        for kind in kinds:
            for _ in range(3 if args.check else args.repeat):
                figures.append(asyncio.run(measure(running, kind, args.jobs, args.connections)))
                print(figures[-1].line(), flush=True)
        idle["peak_mb"] = running.peak_mb()
        print(f"most MB: {idle['peak_mb']}")
    failed = any(one.failed for one in figures)
    if args.check:
        return check(figures) or int(failed)
    if not args.no_record:
        with RESULTS.open("a") as file:
            file.write(json.dumps(record(servers, options, load, idle, figures)) + "\n")
        print(f"appended to {RESULTS.relative_to(ROOT)}")
    return int(failed)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Refused as error:
        sys.exit(f"bench: {error}")
