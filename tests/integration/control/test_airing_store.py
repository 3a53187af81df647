"""What people read about programmes and proof, from a real database."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.control import airing_store
from services.control.airing_store import ProofCounts
from services.control.trust.keyring import Keyring
from services.shared.clock import utc_now
from tests.support.control import ZONE, Province, a_planner, local_day

pytestmark = pytest.mark.integration

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


async def test_now_and_next(province: Province, keyring: Keyring) -> None:
    one, two = await province.device("loa-1", "a1"), await province.device("loa-2", "b1")
    now = utc_now()
    long, short = await province.bulletin(seconds=600, title="Dài"), await province.bulletin(seconds=60, title="Ngắn")
    await province.broadcast("a", [long], at=now + HOUR)
    above = await province.broadcast("p", [short], at=now + HOUR + MINUTE, to=["a"])
    await province.broadcast("p", [short], at=now + HOUR, to=["b"])
    await a_planner(province.control, keyring).plan_once(now=now)
    then = now + HOUR + MINUTE + timedelta(seconds=30)

    async with province.control.connection() as connection:
        before = await airing_store.on_air_now(connection, [one, two], now=now)
        coming = await airing_store.next_emissions(connection, [one, two], now=now)
        on_air = await airing_store.on_air_now(connection, [one, two], now=then)
        after = await airing_store.next_emissions(connection, [one, two], now=then)

    assert before == {}
    assert {no: airing.title for no, airing in coming.items()} == {one: "Dài", two: "Ngắn"}
    # Of two normal ones the issuer nearer to the root wins; on loa-2 its minute is over.
    assert {no: (airing.broadcast_id, airing.issuer_depth) for no, airing in on_air.items()} == {one: (above, 0)}
    assert after == {}


async def test_what_was_planned_too_late_is_not_on_the_air(province: Province, keyring: Keyring) -> None:
    one = await province.device("loa-1", "a1")
    now = utc_now()
    await a_planner(province.control, keyring).plan_once(now=now)
    broadcast = await province.broadcast("p", [await province.bulletin(seconds=600)], at=now + HOUR)
    then = now + HOUR + 8 * MINUTE
    await a_planner(province.control, keyring).plan_once(now=then)

    (row,) = await province.emissions(broadcast)
    assert row["reason"] == "planned_too_late"
    async with province.control.connection() as connection:
        assert await airing_store.on_air_now(connection, [one], now=then) == {}


async def test_proof_adds_up_and_a_gateways_word_is_apart(province: Province, keyring: Keyring) -> None:
    now = utc_now()
    verdicts = [
        ("played", None, "device"),
        ("late", None, "device"),
        ("cut", "outranked", "device"),
        ("missed", "media_missing", "device"),
        ("refused", "bad_signature", "device"),
        ("unknown", "offline", None),
        ("played", None, "gateway"),
        ("missed", "outranked", "gateway"),
        (None, None, None),
    ]
    devices = [await province.device(f"loa-{place}", "a1" if place < 5 else "b1") for place in range(len(verdicts))]
    broadcast = await province.broadcast("p", [await province.bulletin()], at=now + HOUR)
    other = await province.broadcast("a", [await province.bulletin()], at=now + HOUR)
    await a_planner(province.control, keyring).plan_once(now=now)
    await province.withdraw(other)
    await a_planner(province.control, keyring).plan_once(now=now)
    for device_no, (outcome, reason, evidence) in zip(devices, verdicts, strict=True):
        await province.execute(
            """
            UPDATE control.emissions
               SET outcome = $3, reason = $4, evidence = $5
             WHERE device_no = $1 AND broadcast_id = $2
            """,
            device_no,
            broadcast,
            outcome,
            reason,
            evidence,
        )
    expected = ProofCounts(
        planned=9, played=1, late=1, cut=1, missed=1, refused=1, unknown=1, by_gateway=2, pending=1, overdue=0
    )

    async with province.control.connection() as connection:
        assert await airing_store.proof_totals(connection, now=now) == expected
        overdue = await airing_store.proof_totals(connection, now=now + 2 * HOUR)
        assert (overdue.pending, overdue.overdue, overdue.unexplained) == (0, 1, 2)
        assert await airing_store.proof_by_broadcast(connection, now=now) == {broadcast: expected}
        by_unit = await airing_store.proof_by_unit(connection, now=now, broadcast_id=broadcast)
        assert {unit: counts.planned for unit, counts in by_unit.items()} == {
            province.units["a1"]: 5,
            province.units["b1"]: 4,
        }
        by_day = await airing_store.proof_by_day(connection, now=now, time_zone=ZONE)
        assert by_day == {local_day(now + HOUR): expected}
        some = await airing_store.proof_totals(connection, now=now, unit_ids=[province.units["b1"]])
        assert some.planned == 4
        none = await airing_store.proof_totals(connection, now=now, since=now + 2 * HOUR)
        assert none == ProofCounts()
        last = await airing_store.last_proven(connection, devices)
    assert [last[no].outcome for no in devices[:-1]] == [outcome for outcome, _, _ in verdicts[:-1]]
    assert devices[-1] not in last


async def test_proof_stays_with_the_unit_a_device_has_left(province: Province, keyring: Keyring) -> None:
    now = utc_now()
    await province.device("loa-1", "a1")
    await province.broadcast("a1", [await province.bulletin()], at=now + HOUR)
    planner = a_planner(province.control, keyring)
    await planner.plan_once(now=now)
    await province.execute("UPDATE control.emissions SET outcome = 'played', evidence = 'device'")

    await province.change_device("loa-1", unit_id=province.units["b1"])
    await planner.plan_once(now=now + 2 * HOUR)

    async with province.control.connection() as connection:
        by_unit = await airing_store.proof_by_unit(connection, now=now + 2 * HOUR)
    assert {unit: counts.played for unit, counts in by_unit.items()} == {province.units["a1"]: 1}


async def test_problems_are_listed(province: Province, keyring: Keyring) -> None:
    await province.device("loa-1", "a1")
    broadcast = await province.broadcast("p", [await province.bulletin(state="submitted")])
    await a_planner(province.control, keyring).plan_once(now=utc_now())

    async with province.control.connection() as connection:
        (problem,) = await airing_store.problems(connection, broadcast)
    assert (problem.kind, problem.item) == ("bulletin_not_approved", 0)
