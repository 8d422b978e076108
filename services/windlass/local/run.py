"""`windlass run`: one job from a file to its end, on what runs here already or on what is started for it.

Standard output carries the result alone (with `--json` the job, with `--detach` its id), standard error the story.
"""

import argparse
import asyncio
import os
import secrets
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from typing import IO

import msgspec

from windlass.documents.reading import BODY_MAX
from windlass.errors import Invalid, Unavailable
from windlass.local import stack as stacks
from windlass.local.client import Client, Job
from windlass.local.data import locate
from windlass.local.display import Display, harmless
from windlass.local.jobfile import BAD_FILE, BadFile, job_of
from windlass.messages.jobs import Job as Definition

FAILED = 1
SIGNALLED = 128
"""Added to a signal's number: 130 is Ctrl-C."""


def _input(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r}: write KEY=VALUE")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not UTF-8") from error
    return key, value


def flags(parser: argparse.ArgumentParser) -> None:
    """The options of `run`."""
    parser.add_argument("file", metavar="FILE", help="a job as YAML or JSON; - reads standard input")
    parser.add_argument(
        "--input", type=_input, action="append", default=[], metavar="K=V", help="set an input of the job; may be repeated"
    )
    parser.add_argument("--json", action="store_true", help="print the ended job as one JSON document instead of its result")
    parser.add_argument("--detach", action="store_true", help="print the job's id and leave it running")
    parser.add_argument("--data", metavar="DIR", help="data directory (default: WINDLASS_DATA, else the user's data directory)")
    parser.epilog = (
        "The result goes to standard output, everything else to standard error. Exit code: 0 the job completed, 1 it did not, "
        "2 the file or an option is wrong, 130 after Ctrl-C, which cancels the job and waits for it; a second one leaves at once."
    )


