"""Who may say and hear what: one NATS user a service, its rights as data.

A pull consumer is read by publishing to `$JS.API.CONSUMER.MSG.NEXT.<stream>.<consumer>` and answered on the reader's own
inbox, so that nobody needs to subscribe to the subjects themselves. An ack is a publish to `$JS.ACK.<stream>.…`.
"""

from dataclasses import dataclass

from windlass.bus.streams import ORDERS, Names
from windlass.subjects import REPORTS, Subjects

SERVICES = ("gateway", "coordinator", "scheduler", "worker", "webhooks")


@dataclass(frozen=True, slots=True)
class Permissions:
    """Subjects that a user may publish and subscribe to; nothing else."""

    publish: list[str]
    subscribe: list[str]


def permissions(service: str, subjects: Subjects) -> Permissions:
    """The rights of a service's user, or of `operator`, who may do everything."""
    names, prefix = Names(subjects), subjects.prefix
    inbox = f"_INBOX_{service}.>"

    def pull(stream: str, consumer: str) -> list[str]:
        return [f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}", f"$JS.ACK.{stream}.>"]

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
                    "_INBOX_operator.>",
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
                    subjects.heartbeat("*"),
                    "_INBOX_gateway.>",
                    "_INBOX_worker.>",
                    "_INBOX_scheduler.>",
                    *[f"{prefix}{word}.>" for word in ("jobs", "pending", "schedules", "control", *REPORTS)],
                    "*" if not prefix else f"{prefix}*",  # x-<worker>: a wildcard is a whole token
                ],
                [inbox, subjects.heartbeats()],
            )
        case "worker":
            return Permissions(
                [
                    *[f"{prefix}{word}.*.*" for word in REPORTS],
                    f"{prefix}logs.*.*.*",
                    subjects.heartbeat("*"),
                    *pull(names.tasks, "*"),
                    f"$JS.API.CONSUMER.MSG.NEXT.*.{ORDERS}",
                    f"$JS.ACK.*.{ORDERS}.>",
                ],
                [inbox],
            )
        case "scheduler":
            return Permissions(
                [f"{prefix}jobs.*", f"{prefix}pending.*", f"{prefix}schedules.*", subjects.heartbeat("*")],
                [inbox, f"{prefix}events.timed.*"],
            )
        case "webhooks":
            return Permissions([subjects.heartbeat("*")], [inbox, f"{prefix}events.hooked.*"])
        case _:
            raise ValueError(f"no such user: {service}")
