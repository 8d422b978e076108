"""Waiting for a condition, with a deadline that names what was waited for."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")

LOOK_S = 0.01


async def until(what: str, condition: Callable[[], Found | None], within_s: float = 15.0) -> Found:
    """Let the event loop turn until `condition` gives something true, and return that."""
    try:
        async with asyncio.timeout(within_s):
            while not (found := condition()):
                await asyncio.sleep(LOOK_S)
            return found
    except TimeoutError:
        raise AssertionError(f"not within {within_s:g} s: {what}") from None
