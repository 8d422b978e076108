"""The names of all metrics, each with its kind, what it says, its labels and which service tells it: their one home.

Whoever counts makes the thing from its name: `DECISIONS = metrics.DECISIONS.counter()`. The reference's table is written from
here. Units come last in a name; Prometheus adds `_total` to counters itself.
"""

from dataclasses import dataclass

from prometheus_client import Counter, Gauge, Histogram


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of one service."""

    service: str
    name: str
    says: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    def counter(self) -> Counter:
        """What only grows."""
        return Counter(self.name, self.says, self.labels)

    def gauge(self) -> Gauge:
        """What goes up and down."""
        return Gauge(self.name, self.says, self.labels)

    def histogram(self) -> Histogram:
        """What is spread."""
        return Histogram(self.name, self.says, self.labels, buckets=self.buckets)


_SHORT = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5)

REQUESTS = Metric("gateway", "windlass_requests_total", "Requests answered, by method and status.", ("method", "status"))
REQUEST_S = Metric("gateway", "windlass_request_seconds", "Time to an answer.", ("method",), (*_SHORT, 10, 30))

DECISIONS = Metric("coordinator", "windlass_decisions_total", "Commands decided, by type and outcome.", ("type", "outcome"))
IGNORED = Metric("coordinator", "windlass_reports_ignored_total", "Reports that changed nothing, by reason.", ("reason",))
REDRIVES = Metric("coordinator", "windlass_redrives_total", "Orders sent again, because no effect was on record.")
COSTLY = Metric(
    "coordinator",
    "windlass_templates_costly_total",
    "Templates that took too long where commands are decided, and were evaluated aside.",
)
BATCH_SIZE = Metric(
    "coordinator", "windlass_batch_messages", "Messages in one commit.", buckets=(1, 2, 5, 10, 25, 50, 100, 250, 500)
)
COMMIT_S = Metric("coordinator", "windlass_commit_seconds", "Time of one commit.", buckets=_SHORT)
QUARANTINED = Metric("coordinator", "windlass_quarantined_total", "Messages that can never succeed.")
SHARD_OWNED = Metric("coordinator", "windlass_shard_owned", "1 for a shard that this instance owns, else 0.", ("shard",))
SHARD_HEAD = Metric("coordinator", "windlass_shard_head", "Position of the last event, of the shards owned here.", ("shard",))
INTAKE_WAITING = Metric(
    "coordinator", "windlass_intake_messages", "Commands and reports that wait in NATS, of the shards owned here.", ("shard",)
)
INTAKE_TAKEN = Metric("coordinator", "windlass_intake_taken_messages", "Commands and reports taken and not yet decided.")
INTAKE_OLDEST_S = Metric(
    "coordinator", "windlass_intake_oldest_seconds", "Age of the oldest command or report taken and not yet decided; 0: none."
)
QUEUED = Metric(
    "coordinator",
    "windlass_queue_tasks",
    "Tasks that wait for a worker, of the shards owned here: add up the instances.",
    ("queue",),
)
QUEUED_OLDEST_S = Metric(
    "coordinator",
    "windlass_queue_oldest_seconds",
    "How long the one that waits longest has waited: the largest counts.",
    ("queue",),
)
LEASES = Metric("coordinator", "windlass_leases", "Nodes whose lease runs, as this instance hears them.", ("service",))
LEASES_LOST = Metric("coordinator", "windlass_leases_lost_total", "Workers whose lease ran out while they held something here.")

TASKS_RAN = Metric("worker", "windlass_tasks_ran_total", "Attempts that ran to an end, by outcome.", ("outcome",))
TASKS_HELD = Metric("worker", "windlass_tasks_held", "Attempts claimed or running now.")

TIMERS_FIRED = Metric("scheduler", "windlass_timers_fired_total", "Timers said for the first time.", ("kind",))
TIMERS_REPEATED = Metric(
    "scheduler", "windlass_timers_repeated_total", "Timers said again, because no effect was on record.", ("kind",)
)
TIMER_LATENESS_S = Metric(
    "scheduler",
    "windlass_timer_lateness_seconds",
    "From the moment a timer was due until its command was with the broker.",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.5, 1, 2.5, 5, 10, 60),
)
TIMERS_DUE = Metric("scheduler", "windlass_timers_due", "Timers that are due or were said, and whose effect is not on record.")

DELIVERIES = Metric("webhooks", "windlass_deliveries_total", "Deliveries that ended, by outcome.", ("outcome",))
DELIVERY_ATTEMPTS = Metric("webhooks", "windlass_delivery_attempts_total", "Calls made, by status; 0 is no answer.", ("status",))
DELIVERY_S = Metric("webhooks", "windlass_delivery_seconds", "Time of one call.", buckets=(0.01, 0.1, 0.5, 1, 2.5, 5, 10))
DELIVERY_OLDEST_S = Metric(
    "webhooks", "windlass_delivery_oldest_seconds", "Age of the oldest delivery that waits; 0 if none does."
)

FOLLOWED = Metric("scheduler, webhooks", "windlass_follower_events_total", "Events projected.", ("follower",))
BEHIND = Metric(
    "scheduler, webhooks",
    "windlass_follower_behind",
    "Positions between cursors and heads, of the shards followed here.",
    ("follower",),
)
