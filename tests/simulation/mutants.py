"""Defects on purpose: each breaks one thing that a promise rests on, and the campaign must notice.

They replace parts from outside, for the time of a world; nothing in the product knows of them.
"""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import msgspec

from tests.support.memory.database import Database
from windlass import ids
from windlass.coordinator import handler, template
from windlass.coordinator import main as coordinator
from windlass.coordinator.handler import Coordinator
from windlass.coordinator.job import decide, outgoing
from windlass.coordinator.lease import Leases
from windlass.coordinator.ownership import Ownership
from windlass.coordinator.vaults import Vaults
from windlass.errors import Stale
from windlass.messages.commands import GrantTask
from windlass.messages.events import TaskRedelivered
from windlass.scheduler import projection
from windlass.scheduler.firing import Firing
from windlass.webhooks import policy, sender
from windlass.webhooks.sender import Sender
from windlass.worker.runner import Runner

Patch = tuple[Any, str, Any]
"""Whose attribute is replaced, which, and by what."""


def _no_fence_check() -> list[Patch]:
    def fenced(command: Any, work: Any) -> Any:
        task = work.tasks.get(command.task)
        if task is None:
            raise Stale("there is no such task", "unknown")
        return task

    def running(command: Any, work: Any) -> Any:
        task = fenced(command, work)
        if task.state != "RUNNING":
            raise Stale("it does not run", "ended")
        return task

    return [(decide, "_fenced", fenced), (decide, "_running", running)]


def _attempt_not_bumped() -> list[Patch]:
    def redelivered(**fields: Any) -> TaskRedelivered:
        return TaskRedelivered(**{**fields, "attempt": fields["attempt"] - 1})

    return [(decide, "TaskRedelivered", redelivered)]


def _no_version_check() -> list[Patch]:
    def accept(self: Database, batch: Any) -> None:
        """Whatever comes."""

    return [(Database, "check_heads", accept), (Database, "check_new", accept)]


def _ack_before_commit() -> list[Patch]:
    handle = Coordinator._handle

    async def handle_acked(self: Coordinator, items: Any) -> None:
        for item in items:
            if item.delivery is not None:
                await item.delivery.ack()
        await handle(self, items)

    return [(Coordinator, "_handle", handle_acked)]


def _answer_before_commit() -> list[Patch]:
    commit = Coordinator._commit

    async def commit_answered(self: Coordinator, draft: Any) -> None:
        for subject, payload in draft.said:
            await self._bus.tell(subject, payload)
        await commit(self, draft)

    return [(Coordinator, "_commit", commit_answered)]


def _no_redriver() -> list[Patch]:
    async def redrive(self: Ownership) -> None:
        """Nothing is said again."""

    return [(Ownership, "redrive", redrive)]


def _no_lease_expiry() -> list[Patch]:
    def expired(self: Leases) -> list[str]:
        return []

    return [(Leases, "expired", expired)]


def _discharged_by_the_brokers_ack() -> list[Patch]:
    tell = Coordinator._tell

    async def tell_and_discharge(self: Coordinator, items: Any, draft: Any) -> None:
        await tell(self, items, draft)
        database: Database = self._store._database  # type: ignore[attr-defined]  # the double's
        for job in draft.before:
            for task in database.tasks_of.get(job, ()):
                if database.tasks[task].state == "SCHEDULED":
                    database.tasks[task].drive_at = None

    return [(Coordinator, "_tell", tell_and_discharge)]


def _published_without_a_row() -> list[Patch]:
    def forgetful(work: Any, *where: Any) -> Any:
        said = list(outgoing.outgoing(work, *where))
        for task in work.touched.values():
            if task.state == "SCHEDULED":
                task.drive_at = None
        return said

    return [(handler, "outgoing", forgetful)]


def _no_inbox() -> list[Patch]:
    restart = decide._Decision._restart

    def restart_again(self: Any, command: Any, work: Any) -> Any:
        return restart(self, msgspec.structs.replace(command, key=f"{command.key}-{work.job and work.job.run}"), work)

    return [(decide._Decision, "_restart", restart_again)]


def _refusals_forgotten() -> list[Patch]:
    def refuse(self: Coordinator, draft: Any, work: Any, key: str) -> None:
        """Whoever was told so will never know."""

    return [(Coordinator, "_refuse", refuse)]


def _restart_without_its_name() -> list[Patch]:
    numbers = itertools.count()

    def named(*parts: str) -> str:
        return f"{next(numbers)}"

    return [(ids, "named", named)]


def _evaluated_twice() -> list[Patch]:
    def render(text: str, context: Any, *form: Any) -> str:
        return template.render(template.render(text, context, *form), context, *form)

    return [(coordinator, "render", render)]


def _timer_said_only_once() -> list[Patch]:
    say = Firing._say

    async def say_and_forget(self: Firing, claimed: Any) -> None:
        await say(self, claimed)
        database: Database = self._store._database  # type: ignore[attr-defined]  # the double's
        for row, *_ in claimed:
            database.following.timers.pop(row, None)

    return [(Firing, "_say", say_and_forget)]


def _timer_by_anothers_clock() -> list[Patch]:
    def by_stamp(timer: Any, now: Any, level: Any) -> Any:
        return timer.due_at

    return [(projection, "fires_at", by_stamp)]


def _cancel_ignored() -> list[Patch]:
    def cancel(self: Any, command: Any, work: Any) -> Iterator[Any]:
        yield from ()

    return [(decide._Decision, "_cancel", cancel)]


def _pause_ignored() -> list[Patch]:
    claim = decide._Decision._claim

    def heedless(self: Any, command: Any, work: Any) -> Any:
        paused_at = None
        if work.job is not None:
            paused_at, work.job.paused_at = work.job.paused_at, None
        try:
            yield from claim(self, command, work)
        finally:
            if work.job is not None:
                work.job.paused_at = paused_at

    return [(decide._Decision, "_claim", heedless)]


