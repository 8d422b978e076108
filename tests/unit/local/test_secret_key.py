"""`windlass secret-key`: a key for the coordinators, and those that follow from it."""

import pytest

from windlass import cli
from windlass.secrets import keys


def test_a_fresh_key_and_those_of_the_services_fit_together(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["secret-key"], {}) == 0
    master = capsys.readouterr().out.strip()
    found = keys.read(master, "coordinator")
    assert found is not None
    for service in keys.SERVICES:
        assert cli.run(["secret-key", service], {"WINDLASS_SECRET_KEY": master}) == 0
        own = keys.read(capsys.readouterr().out.strip(), service)
        assert own is not None
        assert own.ids == keys.transport(found, service).ids


@pytest.mark.parametrize(("given", "reason"), [("", "is not set"), ("abc", "is not 32 bytes")])
def test_without_the_coordinators_key_it_says_so(given: str, reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["secret-key", "worker"], {"WINDLASS_SECRET_KEY": given}) == 1
    assert reason in capsys.readouterr().err
