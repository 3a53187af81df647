"""Waiting for what comes about by itself in processes of their own, with an end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

Found = TypeVar("Found")

LOOK_EVERY_S = 0.1


async def until(look: Callable[[], Awaitable[Found]], what: str, *, deadline_s: float) -> Found:
    """What `look` finds, once it is something; fails after `deadline_s` seconds."""
    deadline = time.monotonic() + deadline_s
    while not (found := await look()):
        assert time.monotonic() < deadline, f"gave up waiting until {what}"
        await asyncio.sleep(LOOK_EVERY_S)
    return found
