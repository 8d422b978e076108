"""The description of the API at /openapi.json: what the routes do not say by themselves."""

from collections.abc import Mapping
from dataclasses import dataclass

from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import (
    OpenAPIFormat,
    OpenAPIMediaType,
    OpenAPIType,
    Operation,
    Parameter,
    Reference,
    RequestBody,
    Schema,
)

from windlass.gateway.replies import Message

_MEANINGS = {
    400: "Not as it must be; the message names the field",
    403: "Sent by a page of another site",
    404: "There is no such thing",
    408: "The job did not end in the time that was given; it goes on",
    409: "The Idempotency-Key was used with another body",
    413: "The body is too large",
    503: "A server does not answer; unless the message says that nothing was sent, the outcome is unknown",
}


def errors(*statuses: int) -> Mapping[int, ResponseSpec]:
    """The errors of a route."""
    return {status: ResponseSpec(Message, description=_MEANINGS[status], generate_examples=False) for status in statuses}


def _job() -> Schema:
    """The document of a job."""
    text = Schema(type=OpenAPIType.STRING)
    texts = Schema(type=OpenAPIType.OBJECT, additional_properties=text)
    return Schema(
        type=OpenAPIType.OBJECT,
        required=["name", "tasks"],
        additional_properties=False,
        properties={
            "name": text,
            "description": text,
            "tags": Schema(type=OpenAPIType.ARRAY, items=text),
            "inputs": texts,
            "secrets": texts,
            "output": text,
            "defaults": Reference(ref="#/components/schemas/Defaults"),
            "webhooks": Schema(type=OpenAPIType.ARRAY, items=Reference(ref="#/components/schemas/Webhook")),
            "permissions": Schema(type=OpenAPIType.ARRAY, items=Reference(ref="#/components/schemas/Permission")),
            "autoDelete": Reference(ref="#/components/schemas/AutoDelete"),
            "delay": Schema(type=OpenAPIType.STRING, description="Starts this long after it was accepted: a Go duration"),
            "runAt": Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.DATE_TIME, description="Starts then; not with delay"),
            "tasks": Schema(type=OpenAPIType.ARRAY, items=Reference(ref="#/components/schemas/Task"), min_items=1),
            "wait": Schema(
                type=OpenAPIType.OBJECT,
                required=["timeout"],
                additional_properties=False,
                properties={"timeout": Schema(type=OpenAPIType.STRING, description="A Go duration such as 30s")},
            ),
        },
    )


@dataclass
class SubmitOperation(Operation):
    """`POST /jobs`: its body is read by the intake, not by the framework."""

    def __post_init__(self) -> None:
        forms = ("application/json", "text/yaml", "application/yaml", "application/x-yaml", "text/x-yaml")
        self.request_body = RequestBody(content={form: OpenAPIMediaType(schema=_job()) for form in forms}, required=True)
        self.parameters = [
            Parameter(
                name="Idempotency-Key",
                param_in="header",
                description="1–255 printable characters: repeating a request with its key makes no second job",
                schema=Schema(type=OpenAPIType.STRING, max_length=255),
            )
        ]


def config(version: str) -> OpenAPIConfig:
    """How the description is made and served."""
    return OpenAPIConfig(
        title="Windlass",
        version=version,
        description="Submit jobs, look at them, cancel them, restart them.",
        path="/openapi.json",
        render_plugins=[JsonRenderPlugin(path="/")],
        use_handler_docstrings=True,
    )
