"""What people read about programmes and proof, from a real database."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.control import airing_store, fleet, programme_store
from services.control.airing_store import ProofCounts
from services.control.trust.keyring import Keyring
from services.shared.clock import utc_now
from tests.support.control import Province, a_planner

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
        before = await fleet.due_now(connection, [one, two], now=now)
        coming = await airing_store.next_emissions(connection, [one, two], now=now)
        on_air = await fleet.due_now(connection, [one, two], now=then)
        after = await airing_store.next_emissions(connection, [one, two], now=then)

    assert before == {}
    assert {no: airing.title for no, airing in coming.items()} == {one: "Dài", two: "Ngắn"}
    # Of two normal ones the issuer nearer to the root wins; on loa-2 its minute is over.
    assert {no: airing.broadcast_id for no, airing in on_air.items()} == {one: above}
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
        assert await fleet.due_now(connection, [one], now=then) == {}


@pytest.mark.parametrize(
    ("policy", "seconds", "due"),
    [
        pytest.param("drop", 1800, {2: "Dài", 7: "Ngắn", 20: None}, id="cut_for_good"),
        pytest.param("resume", 1800, {2: "Dài", 7: "Ngắn", 20: "Dài"}, id="goes_on"),
        pytest.param("restart", 1800, {7: "Ngắn", 20: "Dài", 31: "Dài", 39: "Dài", 41: None}, id="begins_anew_and_ends_later"),
        pytest.param("restart", 480, {4: "Dài", 7: "Ngắn", 9: "Ngắn", 11: None}, id="too_late_to_begin_anew"),
    ],
)  # fmt: skip
async def test_what_was_cut_is_due_as_the_device_plays_it(
    province: Province, keyring: Keyring, policy: str, seconds: float, due: dict[int, str | None]
) -> None:
    """A long one from 06:00 is cut by a short one from 06:05 to 06:10."""
    one = await province.device("loa-1", "a1")
    start = (utc_now() + HOUR).replace(microsecond=0)
    long = await province.bulletin(seconds=seconds, title="Dài")
    short = await province.bulletin(seconds=300, title="Ngắn")
    cut = await province.broadcast("a1", [long], at=start, level="normal")
    await province.execute("UPDATE control.broadcasts SET resume = $2 WHERE broadcast_id = $1", cut, policy)
    await province.broadcast("p", [short], at=start + 5 * MINUTE)
    await a_planner(province.control, keyring).plan_once(now=start - HOUR / 2)

    async with province.control.connection() as connection:
        found = {
            minute: airing.title if (airing := (await fleet.due_now(connection, [one], now=at)).get(one)) else None
            for minute in due
            for at in [start + minute * MINUTE]
        }
    assert found == due


async def test_what_was_stopped_leaves_behind_what_it_cut_for_good(province: Province, keyring: Keyring) -> None:
    one = await province.device("loa-1", "a1")
    start = (utc_now() + HOUR).replace(microsecond=0)
    bulletin = await province.bulletin(seconds=1800)
    cut = await province.broadcast("a1", [bulletin], at=start, level="normal")
    await province.execute("UPDATE control.broadcasts SET resume = 'drop' WHERE broadcast_id = $1", cut)
    above = await province.broadcast("p", [bulletin], at=start + MINUTE)
    planner = a_planner(province.control, keyring)
    await planner.plan_once(now=start - HOUR / 2)
    await province.withdraw(above)
    await planner.plan_once(now=start + 5 * MINUTE)

    async with province.control.connection() as connection:
        assert await fleet.due_now(connection, [one], now=start + 6 * MINUTE) == {}


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
        assert await airing_store.proof_totals(connection, now=now, broadcast_id=broadcast) == expected
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
        played = {
            name: (await airing_store.proof_totals(connection, now=now, unit_ids=[province.units[name]])).played
            for name in ("a1", "b1")
        }
    assert played == {"a1": 1, "b1": 0}


async def test_problems_are_listed(province: Province, keyring: Keyring) -> None:
    await province.device("loa-1", "a1")
    broadcast = await province.broadcast("p", [await province.bulletin(state="submitted")])
    await a_planner(province.control, keyring).plan_once(now=utc_now())

    async with province.control.connection() as connection:
        (problem,) = await programme_store.load_problems(connection, broadcast)
    assert (problem.kind, problem.item) == ("bulletin_not_approved", 0)