def _cancel_without_stop() -> list[Patch]:
    confirm = Coordinator._gather

    def gather(self: Coordinator, draft: Any, heads: Any) -> None:
        for job in draft.before:
            self._cache[job].to_stop.clear()
        confirm(self, draft, heads)

    async def stop_strays(self: Ownership) -> None:
        """The second layer, which would cover for it."""

    return [(Coordinator, "_gather", gather), (Ownership, "stop_strays", stop_strays)]


def _cancel_leaves_what_is_below() -> list[Patch]:
    cancel = decide._Decision._cancel_job

    def cancel_alone(self: Any, work: Any, *key: Any) -> Iterator[Any]:
        return cancel(self, work, *key) if work.job.parent_job is None else iter(())

    return [(decide._Decision, "_cancel_job", cancel_alone)]


def _runs_before_the_grant() -> list[Patch]:
    claim = Runner._claim

    async def claimed(self: Runner, attempt: Any, delivery: Any) -> Any:
        if self._held:
            return GrantTask(**self._fence(attempt.task))
        return await claim(self, attempt, delivery)

    return [(Runner, "_claim", claimed)]


def _worker_never_gives_up() -> list[Patch]:
    end_all = Runner.end_all

    def end_some(self: Runner, why: str) -> None:
        if why != "lost":
            end_all(self, why)

    return [(Runner, "end_all", end_some)]


def _projection_beside_the_transaction() -> list[Patch]:
    commit = Coordinator._commit

    async def commit_less(self: Coordinator, draft: Any) -> None:
        draft.batch.changed_tasks = [row for row in draft.batch.changed_tasks if row.state != "COMPLETED"]
        await commit(self, draft)

    return [(Coordinator, "_commit", commit_less)]


def _webhook_not_driven_again() -> list[Patch]:
    async def free(self: Sender) -> None:
        """What a dead instance held stays so."""

    return [(Sender, "free", free)]


def _webhook_tried_once() -> list[Patch]:
    judge = policy.judge

    def judge_at_once(answer: Any, attempt: int, attempts_max: int, chance: float) -> tuple[str, float]:
        return judge(answer, attempts_max, attempts_max, chance)

    return [(sender, "judge", judge_at_once)]


def _webhook_discharged_unheard() -> list[Patch]:
    def judge(answer: Any, attempt: int, attempts_max: int, chance: float) -> tuple[str, float]:
        return "DELIVERED", 0.0

    return [(sender, "judge", judge)]


def _webhook_again_by_another_name() -> list[Patch]:
    begin = Sender._begin

    def begin_renamed(self: Sender, delivery: Any) -> None:
        begin(self, replace(delivery, id=f"{delivery.attempts:x}{delivery.id[1:]}") if delivery.attempts else delivery)

    return [(Sender, "_begin", begin_renamed)]


def _webhooks_one_at_a_time() -> list[Patch]:
    return [(sender, "CALLS_MAX", 1)]


def _secrets_in_clear() -> list[Patch]:
    def shown(work: Any, row: Any, *, new: bool) -> Any:
        return row

    return [(handler, "shown", shown)]


def _secrets_not_opened() -> list[Patch]:
    opened = Vaults.open

    def open_nothing(self: Vaults, work: Any, wrapped: Any, texts: Any) -> None:
        opened(self, work, wrapped, {})

    return [(Vaults, "open", open_nothing)]


MUTANTS: dict[str, Callable[[], list[Patch]]] = {
    "no-fence-check": _no_fence_check,
    "attempt-not-bumped": _attempt_not_bumped,
    "no-version-check": _no_version_check,
    "ack-before-commit": _ack_before_commit,
    "answer-before-commit": _answer_before_commit,
    "no-redriver": _no_redriver,
    "no-lease-expiry": _no_lease_expiry,
    "discharged-by-the-brokers-ack": _discharged_by_the_brokers_ack,
    "published-without-a-row": _published_without_a_row,
    "no-inbox": _no_inbox,
    "refusals-forgotten": _refusals_forgotten,
    "restart-without-its-name": _restart_without_its_name,
    "evaluated-twice": _evaluated_twice,
    "timer-said-only-once": _timer_said_only_once,
    "timer-by-anothers-clock": _timer_by_anothers_clock,
    "cancel-ignored": _cancel_ignored,
    "pause-ignored": _pause_ignored,
    "cancel-without-stop": _cancel_without_stop,
    "cancel-leaves-what-is-below": _cancel_leaves_what_is_below,
    "runs-before-the-grant": _runs_before_the_grant,
    "worker-never-gives-up": _worker_never_gives_up,
    "projection-beside-the-transaction": _projection_beside_the_transaction,
    "webhook-not-driven-again": _webhook_not_driven_again,
    "webhook-tried-once": _webhook_tried_once,
    "webhook-discharged-unheard": _webhook_discharged_unheard,
    "webhook-again-by-another-name": _webhook_again_by_another_name,
    "webhooks-one-at-a-time": _webhooks_one_at_a_time,
    "secrets-in-clear": _secrets_in_clear,
    "secrets-not-opened": _secrets_not_opened,
}


@contextmanager
def mutated(name: str | None) -> Iterator[None]:
    """With this defect for the time of the block; without one where there is no name."""
    patches = MUTANTS[name]() if name is not None else []
    kept = [(owner, attribute, getattr(owner, attribute)) for owner, attribute, _ in patches]
    try:
        for owner, attribute, replacement in patches:
            setattr(owner, attribute, replacement)
        yield
    finally:
        for owner, attribute, original in kept:
            setattr(owner, attribute, original)
