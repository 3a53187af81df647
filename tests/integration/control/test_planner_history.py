"""What planning leaves alone, with a real database: why something was silent yesterday is not what today's plan says."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import pytest
from asyncpg.connection import LoggedQuery

from schemas.identifiers import BroadcastId
from services.control import airing_store, planning_queue, programme_store
from services.control.trust.keyring import Keyring
from services.shared.clock import utc_now
from tests.support.control import Province, a_planner, local_day

pytestmark = pytest.mark.integration

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def in_an_hour() -> datetime:
    return (utc_now() + HOUR).replace(microsecond=0)


async def plan(province: Province, keyring: Keyring, *, now: datetime) -> None:
    assert await a_planner(province.control, keyring).plan_once(now=now) is not None


async def noted(province: Province, broadcast_id: BroadcastId) -> dict[datetime, set[str]]:
    """What is noted about each occurrence."""
    rows = await province.rows(
        "SELECT occurrence_at, problem FROM control.planning_problems WHERE broadcast_id = $1", broadcast_id
    )
    found: dict[datetime, set[str]] = {}
    for row in rows:
        found.setdefault(row["occurrence_at"], set()).add(row["problem"])
    return found


async def planned(province: Province, broadcast_id: BroadcastId) -> set[datetime]:
    return {row["occurrence_at"] for row in await province.emissions(broadcast_id) if row["withdrawn_at"] is None}


async def test_an_accepted_offer_was_pending_on_the_days_before(province: Province, keyring: Keyring) -> None:
    await province.device("loa-1", "a1")
    start = in_an_hour()
    broadcast = await province.broadcast("a", [await province.bulletin()], at=start, daily=True, level="normal")
    await plan(province, keyring, now=start - HOUR / 2)

    accepted_at = start + 2 * DAY + HOUR
    await province.decide(broadcast, "a1", "accepted")
    await province.execute("UPDATE control.planning_requests SET requested_at = $1", accepted_at)
    await plan(province, keyring, now=accepted_at)

    days = [start + n * DAY for n in range(3)]
    assert await noted(province, broadcast) == {day: {"offer_pending"} for day in days}
    sounding = await planned(province, broadcast)
    assert min(sounding) == start + 3 * DAY
    # Every occurrence of the horizon ends as an emission or as a named problem, and none as both.
    assert sorted(sounding | set(days)) == [start + n * DAY for n in range(len(sounding) + 3)]


async def test_quiet_hours_say_nothing_about_days_that_did_sound(province: Province, keyring: Keyring) -> None:
    await province.device("loa-1", "a1")
    start = in_an_hour()
    broadcast = await province.broadcast("a1", [await province.bulletin()], at=start, daily=True)
    await plan(province, keyring, now=start - HOUR / 2)

    asked_at = start + 2 * DAY + HOUR
    around = [{"begin": "00:00", "end": "12:00"}, {"begin": "12:00", "end": "00:00"}]
    await province.policy("a1", quiet=around)
    await province.execute("UPDATE control.planning_requests SET requested_at = $1", asked_at)
    await plan(province, keyring, now=asked_at)

    assert await planned(province, broadcast) == {start + n * DAY for n in range(3)}
    quiet = await noted(province, broadcast)
    assert min(quiet) == start + 3 * DAY
    assert set().union(*quiet.values()) == {"quiet_hours"}


async def test_a_change_does_not_put_days_that_sounded_before_the_issue(province: Province, keyring: Keyring) -> None:
    await province.device("loa-1", "a1")
    start = in_an_hour()
    broadcast = await province.broadcast("a1", [await province.bulletin()], at=start, daily=True)
    await plan(province, keyring, now=start - HOUR / 2)

    changed_at = start + 2 * DAY + HOUR
    await province.change_broadcast(broadcast, at=changed_at, volume_percent=40)
    await plan(province, keyring, now=changed_at)

    assert await noted(province, broadcast) == {}
    assert {start + n * DAY for n in range(4)} <= await planned(province, broadcast)


async def test_what_sounded_while_the_planner_was_away_was_not_before_the_issue(
    province: Province, keyring: Keyring
) -> None:
    """Something else was asked for first; then what had sounded, and what was new that day, were changed."""
    await province.device("loa-1", "a1")
    start = in_an_hour()
    sounded = await province.broadcast("a1", [await province.bulletin()], at=start, daily=True)
    await plan(province, keyring, now=start - HOUR / 2)

    await province.change_device("loa-1", name="Tên mới")
    await province.execute("UPDATE control.planning_requests SET requested_at = $1", start - HOUR / 4)
    new = await province.broadcast("a1", [await province.bulletin()], at=start, daily=True)
    for broadcast in (sounded, new):
        await province.change_broadcast(broadcast, at=start + HOUR, volume_percent=40)
    await plan(province, keyring, now=start + 2 * HOUR)

    assert await noted(province, sounded) == {}
    assert min(await planned(province, sounded)) == start
    assert await noted(province, new) == {start: {"before_issue"}}
    assert min(await planned(province, new)) == start + DAY


async def test_a_day_without_its_session_is_history_the_day_after(province: Province, keyring: Keyring) -> None:
    await province.device("loa-1", "a1")
    start = in_an_hour()
    broadcast = await province.broadcast("a1", [await province.bulletin()], at=start, daily=True)
    await province.execute("UPDATE control.broadcasts SET local_times = '{}', sessions = '{sang}'")
    await plan(province, keyring, now=start)

    async def days() -> list[date]:
        rows = await province.rows("SELECT local_day FROM control.planning_problems WHERE problem = 'unknown_session'")
        return sorted(row["local_day"] for row in rows)

    first = local_day(start)
    before = await days()
    assert before[0] == first
    await province.withdraw(broadcast)
    asked_at = start + 2 * DAY
    await province.execute("UPDATE control.planning_requests SET requested_at = $1", asked_at)
    await plan(province, keyring, now=asked_at)

    assert await days() == [first, first + DAY]


@pytest.mark.parametrize("change", ["a_broadcast", "a_device", "the_ground_of_a_unit", "everything"])
async def test_no_plan_changes_what_was_noted_before_it_was_asked_for(
    province: Province, keyring: Keyring, change: str
) -> None:
    """Whatever is planned anew, and whatever has become of offers, policies, devices and broadcasts meanwhile."""
    await province.device("loa-1", "a1")
    await province.device("loa-2", "a2")
    start = in_an_hour()
    broadcasts = [
        await province.broadcast("a", [await province.bulletin()], at=start, daily=True, level="normal"),
        await province.broadcast("b", [await province.bulletin()], at=start + HOUR, daily=True),  # has no device
        await province.broadcast("p", [await province.bulletin()], at=start + 2 * HOUR, daily=True, to=["loa-1"]),
    ]
    await plan(province, keyring, now=start - HOUR / 2)
    asked_at = start + 2 * DAY + HOUR / 2
    everything = "SELECT * FROM control.planning_problems WHERE occurrence_at < $1 ORDER BY planning_problems::text"
    history = await province.rows(everything, asked_at)
    assert {row["problem"] for row in history} == {"offer_pending", "no_device"}

    await province.decide(broadcasts[0], "a1", "accepted")
    await province.device("loa-3", "b1")
    await province.policy("p", quiet=[{"begin": "00:00", "end": "12:00"}])
    await province.change_device("loa-1", retired_at=start + DAY)
    await province.execute("DELETE FROM control.planning_requests")
    async with province.control.transaction() as connection:
        match change:
            case "a_broadcast":
                for broadcast in broadcasts:
                    await planning_queue.request_broadcast(connection, broadcast, at=asked_at)
            case "a_device":
                await planning_queue.request_devices(connection, list(province.devices.values()), at=asked_at)
            case "the_ground_of_a_unit":
                await planning_queue.request_ground(connection, province.units["p"], at=asked_at)
            case "everything":
                await planning_queue.request_everything(connection, at=asked_at)
    # The horizon does not roll: that would plan everything in every case.
    await province.execute(
        "INSERT INTO control.planning_rolls (rolled_on, rolled_at, planned_until) VALUES ($1, $2, $3)",
        local_day(asked_at),
        asked_at,
        asked_at + 7 * DAY,
    )
    await plan(province, keyring, now=asked_at + HOUR)

    assert await province.rows(everything, asked_at) == history


async def units_of(province: Province, broadcast_id: BroadcastId) -> list[str]:
    """Under which units the emissions are filed, in order of start."""
    names = {unit_id: name for name, unit_id in province.units.items()}
    return [names[row["unit_id"]] for row in await province.emissions(broadcast_id) if row["withdrawn_at"] is None]


async def test_what_a_moved_device_is_still_to_sound_counts_for_its_new_unit(
    province: Province, keyring: Keyring
) -> None:
    await province.device("loa-1", "a1")
    start = in_an_hour()
    broadcast = await province.broadcast("p", [await province.bulletin(seconds=600)], at=start, daily=True)
    await plan(province, keyring, now=start - HOUR / 2)
    fingerprints = [row["fingerprint"] for row in await province.emissions(broadcast)]

    await province.change_device("loa-1", unit_id=province.units["b1"])
    moved_at = start + timedelta(minutes=5)  # while the first one sounds
    await province.execute("UPDATE control.planning_requests SET requested_at = $1", moved_at)
    await plan(province, keyring, now=moved_at)

    units = await units_of(province, broadcast)
    assert units == ["a1"] + ["b1"] * (len(units) - 1)
    assert [row["fingerprint"] for row in await province.emissions(broadcast)][: len(fingerprints)] == fingerprints
    async with province.control.connection() as connection:
        counted = {
            name: (await airing_store.proof_totals(connection, now=moved_at, unit_ids=[province.units[name]])).planned
            for name in ("a1", "b1")
        }
    assert counted == {"a1": 1, "b1": len(units) - 1}


async def test_a_device_that_a_reform_takes_elsewhere_counts_there_from_that_day_on(
    province: Province, keyring: Keyring
) -> None:
    """Part of a1 goes to b1, the rest to a2: what is on record already is filed accordingly, day by day."""
    await province.device("loa-1", "a1")
    await province.device("loa-2", "a1")
    start = in_an_hour()
    broadcast = await province.broadcast("p", [await province.bulletin()], at=start, daily=True)
    await plan(province, keyring, now=start - HOUR / 2)

    reformed_at = start + 2 * DAY + HOUR
    await province.unit("part", "a1")
    await province.change_device("loa-1", unit_id=province.units["part"])
    for old, heir in (("part", "b1"), ("a1", "a2")):
        await province.execute(
            """
            INSERT INTO control.unit_heirs (unit_id, heir_id, valid_from, begins_at, keeps_rights)
            VALUES ($1, $2, $3, $4, false)
            """,
            province.units[old],
            province.units[heir],
            local_day(reformed_at),
            reformed_at,
        )
    async with province.control.transaction() as connection:
        await planning_queue.request_everything(connection, at=utc_now())
    await plan(province, keyring, now=start - HOUR / 2)

    by_device: dict[str, list[str]] = {}
    for row, unit in zip(await province.emissions(broadcast), await units_of(province, broadcast), strict=True):
        by_device.setdefault(row["device_id"], []).append(unit)
    days = len(by_device["loa-1"])
    assert by_device == {
        "loa-1": ["part"] * 3 + ["b1"] * (days - 3),
        "loa-2": ["a1"] * 3 + ["a2"] * (days - 3),
    }


async def test_a_fleet_is_asked_to_be_planned_for_at_once(province: Province) -> None:
    """However many devices came to however many units, each is named once, by one statement and with one ring."""
    devices = [await province.device(f"loa-{n}", "a1") for n in range(3)]
    await province.execute("DELETE FROM control.planning_requests")
    units = [province.units[name] for name in ("a1", "b1", "a1")]
    asked: list[LoggedQuery] = []
    async with province.control.transaction() as connection:
        with connection.query_logger(asked.append):
            await planning_queue.request_fleet(connection, devices, units, at=utc_now())
        scope = await planning_queue.take_all(connection)
    assert scope is not None
    assert (scope.devices, scope.units, scope.is_everything) == (tuple(devices), tuple(sorted(set(units))), False)
    assert ["pg_notify" in each.query for each in asked] == [False, True]


async def test_a_fleet_is_filed_anew_some_devices_at_a_time(province: Province, keyring: Keyring) -> None:
    """Everything ahead of a province in one statement would take longer than a statement may."""
    first = await province.device("loa-1", "a1")
    broadcast = await province.broadcast("p", [await province.bulletin()], at=in_an_hour())
    await plan(province, keyring, now=utc_now())
    fleet = 2 * programme_store.DEVICES_AT_ONCE + 50
    async with province.control.transaction() as connection:
        await connection.execute(
            """
            WITH others AS (
                 INSERT INTO control.devices (device_id, kind, unit_id, name, registered_at, latitude, longitude)
                 SELECT 'many-' || n, 'cluster', unit_id, 'many', registered_at, latitude, longitude
                   FROM control.devices, generate_series(2, $2) AS n
                  WHERE device_no = $1
              RETURNING device_no)
            INSERT INTO control.emissions
            SELECT (jsonb_populate_record(e, jsonb_build_object('device_no', others.device_no))).*
              FROM control.emissions e, others
             WHERE e.device_no = $1
            """,
            first,
            fleet,
        )
        await connection.execute("UPDATE control.devices SET unit_id = $1", province.units["b1"])
        asked: list[LoggedQuery] = []
        with connection.query_logger(asked.append):
            await programme_store.refile(connection, None, now=utc_now())
    assert await units_of(province, broadcast) == ["b1"] * fleet
    assert sorted(len(each.args[1]) for each in asked if "UPDATE control.emissions" in each.query) == [50, 200, 200]


async def test_what_passed_before_an_approver_decided_keeps_its_reason(province: Province, keyring: Keyring) -> None:
    await province.device("loa-1", "a1")
    start = in_an_hour()
    broadcast = await province.broadcast("a1", [await province.bulletin()], at=start, daily=True)
    await province.change_broadcast(broadcast, at=start - HOUR / 2, state="awaiting_approval")
    await plan(province, keyring, now=start - HOUR / 2)
    waiting = await noted(province, broadcast)
    assert set().union(*waiting.values()) == {"awaiting_approval"}
    assert (min(waiting), await planned(province, broadcast)) == (start, set())

    approved_at = start + 2 * DAY + HOUR
    async with province.control.transaction() as connection:
        await connection.execute("UPDATE control.broadcasts SET state = 'scheduled' WHERE broadcast_id = $1", broadcast)
        await planning_queue.request_broadcast(connection, broadcast, at=approved_at)
    await plan(province, keyring, now=approved_at)
    days = [start + n * DAY for n in range(3)]
    assert await noted(province, broadcast) == {day: {"awaiting_approval"} for day in days}
    sounding = await planned(province, broadcast)
    # Every occurrence of the horizon ends as an emission or as a named problem, and none as both.
    assert sorted(sounding | set(days)) == [start + n * DAY for n in range(len(sounding) + 3)]


async def test_what_is_rejected_is_no_longer_waited_for(province: Province, keyring: Keyring) -> None:
    await province.device("loa-1", "a1")
    start = in_an_hour()
    broadcast = await province.broadcast("a1", [await province.bulletin()], at=start, daily=True)
    await province.change_broadcast(broadcast, at=start - HOUR / 2, state="awaiting_approval")
    await plan(province, keyring, now=start - HOUR / 2)

    rejected_at = start + DAY + HOUR
    async with province.control.transaction() as connection:
        await connection.execute("UPDATE control.broadcasts SET state = 'rejected' WHERE broadcast_id = $1", broadcast)
        await planning_queue.request_broadcast(connection, broadcast, at=rejected_at)
    await plan(province, keyring, now=rejected_at)
    assert set(await noted(province, broadcast)) == {start, start + DAY}
    assert await planned(province, broadcast) == set()
