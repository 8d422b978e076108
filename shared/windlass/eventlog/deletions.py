"""What is left of deleted jobs, and how it goes: a part at a time, from whichever coordinator, begun again where one died."""

from collections.abc import Sequence

from windlass.eventlog.pipeline import Exchange, Pipelined
from windlass.ids import JobId


@Pipelined
def unswept(shards: Sequence[int], most: int) -> Exchange[list[JobId]]:
    """Deleted jobs of these shards of which something is left, the longest deleted first."""
    (rows,) = yield [("find_unswept", {"shards": shards, "most": most})]
    return [JobId(job) for (job,) in rows]


@Pipelined
def below(job: JobId, most: int) -> Exchange[list[JobId]]:
    """Jobs that were part of a deleted one."""
    (rows,) = yield [("find_jobs_below", {"job": job, "most": most})]
    return [JobId(one) for (one,) in rows]


@Pipelined
def sweep(job: JobId, most: int) -> Exchange[int]:
    """Remove rows of a deleted job, at most so many of each kind; how many there were."""
    some = {"job": job, "most": most}
    found = yield [("sweep_tasks", some), ("sweep_texts", some), ("sweep_logs", some), ("clear_variables", {"jobs": [job]})]
    return sum(rows[0][0] for rows in found[:3])


@Pipelined
def end(job: JobId) -> Exchange[bool]:
    """Destroy the key of a deleted job of which nothing else is left, once no webhook needs it; whether that is over."""
    _, ended = yield [("sweep_keys", {"job": job}), ("end_sweep", {"job": job})]
    return bool(ended)
