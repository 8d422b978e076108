"""Who may say and hear what: one NATS user a service, its rights as data.

A pull consumer is read by publishing to `$JS.API.CONSUMER.MSG.NEXT.<stream>.<consumer>` and answered on the reader's own
inbox, so that nobody needs to subscribe to the subjects themselves. An ack is a publish to `$JS.ACK.<stream>.…`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from windlass.bus.streams import ORDERS, Names
from windlass.subjects import PRIORITIES, REPORTS, Subjects, inbox_of

SERVICES = ("gateway", "coordinator", "scheduler", "worker", "webhooks")


@dataclass(frozen=True, slots=True)
class Permissions:
    """Subjects that a user may publish and subscribe to; nothing else."""

    publish: list[str]
    subscribe: list[str]


def permissions(service: str, subjects: Subjects) -> Permissions:
    """The rights of a service's user, or of `operator`, who may do everything."""
    names, prefix = Names(subjects), subjects.prefix
    inbox = f"{inbox_of(service)}.>"

    match service:
        case "operator":
            return Permissions([">"], [">"])
        case "gateway":
            return Permissions(
                [
                    f"{prefix}jobs.*",
                    f"{prefix}control.*",
                    f"{prefix}schedules.*",
                    subjects.heartbeat("*"),
                    "_INBOX.>",
                    f"{inbox_of('operator')}.>",
                ],
                [inbox, f"{subjects.api}.>", f"{prefix}events.>", subjects.all_logs(), "$SRV.>"],
            )
        case "coordinator":
            return Permissions(
                [
                    "$JS.API.>",
                    "$JS.ACK.>",
                    subjects.queues(),
                    f"{prefix}events.>",
                    subjects.canary("*"),
                    subjects.heartbeat("*"),
                    "_INBOX_gateway.>",
                    "_INBOX_worker.>",
                    "_INBOX_workers.>",
                    "_INBOX_scheduler.>",
                    *[f"{prefix}{word}.>" for word in ("jobs", "pending", "schedules", "control", *REPORTS)],
                    "*" if not prefix else f"{prefix}*",  # x-<worker>: a wildcard is a whole token
                ],
                [inbox, subjects.heartbeats()],
            )
        case "worker":
            return _worker(subjects, "*", [(names.tasks, "*"), ("*", ORDERS)], inbox)
        case "scheduler":
            return Permissions(
                [f"{prefix}jobs.*", f"{prefix}pending.*", f"{prefix}schedules.*", subjects.heartbeat("*")],
                [inbox, f"{prefix}events.timed.*"],
            )
        case "webhooks":
            return Permissions([subjects.heartbeat("*")], [inbox, f"{prefix}events.hooked.*"])
        case _:
            raise ValueError(f"no such user: {service}")


def issued_worker(user: str, queues: Iterable[str], subjects: Subjects) -> Permissions:
    """The rights of one worker's own user: its orders, its queues, its reports, its inbox."""
    names = Names(subjects)
    levels = [(names.tasks, Names.level(queue, priority)) for queue in queues for priority in PRIORITIES]
    return _worker(subjects, user, [*levels, (names.orders(user), ORDERS)], f"{inbox_of('worker', user)}.>")


def _worker(subjects: Subjects, worker: str, consumers: Iterable[tuple[str, str]], inbox: str) -> Permissions:
    """What a worker may do whose token in subjects is `worker`, with these streams and their consumers."""
    reports = [f"{subjects.prefix}{word}.*.{worker}" for word in REPORTS]
    pulls = [right for stream, consumer in consumers for right in _pull(stream, consumer)]
    return Permissions([*reports, f"{subjects.prefix}logs.*.*.*", subjects.heartbeat(worker), *pulls], [inbox])


def _pull(stream: str, consumer: str) -> list[str]:
    """Take from a consumer, and acknowledge what it gave."""
    return [f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}", f"$JS.ACK.{stream}.{consumer}.>"]
