"""`/ready` is false when a service has not really worked lately, and true again when it does."""

import json
import os
import signal
import urllib.error
import urllib.request
from typing import Any

from tests.faults.test_survival import LATER_S
from tests.support.stack import Up, up, wait_for

SERVICES = ("gateway-1", "coordinator-1", "worker-1")


def _ready(stack: Up, instance: str) -> dict[str, Any]:
    """What is broken; empty when it is ready."""
    try:
        with urllib.request.urlopen(stack.health_url(instance) + "/ready", timeout=10) as answer:
            assert answer.status == 200
            return {}
    except urllib.error.HTTPError as error:
        return dict(json.load(error)["broken"])  # a 500 would have no such thing


def test_a_broker_that_stores_nothing_is_noticed_by_everybody_and_so_is_its_return() -> None:
    with up("--runtime", "shell") as stack:
        assert {name: _ready(stack, name) for name in SERVICES} == {name: {} for name in SERVICES}
        pid = stack.kill("nats", signal.SIGSTOP)
        try:
            for name in SERVICES:
                wait_for(f"{name} misses it", lambda name=name: "broker" in _ready(stack, name), LATER_S)  # type: ignore[misc]
            with urllib.request.urlopen(stack.health_url("coordinator-1") + "/health", timeout=10) as answer:
                assert (answer.status, json.load(answer)["status"]) == (200, "DOWN")
        finally:
            os.kill(pid, signal.SIGCONT)
        for name in SERVICES:
            wait_for(f"{name} is ready again", lambda name=name: not _ready(stack, name), LATER_S)  # type: ignore[misc]
