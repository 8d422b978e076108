"""Tasks: one row, and its output."""

from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery

from windlass.errors import Invalid, NotFound
from windlass.eventlog.read import Reader
from windlass.gateway.openapi import errors
from windlass.gateway.routes.jobs import PARTS_MOST, PARTS_USUAL
from windlass.gateway.routes.paging import log_page, read_page
from windlass.gateway.shapes import LogPage, TaskView, task_view
from windlass.ids import is_id


def task_id(text: str) -> str:
    """An id from a path.

    Raises:
        NotFound: no task can have it.
    """
    if not is_id(text):
        raise NotFound(f"task not found: {text[:64]!r} is no id; an id has 32 hexadecimal digits")
    return text


@get("/tasks/{task:str}", tags=["tasks"], responses=errors(404, 503))
async def get_task(task: FromPath[str], reader: NamedDependency[Reader]) -> TaskView:
    """One try of one step of a job."""
    row = await reader.task(task_id(task))
    if row is None:
        raise NotFound("task not found")
    return task_view(row)


@get("/tasks/{task:str}/log", tags=["tasks"], responses=errors(400, 404, 503))
async def get_task_log(
    task: FromPath[str],
    reader: NamedDependency[Reader],
    page: FromQuery[str | None] = None,
    size: FromQuery[str | None] = None,
    q: FromQuery[str | None] = None,
) -> LogPage:
    """A task's output, newest part first."""
    if q:
        raise Invalid("search is not built yet; leave q out")
    asked = read_page(page, size, PARTS_USUAL, PARTS_MOST)
    rows, total = await reader.task_logs(task_id(task), asked.size, asked.offset)
    if not total and await reader.task(task) is None:
        raise NotFound("task not found")
    return log_page(asked, rows, total)
