"""Secrets where decisions are made: opens what comes sealed, makes and opens the vaults of jobs, seals what goes to workers.

In memory the rows of a job with secrets are whole; `shown` and `Vault.shown` make of them what may be stored and said.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from windlass.eventlog.job_keys import for_webhooks
from windlass.eventlog.rows import JobRow, TaskRow
from windlass.eventlog.state import Items, JobWork
from windlass.ids import JobId
from windlass.messages.commands import CompleteTask, JobCommand, RunTask, SubmitJob
from windlass.messages.jobs import Job, Task
from windlass.messages.sealing import needed, open_result, open_submission, seal_task
from windlass.secrets.keys import Keys, transport
from windlass.secrets.redaction import Redactor
from windlass.secrets.vault import Vault, fresh, unwrapped

Texts = Mapping[tuple[str, str], str]
"""Sealed texts, by whose they are and the field."""

_jobs, _tasks = msgspec.json.Decoder(Job), msgspec.json.Decoder(Task)


class Vaults:
    """With the master keys, or without any: then nothing that has secrets is taken."""

    def __init__(self, master: Keys | None) -> None:
        self.master = master
        self.gateway = None if master is None else transport(master, "gateway")
        self._worker = None if master is None else transport(master, "worker")

    def opened(self, command: JobCommand) -> JobCommand:
        """A command with all it said.

        Raises:
            Invalid: it has secrets, and there is no key.
            Unopened: it was sealed with another key.
        """
        if isinstance(command, SubmitJob):
            if command.sealed:
                return open_submission(command, self.gateway)
            if self.master is None and command.definition.has_secrets:
                needed(None)
        elif isinstance(command, CompleteTask):
            return open_result(command, self._worker)
        return command

    def new(self, job: JobId, definition: Job) -> tuple[Vault, tuple[JobId, str, str, str]]:
        """The vault of a new job with secrets, and its row."""
        master, vault = needed(self.master), fresh(job, definition.secret_values())
        hooked = for_webhooks(vault, master) if definition.is_hooked else ""
        return vault, (job, master.first.id, vault.wrapped(master), hooked)

    def open(self, work: JobWork, wrapped: str | None, texts: Texts) -> None:
        """Make a working set whole that was loaded; one whose key was deleted stays as everybody sees it.

        Raises:
            Unopened: its key is wrapped by another master key.
        """
        job = work.job
        if job is None or wrapped is None:
            return
        vault = work.vault = unwrapped(job.id, wrapped, needed(self.master))
        for (owner, name), text in texts.items():
            if owner == job.id:
                work.sealed[owner, name] = text
                if name.startswith("var ") and text:
                    work.set(name.removeprefix("var "), msgspec.json.decode(vault.open("result", text), type=str))
        if text := texts.get((job.id, "definition"), ""):
            job.definition = _jobs.decode(vault.open("definition", text))
        if text := texts.get((job.id, "result"), ""):
            job.result = msgspec.json.decode(vault.open("result", text), type=str)
        vault.redactor = Redactor(job.definition.secret_values())
        for task in work.tasks.values():
            self.open_row(work, task, texts)

    @staticmethod
    def open_row(work: JobWork, task: TaskRow, texts: Texts) -> None:
        """Make a row whole that was loaded."""
        vault = work.vault
        assert vault is not None
        for name in ("definition", "result", "scope"):
            if not (text := texts.get((task.id, name), "")):
                continue
            work.sealed[task.id, name] = text
            data = vault.open(name, text)
            if name == "definition":
                task.definition = _tasks.decode(data)
            elif name == "result":
                task.result = msgspec.json.decode(data, type=str)
            elif task.composite is not None:
                task.composite.scope = msgspec.json.decode(data)

    def for_worker(self, work: JobWork, body: msgspec.Struct) -> msgspec.Struct:
        """An order as it may travel."""
        if work.vault is None or not isinstance(body, RunTask):
            return body
        clear = work.vault.clear("definition", body.definition)
        return seal_task(body, clear, work.vault.redactor.values, needed(self._worker))


def shown(work: JobWork, row: Any, *, new: bool) -> Any:
    """A row as it is stored: of one that is not new, only what can change."""
    vault = work.vault
    if vault is None:
        return row
    changes: dict[str, Any] = {name: vault.redactor.text(getattr(row, name)) for name in ("result", "error")}
    if new:
        changes["definition"] = vault.clear("definition", row.definition)
        if isinstance(row, TaskRow) and row.composite is not None:
            scope = vault.redactor.value(row.composite.scope)
            changes["composite"] = msgspec.structs.replace(row.composite, scope=scope)
    return msgspec.structs.replace(row, **changes)


def shown_job(work: JobWork) -> JobRow:
    """A job's row as everybody may see it."""
    row: JobRow = shown(work, work.job, new=False)
    return row


def shown_part(work: JobWork, part: Items) -> Items:
    """A part of a list as it is stored."""
    return part if work.vault is None else replace(part, values=work.vault.redactor.value(part.values))


def opened_part(work: JobWork, part: Items, text: str) -> Items:
    """A part of a list, whole; `text` is the sealed one, if there is one."""
    if work.vault is None or not text:
        return part
    return replace(part, values=msgspec.json.decode(work.vault.open("items", text)))


def shown_text(work: JobWork | None, text: str) -> str:
    """A sentence about a job as everybody may read it."""
    return text if work is None or work.vault is None else work.vault.redactor.text(text)
