from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from services.control import turns
from services.control.turns import take_turns
from services.shared.database.errors import DatabaseUnavailable
from tests.support.control import some_metrics

NEVER = timedelta(hours=1)


async def run_until(count: int, outcomes: list[bool | Exception], *, every: timedelta = NEVER) -> int:
    """Take turns with these outcomes until `count` of them were taken; fails when the loop would wait for ever."""
    taken = 0
    metrics = some_metrics()

    async def turn() -> bool:
        nonlocal taken
        taken += 1
        outcome = outcomes[taken - 1]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async with asyncio.timeout(5):
        await take_turns(
            "test", turn, every=every, wake=asyncio.Event(), metrics=metrics, is_over=lambda: taken >= count
        )
    return taken


async def test_more_work_is_taken_up_at_once() -> None:
    assert await run_until(3, [True, True, True]) == 3


async def test_a_turn_is_taken_every_so_often_without_being_woken() -> None:
    assert await run_until(2, [False, True], every=timedelta(milliseconds=1)) == 2


async def test_an_outage_is_outlived(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "FIRST_WAIT", timedelta(milliseconds=1))
    assert await run_until(3, [DatabaseUnavailable("gone"), DatabaseUnavailable("gone"), True]) == 3


async def test_a_bug_ends_the_loop() -> None:
    with pytest.raises(ZeroDivisionError):
        await run_until(2, [ZeroDivisionError(), True])


async def test_whoever_rings_during_a_turn_is_heard_after_it() -> None:
    wake = asyncio.Event()
    taken = 0

    async def turn() -> bool:
        nonlocal taken
        taken += 1
        wake.set()  # as if work came in while the turn had already looked
        return False

    async with asyncio.timeout(5):
        await take_turns("test", turn, every=NEVER, wake=wake, metrics=some_metrics(), is_over=lambda: taken >= 2)
    assert taken == 2
