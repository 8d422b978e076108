"""One program in a container, from create to exit code: a straight line of blocking calls in a thread of its own.

Whatever is thrown at it, `Attempt.run` gives an outcome and hands all it made to the cleaner.
"""

import asyncio
import contextlib
import os
import secrets
import threading
import time
from collections.abc import Callable
from concurrent import futures
from typing import Protocol

from windlass.errors import WindlassError
from windlass.log import get
from windlass.messages.commands import RunTask
from windlass.worker.docker import exchange
from windlass.worker.docker.containers import Manner, endpoint, task_container
from windlass.worker.docker.engine import LOOK_S, SLOW_S, Attachment, Engine, Facts, Gone, Json, Refused, Value, patiently
from windlass.worker.docker.frames import Frames
from windlass.worker.docker.images import Images, NoImage, full_name
from windlass.worker.docker.rooms import Room
from windlass.worker.docker.sandboxes import Sandbox, Sandboxes
from windlass.worker.results import BadOutput, read_output
from windlass.worker.runtime import Failed, Outcome, Program, Sink, Stopped, Succeeded, Vanished
from windlass.worker.words import Tail, Words

READ_BYTES = 64 * 1024
PIECES_MAX = 16
"""Pieces of output on their way to the loop; a thread that is faster waits, and so does its task."""
SANDBOX_TRIES_MAX = 2
KILLED = 128 + 9
"""The exit code of what a SIGKILL ended, and of a shell whose program it ended."""
RECHECK_S = 2.0
"""After the end of the stream the container should have ended. If not, we look at it after this time; doubles."""
RECHECK_MAX_S = 60.0
_GAP = "windlass: the connection to the engine was lost; some output may be missing here\n"

log = get()


class Halted(WindlassError):
    """A stop was asked for before the container was started."""


class Lost(WindlassError):
    """The outcome cannot be known."""


class Tools(Protocol):
    """What an attempt uses of the runtime, all shared by its attempts."""

    engine: Engine
    facts: Facts
    images: Images
    sandboxes: Sandboxes | None
    manner: Manner
    is_bind: bool
    away_s: float
    """How long the engine may be away before the outcome of a task is unknown."""

    def give_up_bind(self) -> None:
        """Engine and worker share no file system: archives from now on."""
        ...

    def clean(self, container: str, folder: str, sandbox: Sandbox | None, room: Room | None = None) -> None:
        """Remove a container and then its directory, in the background; then its sandbox is free and its room is left."""
        ...


