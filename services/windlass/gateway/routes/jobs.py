"""Jobs: submit, look at, cancel, restart."""

from typing import Annotated, Any

from litestar import Request, delete, get, post, put
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, FromQuery, QueryParameter
from litestar.response import Response

from windlass.errors import Invalid, NotFound, Rejected
from windlass.eventlog.read import Reader
from windlass.eventlog.summaries import JobSummary
from windlass.gateway.commands import Commands
from windlass.gateway.intake import Intake
from windlass.gateway.openapi import SubmitOperation, errors
from windlass.gateway.replies import Status
from windlass.gateway.routes.paging import log_page, read_page
from windlass.gateway.shapes import JobPage, JobView, LogPage, job_view, summary
from windlass.ids import JobId, is_id

JOBS_USUAL, JOBS_MOST = 10, 20
PARTS_USUAL, PARTS_MOST = 25, 100
PAGE_DIGITS = 6

AnyRequest = Request[Any, Any, State]


def job_id(text: str) -> JobId:
    """An id from a path.

    Raises:
        NotFound: no job can have it.
    """
    if not is_id(text):
        raise NotFound(f"job not found: {text[:64]!r} is no id; an id has 32 hexadecimal digits")
    return JobId(text)


async def whole_job(reader: Reader, job: str, page: int = 1) -> JobView:
    """What `GET /jobs/{job}` answers, with a page of its rows; none with page 0.

    Raises:
        NotFound: there is no such job.
    """
    whole = await reader.job(job_id(job), page)
    if whole is None:
        raise NotFound("job not found")
    return job_view(whole)


@post(
    "/jobs",
    status_code=200,
    tags=["jobs"],
    operation_class=SubmitOperation,
    responses={
        200: ResponseSpec(JobSummary, description="The committed job; with `wait`, the whole job once it has ended"),
        **errors(400, 403, 408, 409, 413, 503),
    },
)
async def submit_job(request: AnyRequest, intake: NamedDependency[Intake]) -> Response[bytes]:
    """Submit a job, as JSON or YAML."""
    reply = await intake.post(request.scope["headers"], request.receive)
    headers = {name.decode(): value.decode() for name, value in reply.headers}
    return Response(reply.body, status_code=reply.status, headers=headers, media_type="application/json")


@get("/jobs", tags=["jobs"], responses=errors(400, 404, 503))
async def list_jobs(
    reader: NamedDependency[Reader],
    page: FromQuery[str | None] = None,
    size: FromQuery[str | None] = None,
    q: FromQuery[str | None] = None,
) -> JobPage:
    """Jobs, newest first."""
    if q:
        raise Invalid("search is not built yet; leave q out")
    asked = read_page(page, size, JOBS_USUAL, JOBS_MOST)
    rows = await reader.jobs(asked.size, asked.offset)
    total = sum((await reader.job_counts()).values())
    return JobPage(
        items=[summary(row) for row in rows],
        number=asked.number,
        size=len(rows),
        total_pages=asked.pages(total),
        total_items=total,
    )


@get("/jobs/{job:str}", tags=["jobs"], responses=errors(400, 404, 503))
async def get_job(job: FromPath[str], reader: NamedDependency[Reader], execution: FromQuery[str | None] = None) -> JobView:
    """A whole job, with the rows of its tasks in `execution`: of a very large job the page `execution`, or none with 0."""
    if execution and (not execution.isdecimal() or len(execution) > PAGE_DIGITS):
        raise Invalid(f"execution is the number of a page, or 0 for no rows, and not {execution[:32]!r}")
    return await whole_job(reader, job, int(execution or 1))


@get("/jobs/{job:str}/log", tags=["jobs"], responses=errors(400, 404, 503))
async def get_job_log(
    job: FromPath[str],
    reader: NamedDependency[Reader],
    page: FromQuery[str | None] = None,
    size: FromQuery[str | None] = None,
    q: FromQuery[str | None] = None,
) -> LogPage:
    """The output of a job's tasks, newest part first."""
    if q:
        raise Invalid("search is not built yet; leave q out")
    asked = read_page(page, size, PARTS_USUAL, PARTS_MOST)
    rows, total = await reader.job_logs(job_id(job), asked.size, asked.offset)
    if not total and not await reader.has_job(job):
        raise NotFound("job not found")
    return log_page(asked, rows, total)


@put("/jobs/{job:str}/cancel", status_code=200, tags=["jobs"], responses=errors(400, 403, 404, 503))
async def cancel_job(job: FromPath[str], commands: NamedDependency[Commands]) -> Status:
    """End a job: what is queued never starts, what runs is stopped."""
    try:
        await commands.cancel(job_id(job))
    except NotFound as error:
        raise NotFound("job not found") from error
    except Rejected as error:
        raise Invalid("job is not running") from error
    return Status()


@put("/jobs/{job:str}/restart", status_code=200, tags=["jobs"], responses=errors(400, 403, 404, 503))
async def restart_job(
    job: FromPath[str],
    commands: NamedDependency[Commands],
    start: Annotated[str | None, QueryParameter(name="from")] = None,
    only: FromQuery[str | None] = None,
) -> Status:
    """Go on with a job that failed or was cancelled, at the task where it ended.

    `from=start`: run any job that has ended anew. `only=failed`: run again what failed, and keep the results of all else.
    """
    if start not in (None, "", "start") or only not in (None, "", "failed") or (start and only):
        raise Invalid("restart takes ?from=start or ?only=failed, or neither")
    try:
        await commands.restart(job_id(job), "start" if start else "failed" if only else "")
    except NotFound as error:
        raise NotFound("job not found") from error
    except Rejected as error:
        raise Invalid(str(error)) from error
    return Status()


async def _pause(job: str, commands: Commands, *, resume: bool = False) -> Status:
    try:
        await commands.pause(job_id(job), resume=resume)
    except NotFound as error:
        raise NotFound("job not found") from error
    except Rejected as error:
        raise Invalid(str(error)) from error
    return Status()


@put("/jobs/{job:str}/pause", status_code=200, tags=["jobs"], responses=errors(400, 403, 404, 503))
async def pause_job(job: FromPath[str], commands: NamedDependency[Commands]) -> Status:
    """Start nothing new of a job until it is resumed; what runs goes on."""
    return await _pause(job, commands)


@put("/jobs/{job:str}/resume", status_code=200, tags=["jobs"], responses=errors(400, 403, 404, 503))
async def resume_job(job: FromPath[str], commands: NamedDependency[Commands]) -> Status:
    """Go on with a job that was paused."""
    return await _pause(job, commands, resume=True)


@delete("/jobs/{job:str}", status_code=200, tags=["jobs"], responses=errors(400, 403, 404, 503))
async def delete_job(job: FromPath[str], commands: NamedDependency[Commands]) -> Status:
    """Delete a job that has ended, with all that belongs to it."""
    try:
        await commands.delete(job_id(job))
    except NotFound as error:
        raise NotFound("job not found") from error
    except Rejected as error:
        raise Invalid(str(error)) from error
    return Status()
