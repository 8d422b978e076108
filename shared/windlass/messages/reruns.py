"""What events tell of runs that keep what ended well before."""

import msgspec

from windlass.ids import TaskId


class Redo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What such a run goes through: positions of a job, or indexes of a composite's children, in order.

    `again` has, of composites among them, the row that did not end well.
    """

    indexes: tuple[int, ...] = ()
    again: dict[int, TaskId] = {}