class Delivery:
    """A sink for a thread: hands pieces to the loop, a bounded number at a time."""

    def __init__(self, sink: Sink, loop: asyncio.AbstractEventLoop) -> None:
        self._sink = sink
        self.redactor = sink.redactor
        self._loop = loop
        self._permits = threading.BoundedSemaphore(PIECES_MAX)

    def output(self, stream: str, text: str) -> None:
        """See `Sink.output`."""
        self._permits.acquire()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(self._hand_on, stream, text)

    def _hand_on(self, stream: str, text: str) -> None:
        self._permits.release()
        self._sink.output(stream, text)

    def progress(self, value: float) -> None:
        """See `Sink.progress`."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._sink.progress, value)


class Attempt:
    """`container` is known once created, `is_started` once it may run; `halt` is set, from any thread, to stop it."""

    def __init__(self, tools: Tools, task: RunTask, program: Program, role: str, room: Room, folder: str, sink: Sink) -> None:
        self._tools = tools
        self._task, self._program, self._role, self.room = task, program, role, room
        self._networks = room.networks(role)
        self.sink = sink
        self._tail = Tail()
        self._words = {"out": Words("out", sink, self._tail), "err": Words("err", sink, self._tail)}
        self._sandbox: Sandbox | None = None
        self._attached: Attachment | None = None
        self._folder = folder
        self._halt: futures.Future[None] = futures.Future()
        self._is_bind = False
        self._is_made = False
        self.name = f"windlass-{task.task}-{task.attempt}"
        self.container = ""
        self.is_started = False

    @property
    def progress_path(self) -> str:
        """Where the progress file is on this host; empty when it is not."""
        return os.path.join(self._folder, "tork", "progress") if self._is_bind and self.is_started else ""

    def halt(self) -> None:
        """Start nothing any more. What runs already is the caller's to kill."""
        if not self._halt.done():
            self._halt.set_result(None)

    def run(self) -> Outcome:
        """Everything; blocks until the container has ended."""
        try:
            self._launch()
            code = self._attend()
            if self._sandbox is not None:  # the dead use no network
                sandbox, self._sandbox = self._sandbox, None
                if self._tools.sandboxes is not None:
                    self._tools.sandboxes.give_back(sandbox)
            return self._conclude(code)
        except Halted:
            return Stopped()
        except Lost as error:
            return Vanished(f"{error}")
        except (NoImage, BadOutput) as error:
            return Failed(str(error))
        except Refused as error:
            return Failed(f"the container cannot be started: {error}")
        finally:
            if self._attached is not None:
                self._attached.close()
            self._tools.clean(self.container, self._folder, self._sandbox, self.room)

    # -- up to the start

    def _launch(self) -> None:
        """Create, attach, start; again with an image, another sandbox or another exchange where that was missing."""
        is_pulled = False
        broken = 0
        while True:
            if self._halt.done():
                raise Halted
            try:
                self._create(with_sandbox=broken < SANDBOX_TRIES_MAX)
                if self._halt.done():
                    raise Halted
                self._start()
                return
            except Refused as error:
                text = str(error).lower()
                if error.status == 404 and "image" in text and not is_pulled and not self._is_made:
                    self._drop()
                    self._pull()
                    is_pulled = True
                elif error.status == 400 and self._is_bind and self._is_about_exchange(str(error)):
                    self._drop()
                    self._tools.give_up_bind()
                elif self._sandbox is not None and _is_about_sandbox(error):
                    log.warning("sandbox_replaced", error=str(error))
                    broken += 1
                    self._drop(is_sandbox_broken=True)
                else:
                    raise
            except Gone as error:
                if self.is_started:
                    raise Lost(str(error)) from error
                self._drop()
                self._patiently(lambda: self._tools.engine.call("GET", "/_ping"))

    def _is_about_exchange(self, text: str) -> bool:
        """Whether the engine misses a directory of ours, and not one that the task binds."""
        theirs = [mount["Source"] for mount in self.room.mounts if mount["Type"] == "bind"]
        return "bind source path does not exist" in text and not any(text.endswith(f": {source}") for source in theirs)

    def _create(self, with_sandbox: bool) -> None:
        tools = self._tools
        self._is_bind = tools.is_bind
        network: dict[str, bytes] = {}
        mounts: list[Json] = []
        if self._is_bind:
            if with_sandbox and tools.sandboxes is not None and not self._networks:
                self._lease(tools.sandboxes)
            if self._sandbox is not None:
                network = self._sandbox.files
            exchange.lay_out(self._folder, self._program, network, tools.facts.is_remapped)
            mounts = exchange.mounts(self._folder, network)
        body = task_container(
            self._task,
            self._program,
            self._role,
            manner=tools.manner,
            exchanged=mounts,
            mounts=self.room.mounts,
            network=self._networks[0] if self._networks else "",
            sandbox=self._sandbox.container if self._sandbox is not None else "",
        )
        if tools.facts.is_podman:
            body["Image"] = full_name(body["Image"])
        # We choose the name, so that a container whose creation was not answered can be removed all the same.
        self.container = f"{self.name}-{secrets.token_hex(4)}"
        tools.engine.call("POST", "/containers/create", params={"name": self.container}, body=body, timeout_s=SLOW_S)
        self._is_made = True
        if not self._is_bind:
            exchange.send(tools.engine, self.container, self._program, has_home=tools.manner.hardening == "strict")
        for other in self._networks[1:]:  # at its making a container can join only one
            joining: Json = {"Container": self.container, "EndpointConfig": endpoint(other, self._program)}
            tools.engine.call("POST", f"/networks/{other}/connect", body=joining, timeout_s=SLOW_S)
        exchange.send_files(tools.engine, self.container, self._program)

    def _lease(self, sandboxes: Sandboxes) -> None:
        try:
            self._sandbox = sandboxes.lease()
        except (Refused, Gone) as error:
            log.warning("sandbox_failed", error=str(error))

    def _start(self) -> None:
        engine = self._tools.engine
        self._attached = exchange.attach(engine, self.container)
        try:
            engine.call("POST", f"/containers/{self.container}/start", timeout_s=SLOW_S)
        except Gone:  # it may run or not; looking at it tells
            self._attached.close()
            self._attached = None
        self.is_started = True
        if self._halt.done():
            with contextlib.suppress(Refused, Gone):
                engine.call("POST", f"/containers/{self.container}/kill")

    def _pull(self) -> None:
        pull = self._tools.images.pull(self._program.image, self._program.registry)
        futures.wait((pull, self._halt), return_when=futures.FIRST_COMPLETED)
        if self._halt.done():
            raise Halted
        pull.result()

    def _drop(self, is_sandbox_broken: bool = False) -> None:
        """Undo a launch that failed; the next one begins from nothing."""
        if self._attached is not None:
            self._attached.close()
            self._attached = None
        sandbox, self._sandbox = self._sandbox, None
        if is_sandbox_broken and sandbox is not None and self._tools.sandboxes is not None:
            self._tools.sandboxes.discard(sandbox)
            sandbox = None
        self._tools.clean(self.container, self._folder, sandbox)
        self.container = ""
        self._is_made = False
        self._folder = f"{self._folder}+"

    # -- from the start to the end

    def _attend(self) -> int:
        """Hand on what is printed until the container has ended; its exit code."""
        patience_s = RECHECK_S
        is_again = False
        while True:
            try:
                if self._attached is not None:
                    self._listen(self._attached, is_again)
                    if not self._tools.facts.is_podman:
                        return self._wait(patience_s)
            except Gone as error:
                log.info("container_looked_after", container=self.container, error=str(error))
            if self._attached is not None:
                self._attached.close()
                self._attached = None
            code = self._look_after()
            if code is not None:
                return code
            is_again = True
            patience_s = min(patience_s * 2, RECHECK_MAX_S)

    def _listen(self, attached: Attachment, is_again: bool) -> None:
        """Hand on a stream to its end, which says little: the program closed its outputs, or ended, or the connection did."""
        frames = Frames()
        while data := attached.read(READ_BYTES):
            if is_again:
                is_again = False
                self.sink.output("err", _GAP)
            for stream, piece in frames.feed(data):
                self._words[stream].feed(piece)

    def _wait(self, patience_s: float) -> int:
        try:
            told = self._tools.engine.json("POST", f"/containers/{self.container}/wait", timeout_s=patience_s)
            return int(told["StatusCode"])
        except Refused as error:
            if error.status == 404:
                raise Lost("the container is gone; somebody removed it") from error
            raise Gone(str(error)) from error
        except (KeyError, TypeError) as error:
            raise Gone("the engine stopped in the middle of its answer") from error

    def _look_after(self) -> int | None:
        """After the stream's end, or the connection's: the exit code, or None when it runs on and is attached again."""
        engine = self._tools.engine
        state: Json = self._patiently(self._inspect)["State"]
        if state.get("Status") == "created":
            self._patiently(lambda: engine.call("POST", f"/containers/{self.container}/start", timeout_s=SLOW_S))
        elif _has_ended(state):
            return int(state["ExitCode"])
        try:
            self._attached = exchange.attach(engine, self.container)
            state = self._inspect()["State"]
            if _has_ended(state):  # perhaps before it was attached, and then the stream would never end
                return int(state["ExitCode"])
        except Gone:
            return None
        except Refused as error:  # it ended just now
            log.info("not_attached_again", error=str(error))
            time.sleep(LOOK_S)
            return None
        return None

    def _inspect(self) -> Json:
        try:
            return self._tools.engine.json("GET", f"/containers/{self.container}/json")
        except Refused as error:
            if error.status == 404:
                raise Lost("the engine lost the container") from error
            raise Gone(str(error)) from error

    def _patiently(self, act: Callable[[], Value]) -> Value:
        """Do something again until the engine answers.

        Raises:
            Lost: it did not for `away_s`.
        """
        try:
            return patiently(act, self._tools.away_s, lambda: self._halt.done() and not self.is_started)
        except Gone as error:
            raise Lost(str(error)) from error

    def _conclude(self, code: int) -> Outcome:
        for words in self._words.values():
            words.end()
        if code == 0:
            if self._is_bind:
                return Succeeded(read_output(os.path.join(self._folder, "tork", "stdout")))
            return Succeeded(self._patiently(lambda: exchange.fetch_output(self._tools.engine, self.container)))
        sentence = f"exit code {code}"
        with contextlib.suppress(Lost):
            found = self._patiently(self._inspect)
            state = found["State"]
            limit = found.get("HostConfig", {}).get("Memory", 0)
            if state.get("OOMKilled") or (code == KILLED and limit):  # engines may hear of it after the end, or never
                perhaps = "" if state.get("OOMKilled") else "perhaps "
                sentence = f"{perhaps}out of memory{f' (limit {limit} bytes)' if limit else ''}, {sentence}"
            if state.get("Error"):
                self._tail.add(f"\n{state['Error']}\n")
        return Failed(self._tail.explain(sentence), code)


def _has_ended(state: Json) -> bool:
    return state.get("Status") != "created" and not (state.get("Running") or state.get("Paused") or state.get("Restarting"))


def _is_about_sandbox(error: Refused) -> bool:
    """Whether a start failed since the container whose network it should join is not there or does not run."""
    text = str(error).lower()
    return error.status in (404, 409, 500) and (
        "no such container" in text or "cannot join network" in text or "non running container" in text or "/ns/net" in text
    )
