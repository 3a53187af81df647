"""Why a device sounds what it sounds: out of the record, and out of a plan made for the question."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from services.control import device_store, explanations
from services.control.explanations import Told
from services.control.planning.explanation import Standing
from services.control.planning.model import ProblemKind
from services.control.trust.keyring import Keyring
from services.shared.clock import utc_now
from tests.support.control import LOCAL, Province, a_planner

pytestmark = pytest.mark.integration

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


async def told(province: Province, device_id: str, *, at: datetime, now: datetime) -> Told:
    async with province.control.connection() as connection:
        device = await device_store.device(connection, device_id, now=now)
        return await explanations.explain(connection, device, at=at, now=now, zone=LOCAL, horizon_days=7)


async def test_what_plays_what_lost_to_it_and_by_what(province: Province, keyring: Keyring) -> None:
    await province.device("loa-1", "a1")
    now = utc_now().replace(microsecond=0)
    long, short = await province.bulletin(seconds=600, title="Dài"), await province.bulletin(seconds=60, title="Ngắn")
    local = await province.broadcast("a1", [long], at=now + HOUR, level="normal")
    above = await province.broadcast("p", [short], at=now + HOUR + MINUTE)
    await a_planner(province.control, keyring).plan_once(now=now)

    found = await told(province, "loa-1", at=now + HOUR + MINUTE + timedelta(seconds=30), now=now)

    assert found.is_recorded
    explained = found.explanation
    assert explained.on_air is not None
    assert (explained.on_air.slot.broadcast_id, explained.on_air.slot.title) == (above, "Ngắn")
    (loser,) = explained.losers
    assert (loser.slot.broadcast_id, loser.standing, loser.decided_by) == (local, Standing.INTERRUPTED, "level")
    assert loser.goes_on_at == now + HOUR + 2 * MINUTE
    assert set(found.titles) == {local, above}
    assert [record.broadcast_id for record in found.records] == [local, above]


async def test_what_was_taken_back_is_told_and_no_longer_counts(province: Province, keyring: Keyring) -> None:
    await province.device("loa-1", "a1")
    now = utc_now().replace(microsecond=0)
    gone = await province.broadcast("p", [await province.bulletin()], at=now + HOUR)
    planner = a_planner(province.control, keyring)
    await planner.plan_once(now=now)
    await province.withdraw(gone)
    await planner.plan_once(now=now)

    found = await told(province, "loa-1", at=now + HOUR, now=now)

    assert (found.explanation.on_air, found.explanation.losers) == (None, ())
    assert [(record.broadcast_id, record.withdrawn_at) for record in found.records] == [(gone, now)]


async def test_what_was_stopped_was_on_the_air_until_then_and_lost_nothing_to_others(
    province: Province, keyring: Keyring
) -> None:
    await province.device("loa-1", "a1")
    now = utc_now().replace(microsecond=0)
    start = now + HOUR
    local = await province.broadcast("a1", [await province.bulletin(seconds=1200)], at=start, level="normal")
    above = await province.broadcast("p", [await province.bulletin(seconds=900)], at=start)
    planner = a_planner(province.control, keyring)
    await planner.plan_once(now=now)
    await province.withdraw(above)
    await planner.plan_once(now=start + 5 * MINUTE)
    asked = start + HOUR

    before = (await told(province, "loa-1", at=start + 2 * MINUTE, now=asked)).explanation
    after = (await told(province, "loa-1", at=start + 7 * MINUTE, now=asked)).explanation

    assert before.on_air is not None
    assert (before.on_air.slot.broadcast_id, before.on_air.until) == (above, start + 5 * MINUTE)
    (loser,) = before.losers
    assert (loser.slot.broadcast_id, loser.standing, loser.goes_on_at) == (local, Standing.WAITS, start + 5 * MINUTE)
    assert after.on_air is not None
    assert (after.on_air.slot.broadcast_id, after.on_air.since) == (local, start + 5 * MINUTE)
    assert after.losers == ()


async def test_what_was_only_offered_says_so_where_it_was_meant_to_sound(province: Province, keyring: Keyring) -> None:
    await province.device("loa-1", "a1")
    await province.device("loa-2", "b1")
    now = utc_now().replace(microsecond=0)
    offered = await province.broadcast("p", [await province.bulletin()], at=now + HOUR, level="normal", to=["a"])
    await a_planner(province.control, keyring).plan_once(now=now)

    here = (await told(province, "loa-1", at=now + HOUR, now=now)).explanation
    elsewhere = (await told(province, "loa-2", at=now + HOUR, now=now)).explanation

    assert here.on_air is None
    assert [(each.kind, each.broadcast_id, each.unit_id) for each in here.offered] == [
        (ProblemKind.OFFER_PENDING, offered, province.units["a1"])
    ]
    assert (elsewhere.offered, elsewhere.refused) == ((), ())


async def test_days_beyond_the_horizon_are_planned_for_the_question(province: Province, keyring: Keyring) -> None:
    await province.device("loa-1", "a1")
    now = utc_now().replace(microsecond=0)
    daily = await province.broadcast("p", [await province.bulletin()], at=now + HOUR, daily=True)
    await province.broadcast("p", [await province.bulletin()], at=now + HOUR, daily=True, to=["b"])
    await a_planner(province.control, keyring).plan_once(now=now)

    found = await told(province, "loa-1", at=now + HOUR + timedelta(days=30), now=now)

    assert not found.is_recorded
    assert found.records == ()
    assert found.explanation.on_air is not None
    assert found.explanation.on_air.slot.broadcast_id == daily
    assert found.explanation.refused == ()
