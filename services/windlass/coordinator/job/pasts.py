"""What did not end well of a job or a composite, from its rows: that alone runs again where what ended well is kept."""

from windlass.eventlog.log import Ended
from windlass.eventlog.rows import JobRow
from windlass.eventlog.state import Past
from windlass.ids import TaskId
from windlass.messages.reruns import Redo


def of_job(job: JobRow, ended: Ended) -> Past:
    """Of the steps of a job that has ended: its position, those before it that failed, and where it goes on as usual."""
    position = max(job.position, 1)
    last = max(job.redo.indexes[-1] if job.redo is not None else 0, position)
    unwell = {int(one.key): one for one in ended.unwell if one.of == job.id}
    indexes = tuple(sorted({index for index in unwell if index < last} | {position, last}))
    return Past(
        Redo(indexes=indexes, again={index: one.row for index, one in unwell.items() if one.is_composite and index <= last})
    )


def of_composite(task: TaskId, ended: Ended) -> Past | None:
    """Of the children of a composite that has ended: those that did not end well, and those that never came to be.

    None if nothing is known of it, or it was never opened.
    """
    composite = ended.composites.get(task)
    if composite is None or not composite.size:
        return None
    parts = [part for of, part in ended.parts if of == task]
    unwell = {int(one.key.rpartition(".")[2]): one for one in ended.unwell if one.of == task}
    again = {index: one.row for index, one in unwell.items() if one.is_composite}
    values, left = {}, set(unwell)
    for part in parts:
        for at, value in enumerate(part.values, part.first):
            index = at if part.redo is None else part.redo.indexes[at - part.first]
            values[index] = value
            if at >= composite.opened:
                left.add(index)
                if part.redo is not None and index in part.redo.again:
                    again[index] = part.redo.again[index]
    if not parts:
        left |= set(range(composite.opened, composite.size))
    indexes = tuple(sorted(left))
    return Past(
        redo=Redo(indexes=indexes, again=again),
        size=composite.size,
        values=[] if composite.subjob is not None else [values.get(index) for index in indexes],
        is_map=any(part.is_map for part in parts),
        subjob=composite.subjob,
    )
