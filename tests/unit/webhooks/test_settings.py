"""The webhooks service's settings."""

import pytest

from windlass.errors import Misconfigured
from windlass.webhooks.settings import Settings

NEEDED = {"WINDLASS_NATS_URL": "nats://localhost:4222", "WINDLASS_POSTGRES_DSN": "postgresql://localhost/w"}


def test_by_default_nothing_private_is_called_nothing_is_signed_and_five_attempts_are_made() -> None:
    settings = Settings.load(NEEDED, None, None)
    assert (settings.allow_private, settings.signing_keys, settings.attempts_max) == (False, [], 5)
    assert settings.retention_s == 30 * 86400
    assert settings.node.instance == "webhooks"


def test_all_of_it_can_be_set() -> None:
    more = {"ALLOW_PRIVATE": "true", "SECRET": "whsec_" + "QUFB" * 8, "ATTEMPTS": "100", "RETENTION": "90m"}
    settings = Settings.load({**NEEDED, **{f"WINDLASS_WEBHOOKS_{name}": value for name, value in more.items()}}, None, None)
    assert (settings.allow_private, settings.signing_keys, settings.attempts_max) == (True, [b"A" * 24], 100)
    assert settings.retention_s == 5400


@pytest.mark.parametrize("attempts", ["0", "101", "-1", "many"])
def test_attempts_are_a_number_within_limits(attempts: str) -> None:
    with pytest.raises(Misconfigured, match="WINDLASS_WEBHOOKS_ATTEMPTS"):
        Settings.load({**NEEDED, "WINDLASS_WEBHOOKS_ATTEMPTS": attempts}, None, None)


@pytest.mark.parametrize("retention", ["30d", "59s", "-1h", "long"])
def test_a_retention_is_a_duration_of_a_minute_or_more(retention: str) -> None:
    with pytest.raises(Misconfigured, match="WINDLASS_WEBHOOKS_RETENTION"):
        Settings.load({**NEEDED, "WINDLASS_WEBHOOKS_RETENTION": retention}, None, None)


def test_a_database_is_needed() -> None:
    with pytest.raises(Misconfigured, match="WINDLASS_POSTGRES_DSN"):
        Settings.load({"WINDLASS_NATS_URL": "nats://localhost"}, None, None)
