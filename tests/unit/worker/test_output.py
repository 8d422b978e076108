"""A task's output: numbered parts, both streams, bounded, and never holding the task up."""

import asyncio

import msgspec
import pytest

from windlass.bus.streams import streams
from windlass.ids import JobId, TaskId
from windlass.messages.notices import LogPart
from windlass.subjects import Subjects
from windlass.worker.output import BUFFER_MAX, PART_MAX, Output

LOGS_MAX = next(one.max_msg_size for one in streams(Subjects(), 16) if one.name == "logs")
ENVELOPE = 1024


class Broker:
    """Stores parts; while `open` is not set it answers nothing, and `refuse` more are refused first."""

    def __init__(self, refuse: int = 0) -> None:
        self.parts: list[LogPart] = []
        self.tries = 0
        self.refuse = refuse
        self.open = asyncio.Event()
        self.open.set()

    async def send(self, part: LogPart) -> bool:
        self.tries += 1
        await self.open.wait()
        if self.refuse:
            self.refuse -= 1
            return False
        self.parts.append(part)
        return True

    @property
    def text(self) -> str:
        return "".join(part.contents for part in self.parts)


def _output(broker: Broker) -> Output:
    return Output(JobId("j"), TaskId("t"), 3, broker.send)


async def test_what_comes_close_together_is_one_part_that_tells_the_streams_apart() -> None:
    broker = Broker()
    output = _output(broker)
    for stream, text in [("out", "one\n"), ("out", "two\n"), ("err", "oh\n"), ("out", "3")]:
        output.output(stream, text)
    await output.close()
    assert broker.parts == [
        LogPart(
            job=JobId("j"),
            task=TaskId("t"),
            attempt=3,
            number=1,
            contents="one\ntwo\noh\n3",
            streams=(("out", 8), ("err", 3), ("out", 1)),
        )
    ]


async def test_output_is_sent_while_the_task_runs() -> None:
    broker = Broker()
    output = _output(broker)
    output.output("out", "hello")
    async with asyncio.timeout(10):
        while not broker.parts:
            await asyncio.sleep(0.01)
    assert broker.text == "hello"
    await output.close()


async def test_parts_are_numbered_from_1_and_none_is_larger_than_a_part_may_be() -> None:
    broker = Broker()
    output = _output(broker)
    text = "0123456789abcdef" * (PART_MAX // 4)
    output.output("out", text)
    output.output("err", "the end")
    await output.close()
    assert broker.text == text + "the end"
    assert [part.number for part in broker.parts] == list(range(1, len(broker.parts) + 1))
    assert max(len(part.contents) for part in broker.parts) <= PART_MAX
    assert all(sum(n for _, n in part.streams) == len(part.contents) for part in broker.parts)


@pytest.mark.parametrize("character", ["x", "é", "€", "😀", "\x1b", '"', "\n"])
async def test_the_log_takes_a_part_of_any_characters(character: str) -> None:
    broker = Broker()
    output = _output(broker)
    text = character * (3 * PART_MAX)
    output.output("out", text)
    await output.close()
    assert broker.text == text
    assert LOGS_MAX is not None
    assert max(len(msgspec.json.encode(part)) for part in broker.parts) + ENVELOPE <= LOGS_MAX


async def test_the_log_takes_two_streams_that_change_with_every_character() -> None:
    broker = Broker()
    output = _output(broker)
    for _ in range(PART_MAX):
        output.output("out", "o")
        output.output("err", "e")
    await output.close()
    assert broker.text == "oe" * PART_MAX
    assert LOGS_MAX is not None
    assert max(len(msgspec.json.encode(part)) for part in broker.parts) + ENVELOPE <= LOGS_MAX


async def test_a_part_that_was_not_stored_is_sent_again_as_the_same_part() -> None:
    broker = Broker(refuse=1)
    output = _output(broker)
    output.output("out", "x")
    await output.close()
    assert broker.tries == 2
    assert [part.number for part in broker.parts] == [1]


async def test_a_flood_holds_up_nobody_and_says_how_much_was_dropped() -> None:
    broker = Broker()
    broker.open.clear()
    output = _output(broker)
    line = "x" * 1023 + "\n"
    said = BUFFER_MAX // len(line) + 1000
    for _ in range(said):
        output.output("out", line)
    broker.open.set()
    await output.close()
    kept = broker.text.count(line)
    assert kept < said
    dropped = (said - kept) * len(line)
    assert f"[{dropped} characters dropped]" in broker.text


async def test_after_a_flood_the_mark_stands_where_the_gap_is() -> None:
    broker = Broker()
    broker.open.clear()
    output = _output(broker)
    output.output("out", "a" * BUFFER_MAX)
    output.output("out", "bbb")
    broker.open.set()
    async with asyncio.timeout(10):
        while len(broker.text) < BUFFER_MAX:
            await asyncio.sleep(0.01)
    output.output("out", "after")
    await output.close()
    assert broker.text.lstrip("a") == "\n[3 characters dropped]\nafter"


async def test_an_outcome_does_not_wait_for_a_broker_that_is_away_and_the_tail_still_comes() -> None:
    broker = Broker()
    broker.open.clear()
    output = _output(broker)
    output.output("out", "the last words")
    rest = await output.close(within_s=0.01)
    assert rest is not None
    assert broker.parts == []
    broker.open.set()
    await rest
    assert broker.text == "the last words"


async def test_a_task_that_says_nothing_sends_nothing() -> None:
    broker = Broker()
    await _output(broker).close()
    assert broker.tries == 0


async def test_progress_is_handed_on_at_once() -> None:
    said: list[float] = []
    output = _output(Broker())
    output.progress(1)
    output.on_progress = said.append
    output.progress(2)
    assert said == [2]
