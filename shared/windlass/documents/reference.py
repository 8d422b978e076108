"""What the fields of the job language mean: the rule of each, and an example as YAML. From this the reference is written."""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from windlass.messages.jobs import (
    AutoDelete,
    AuxTask,
    Defaults,
    Each,
    Job,
    Limits,
    Mount,
    Parallel,
    Permission,
    Probe,
    Registry,
    Retry,
    SidecarTask,
    SubJob,
    Task,
    Wait,
    Webhook,
)


class Field(NamedTuple):
    """What a field says, in a sentence, and what may be written there."""

    says: str
    example: str


_BESIDE: Mapping[str, Field] = {
    "name": Field("required; 1–256 characters; a template", "fetch the file"),
    "description": Field("for people", "what it is good for"),
    "image": Field("the image it runs in, up to 256 characters; a template", "alpine:3.20"),
    "run": Field("a script, never evaluated; a `#!` line chooses who reads it, else a shell", "echo hello > /data/greeting"),
    "cmd": Field("arguments for the image's program, or for `entrypoint`; templates", '["--in", "{{ inputs.file }}"]'),
    "entrypoint": Field("the program that is run instead of the image's; not evaluated", "[bash, -c]"),
    "env": Field("variables; a name has no blank and no `=`, a value is a template", '{NAME: "{{ inputs.name }}"}'),
    "files": Field(
        "files by relative name, without `..`, written to `workdir` before the start; not evaluated",
        "{conf/app.ini: 'debug = no'}",
    ),
    "registry": Field(
        "who asks for the image; never evaluated, the password kept like a secret", "{username: reader, password: hush}"
    ),
}
_NAME = Field("required; 1–256 characters", "nightly report")
_SECRETS = Field("texts for `secrets.` in templates, never shown again", "{token: hush}")
_WEBHOOKS = Field("whom to tell, 100 at most", '[{url: "https://example.com/hook"}]')
_AUTO_DELETE = Field("when it is deleted", "{after: 24h}")
_DELAY = Field("starts this long after its turn has come: a duration, not negative; not with `runAt`", "10m")
_RUN_AT = Field("starts then and not before: RFC 3339 with a zone; not with `delay`", "2026-03-01T12:00:00Z")
_QUEUE = Field(
    "which workers take it; 1–64 characters without blanks, `*`, `>`, no reserved name, none with `x-` in front; a template",
    "gpu",
)
_PRIORITY = Field("0–9, 9 is taken first; 0 takes the default", "5")
_TIMEOUT = Field("a duration, all of it counted: images, `pre`, sidecars, `post`; longer fails it", "10m")
_RETRY = Field("how often it is tried again", "{limit: 3}")
_LIMITS = Field("what it may use", "{cpus: 1, memory: 64m}")
_MIN_SUCCESS = Field("how many must end well for the whole to do so, at least 1; all, if absent", "1")

