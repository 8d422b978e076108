"""A task's definition with its templates evaluated, once, when its row is made."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from windlass import urls
from windlass.errors import Invalid
from windlass.messages.jobs import AuxTask, Defaults, Limits, SidecarTask, SubJob, Task, Webhook

DEFINITION_MAX = 3 * 1024 * 1024
"""Bytes of a task's definition once its templates are evaluated: it must fit a message, and results may be large."""
_DEFAULTED = ("queue", "timeout", "retry", "priority")

Context = Mapping[str, Mapping[str, Any]]
"""What templates see: the tables `inputs`, `secrets`, `tasks` and `job`, and under `items` the elements of the lists around."""
Form = Literal["text", "items"]
Render = Callable[[str, Context, Form], str]
"""Evaluates a template against a context: to its text, or one expression to a `Listed` as JSON.

Raises `Invalid` with the sentence that the task fails with.
"""


class Listed(msgspec.Struct, frozen=True):
    """The elements of a list as plain data; those of a map are pairs of `key` and `value`, in the order of the keys."""

    items: list[Any]
    is_map: bool = False


_listed = msgspec.json.Decoder(Listed)


def with_defaults(task: Task, defaults: Defaults | None) -> Task:
    """The task, with what its job says for all of them where it says nothing itself."""
    if defaults is None:
        return task
    missing = {name: value for name in _DEFAULTED if (value := getattr(defaults, name)) and not getattr(task, name)}
    if defaults.limits is not None:
        own = task.limits or Limits()
        missing["limits"] = Limits(cpus=own.cpus or defaults.limits.cpus, memory=own.memory or defaults.limits.memory)
    return msgspec.structs.replace(task, **missing)


def evaluate(task: Task, context: Context, render: Render) -> Task:
    """The task with its templates replaced by their values, in the order that Tork has.

    What runs in a composite's place is left as it is: that is evaluated when its own rows are made.
    """

    def text(template: str) -> str:
        return render(template, context, "text") if "{{" in template else template

    changes: dict[str, object] = {}
    for name in ("name", "var", "image", "queue"):
        if "{{" in (template := getattr(task, name)):
            changes[name] = text(template)
    _add(changes, "env", _table(task.env, text))
    if "{{" in task.if_:
        changes["if_"] = text(task.if_)
    for name in ("pre", "post", "sidecars"):
        if beside := getattr(task, name):
            changes[name] = tuple(_beside(one, text) for one in beside)
    _add(changes, "cmd", _list(task.cmd, text))
    if task.subjob is not None:
        changes["subjob"] = _subjob(task.subjob, text)
    if not changes:
        return task
    evaluated = msgspec.structs.replace(task, **changes)
    size = len(msgspec.json.encode(evaluated))
    most = DEFINITION_MAX * 2 // 3 if context["secrets"] else DEFINITION_MAX  # sealed, it takes a third more
    if size > most:
        raise Invalid(
            f"its definition takes {size} bytes with its templates evaluated, and a worker can be sent {most}; "
            "hand large values on as a file or an address"
        )
    return evaluated


def list_of(source: str, context: Context, render: Render) -> Listed:
    """The elements that an `each` goes through."""
    return _listed.decode(render(source, context, "items"))


Text = Callable[[str], str]


def _add(changes: dict[str, object], name: str, value: object) -> None:
    if value is not None:
        changes[name] = value


def _table(table: dict[str, str], text: Text) -> dict[str, str] | None:
    """The table with its values evaluated; None if there is nothing to evaluate."""
    if not any("{{" in value for value in table.values()):
        return None
    return {key: text(value) for key, value in table.items()}


def _list(values: tuple[str, ...], text: Text) -> tuple[str, ...] | None:
    return tuple(map(text, values)) if any("{{" in value for value in values) else None


def _beside(task: AuxTask | SidecarTask, text: Text) -> AuxTask | SidecarTask:
    changes: dict[str, object] = {"name": text(task.name), "image": text(task.image)}
    _add(changes, "env", _table(task.env, text))
    _add(changes, "cmd", _list(task.cmd, text))
    return msgspec.structs.replace(task, **changes)


def _subjob(job: SubJob, text: Text) -> SubJob:
    changes: dict[str, object] = {"name": text(job.name)}
    _add(changes, "inputs", _table(job.inputs, text))
    _add(changes, "secrets", _table(job.secrets, text))
    changes["webhooks"] = tuple(_hook(hook, text) for hook in job.webhooks)
    return msgspec.structs.replace(job, **changes)


def _hook(hook: Webhook, text: Text) -> Webhook:
    """A webhook of a sub-job. What became of its templates is checked here, since the door did not know it."""
    url, headers = text(hook.url), _table(hook.headers, text) or hook.headers
    if url != hook.url:
        try:
            urls.parse(url)
        except Invalid as error:
            raise Invalid(f"the address of a webhook, {url[:200]!r}: {error}") from error
    for name, value in headers.items():
        # What is written there is a template of the sub-job, evaluated at each call; a value must not pass for one.
        if value != hook.headers[name] and "{{" in value:
            raise Invalid(f"the header {name} of a webhook would hold '{{{{', which begins a template; hand on another text")
    return msgspec.structs.replace(hook, url=url, headers=headers)
