"""Chores that wait until the sound is out: in order, one at a time, and none lost when another goes wrong."""

from __future__ import annotations

import asyncio
import gc

from firmware_sim.aftermath import LONGEST_S, QUIET_S, Aftermath


async def test_chores_wait_then_come_one_by_one_in_order_with_others_between_them() -> None:
    loop = asyncio.get_running_loop()
    aftermath, happened, done = Aftermath(), list[str](), loop.create_future()

    def first() -> None:
        happened.append("first")
        loop.call_soon(happened.append, "a socket")
        aftermath.add(lambda: happened.append("third"))
        aftermath.add(lambda: done.set_result(None))

    aftermath.add(first)
    aftermath.add(lambda: happened.append("second"))
    assert happened == []
    await done
    assert happened == ["first", "a socket", "second", "third"]


async def test_what_comes_later_puts_chores_off_until_it_is_quiet_but_none_for_long() -> None:
    loop = asyncio.get_running_loop()
    aftermath, done = Aftermath(), loop.create_future()
    begun, first_done_after = loop.time(), list[float]()

    def keep_coming() -> None:
        if not first_done_after:
            aftermath.add(lambda: None)
            loop.call_later(QUIET_S / 5, keep_coming)
        else:
            aftermath.add(lambda: done.set_result(None))

    aftermath.add(lambda: first_done_after.append(loop.time() - begun))
    keep_coming()
    await done
    assert first_done_after[0] >= LONGEST_S


async def test_garbage_of_a_fleet_waits_until_it_is_quiet() -> None:
    aftermath, done = Aftermath(owns_process=True), asyncio.get_running_loop().create_future()
    try:
        aftermath.add(lambda: done.set_result(gc.isenabled()))
        assert not gc.isenabled()
        assert await done
    finally:
        gc.enable()


async def test_a_chore_that_fails_does_not_keep_the_others_waiting() -> None:
    loop = asyncio.get_running_loop()
    aftermath, done, failures = Aftermath(), loop.create_future(), list[object]()
    loop.set_exception_handler(lambda _, context: failures.append(context["exception"]))

    def fails() -> None:
        raise OSError("the flash is full")

    aftermath.add(fails)
    aftermath.add(lambda: done.set_result(None))
    await done
    assert [type(each) for each in failures] == [OSError]
