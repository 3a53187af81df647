"""The outbox with a real database: leases, supersession, expiry."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from schemas.identifiers import DeviceId
from schemas.topics import Downlink, DownlinkKind
from services.control.delivery import outbox
from services.control.delivery.outbox import Claimed, Postponed, Publish
from services.shared.clock import utc_now
from tests.support.control import Province

pytestmark = pytest.mark.integration

LEASE = timedelta(seconds=30)
SECOND = timedelta(seconds=1)


def a_plan(payload: bytes, device: str = "loa-1", **changes: object) -> Publish:
    topic = Downlink(principal=DeviceId(device), kind=DownlinkKind.PLAN, device=DeviceId(device))
    return Publish(**{"topic": topic, "payload": payload, "kind": "plan", **changes})  # type: ignore[arg-type]


def a_command(payload: bytes, **changes: object) -> Publish:
    topic = Downlink(principal=DeviceId("loa-1"), kind=DownlinkKind.COMMAND, device=DeviceId("loa-1"))
    return Publish(**{"topic": topic, "payload": payload, "kind": "command", **changes})  # type: ignore[arg-type]


async def put(province: Province, *messages: Publish, at: datetime) -> None:
    async with province.control.transaction() as connection:
        await outbox.enqueue(connection, messages, at=at)


async def claim(province: Province, *, now: datetime, by: str = "one", limit: int = 100) -> tuple[Claimed, ...]:
    async with province.control.connection() as connection:
        return await outbox.claim(connection, by=by, lease=LEASE, limit=limit, now=now)


async def test_a_message_is_claimed_once_until_its_lease_runs_out(province: Province) -> None:
    now = utc_now()
    await put(province, a_plan(b"1"), at=now)

    (message,) = await claim(province, now=now)
    assert (message.payload, message.is_retained, message.attempts) == (b"1", True, 1)
    assert await claim(province, now=now + LEASE - SECOND, by="two") == ()
    (again,) = await claim(province, now=now + LEASE, by="two")
    assert (again.outbox_id, again.attempts) == (message.outbox_id, 2)


async def test_a_newer_plan_takes_the_place_of_an_unsent_one(province: Province) -> None:
    now = utc_now()
    await put(province, a_plan(b"1", serial=1), a_plan(b"x", device="loa-2"), at=now)
    await put(province, a_plan(b"2", serial=2), at=now)

    assert sorted(message.payload for message in await claim(province, now=now)) == [b"2", b"x"]


async def test_of_two_plans_in_one_transaction_the_last_counts(province: Province) -> None:
    now = utc_now()
    await put(province, a_plan(b"1"), a_plan(b"2"), at=now)
    assert [message.payload for message in await claim(province, now=now)] == [b"2"]


async def test_a_newer_plan_waits_for_the_older_one_under_way_and_survives_its_mark(province: Province) -> None:
    now = utc_now()
    await put(province, a_plan(b"1"), at=now)
    under_way = await claim(province, now=now)
    await put(province, a_plan(b"2"), at=now)

    # Nobody publishes to the same topic meanwhile: the two could arrive in the wrong order.
    assert await claim(province, now=now, by="two") == ()
    async with province.control.connection() as connection:
        assert await outbox.remove(connection, under_way, by="one", now=now) == 0
    assert [message.payload for message in await claim(province, now=now, by="two")] == [b"2"]


async def test_commands_stand_side_by_side_in_order(province: Province) -> None:
    now = utc_now()
    await put(province, a_command(b"1"), a_command(b"2"), at=now)
    await put(province, a_command(b"3"), at=now)
    assert [message.payload for message in await claim(province, now=now)] == [b"1", b"2", b"3"]


async def test_what_has_become_worthless_is_not_claimed_and_is_reported(province: Province) -> None:
    now = utc_now()
    await put(province, a_command(b"1", expires_at=now + SECOND), a_command(b"2"), at=now)

    later = now + SECOND
    assert [message.payload for message in await claim(province, now=later)] == [b"2"]
    async with province.control.connection() as connection:
        (expired,) = await outbox.expire(connection, now=later)
        assert (expired.kind, expired.attempts) == ("command", 0)
        assert await outbox.depth(connection) == (1, now)


async def test_a_postponed_message_comes_back_when_it_is_due(province: Province) -> None:
    now = utc_now()
    await put(province, a_plan(b"1"), at=now)
    (message,) = await claim(province, now=now)

    async with province.control.connection() as connection:
        await outbox.postpone(
            connection, [Postponed(message=message, dispatch_at=now + 5 * SECOND, error="x" * 1000)], by="one"
        )
    assert await claim(province, now=now + 4 * SECOND) == ()
    (again,) = await claim(province, now=now + 5 * SECOND)
    assert again.attempts == 2
    assert len(await province.value("SELECT last_error FROM control.outbox")) == outbox.ERROR_LENGTH


async def test_whoever_lost_the_lease_cannot_give_a_message_back(province: Province) -> None:
    now = utc_now()
    await put(province, a_plan(b"1"), at=now)
    (late,) = await claim(province, now=now)
    later = now + LEASE
    await claim(province, now=later, by="two")

    async with province.control.connection() as connection:
        await outbox.postpone(connection, [Postponed(message=late, dispatch_at=later, error="")], by="one")
    assert await claim(province, now=later, by="three") == ()


async def test_two_claimers_at_once_share_without_overlap(province: Province) -> None:
    now = utc_now()
    await put(province, *(a_plan(b"x", device=f"loa-{n:03}") for n in range(50)), at=now)
    async with province.control.transaction() as one, province.control.transaction() as two:
        first = await outbox.claim(one, by="one", lease=LEASE, limit=30, now=now)
        second = await outbox.claim(two, by="two", lease=LEASE, limit=30, now=now)
    assert (len(first), len(second)) == (30, 20)
    assert {message.topic for message in first}.isdisjoint(message.topic for message in second)


async def test_a_rolled_back_decision_sends_nothing(province: Province) -> None:
    now = utc_now()
    with pytest.raises(ZeroDivisionError):
        async with province.control.transaction() as connection:
            await outbox.enqueue(connection, [a_plan(b"1")], at=now)
            raise ZeroDivisionError
    assert await claim(province, now=now) == ()
