"""The words of the two wires have one home each: subjects in `subjects.py`, SQL in files, messages in `messages/`."""

import re
from collections.abc import Iterator
from inspect import Parameter, signature

import msgspec

from tests.house.files import ROOT, name, python, strings
from windlass.messages import commands, events, notices
from windlass.messages.envelope import tag_of
from windlass.subjects import PERSONAL

SHARED = ROOT / "shared" / "windlass"
SUBJECT = re.compile(
    r"(\{\})?(jobs|pending|started|completed|error|progress|schedules|control|queues|heartbeat|logs|events|api)"
    r"(\.(\{\}|\*|>|[a-z0-9_-]+))+"
    r"|(\{\})?x-(\{\}|\*|>)"
)
HOMES = {SHARED / "subjects.py", SHARED / "bus" / "permissions.py"}


def test_no_subject_is_written_elsewhere() -> None:
    """A subject in quotes is one that a change of grammar forgets. Not meant are the bare
    words, of which `place()` gives back one, and two names that only look like a subject: of a stream and of a node's queue.
    """
    names = {"shared/windlass/bus/streams.py": {"x-{}"}, "services/windlass/gateway/shapes.py": {"x-{}"}}
    found = [
        f"{name(path)}:{line}: {text}"
        for path in python()
        if path not in HOMES
        for line, text in strings(path)
        if SUBJECT.fullmatch(text) and text not in names.get(name(path), set()) and text not in PERSONAL
    ]
    assert found == []


CHANGES = re.compile(r"\b(INSERT INTO|UPDATE \w+|DELETE FROM|TRUNCATE|MERGE INTO|COPY \w+)\b")
READS = re.compile(r"\bSELECT\b.*\b(JOIN|WHERE|ORDER BY|GROUP BY|UNION)\b", re.DOTALL)
OUTSIDE = (ROOT / "services" / "windlass" / "local", SHARED / "eventlog" / "migrate.py")
"""Who makes servers, roles and schemas, before there are tables for anything else to name."""


def test_sql_lives_in_files() -> None:
    """In Python are at most calls of a function and settings: nothing that changes a row or has a plan worth looking at."""
    found = [
        f"{name(path)}:{line}: {text[:60]}"
        for path in python()
        if not any(home in (path, *path.parents) for home in OUTSIDE)
        for line, text in strings(path)
        if CHANGES.search(text) or READS.search(text)
    ]
    assert found == []


def test_every_statement_has_a_reader() -> None:
    """By its name; a name without a file is noticed by whoever runs it."""
    told = {text for path in python() for _, text in strings(path)}
    assert {path.stem for path in (SHARED / "eventlog" / "sql").glob("*.sql")} - told == set()


def test_every_statement_says_what_it_is_for() -> None:
    silent = [name(path) for path in (SHARED / "eventlog" / "sql").glob("*.sql") if not path.read_text().startswith("--")]
    assert silent == []


def test_no_role_may_change_or_remove_an_event() -> None:
    grants = re.compile(r"GRANT\s+([A-Z, ]+)\s+ON\s+([\w, ]+)\s+TO", re.IGNORECASE)
    for path in sorted((SHARED / "eventlog" / "migrations").glob("*.sql")):
        for rights, tables in grants.findall(path.read_text()):
            if "events" in re.split(r"[,\s]+", tables):
                assert set(re.split(r"[,\s]+", rights.strip())) <= {"INSERT", "SELECT"}, f"{name(path)}: {rights} on {tables}"


# -- messages -----------------------------------------------------------------------------------------------------------


def _structs() -> Iterator[type[msgspec.Struct]]:
    for module in (commands, events, notices):
        for found in vars(module).values():
            if isinstance(found, type) and issubclass(found, msgspec.Struct) and found.__module__ == module.__name__:
                yield found


def test_a_message_cannot_change_and_names_its_fields() -> None:
    assert [kind.__name__ for kind in _structs() if not kind.__struct_config__.frozen] == []
    fields = [field for kind in _structs() for field in signature(kind).parameters.values()]
    assert [field for field in fields if field.kind is not Parameter.KEYWORD_ONLY] == []


def test_tags_are_words_of_their_own() -> None:
    tags = [tag_of(kind) for kind in _structs() if kind.__struct_config__.tag is not None]
    assert len(tags) == len(set(tags))
    assert [tag for tag in tags if not re.fullmatch(r"[a-z]+(\.[a-z]+)?", tag)] == []


def test_commands_refuse_what_they_do_not_know_and_events_take_it() -> None:
    """A command may be refused; an event of a newer release must still be readable by an older one."""
    asked = {kind for kind in _structs() if kind.__module__ == commands.__name__ and kind is not commands.Answer}
    assert {kind.__name__ for kind in asked if not kind.__struct_config__.forbid_unknown_fields} == set()
    assert {kind.__name__ for kind in events.JOB_EVENT_TYPES if kind.__struct_config__.forbid_unknown_fields} == set()


def test_every_event_is_in_the_list() -> None:
    assert {kind for kind in _structs() if kind.__module__ == events.__name__} == set(events.JOB_EVENT_TYPES)