def main(args: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Run it.

    Raises:
        WindlassError: something needed is missing or does not answer.
    """
    name = "standard input" if args.file == "-" else str(args.file)
    try:
        job = job_of(name, _bytes(args.file))
        definition = msgspec.structs.replace(job, inputs={**job.inputs, **dict(args.input)})
        return asyncio.run(Run(definition, args, environ).run())
    except BadFile as error:
        for line in str(error).split("\n"):
            print(harmless(line), file=sys.stderr)
        return BAD_FILE


def _bytes(file: str) -> bytes:
    """What a file holds, up to one byte more than may be."""
    try:
        if file == "-":
            if sys.stdin is None:
                raise BadFile("standard input: it is closed")
            if sys.stdin.isatty():
                print("reading a job from standard input; Ctrl-D ends it", file=sys.stderr)
            return sys.stdin.buffer.read(BODY_MAX + 1)
        with open(file, "rb") as opened:
            return opened.read(BODY_MAX + 1)
    except OSError as error:
        raise BadFile(f"{file}: {(error.strerror or type(error).__name__).lower()}") from error
    except ValueError as error:
        raise BadFile(f"{file}: {error}") from error


@dataclass(frozen=True, slots=True)
class Place:
    """Where the job runs; `stack` is None for an installation elsewhere, `join` precedes the command of one more worker there."""

    client: Client
    environ: Mapping[str, str]
    stack: stacks.Stack | None
    join: str


class Run:
    """One job, from its document to an exit code."""

    def __init__(self, definition: Definition, args: argparse.Namespace, environ: Mapping[str, str]) -> None:
        self._definition, self._args, self._environ = definition, args, environ
        self._display = Display(sys.stderr, environ, [task.name for task in definition.tasks])
        self._cancel = asyncio.Event()
        self._signal = 0
        self._is_submitted = False

    async def run(self) -> int:
        """Run it; returns the exit code.

        Raises:
            BadFile: it is not taken.
            WindlassError: something needed is missing or does not answer.
        """
        with self._signals():
            try:
                # Loading what follows a job takes as long as starting the half of a stack, so both are done at once.
                loading = asyncio.ensure_future(asyncio.to_thread(import_module, "windlass.local.watch"))
                async with self._place() as place:
                    await loading
                    return await self._submit(place)
            except asyncio.CancelledError:
                if not self._signal:
                    raise
                return SIGNALLED + self._signal

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[Place]:
        """The installation that the environment names, else a stack of this machine."""
        endpoint = self._environ.get("WINDLASS_ENDPOINT", "")
        if endpoint and not self._args.data and not self._environ.get("WINDLASS_DATA"):
            yield Place(Client(endpoint), self._environ, None, "")
            return
        data = locate(self._environ, self._args.data)
        if data.holder() is None:
            self._display.note(f"starting windlass in {data.path}")
        async with stacks.use(self._environ, self._args.data) as stack:
            option = "" if data.path == locate({}).path else f" --data {shlex.quote(str(data.path))}"
            yield Place(Client(stack.url), stack.environ, stack, f'eval "$(windlass env worker{option})"; ')

    async def _submit(self, place: Place) -> int:
        from windlass.local.watch import Watch, listening  # see `run`

        async with listening(place.environ) as ear:
            self._is_submitted = True
            job, answer = await self._send(place)
            if self._args.detach:
                return await self._leave(place, job, answer)
            self._display.submitted(job)
            ended, whole = await Watch(place.client, ear, self._display, job, place.join).until_end(self._cancel)
        return self._tell(ended, whole)

    async def _send(self, place: Place) -> tuple[Job, bytes]:
        try:
            return await place.client.submit(msgspec.json.encode(self._definition), secrets.token_hex(16))
        except Invalid as error:
            name = "standard input" if self._args.file == "-" else self._args.file
            raise BadFile(*(f"{name}: {line}" for line in str(error).splitlines())) from error
        except Unavailable as error:
            if place.stack is not None:
                raise
            raise Unavailable(f"{error}; is WINDLASS_ENDPOINT right? Without it, `windlass run` starts what it needs") from error

    def _tell(self, ended: Job, whole: bytes) -> int:
        """Say how it went; returns the exit code."""
        self._display.ended(ended)
        if self._args.json:
            _say(msgspec.json.format(whole.strip(), indent=2) if sys.stdout.isatty() else whole, sys.stdout)
        elif ended.result:
            _say(harmless_result(ended.result, sys.stdout.isatty()).encode(errors="replace"), sys.stdout)
        if self._signal:
            return SIGNALLED + self._signal
        return 0 if ended.state == "COMPLETED" else FAILED

    async def _leave(self, place: Place, job: Job, answer: bytes) -> int:
        """The job goes on without us, and so does what it runs on."""
        if place.stack is not None:
            await place.stack.leave_running()
            if place.stack.was_started:
                self._display.note("windlass keeps running; stop it with: windlass down")
        self._display.note(f"look at the job with: curl {place.client.url}/jobs/{job.id}")
        _say(answer.strip() if self._args.json else job.id.encode(), sys.stdout)
        return 0

    # -- signals ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup has its way
            numbers.append(signal.SIGHUP)
        for number in numbers:
            loop.add_signal_handler(number, self._on_signal, number, task)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def _on_signal(self, number: int, task: "asyncio.Task[object]") -> None:
        if self._signal:
            # Whatever we hold goes with us: a stack that was started for the time being sees that, and stops by itself.
            os._exit(SIGNALLED + number)
        self._signal = number
        if not self._is_submitted:
            task.cancel()
        elif not self._args.detach:
            self._display.warn("cancelling the job; Ctrl-C again leaves at once")
        self._cancel.set()


def harmless_result(result: str, for_person: bool) -> str:
    """A result as it is, or, for a terminal, so that it only writes itself."""
    return "\n".join(harmless(line) for line in result.split("\n")) if for_person else result


def _say(content: bytes, stream: IO[str]) -> None:
    """Write to standard output and end the line; when nobody reads it, the job has run all the same."""
    with suppress(OSError, ValueError):
        stream.flush()
        stream.buffer.write(content if content.endswith(b"\n") else content + b"\n")  # type: ignore[attr-defined]  # of a text stream over bytes
        stream.flush()
