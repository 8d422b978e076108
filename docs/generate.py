"""Writes the generated parts of the reference, between their markers, and the broker's configuration in `deploy/`.

With `--check`, it only says which are out of date.

A page holds `<!-- generated: NAME -->` … `<!-- end -->`, and everything around that is written by hand.
"""

import argparse
import ast
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import msgspec
from nats.js.api import StreamConfig

ROOT = Path(__file__).resolve().parents[1]
SOURCES = (ROOT / "services", ROOT / "shared")
sys.path[1:1] = [str(source) for source in SOURCES]

from windlass import ids, metrics, settings  # noqa: E402 the line above makes this work without an installation
from windlass.bus import permissions, streams  # noqa: E402
from windlass.documents import reference  # noqa: E402
from windlass.local import nats  # noqa: E402
from windlass.local.data import NATS_USERS  # noqa: E402
from windlass.messages import commands, envelope, events, jobs, notices  # noqa: E402
from windlass.subjects import Subjects  # noqa: E402

Rows = Iterable[Sequence[str]]


def table(heads: Sequence[str], rows: Rows) -> str:
    """A table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def prose(text: str | None) -> str:
    """A docstring as one paragraph a blank line apart."""
    parts = inspect.cleandoc(text or "").split("\n\n")
    return "\n\n".join(" ".join(part.split()) for part in parts)


# -- messages -----------------------------------------------------------------------------------------------------------


def _type(hint: object) -> str:
    """A type as JSON has it."""
    text = str(hint) if not isinstance(hint, type) else hint.__name__
    text = re.sub(r"(\w+\.)+", "", text)
    words = {
        "JobId": "id", "TaskId": "id", "WorkerId": "id", "str": "text", "int": "integer", "float": "number",
        "datetime": "time", "bool": "true/false", "Raw": "object", "dict": "map", "tuple": "list",
    }  # fmt: skip
    text = re.sub(r"\w+", lambda word: words.get(word[0], word[0]), text)
    return text.replace(" | None", "").replace(" | UnsetType", "").replace(", ...", "")


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return ""
    if field.default_factory is not msgspec.NODEFAULT:
        return "empty"
    if field.default in (None, msgspec.UNSET, "", (), {}):
        return "absent" if field.default in (None, msgspec.UNSET) else "empty"
    return f"`{bytes(field.default).decode() if isinstance(field.default, msgspec.Raw) else field.default}`"


def _fields(kind: type[msgspec.Struct]) -> str:
    hints = inspect.get_annotations(kind)
    for base in kind.__mro__:
        hints = {**inspect.get_annotations(base), **hints}
    rows = [(f"`{field.encode_name}`", _type(hints[field.name]), _default(field)) for field in msgspec.structs.fields(kind)]
    return table(("field", "type", "default"), rows)


def _message(kind: type[msgspec.Struct], note: str = "") -> str:
    title = f"### `{envelope.tag_of(kind)}`" if kind.__struct_config__.tag else f"### {kind.__name__}"
    head = f"{title}{note}\n\n{prose(kind.__doc__)}"
    return f"{head}\n\n{_fields(kind)}" if msgspec.structs.fields(kind) else head


def _flags(kind: type[msgspec.Struct]) -> str:
    tag = envelope.tag_of(kind)
    return " (timed)" if tag in events.TIMED else ""


def all_events() -> str:
    """Each type of event."""
    rows = [
        (
            f"[`{envelope.tag_of(kind)}`](#{envelope.tag_of(kind).replace('.', '')}{'-timed' if _flags(kind) else ''})",
            prose(kind.__doc__).partition("\n")[0],
        )
        for kind in events.JOB_EVENT_TYPES
    ]
    parts = [table(("type", "says"), rows), *(_message(kind, _flags(kind)) for kind in events.JOB_EVENT_TYPES)]
    return "\n\n".join(parts)


TITLES: dict[type[msgspec.Struct], str] = {
    jobs.Job: "Job",
    jobs.Task: "Task: `tasks[…]`",
    jobs.Defaults: "Defaults: `defaults`",
    jobs.AuxTask: "Before and after: `pre[…]`, `post[…]`",
    jobs.SidecarTask: "Beside: `sidecars[…]`",
    jobs.Probe: "Probe of a sidecar: `probe`",
    jobs.Parallel: "Side by side: `parallel`",
    jobs.Each: "For each: `each`",
    jobs.SubJob: "A job within a job: `subjob`",
    jobs.Retry: "Trying again: `retry`",
    jobs.Limits: "Limits: `limits`",
    jobs.Registry: "Registry: `registry`",
    jobs.Mount: "Storage: `mounts[…]`",
    jobs.Webhook: "Webhooks: `webhooks[…]`",
    jobs.Permission: "Permissions: `permissions[…]`",
    jobs.AutoDelete: "Deletion: `autoDelete`",
    jobs.Wait: "Waiting: `wait`, of `POST /jobs` alone",
}
BEYOND = frozenset(
    {
        "Job.delay",
        "Job.runAt",
        "Task.onError",
        "Task.delay",
        "Task.runAt",
        "Parallel.minSuccess",
        "Each.minSuccess",
        "AuxTask.always",
    }
    | {"Retry.delay", "Retry.scalingFactor", "Retry.on"}
)
"""Fields that Tork has not, by class."""


def language() -> str:
    """Each field of the job language."""
    return "\n\n".join(_words(kind, title) for kind, title in TITLES.items())


def _words(kind: type[msgspec.Struct], title: str) -> str:
    hints = inspect.get_annotations(kind)
    text, rows = prose(kind.__doc__), []
    for field in msgspec.structs.fields(kind):
        text = text.replace(f"`{field.name}`", f"`{field.encode_name}`")
        about = reference.FIELDS[kind][field.encode_name]
        name = f"{kind.__name__}.{field.encode_name}"
        marks = "⊕ " * (name in BEYOND)
        default = "" if field.required else _default(field)
        rows.append((f"`{field.encode_name}`", _type(hints[field.name]), default, f"{marks}{about.says}", f"`{about.example}`"))
    return f"### {title}\n\n{text}\n\n{table(('field', 'type', 'default', 'rule', 'example'), rows)}"


def _all(*kinds: type[msgspec.Struct]) -> Callable[[], str]:
    return lambda: "\n\n".join(_message(kind) for kind in kinds)


# -- subjects -----------------------------------------------------------------------------------------------------------

SAMPLES: dict[str, str | int] = {
    "shard": 0xA7, "worker": "WORKER", "queue": "QUEUE", "priority": 88888, "task": "TASK", "attempt": 77777,
    "node": "NODE", "job": "JOB", "kind": "KIND", "stream": "STREAM", "method": "METHOD", "word": "WORD", "name": "NAME",
}  # fmt: skip


def _shown(subject: str) -> str:
    for name, sample in SAMPLES.items():
        subject = subject.replace(f"{sample:02x}" if name == "shard" else str(sample), f"<{name}>")
    return f"`{subject}`"


def all_subjects() -> str:
    """Each function of `Subjects` that makes a subject or a filter."""
    made, rows = Subjects(), []
    for name, function in inspect.getmembers(Subjects, inspect.isfunction):
        names = list(inspect.signature(function).parameters)[1:]
        if name.startswith("_") or name == "place":
            continue
        found = function(made, *(SAMPLES[parameter] for parameter in names))
        shown = [found] if isinstance(found, str) else found
        source = inspect.getsourcelines(function)[1]
        rows.append((source, (", ".join(map(_shown, shown)), prose(function.__doc__), f"`{name}`")))
    return table(("subject or filter", "what it is", "made by"), [row for _, row in sorted(rows)])


def _amount(number: float | None) -> str:
    if number is None or number <= 0:
        return ""
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if number >= size and number % size == 0:
            return f"{int(number // size)} {unit}"
    return f"{int(number):,}"


def _age(seconds: float | None) -> str:
    if not seconds:
        return ""
    return f"{seconds / 3600:g} h" if seconds >= 3600 else f"{seconds:g} s"


def _stream(config: StreamConfig, subjects: str) -> tuple[str, ...]:
    assert config.retention is not None
    assert config.storage is not None
    limits = [
        f"{what} {amount}"
        for what, amount in (
            ("messages", _amount(config.max_msgs)),
            ("bytes", _amount(config.max_bytes)),
            ("a message", _amount(config.max_msg_size)),
            ("a subject", _amount(config.max_msgs_per_subject)),
            ("age", _age(config.max_age)),
        )
        if amount
    ]
    return f"`{config.name}`", subjects, config.retention.value, config.storage.value, ", ".join(limits)


def all_streams() -> str:
    """Each stream, with its limits."""
    subjects = Subjects()
    rows = []
    for config in streams.streams(subjects, settings.SHARDS):
        named = config.subjects or []
        shown = ", ".join(f"`{one}`" for one in named) if len(named) < 5 else "every subject of the intake, one by one"
        rows.append(_stream(config, shown))
    one, _ = streams.worker_stream(subjects, "WORKER")
    rows.append(tuple(cell.replace("WORKER", "<worker>") for cell in _stream(one, "`x-<worker>`")))
    return table(("stream", "subjects", "retention", "storage", "at most"), rows)


def all_consumers() -> str:
    """Each durable consumer."""
    subjects = Subjects()
    rows = []
    for stream, config in streams.consumers(subjects, 1):
        name = (config.durable_name or "").replace("shard-00", "shard-<shard>")
        filters = ", ".join(f"`{one}`" for one in config.filter_subjects or []).replace(".00", ".<shard>")
        rows.append((f"`{name}`", f"`{stream}`", filters or "everything"))
    name, level = streams.Names.level("QUEUE", 9), subjects.queue_level("QUEUE", 9)
    tasks = streams.Names(subjects).tasks
    for_queue = [text.replace("QUEUE", "<queue>").replace("9", "<0-9>") for text in (name, level)]
    rows.append((f"`{for_queue[0]}`", f"`{tasks}`", f"`{for_queue[1]}`"))
    rows.append((f"`{streams.ORDERS}`", "`x-<worker>`", "everything"))
    return table(("consumer", "of stream", "takes"), rows)


def all_permissions() -> str:
    """What each user of the NATS server may say and hear."""
    users = {user: permissions.permissions(user, Subjects()) for user in ("operator", *permissions.SERVICES)}
    users["worker-`<id>`"] = permissions.issued_worker(ids.user_of("<id>"), ["QUEUE"], Subjects())
    rows = []
    for user, allowed in users.items():
        shown = [[re.sub(r"QUEUE-\d", "<queue>-<0-9>", one) for one in some] for some in (allowed.publish, allowed.subscribe)]
        rows.append((user, *(" ".join(f"`{one}`" for one in dict.fromkeys(some)) or "nothing" for some in shown)))
    return table(("user", "may publish", "may subscribe to"), rows)


# -- settings and errors ------------------------------------------------------------------------------------------------


def _documented(path: Path, name: str) -> dict[str, str]:
    """The docstrings that stand below the fields of a class."""
    module = ast.parse(path.read_text())
    (body,) = (node.body for node in module.body if isinstance(node, ast.ClassDef) and node.name == name)
    found = {}
    for field, below in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            found[field.target.id] = ast.literal_eval(below.value)
    return found


def all_metrics() -> str:
    """Each metric, by service."""
    rows = []
    for metric in (value for value in vars(metrics).values() if isinstance(value, metrics.Metric)):
        kind = "counter" if metric.name.endswith("_total") else "histogram" if metric.buckets else "gauge"
        rows.append((f"`{metric.name}`", metric.service, kind, ", ".join(f"`{label}`" for label in metric.labels), metric.says))
    return table(("metric", "of", "kind", "labels", "says"), rows)


def all_times() -> str:
    """The times of both profiles."""
    told = _documented(SOURCES[1] / "windlass" / "settings.py", "Times")
    rows = [
        (f"`{name}`", *(f"{getattr(settings.PROFILES[profile], name):g} s" for profile in ("default", "fast")), prose(text))
        for name, text in told.items()
    ]
    return table(("time", "default", "fast", "what it is"), rows)


def all_errors() -> str:
    """Each error's code, with its HTTP status and meaning; a status that a class does not give comes from the class above."""
    classes: dict[str, tuple[str, str, dict[str, str]]] = {}
    for path in (path for source in SOURCES for path in sorted(source.rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and node.bases and isinstance(node.bases[0], ast.Name):
                values = _constants(node)
                if "code" in values:
                    classes[node.name] = (node.bases[0].id, ast.get_docstring(node) or "", values)
    rows = []
    for name, (_, text, values) in classes.items():
        at = name
        while at in classes and "http" not in classes[at][2]:
            at = classes[at][0]
        http = classes[at][2]["http"] if at in classes else "500"
        rows.append((f"[`{values['code']}`]({values['code']}.md)", http, prose(text).partition("\n")[0]))
    return table(("code", "HTTP", "meaning"), sorted(rows))


def _constants(node: ast.ClassDef) -> dict[str, str]:
    found = {}
    for part in node.body:
        if isinstance(part, ast.Assign) and isinstance(part.targets[0], ast.Name) and isinstance(part.value, ast.Constant):
            found[part.targets[0].id] = str(part.value.value)
    return found


# -- files of deploy/ ---------------------------------------------------------------------------------------------------

NATS_HEAD = """\
# The broker of an installation: generated from the rights of this release, see docs/how-to/run-on-several-machines.md.
# Passwords come from the server's environment; each begins with a letter and has letters and digits only.
# For TLS, add here:  tls { cert_file: "…", key_file: "…" }

# /healthz, for whoever watches the server.
http: "0.0.0.0:8222"
"""


def nats_configuration() -> str:
    """What compose.yaml's broker runs with."""
    passwords = {user: f"${user.upper()}_PASSWORD" for user in NATS_USERS}
    return nats.configuration(NATS_HEAD.rstrip(), "0.0.0.0:4222", Path("/data"), passwords, nats.rights(""))


# -- pages --------------------------------------------------------------------------------------------------------------

PARTS: dict[str, Callable[[], str]] = {
    "events": all_events,
    "language": language,
    "envelope": _all(envelope.Message, commands.Answer),
    "commands": _all(commands.SubmitJob, commands.CancelJob, commands.AdvanceJob, commands.LoseTask),
    "reports": _all(commands.ClaimTask, commands.ReportProgress, commands.CompleteTask, commands.FailTask),
    "work": _all(commands.RunTask, commands.GrantTask, commands.RefuseTask, commands.StopTask),
    "notices": _all(notices.NodeBeat, notices.Running, notices.LogPart, notices.StreamChanged, notices.HeadMoved),
    "subjects": all_subjects,
    "streams": all_streams,
    "consumers": all_consumers,
    "permissions": all_permissions,
    "metrics": all_metrics,
    "times": all_times,
    "errors": all_errors,
}
PAGES = (
    "reference/metrics.md",
    "reference/events.md",
    "reference/job-language.md",
    "reference/messages.md",
    "reference/subjects.md",
    "reference/settings.md",
    "errors/README.md",
)
MARKED = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def renewed(text: str) -> str:
    """A page with its generated parts as they should be."""
    return MARKED.sub(lambda found: f"{found[1]}\n{PARTS[found[2]]()}\n\n{found[3]}", text)


def main() -> int:
    """Write or check the pages; 1 if one was out of date and only checked."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing; fail if something would change")
    args = parser.parse_args()
    stale = []
    texts: dict[str, Callable[[str], str]] = {f"docs/{name}": renewed for name in PAGES}
    texts["deploy/nats/nats.conf"] = lambda _: nats_configuration()
    for name, make in texts.items():
        page = ROOT / name
        old = page.read_text() if page.exists() else ""
        new = make(old)
        if new != old:
            stale.append(name)
            if not args.check:
                page.write_text(new)
    for name in stale:
        sys.stderr.write(f"{name} {'is out of date; run: just docs' if args.check else 'written'}\n")
    return 1 if args.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
