"""Every subject, built and read back."""

import pytest

from windlass.errors import Invalid
from windlass.subjects import PERSONAL, REPORTS, RESERVED_QUEUES, TOKEN, Place, Subjects, check_queue, queue_token

PLAIN, SHARED = Subjects(), Subjects("team.a.")


def test_subjects_begin_with_the_words_of_the_system() -> None:
    assert PLAIN.jobs(10) == "jobs.0a"
    assert PLAIN.pending(255) == "pending.ff"
    assert PLAIN.report("started", 0, "w1") == "started.00.w1"
    assert PLAIN.queued("default", 9, "t", 2) == "queues.default.9.t.2"
    assert PLAIN.orders("w1") == "x-w1"
    assert PLAIN.heartbeat("w1") == "heartbeat.w1"
    assert PLAIN.logs(3, "j", "t") == "logs.03.j.t"
    assert PLAIN.changed("job", "j") == "events.job.j"
    assert PLAIN.bell("timed", 3) == "events.timed.03"
    assert PLAIN.request("jobs") == "api.jobs"


def test_a_prefix_stands_in_front_of_every_subject() -> None:
    said = [
        SHARED.jobs(1), SHARED.pending(1), SHARED.report("error", 1, "w"), SHARED.queued("q", 1, "t", 1), SHARED.queues(),
        SHARED.orders("w"), SHARED.heartbeat("w"), SHARED.heartbeats(), SHARED.logs(1, "j", "t"), SHARED.all_logs(),
        SHARED.changed("job", "j"), SHARED.changes("job"), SHARED.request("jobs"),
        *SHARED.personal(), *SHARED.bells(), *SHARED.shard_intake(1),
    ]  # fmt: skip
    assert all(subject.startswith("team.a.") for subject in said)


@pytest.mark.parametrize("prefix", ["x", ".", "a..", "a b.", "a.*.", "ä.", "$JS.", " "])
def test_a_prefix_that_would_break_subjects_is_refused(prefix: str) -> None:
    with pytest.raises(Invalid, match="subject prefix"):
        Subjects(prefix)


@pytest.mark.parametrize("subjects", [PLAIN, SHARED])
def test_what_is_built_is_read_back(subjects: Subjects) -> None:
    assert subjects.place(subjects.jobs(10)) == Place("jobs", 10)
    assert subjects.place(subjects.pending(10)) == Place("pending", 10)
    for word in REPORTS:
        assert subjects.place(subjects.report(word, 10, "w-1")) == Place(word, 10, "w-1")
    for subject, word in zip(subjects.personal(), PERSONAL, strict=True):
        assert subjects.place(subject) == Place(word)


@pytest.mark.parametrize("subject", ["jobs.foo", "jobs.0A", "jobs.1", "jobs.001", "nothing", "", "queues.q.1.t.1"])
def test_what_is_no_subject_of_the_intake_is_refused(subject: str) -> None:
    with pytest.raises(Invalid, match="no subject of the intake"):
        PLAIN.place(subject)


def test_the_owner_of_a_shard_takes_all_words_of_that_shard() -> None:
    assert PLAIN.shard_intake(10) == [
        "jobs.0a", "pending.0a", "schedules.0a", "control.0a", "started.0a.*", "completed.0a.*", "error.0a.*", "progress.0a.*",
    ]  # fmt: skip


def test_no_two_consumers_of_the_intake_want_the_same_subject() -> None:
    filters = [*PLAIN.personal(), *[subject for shard in range(256) for subject in PLAIN.shard_intake(shard)]]
    assert len(filters) == len(set(filters))
    tokens = {tuple(subject.removesuffix(".*").split(".")) for subject in filters}
    assert len(tokens) == len(filters)


@pytest.mark.parametrize("name", ["default", "gpu-1", "a.b", "größe", "日本", "a" * 64, "$JS", "-", "="])
def test_a_queue_has_any_printable_name(name: str) -> None:
    assert check_queue(name) == name


@pytest.mark.parametrize("name", ["", " ", "a b", "a\tb", "a\n", "*", "a>", "\x7f", "\u200b", "\u202e", "a" * 65, "\0"])
def test_a_queue_name_that_hides_something_or_is_a_wildcard_is_refused(name: str) -> None:
    with pytest.raises(Invalid, match="queue"):
        check_queue(name)


@pytest.mark.parametrize("name", [*sorted(RESERVED_QUEUES), "x-", "x-worker"])
def test_a_queue_with_a_name_of_the_system_is_refused(name: str) -> None:
    with pytest.raises(Invalid, match="reserved"):
        check_queue(name)


def test_a_queue_name_is_one_token_and_names_stay_apart() -> None:
    names = ["default", "a.b", "a_b", "größe", "=mfwge", "A", "a", "a" * 64, "ü" * 64]
    tokens = [queue_token(name) for name in names]
    assert len(set(tokens)) == len(names)
    assert all("." not in token and "*" not in token and ">" not in token and " " not in token for token in tokens)
    assert queue_token("default") == "default"
    assert not TOKEN.fullmatch(queue_token("a.b"))
