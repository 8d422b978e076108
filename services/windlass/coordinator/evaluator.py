"""Costly templates, each evaluated in a process of its own.

A thread would not do: it shares the interpreter with the loop that decides, which then has a seventh of its turns.
"""

import asyncio
import os
import sys

import msgspec

from windlass import log as logs
from windlass.coordinator import template
from windlass.coordinator.template import Rendered
from windlass.errors import Invalid

log = logs.get()

AT_ONCE_MAX = 2
"""Processes at a time: the rest waits its turn."""
ANSWER_S = 60
"""How long a process may take: two seconds of work, and a machine that is busy."""
TRIES_MAX = 2
"""How often a process may end without an answer until its template is to blame."""
PAUSE_S = 1
"""Until a process is tried again that could not be started."""


class Evaluator:
    """Answers questions about templates, a few at a time, in the order in which they are asked."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(AT_ONCE_MAX)

    async def settle(self, question: bytes) -> Rendered:
        """What `template.settle` answers. Cancelling ends the process."""
        async with self._turns:
            for _ in range(TRIES_MAX):
                answer = await self._answer(question)
                if answer is not None:
                    return answer
        return Invalid("error evaluating expression: its process ended without an answer; make the expression simpler")

    async def _answer(self, question: bytes) -> Rendered | None:
        process = await self._start()
        try:
            async with asyncio.timeout(ANSWER_S):
                found, _ = await process.communicate(question)
            return template.read(found)
        except (TimeoutError, msgspec.DecodeError, BrokenPipeError, ConnectionResetError) as error:
            log.warning("evaluation_broke_off", error=repr(error), status=process.returncode)
            return None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    @staticmethod
    async def _start() -> asyncio.subprocess.Process:
        while True:
            try:
                return await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    template.__name__,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    env={"PYTHONPATH": os.pathsep.join(sys.path)},  # and nothing that a job should not see
                    start_new_session=True,  # a Ctrl-C in a terminal is for the coordinator, which ends it
                )
            except OSError as error:
                log.warning("evaluation_not_started", error=repr(error))
                await asyncio.sleep(PAUSE_S)