FIELDS: Mapping[type[msgspec.Struct], Mapping[str, Field]] = {
    Job: {
        "name": _NAME,
        "description": Field("for people", "figures of the day"),
        "tags": Field("words to find it by", "[finance, daily]"),
        "inputs": Field("texts for `inputs.` in templates", "{day: monday}"),
        "secrets": _SECRETS,
        "output": Field(
            "the job's result once it is completed; at least its first template, or all of it, is an expression",
            '"{{ tasks.total }}"',
        ),
        "defaults": Field(
            "what holds for tasks that say nothing themselves; not for composites, nor in sub-jobs", "{timeout: 1h}"
        ),
        "webhooks": _WEBHOOKS,
        "permissions": Field(
            "who may see and change it; everybody, if empty; kept for now, and enforced once there are users",
            "[{role: operators}]",
        ),
        "autoDelete": _AUTO_DELETE,
        "delay": Field("starts this long after it was accepted: a duration, not negative; not with `runAt`", "10m"),
        "runAt": _RUN_AT,
        "tasks": Field("required; at least one; run one after the other", "[{name: hello, run: echo hello}]"),
    },
    Wait: {"timeout": Field("required; how long the client waits: a duration", "30s")},
    Task: {
        **_BESIDE,
        "workdir": Field("the directory in which it runs, up to 256 characters; not evaluated", "/srv/app"),
        "queue": _QUEUE,
        "priority": _PRIORITY,
        "var": Field("the name under which `tasks.` has its result, up to 64 characters; a template", "total"),
        "if": Field("a template; only the text `false` skips the task", "\"{{ inputs.day == 'monday' }}\""),
        "timeout": _TIMEOUT,
        "retry": _RETRY,
        "tags": Field("words that mean nothing to Windlass", "[slow]"),
        "mounts": Field("storage in its container, shared with `pre`, `post` and sidecars", "[{type: volume, target: /data}]"),
        "networks": Field("names or ids of networks that exist", "[backend]"),
        "pre": Field(
            "what runs before it, one after the other; a failure fails the task", "[{name: fetch, image: alpine, run: echo}]"
        ),
        "post": Field("what runs after it, if all went well", "[{name: store, image: alpine, run: echo}]"),
        "sidecars": Field(
            "what runs beside it, reachable by the name of each in lower case with hyphens", "[{name: cache, image: redis}]"
        ),
        "limits": _LIMITS,
        "gpus": Field(
            "as Docker's `--gpus`: all, a number, or pairs of count, device, driver, capabilities, options", "device=0,1"
        ),
        "parallel": Field(
            "tasks that run side by side; a composite", "{tasks: [{name: left, run: echo}, {name: right, run: echo}]}"
        ),
        "each": Field("a task for each element of a list; a composite", "{list: [1, 2], task: {name: one, run: echo}}"),
        "subjob": Field("a job in a task's place; a composite", "{name: inner, tasks: [{name: hello, run: echo}]}"),
        "onError": Field(
            "what its failure means: `fail` (the default) ends the job; with `continue` it goes on and fails at its end; "
            "`ignore` counts as success",
            "continue",
        ),
        "delay": _DELAY,
        "runAt": _RUN_AT,
    },
    AuxTask: {
        **_BESIDE,
        "timeout": Field("a duration of its own, within the task's", "1m"),
        "always": Field("of `post` alone: also after a failure or a timeout, but not after a cancel", "true"),
    },
    SidecarTask: {
        **_BESIDE,
        "timeout": Field("a duration of its own, within the task's", "1m"),
        "probe": Field("how it shows that it is ready; without one it is at once", "{path: /health, port: 8080}"),
    },
    Probe: {
        "path": Field("required; begins with `/`, up to 256 characters without blanks", "/health"),
        "port": Field("required; 1–65535", "8080"),
        "timeout": Field("a duration; 1 m if absent", "30s"),
    },
    Parallel: {
        "tasks": Field("required; at least one; all start at once", "[{name: left, run: echo}]"),
        "minSuccess": _MIN_SUCCESS,
    },
    Each: {
        "var": Field("what the task calls its element; `item` if absent", "file"),
        "list": Field(
            "required; an expression that gives a list or a map, or a list or a map as it is (texts in it are no templates)",
            '"{{ sequence(1, 5) }}"',
        ),
        "task": Field(
            "required; sees `item.index` (text, from 0), `item.value` and, of a map, `item.key`", "{name: one, run: echo}"
        ),
        "concurrency": Field("how many are at work at once, 0–99999; 0 is no limit", "4"),
        "minSuccess": _MIN_SUCCESS,
    },
    SubJob: {
        "name": Field("required; 1–256 characters; a template", "inner"),
        "description": Field("for people", "what it is good for"),
        "tasks": Field("required; at least one", "[{name: hello, run: echo}]"),
        "inputs": Field("its own; templates of the outer job", '{day: "{{ inputs.day }}"}'),
        "secrets": Field("its own; templates of the outer job", '{token: "{{ secrets.token }}"}'),
        "autoDelete": _AUTO_DELETE,
        "output": Field("its result, which becomes the task's", '"{{ tasks.total }}"'),
        "detached": Field("the task does not wait for it, and has no result", "true"),
        "webhooks": Field(
            "its own; `url` and the values of `headers` are templates of the outer job", '[{url: "https://example.com/hook"}]'
        ),
    },
    Retry: {
        "limit": Field("required; how many times more, 1–10", "3"),
        "delay": Field("the pause before the first retry, a duration up to 5m; none if absent", "2s"),
        "scalingFactor": Field("how many times as long each next pause is, 1–10, up to 24 h; 2 if only `delay` is given", "3"),
        "on": Field("only after these: exit codes 1–255, `timeout`, `lost`; after any failure if empty", "[137, timeout]"),
    },
    Limits: {
        "cpus": Field("a number of CPUs, also as a fraction; to nine decimals", "1/2"),
        "memory": Field("a size; the worker's engine has a least one", "1.5g"),
    },
    Registry: {"username": Field("as the registry knows it", "reader"), "password": Field("never shown again", "hush")},
    Mount: {
        "type": Field(
            "required: `volume` (new, gone afterwards), `tmpfs` (in memory), `bind`, or what a worker has added", "volume"
        ),
        "source": Field("of a `bind` alone, and required there: an absolute path that the worker allows", "/srv/models"),
        "target": Field(
            "required: an absolute path without `..`; none of the system's, nor in /dev, /proc, /sys or /tork", "/data"
        ),
        "opts": Field(
            "`tmpfs`: size, mode; `bind`: readonly; `volume`: type and device `tmpfs`, o with size, uid, gid, mode, noexec, "
            "nosuid, nodev",
            "{type: tmpfs, device: tmpfs, o: size=100m}",
        ),
    },
    Webhook: {
        "url": Field("required; http or https", "https://example.com/hook"),
        "headers": Field("values are templates; some names are Windlass's own", '{Authorization: "Bearer {{ secrets.token }}"}'),
        "event": Field(
            "`job.StateChange` (the default), `job.Progress`, `task.StateChange`, `task.Progress`; others never happen",
            "task.StateChange",
        ),
        "if": Field("an expression about `job` and `task`; called only if it is true", "job.State == 'FAILED'"),
    },
    Permission: {
        "user": Field("a name or an id; or else `role`", "ann"),
        "role": Field("a name or an id; or else `user`", "operators"),
    },
    AutoDelete: {"after": Field("a duration, from its completion", "24h")},
    Defaults: {"retry": _RETRY, "limits": _LIMITS, "timeout": _TIMEOUT, "queue": _QUEUE, "priority": _PRIORITY},
}
