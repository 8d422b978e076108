"""Redaction: what is found, what is left alone, and what of a struct is kept as it is."""

import msgspec

from windlass.messages.jobs import Job, SubJob, Task
from windlass.secrets.redaction import REDACTED, Redactor, Stream, by_name


def test_empty_and_very_short_values_are_ignored() -> None:
    redactor = Redactor(["", "abc"])
    assert redactor.text("abc and more") == "abc and more"
    assert redactor.values == ()


def test_values_that_overlap_go_as_one() -> None:
    assert Redactor(["abcd", "cdef"]).text("-abcdef-") == f"-{REDACTED}-"


def test_a_stream_holds_back_only_what_may_begin_a_secret() -> None:
    stream = Stream(Redactor(["hunter2"]))
    assert stream.feed("hello\n") == "hello\n"
    assert stream.feed("the hunt") == "the "
    assert stream.feed(" is over") == "hunt is over"
    assert stream.feed("hunter") == ""
    assert stream.feed("2!") == f"{REDACTED}!"
    assert stream.feed("hunt") == ""
    assert stream.close() == "hunt"


def test_a_struct_without_secrets_is_the_same_object() -> None:
    job = Job(name="j", tasks=(Task(name="t", env={"A": "b"}, cmd=("x",)),))
    assert Redactor(["hunter2"]).struct(job) is job


def test_every_text_of_a_struct_is_looked_at_and_secrets_go_whatever_they_are() -> None:
    job = Job(
        name="for hunter2",
        secrets={"token": "hunter2", "short": "x"},
        tasks=(
            Task(
                name="t",
                env={"A": "hunter2", "hunter2": "b"},
                cmd=("echo", "hunter2"),
                subjob=SubJob(name="s", secrets={"mine": "other-one"}, tasks=(Task(name="u", run="echo other-one"),)),
            ),
            Task(name="kept"),
        ),
    )
    redactor = Redactor(job.secret_values())
    found = redactor.struct(job)
    text = msgspec.json.encode(found).decode()
    assert "hunter2" not in text
    assert "other-one" not in text
    assert found.secrets == {"token": REDACTED, "short": REDACTED}
    assert found.tasks[0].env == {"A": REDACTED, REDACTED: "b"}
    assert found.tasks[1] is job.tasks[1]


def test_names_tell_what_is_not_shown() -> None:
    shown = by_name({"db_password": "p", "AWS_ACCESS_KEY_ID": "k", "MySecret": "s", "path": "/"})
    assert shown == {"db_password": REDACTED, "AWS_ACCESS_KEY_ID": REDACTED, "MySecret": REDACTED, "path": "/"}


def test_a_redactor_does_not_show_what_it_looks_for() -> None:
    assert "hunter2" not in repr(Redactor(["hunter2"]))
