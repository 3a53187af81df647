"""The planner with a real database: from rows that the API writes to signed orders in the outbox."""

from __future__ import annotations

import asyncio
from datetime import date, datetime, time, timedelta
from typing import Any, TypeVar

import pytest

from schemas import signing
from schemas.configuration import Configuration
from schemas.fields import Level, ResumePolicy
from schemas.orders import DeviceOrder
from schemas.plans import ContentKind, Plan
from services.control import planning_queue
from services.control.engine_settings import PlanningSettings
from services.control.planner import run_planner
from services.control.planning.model import to_ms
from services.control.trust.keyring import Keyring
from services.shared.clock import utc_now
from tests.support.control import (
    LOCAL,
    MEDIA_BASE_URL,
    ZONE,
    Province,
    a_keyring,
    a_planner,
    eventually,
    local_day,
    local_time,
    some_metrics,
    verifier,
)
from tests.support.database import TestDatabase

pytestmark = pytest.mark.integration

OrderT = TypeVar("OrderT", bound=DeviceOrder)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


async def settle(province: Province, keyring: Keyring, *, now: datetime | None = None, **changes: Any) -> None:
    """Plan and issue everything that is asked for."""
    planner = a_planner(province.control, keyring, **changes)
    at = now or utc_now()
    await planner.plan_once(now=at)
    await planner.ask_for_due_orders(now=at)
    while await planner.issue_once(now=at):
        pass


async def sent(province: Province, keyring: Keyring, kind: type[OrderT]) -> dict[str, OrderT]:
    """What waits in the outbox, by topic, verified; empties the outbox of that kind."""
    name = {Plan: "plan", Configuration: "config"}[kind]
    rows = await province.rows("DELETE FROM control.outbox WHERE kind = $1 RETURNING topic, payload", name)
    return {row["topic"]: signing.verify(kind, row["payload"], verifier(keyring)) for row in rows if row["payload"]}


def plan_topic(device_id: str) -> str:
    return f"loa/v1/{device_id}/down/plan"


async def test_a_broadcast_becomes_a_signed_plan_for_each_device(province: Province, keyring: Keyring) -> None:
    await province.device("loa-1", "a1")
    await province.device("loa-2", "a2")
    await province.device("loa-3", "b1")
    await province.device("bang-1", "a1", "board")
    await province.device("cam-1", "a1", "sensor")
    start = (utc_now() + HOUR).replace(microsecond=0)
    bulletin = await province.bulletin(seconds=90, board_text="Tiêm chủng", title="Tin sáng")
    broadcast = await province.broadcast("a", [bulletin], at=start, level="priority", volume_percent=55)

    await settle(province, keyring)

    plans = await sent(province, keyring, Plan)
    assert {topic: len(plan.emissions) for topic, plan in plans.items()} == {
        plan_topic("loa-1"): 1,
        plan_topic("loa-2"): 1,
        plan_topic("loa-3"): 0,
        plan_topic("bang-1"): 1,
    }
    plan = plans[plan_topic("loa-1")]
    (emission,) = plan.emissions
    assert plan.device == "loa-1"
    assert plan.serial == 1
    assert (emission.broadcast_id, emission.occurrence_at_ms, emission.item) == (broadcast, to_ms(start), 0)
    assert (emission.starts_at_ms, emission.duration_ms) == (to_ms(start), 90_000)
    assert emission.latest_start_ms == to_ms(start) + 45_000
    assert (emission.rank.level, emission.rank.issuer_depth) == (Level.PRIORITY, 1)
    assert (emission.content, emission.volume_percent, emission.title) == (ContentKind.AUDIO, 55, "Tin sáng")
    assert [medium.path for medium in plan.media] == [f"media/{emission.media.hex()}"]  # type: ignore[union-attr]
    (shown,) = plans[plan_topic("bang-1")].emissions
    assert (shown.content, shown.text, shown.media) == (ContentKind.TEXT, "Tiêm chủng", None)
    rows = await province.emissions(broadcast)
    assert [(row["device_id"], row["content"], row["outcome"]) for row in rows] == [
        ("loa-1", "audio", None),
        ("loa-2", "audio", None),
        ("bang-1", "text", None),
    ]


async def test_the_plan_covers_the_horizon_and_ends_with_a_local_day(province: Province, keyring: Keyring) -> None:
    await province.device("loa-1", "a1")
    start = utc_now() + HOUR
    await province.broadcast("p", [await province.bulletin()], at=start, daily=True)

    await settle(province, keyring)

    (plan,) = (await sent(province, keyring, Plan)).values()
    ends_at = datetime.fromtimestamp(plan.valid_until_ms / 1000, start.tzinfo)
    assert local_time(ends_at) == time(0)
    assert timedelta(days=7) < ends_at - utc_now() <= timedelta(days=8)
    assert all(emission.starts_at_ms < plan.valid_until_ms for emission in plan.emissions)
    assert len(plan.emissions) in {7, 8}  # today's may belong to tomorrow already


async def test_every_device_gets_its_configuration(province: Province, keyring: Keyring) -> None:
    await province.device("loa-1", "a1")
    await province.device("gw-1", "b", "gateway")

    await settle(province, keyring)

    configurations = await sent(province, keyring, Configuration)
    assert set(configurations) == {"loa/v1/loa-1/down/config", "loa/v1/gw-1/down/config"}
    configuration = configurations["loa/v1/loa-1/down/config"]
    assert configuration.membership == tuple(province.units[name] for name in ("p", "a", "a1"))
    assert configuration.media_base_url == MEDIA_BASE_URL
    assert (configuration.volume_percent, configuration.volume_cap_percent) == (30, 80)
    assert configuration.heartbeat_interval_s == 60
    assert configuration.position is not None
    keys = await province.rows("SELECT topic, payload FROM control.outbox WHERE kind = 'keys' ORDER BY topic")
    assert keys == [
        {"topic": f"loa/v1/{device}/down/keys", "payload": keyring.announced.message} for device in ("gw-1", "loa-1")
    ]


async def test_a_change_reaches_the_devices_it_touches_and_no_others(province: Province, keyring: Keyring) -> None:
    await province.device("loa-1", "a1")
    await province.device("loa-2", "b1")
    await settle(province, keyring)
    await sent(province, keyring, Plan)

    await province.broadcast("b", [await province.bulletin()])
    await settle(province, keyring)

    plans = await sent(province, keyring, Plan)
    assert {topic: plan.serial for topic, plan in plans.items()} == {plan_topic("loa-2"): 2}
    assert (await sent(province, keyring, Configuration)).keys() == {
        "loa/v1/loa-1/down/config",
        "loa/v1/loa-2/down/config",
    }


async def test_nothing_is_sent_again_when_nothing_changed(province: Province, keyring: Keyring) -> None:
    await province.device("loa-1", "a1")
    await province.broadcast("p", [await province.bulletin()], daily=True)
    await settle(province, keyring)
    await province.execute("DELETE FROM control.outbox")

    await province.change_device("loa-1", name="Tên mới")
    await settle(province, keyring)
    await settle(province, keyring, now=utc_now() + timedelta(days=1))  # a new day enters the horizon

    assert await province.rows("SELECT topic, kind FROM control.outbox") == []


async def test_a_withdrawn_broadcast_leaves_the_plan(province: Province, keyring: Keyring) -> None:
    await province.device("loa-1", "a1")
    kept = await province.broadcast("p", [await province.bulletin()], at=utc_now() + 2 * HOUR)
    gone = await province.broadcast("p", [await province.bulletin()], at=utc_now() + HOUR)
    await settle(province, keyring)
    await sent(province, keyring, Plan)

    await province.withdraw(gone)
    await settle(province, keyring)

    (plan,) = (await sent(province, keyring, Plan)).values()
    assert (plan.serial, [emission.broadcast_id for emission in plan.emissions]) == (2, [kept])
    (row,) = await province.emissions(gone)
    assert row["withdrawn_at"] is not None


async def test_a_broadcast_withdrawn_while_it_sounds_is_stopped_and_stays_on_record(
    province: Province, keyring: Keyring
) -> None:
    await province.device("loa-1", "a1")
    start = utc_now() + HOUR
    broadcast = await province.broadcast("p", [await province.bulletin(seconds=600)], at=start)
    await settle(province, keyring)
    await sent(province, keyring, Plan)

    await province.withdraw(broadcast)
    await settle(province, keyring, now=start + timedelta(minutes=1))

    (plan,) = (await sent(province, keyring, Plan)).values()
    assert (plan.serial, plan.emissions) == (2, ())
    (row,) = await province.emissions(broadcast)
    assert (row["withdrawn_at"], row["stopped_at"]) == (None, start + timedelta(minutes=1))


async def test_what_is_on_the_air_goes_on_as_it_was_when_its_broadcast_is_changed(
    province: Province, keyring: Keyring
) -> None:
    await province.device("loa-1", "a1")
    start = (utc_now() + HOUR).replace(microsecond=0)
    bulletins = [await province.bulletin(seconds=600), await province.bulletin(seconds=600)]
    broadcast = await province.broadcast("a1", bulletins, at=start, daily=True, volume_percent=40)
    await settle(province, keyring)
    (before,) = (await sent(province, keyring, Plan)).values()

    changed_at = start + timedelta(minutes=1)
    await province.change_broadcast(broadcast, at=changed_at, volume_percent=70, resume="drop")
    await province.execute("DELETE FROM control.broadcast_items WHERE broadcast_id = $1 AND item = 1", broadcast)
    await settle(province, keyring, now=changed_at)

    (plan,) = (await sent(province, keyring, Plan)).values()
    running = [emission for emission in plan.emissions if emission.occurrence_at_ms == to_ms(start)]
    assert running == list(before.emissions[:2])  # also the item that has not begun
    assert running[1].rank.issued_at_ms < to_ms(changed_at)
    coming = [emission for emission in plan.emissions if emission.occurrence_at_ms > to_ms(start)]
    assert {(each.item, each.volume_percent, each.resume, each.rank.issued_at_ms) for each in coming} == {
        (0, 70, ResumePolicy.DROP, to_ms(changed_at))
    }
    rows = await province.emissions(broadcast)
    assert [row["item"] for row in rows if row["occurrence_at"] == start and row["stopped_at"] is None] == [0, 1]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"starts_on": date(2190, 1, 1)}, id="moved_beyond_the_horizon"),
        pytest.param({"state": "awaiting_approval"}, id="waits_for_an_approver"),
    ],
)
async def test_what_is_on_the_air_goes_on_also_when_nothing_follows_it(
    province: Province, keyring: Keyring, change: dict[str, Any]
) -> None:
    await province.device("loa-1", "a1")
    start = (utc_now() + HOUR).replace(microsecond=0)
    broadcast = await province.broadcast("a1", [await province.bulletin(seconds=600)], at=start, daily=True)
    await settle(province, keyring)
    await sent(province, keyring, Plan)

    await province.change_broadcast(broadcast, at=start + timedelta(minutes=1), **change)
    await settle(province, keyring, now=start + timedelta(minutes=1))

    (plan,) = (await sent(province, keyring, Plan)).values()
    assert [emission.starts_at_ms for emission in plan.emissions] == [to_ms(start)]
    rows = [row for row in await province.emissions(broadcast) if row["withdrawn_at"] is None]
    assert [(row["occurrence_at"], row["stopped_at"]) for row in rows] == [(start, None)]


async def test_a_withdrawn_broadcast_scheduled_again_comes_back(province: Province, keyring: Keyring) -> None:
    await province.device("loa-1", "a1")
    broadcast = await province.broadcast("p", [await province.bulletin()])
    await settle(province, keyring)
    await province.withdraw(broadcast)
    await settle(province, keyring)
    await sent(province, keyring, Plan)

    await province.execute("UPDATE control.broadcasts SET state = 'scheduled'")
    await province.execute(
        "INSERT INTO control.planning_requests (broadcast_id, requested_at) VALUES ($1, $2)", broadcast, utc_now()
    )
    await settle(province, keyring)

    (plan,) = (await sent(province, keyring, Plan)).values()
    assert len(plan.emissions) == 1
    (row,) = await province.emissions(broadcast)
    assert row["withdrawn_at"] is None


async def test_a_new_device_gets_the_standing_programme(province: Province, keyring: Keyring) -> None:
    await province.device("loa-1", "a1")
    await province.broadcast("p", [await province.bulletin()])
    await settle(province, keyring)
    await sent(province, keyring, Plan)

    await province.device("loa-2", "a1")
    await settle(province, keyring)

    plans = await sent(province, keyring, Plan)
    assert {topic: len(plan.emissions) for topic, plan in plans.items()} == {plan_topic("loa-2"): 1}


async def test_the_first_device_of_a_commune_ends_the_problem_that_there_was_none(
    province: Province, keyring: Keyring
) -> None:
    await province.device("loa-1", "a1")
    broadcast = await province.broadcast("b", [await province.bulletin()])
    await settle(province, keyring)
    problems = "SELECT problem FROM control.planning_problems WHERE broadcast_id = $1"
    assert await province.rows(problems, broadcast) == [{"problem": "no_device"}]

    await province.device("loa-2", "b1")
    await settle(province, keyring)

    assert await province.rows(problems, broadcast) == []
    assert len(await province.emissions(broadcast)) == 1


async def test_whatever_becomes_of_devices_comes_to_what_planning_everything_would(
    province: Province, keyring: Keyring
) -> None:
    """Also where a device was the only one in a unit, or the first: what is noted of units depends on that."""
    for device_id, unit, kind in (
        ("loa-1", "a1", "cluster"),
        ("loa-2", "a1", "cluster"),
        ("loa-3", "b1", "cluster"),
        ("bang-1", "a2", "board"),
    ):
        await province.device(device_id, unit, kind)
    await province.execute("UPDATE control.devices SET ownership = 'private' WHERE kind = 'board'")
    # At ten in Việt Nam, so that half of what follows by the hour lies in the quiet hours of a2, whenever this is run.
    start = datetime.combine(local_day(utc_now()) + DAY, time(10), tzinfo=LOCAL)
    await province.policy("b", quiet=[{"begin": "00:00", "end": "12:00"}, {"begin": "12:00", "end": "00:00"}])
    await province.policy("a2", quiet=[{"begin": "00:00", "end": "12:00"}])
    for place, (unit, level) in enumerate((("p", "normal"), ("p", "priority"), ("a", "normal"), ("a2", "normal"))):
        bulletin = await province.bulletin(board_text="Tin")
        await province.broadcast(unit, [bulletin], at=start + place * HOUR, level=level)
    await province.broadcast("b", [await province.bulletin()], at=start, to=["loa-3"])
    await province.broadcast("a", [await province.bulletin()], at=start, to=["loa-1"])
    planner = a_planner(province.control, keyring)
    await planner.plan_once(now=utc_now())
    record = """
        SELECT (SELECT json_agg(e ORDER BY e::text)
                  FROM (SELECT broadcast_id, occurrence_at, item, device_no, unit_id, fingerprint
                          FROM control.emissions
                         WHERE withdrawn_at IS NULL) e)
            || '' ||
               (SELECT json_agg(p ORDER BY p::text)
                  FROM (SELECT broadcast_id, occurrence_at, item, device_no, problem, unit_id
                          FROM control.planning_problems) p)
        """
    seen: set[str] = set()
    for device_id, change in (
        ("loa-3", {"unit_id": province.units["a1"]}),  # nobody is left in b1
        ("loa-3", {"unit_id": province.units["b1"]}),
        ("bang-1", {"ownership": "public"}),
        ("bang-1", {"ownership": "private"}),
        ("loa-1", {"unit_id": province.units["a2"]}),  # the first that sounds there
        ("loa-2", {"retired_at": utc_now()}),  # nobody is left in a1
        ("loa-1", {"unit_id": province.units["b"]}),  # into the district itself
        ("loa-1", {"name": "Tên mới"}),
        ("bang-1", {"retired_at": utc_now()}),
        ("loa-1", {"unit_id": province.units["a1"]}),
    ):
        await province.change_device(device_id, **change)
        assert await planner.plan_once(now=utc_now()) is not None
        standing = await province.value(record)
        async with province.control.transaction() as connection:
            await planning_queue.request_everything(connection, at=utc_now())
        anew = await planner.plan_once(now=utc_now())
        assert anew is not None
        assert anew.is_empty, (device_id, change)
        assert await province.value(record) == standing, (device_id, change)
        seen |= {row["problem"] for row in await province.rows("SELECT problem FROM control.planning_problems")}
    assert seen >= {"offer_pending", "quiet_hours", "private_board", "no_device", "target_outside_issuer"}


async def test_a_device_moved_to_another_commune_changes_its_programme_and_membership(
    province: Province, keyring: Keyring
) -> None:
    await province.device("loa-1", "a1")
    await province.device("loa-2", "a1")
    old = await province.broadcast("a1", [await province.bulletin()])
    new = await province.broadcast("b1", [await province.bulletin()])
    await settle(province, keyring)
    await province.execute("DELETE FROM control.outbox")

    await province.change_device("loa-1", unit_id=province.units["b1"])
    await settle(province, keyring)

    plans = await sent(province, keyring, Plan)
    assert {topic: [e.broadcast_id for e in plan.emissions] for topic, plan in plans.items()} == {
        plan_topic("loa-1"): [new]
    }
    (configuration,) = (await sent(province, keyring, Configuration)).values()
    assert configuration.membership == tuple(province.units[name] for name in ("p", "b", "b1"))
    assert [row["withdrawn_at"] is None for row in await province.emissions(old)] == [False, True]


async def test_a_device_behind_a_gateway_is_reached_through_it(province: Province, keyring: Keyring) -> None:
    await province.device("gw-1", "a", "gateway")
    await province.device("loa-1", "a1", gateway="gw-1")
    await province.broadcast("a", [await province.bulletin()])

    await settle(province, keyring)

    (plan,) = (await sent(province, keyring, Plan)).items()
    assert plan[0] == "loa/v1/gw-1/down/plan/loa-1"
    assert plan[1].device == "loa-1"
    topics = {row["topic"] for row in await province.rows("SELECT topic FROM control.outbox WHERE kind = 'keys'")}
    assert topics == {"loa/v1/gw-1/down/keys"}


async def test_a_device_given_to_a_gateway_leaves_nothing_at_its_old_topics(
    province: Province, keyring: Keyring
) -> None:
    await province.device("gw-1", "a", "gateway")
    await province.device("loa-1", "a1")
    await settle(province, keyring)
    await province.execute("DELETE FROM control.outbox")

    await province.execute(
        "INSERT INTO control.gateway_assignments (device_no, gateway_no, valid_from) VALUES ($1, $2, now())",
        province.devices["loa-1"],
        province.devices["gw-1"],
    )
    await province.change_device("loa-1", name="x")
    await settle(province, keyring)

    rows = await province.rows("SELECT topic, payload <> '' AS says FROM control.outbox ORDER BY topic")
    assert rows == [
        {"topic": "loa/v1/gw-1/down/config/loa-1", "says": True},
        {"topic": "loa/v1/gw-1/down/plan/loa-1", "says": True},
        {"topic": "loa/v1/loa-1/down/config", "says": False},
        {"topic": "loa/v1/loa-1/down/plan", "says": False},
    ]


async def test_a_retired_device_is_told_to_fall_silent_once(province: Province, keyring: Keyring) -> None:
    await province.device("loa-1", "a1")
    await province.broadcast("p", [await province.bulletin()])
    await settle(province, keyring)
    await province.execute("DELETE FROM control.outbox")

    await province.change_device("loa-1", retired_at=utc_now())
    await settle(province, keyring)

    (plan,) = (await sent(province, keyring, Plan)).values()
    assert plan.emissions == ()
    await province.change_device("loa-1", name="x")
    await settle(province, keyring, now=utc_now() + timedelta(days=6))
    assert await sent(province, keyring, Plan) == {}


async def test_a_device_retired_while_everything_is_planned_is_told_to_fall_silent(
    province: Province, keyring: Keyring
) -> None:
    await province.device("loa-1", "a1")
    await province.broadcast("p", [await province.bulletin()])
    await settle(province, keyring)
    await sent(province, keyring, Plan)

    await province.change_device("loa-1", retired_at=utc_now())
    async with province.control.transaction() as connection:
        await planning_queue.request_everything(connection, at=utc_now())
    await settle(province, keyring)

    (plan,) = (await sent(province, keyring, Plan)).values()
    assert plan.emissions == ()


async def test_keys_at_their_end_do_not_have_every_device_looked_at_in_every_turn(
    province: Province, keyring: Keyring
) -> None:
    await province.device("loa-1", "a1")
    await settle(province, keyring)
    await province.execute("UPDATE control.issued_orders SET renew_at = issued_at WHERE kind = 'keys'")

    planner = a_planner(province.control, keyring)
    await planner.ask_for_due_orders(now=utc_now())
    assert await planner.issue_once(now=utc_now()) == 0


async def test_a_plan_is_renewed_before_it_runs_out(province: Province, keyring: Keyring) -> None:
    for number in range(20):
        await province.device(f"loa-{number:02}", "a1")
    await settle(province, keyring)
    await sent(province, keyring, Plan)
    valid_until = await province.value("SELECT max(valid_until) FROM control.issued_orders WHERE kind = 'plan'")

    await settle(province, keyring, now=valid_until - timedelta(days=3, hours=1))
    assert await sent(province, keyring, Plan) == {}

    await settle(province, keyring, now=valid_until - timedelta(days=2, hours=12))
    some = len(await sent(province, keyring, Plan))
    await settle(province, keyring, now=valid_until - timedelta(days=2))
    assert 0 < some < 20
    assert some + len(await sent(province, keyring, Plan)) == 20


async def test_a_new_signing_key_reaches_every_device(province: Province, keyring: Keyring) -> None:
    await province.device("loa-1", "a1")
    await settle(province, keyring)
    await province.execute("DELETE FROM control.outbox")

    other = a_keyring()
    await settle(province, other)

    (plan,) = (await sent(province, other, Plan)).values()
    assert plan.serial == 2
    assert await province.value("SELECT count(*) FROM control.outbox WHERE kind = 'keys'") == 1


async def test_what_was_planned_too_late_is_missed_not_forgotten(province: Province, keyring: Keyring) -> None:
    await province.device("loa-1", "a1")
    await settle(province, keyring)
    start = utc_now() + HOUR
    broadcast = await province.broadcast("p", [await province.bulletin()], at=start)

    # The planner was away for two hours.
    await settle(province, keyring, now=start + HOUR)

    (row,) = await province.emissions(broadcast)
    assert (row["outcome"], row["reason"]) == ("missed", "planned_too_late")
    assert all(plan.emissions == () for plan in (await sent(province, keyring, Plan)).values())


async def test_a_new_day_does_not_blame_a_device_for_what_was_before_it_came(
    province: Province, keyring: Keyring
) -> None:
    await province.device("loa-1", "a1")
    await province.device("loa-2", "b1")
    now = utc_now()
    broadcast = await province.broadcast("a1", [await province.bulletin()], at=now + HOUR, daily=True)
    await settle(province, keyring, now=now)

    # Moved after today's emission; then the horizon rolls on, looking back over today.
    await province.execute("UPDATE control.devices SET unit_id = $1 WHERE device_id = 'loa-2'", province.units["a1"])
    await province.execute(
        "INSERT INTO control.planning_requests (device_no, requested_at) VALUES ($1, $2)",
        province.devices["loa-2"],
        now + 2 * HOUR,
    )
    await settle(province, keyring, now=now + 2 * HOUR)
    await settle(province, keyring, now=now + timedelta(days=1, hours=2))

    rows = await province.emissions(broadcast)
    assert {row["reason"] for row in rows} == {None}
    first = min(row["starts_at"] for row in rows)
    assert [row["device_id"] for row in rows if row["starts_at"] == first] == ["loa-1"]


async def test_the_horizon_is_made_up_for_after_a_long_outage(province: Province, keyring: Keyring) -> None:
    await province.device("loa-1", "a1")
    broadcast = await province.broadcast("p", [await province.bulletin()], daily=True)
    now = utc_now()
    await settle(province, keyring, now=now)

    await settle(province, keyring, now=now + timedelta(days=12))

    rows = await province.emissions(broadcast)
    days = [(row["occurrence_at"] - rows[0]["occurrence_at"]).days for row in rows]
    assert days == list(range(len(rows)))  # not a day is missing
    assert len(rows) >= 19
    assert {row["reason"] for row in rows} == {None, "planned_too_late"}


async def test_only_one_planner_plans_and_nothing_is_lost(province: Province, keyring: Keyring) -> None:
    for number in range(30):
        await province.device(f"loa-{number:02}", "a1")
    planners = [a_planner(province.control, keyring, batch=5) for _ in range(3)]

    async def work() -> None:
        for planner in planners:
            await planner.plan_once(now=utc_now())
        while sum(await asyncio.gather(*(planner.issue_once(now=utc_now()) for planner in planners))):
            pass

    for _ in range(3):
        await province.broadcast("p", [await province.bulletin()])
        await work()

    plans = await sent(province, keyring, Plan)
    assert len(plans) == 30
    assert {len(plan.emissions) for plan in plans.values()} == {3}
    assert await province.value("SELECT count(*) FROM control.planning_requests") == 0
    assert await province.value("SELECT count(*) FROM control.issue_requests") == 0


async def test_a_failed_turn_forgets_nothing(province: Province, keyring: Keyring) -> None:
    await province.device("loa-1", "a1")
    broadcast = await province.broadcast("p", [await province.bulletin()])
    planner = a_planner(province.control, keyring)

    async def fail(*_: object) -> None:
        raise RuntimeError("the process dies here")

    await planner.plan_once(now=utc_now())
    honest, planner._issue = planner._issue, fail  # type: ignore[method-assign,assignment]
    with pytest.raises(RuntimeError):
        await planner.issue_once(now=utc_now())
    planner._issue = honest  # type: ignore[method-assign]

    assert await planner.issue_once(now=utc_now()) == 1
    assert len(await province.emissions(broadcast)) == 1
    (plan,) = (await sent(province, keyring, Plan)).values()
    assert plan.serial == 1


async def test_a_programme_too_large_for_a_plan_is_cut_and_renewed_early(province: Province, keyring: Keyring) -> None:
    await province.device("bang-1", "a1", "board")
    # 24 texts of 6 kB a day, for eight days, are far above 256 KiB.
    bulletin = await province.bulletin(seconds=None, board_text="ộ" * 2_000)
    times = [time(hour) for hour in range(24)]
    await province.broadcast("p", [bulletin], daily=True, times=times, at=utc_now() + timedelta(days=1))

    await settle(province, keyring)

    (plan,) = (await sent(province, keyring, Plan)).values()
    assert 0 < len(plan.emissions) < 24 * 7
    assert plan.emissions[-1].starts_at_ms < plan.valid_until_ms
    row = (await province.rows("SELECT * FROM control.issued_orders WHERE kind = 'plan'"))[0]
    assert row["renew_at"] < row["valid_until"] < utc_now() + timedelta(days=7)
    # Not due again before that, although the programme holds more than the plan.
    await province.change_device("bang-1", name="x")
    await settle(province, keyring)
    assert await sent(province, keyring, Plan) == {}


async def test_the_loop_is_woken_and_survives_the_loss_of_its_connections(
    province: Province, database: TestDatabase, keyring: Keyring
) -> None:
    async with asyncio.TaskGroup() as group:
        loop = group.create_task(
            run_planner(
                province.control,
                listening=database.control,
                settings=PlanningSettings(turn_every=timedelta(minutes=10)),
                keyring=keyring,
                media_base_url=MEDIA_BASE_URL,
                time_zone=ZONE,
                metrics=some_metrics(),
            )
        )
        await province.device("loa-1", "a1")

        async def has_plan(serial: int) -> bool:
            return bool(
                serial == await province.value("SELECT max(serial) FROM control.issued_orders WHERE kind = 'plan'")
            )

        await eventually(lambda: has_plan(1), what="a first plan")

        async with province.control.connection() as connection:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE usename = 'loa_control' AND datname = current_database() AND pid <> pg_backend_pid()"
            )
        await province.broadcast("p", [await province.bulletin()])
        await eventually(lambda: has_plan(2), what="a second plan after the connections were lost")
        loop.cancel()


# --- offers, places, relays, policies ----------------------------------------------------------------------------------


async def test_a_normal_broadcast_from_above_is_offered_and_sounds_once_accepted(
    province: Province, keyring: Keyring
) -> None:
    await province.device("loa-1", "a1")
    await province.device("loa-2", "a2")
    broadcast = await province.broadcast("a", [await province.bulletin()], at=utc_now() + HOUR, level="normal")
    await settle(province, keyring)
    assert await province.emissions(broadcast) == []
    offers = await province.rows("SELECT unit_id, state FROM control.offers WHERE broadcast_id = $1", broadcast)
    assert {(each["unit_id"], each["state"]) for each in offers} == {
        (province.units["a1"], "offered"),
        (province.units["a2"], "offered"),
    }

    await province.decide(broadcast, "a1", "accepted")
    await province.decide(broadcast, "a2", "declined")
    await settle(province, keyring)

    assert [row["device_id"] for row in await province.emissions(broadcast)] == ["loa-1"]
    problems = await province.rows("SELECT problem, unit_id FROM control.planning_problems")
    assert problems == [{"problem": "offer_declined", "unit_id": province.units["a2"]}]


async def test_a_unit_s_own_order_of_priority_broadcasts_goes_out(province: Province, keyring: Keyring) -> None:
    await province.device("loa-1", "a1")
    await province.device("loa-2", "a2")
    broadcast = await province.broadcast("p", [await province.bulletin()], at=utc_now() + HOUR)
    await province.execute(
        "INSERT INTO control.priority_places VALUES ($1, $2, 7, now(), $3)",
        province.units["a1"],
        broadcast,
        province.account_id,
    )
    await settle(province, keyring)
    plans = await sent(province, keyring, Plan)
    assert {topic: plan.emissions[0].rank.place for topic, plan in plans.items()} == {
        plan_topic("loa-1"): 7,
        plan_topic("loa-2"): None,
    }
    assert {row["device_id"]: row["place"] for row in await province.emissions(broadcast)} == {
        "loa-1": 7,
        "loa-2": None,
    }


async def test_a_relay_goes_out_with_its_source_and_its_fallback(province: Province, keyring: Keyring) -> None:
    await province.device("loa-1", "a1")
    start = (utc_now() + HOUR).replace(microsecond=0)
    fallback = await province.bulletin(seconds=30)
    source = await province.source("VOV1", fallback=fallback)
    broadcast = await province.broadcast("p", [], at=start, relays={source: timedelta(minutes=10)})
    await settle(province, keyring)
    (plan,) = (await sent(province, keyring, Plan)).values()
    (emission,) = plan.emissions
    assert (emission.content, emission.title, emission.duration_ms) == (ContentKind.RELAY, "VOV1", 600_000)
    assert emission.relay is not None
    assert emission.relay.path == f"relays/{source}"
    assert [medium.sha256 for medium in plan.media] == [emission.fallback]
    (row,) = await province.emissions(broadcast)
    assert (row["relay_source_id"], row["bulletin_id"], row["content"]) == (source, None, "relay")


async def test_who_speaks_live_is_told_to_devices_as_live_and_nothing_fills_in(
    province: Province, keyring: Keyring
) -> None:
    await province.device("loa-1", "a1")
    start = (utc_now() + HOUR).replace(microsecond=0)
    source = await province.source("Phòng trực", fallback=await province.bulletin(seconds=30))
    broadcast = await province.broadcast("p", [], at=start, relays={source: timedelta(minutes=10)})
    await province.execute("UPDATE control.broadcast_items SET is_live = true")
    await settle(province, keyring)
    (plan,) = (await sent(province, keyring, Plan)).values()
    (emission,) = plan.emissions
    assert (emission.rank.live, emission.rank.level, emission.fallback, plan.media) == (True, Level.PRIORITY, None, ())
    (row,) = await province.emissions(broadcast)
    assert row["is_live"]


async def test_policies_cap_volume_and_name_what_sounds_without_a_plan(province: Province, keyring: Keyring) -> None:
    await province.device("loa-1", "a1")
    start = (utc_now() + HOUR).replace(microsecond=0)
    notice = await province.bulletin(seconds=20)
    around = [{"begin": "00:00", "end": "12:00", "percent": 15}, {"begin": "12:00", "end": "00:00", "percent": 15}]
    fallback = {"bulletin_id": str(notice), "times": ["05:30"]}
    await province.policy("p", volume_caps=around, fallback=fallback)
    broadcast = await province.broadcast("p", [await province.bulletin()], at=start, volume_percent=90)
    await settle(province, keyring)
    (plan,) = (await sent(province, keyring, Plan)).values()
    assert [emission.volume_percent for emission in plan.emissions] == [15]
    assert [row["volume_percent"] for row in await province.emissions(broadcast)] == [15]
    (configuration,) = (await sent(province, keyring, Configuration)).values()
    assert configuration.fallback is not None
    assert (configuration.fallback.fallback_id, configuration.fallback.at_s) == (notice, (22 * 3600 + 1800,))


async def test_a_policy_is_planned_for_on_its_ground_and_comes_to_what_planning_everything_would(
    province: Province, keyring: Keyring
) -> None:
    for device_id, unit in (("loa-1", "a1"), ("loa-2", "a2"), ("loa-3", "b1"), ("bang-1", "a1")):
        await province.device(device_id, unit, "board" if device_id.startswith("bang") else "cluster")
    start = (utc_now() + DAY).replace(hour=3, minute=0, second=0, microsecond=0)
    for unit, hours, level in (("p", 0, "priority"), ("a", 1, "normal"), ("a1", 2, "normal"), ("b1", 3, "priority")):
        bulletin = await province.bulletin(seconds=200, board_text="Tin")
        await province.broadcast(unit, [bulletin], at=start + hours * HOUR, level=level)
    planner = a_planner(province.control, keyring)
    await planner.plan_once(now=utc_now())
    everybody = {"loa-1", "loa-2", "loa-3", "bang-1"}
    whole_day = {"begin": "00:00", "end": "12:00"}, {"begin": "12:00", "end": "00:00"}
    record = """
        SELECT (SELECT json_agg(e ORDER BY e::text)
                  FROM (SELECT broadcast_id, occurrence_at, item, device_no, fingerprint, withdrawn_at IS NULL
                          FROM control.emissions) e)
            || '' ||
               (SELECT coalesce(json_agg(p ORDER BY p::text)::text, '')
                  FROM (SELECT broadcast_id, local_day, occurrence_at, item, device_no, unit_id, problem, detail
                          FROM control.planning_problems) p)
        """
    for unit, body, reached in (
        ("a1", {"accepts_normal": True}, {"loa-1", "bang-1"}),
        ("a", {"max_day_s": 300}, everybody - {"loa-3"}),
        ("p", {"volume_caps": [each | {"percent": 15} for each in whole_day]}, everybody),
        ("a1", {"max_day_s": 250, "accepts_normal": True}, {"loa-1", "bang-1"}),
        ("b", {"quiet": list(whole_day)}, {"loa-3"}),
        ("a", {}, everybody - {"loa-3"}),
        ("a1", {"quiet": [whole_day[0]]}, {"loa-1", "bang-1"}),
        ("a1", {}, {"loa-1", "bang-1"}),
        ("b", {}, {"loa-3"}),
        ("p", {}, everybody),
    ):
        await province.execute("DELETE FROM control.issue_requests")
        await province.policy(unit, **body)
        assert await planner.plan_once(now=utc_now()) is not None
        asked = await province.rows(
            "SELECT device_id FROM control.issue_requests JOIN control.devices USING (device_no)"
        )
        assert {row["device_id"] for row in asked} == reached, (unit, body)
        standing = await province.value(record)
        async with province.control.transaction() as connection:
            await planning_queue.request_everything(connection, at=utc_now())
        anew = await planner.plan_once(now=utc_now())
        assert anew is not None
        assert (anew.add, anew.withdraw, anew.stop) == ((), (), ()), (unit, body)
        assert await province.value(record) == standing, (unit, body)


@pytest.mark.parametrize(
    ("unit", "reached", "silent"),
    [("b", {"loa-1", "loa-3"}, {"loa-1": range(3, 7), "loa-3": range(7)}),
     ("a", {"loa-1", "loa-2"}, {"loa-1": range(3), "loa-2": range(7)})],
)  # fmt: skip
async def test_a_policy_reaches_a_commune_for_the_days_on_which_it_lies_there(
    province: Province, keyring: Keyring, unit: str, reached: set[str], silent: dict[str, range]
) -> None:
    """Commune a1 goes over to district b within the window: what b says holds there from then on, what a says until then."""
    for device_id, home in (("loa-1", "a1"), ("loa-2", "a2"), ("loa-3", "b1")):
        await province.device(device_id, home)
    start = (utc_now() + DAY).replace(hour=3, minute=0, second=0, microsecond=0)
    broadcast = await province.broadcast("p", [await province.bulletin()], at=start, daily=True)
    moves_on = (start + 3 * DAY).date()
    await province.execute(
        "UPDATE control.unit_versions SET valid_until = $2 WHERE unit_id = $1", province.units["a1"], moves_on
    )
    await province.execute(
        """
        INSERT INTO control.unit_versions (unit_id, valid_from, parent_id, code, level, name, sort_key, search_text)
        SELECT unit_id, $2, $3, code, level, name, sort_key, search_text
          FROM control.unit_versions
         WHERE unit_id = $1
        """,
        province.units["a1"],
        moves_on,
        province.units["b"],
    )
    planner = a_planner(province.control, keyring)
    await planner.plan_once(now=utc_now())
    await province.execute("DELETE FROM control.issue_requests")
    all_day = [{"begin": "00:00", "end": "12:00"}, {"begin": "12:00", "end": "00:00"}]

    await province.policy(unit, quiet=all_day)
    assert await planner.plan_once(now=utc_now()) is not None

    asked = await province.rows("SELECT device_id FROM control.issue_requests JOIN control.devices USING (device_no)")
    assert {row["device_id"] for row in asked} == reached
    stand = {(row["device_id"], row["occurrence_at"]) for row in await province.emissions(broadcast)
             if row["withdrawn_at"] is None}  # fmt: skip
    assert stand >= {
        (device_id, start + day * DAY)
        for device_id in ("loa-1", "loa-2", "loa-3")
        for day in range(7)
        if day not in silent.get(device_id, ())
    }
    assert stand.isdisjoint({(device_id, start + day * DAY) for device_id, days in silent.items() for day in days})
    async with province.control.transaction() as connection:
        await planning_queue.request_everything(connection, at=utc_now())
    anew = await planner.plan_once(now=utc_now())
    assert anew is not None
    assert anew.is_empty


async def test_time_that_a_broadcast_gives_back_goes_to_the_next_one(province: Province, keyring: Keyring) -> None:
    """Where minutes are granted, a change of one broadcast reaches others on the devices they share, and no further."""
    await province.device("loa-1", "a1")
    await province.device("loa-2", "a2")
    await province.device("loa-3", "b1")
    await province.policy("a", max_day_s=300)
    start = (utc_now() + timedelta(days=1)).replace(hour=3, minute=0, second=0, microsecond=0)
    early = utc_now() - timedelta(days=2)
    first = await province.broadcast("p", [await province.bulletin(seconds=200)], at=start, to=["a1"], issued_at=early)
    second = await province.broadcast("p", [await province.bulletin(seconds=200)], at=start + HOUR)
    await settle(province, keyring)
    assert [row["device_id"] for row in await province.emissions(second)] == ["loa-2", "loa-3"]
    problems = await province.rows("SELECT broadcast_id, problem, unit_id, device_no FROM control.planning_problems")
    assert problems == [
        {
            "broadcast_id": second,
            "problem": "day_full",
            "unit_id": province.units["a"],
            "device_no": province.devices["loa-1"],
        }
    ]
    await sent(province, keyring, Plan)

    await province.withdraw(first)
    await settle(province, keyring)

    assert [row["device_id"] for row in await province.emissions(second)] == ["loa-1", "loa-2", "loa-3"]
    assert await province.rows("SELECT FROM control.planning_problems") == []
    assert set(await sent(province, keyring, Plan)) == {plan_topic("loa-1")}


async def test_minutes_that_have_sounded_are_not_given_away_by_a_change(province: Province, keyring: Keyring) -> None:
    """An edit, a withdrawal in the middle and a newcomer that ranks higher leave what was heard of the day in the count."""
    await province.device("loa-1", "a1")
    await province.policy("a", max_day_s=300)
    start = (utc_now() + DAY).replace(hour=3, minute=0, second=0, microsecond=0)
    bulletin, early = await province.bulletin(seconds=100), utc_now() - 2 * DAY
    edited, withdrawn, third, last = [
        await province.broadcast("a1", [bulletin], at=start + place * HOUR, issued_at=early + place * HOUR)
        for place in (0, 1, 3, 4)
    ]
    await settle(province, keyring)

    async def planned() -> list[Any]:
        rows = await province.rows(
            "SELECT broadcast_id FROM control.emissions WHERE withdrawn_at IS NULL ORDER BY starts_at"
        )
        return [row["broadcast_id"] for row in rows]

    assert await planned() == [edited, withdrawn, third]

    # Its time tomorrow is another: what it had today is no part of what it asks for.
    await province.change_broadcast(
        edited, at=start + HOUR / 2, version=2, starts_on=(start + DAY).date(), local_times=[local_time(start)]
    )
    await settle(province, keyring, now=start + HOUR / 2)
    assert await planned() == [edited, withdrawn, third, edited]

    at = start + HOUR + timedelta(seconds=40)
    await province.change_broadcast(withdrawn, at=at, state="withdrawn", withdrawn_at=at)
    await settle(province, keyring, now=at)
    # 100 s and 40 s have sounded, so 100 s more fit and 200 s do not; also to the turn after next.
    assert await planned() == [edited, withdrawn, third, edited]
    newcomer = await province.broadcast("p", [bulletin], at=start + 2 * HOUR, issued_at=at, requested_at=at)
    await settle(province, keyring, now=at)
    assert await planned() == [edited, withdrawn, newcomer, edited]
    problems = await province.rows(
        "SELECT broadcast_id FROM control.planning_problems WHERE problem = 'day_full' ORDER BY occurrence_at"
    )
    assert [row["broadcast_id"] for row in problems] == [third, last]


async def test_what_an_approver_let_pass_is_not_counted_after_a_change_either(
    province: Province, keyring: Keyring
) -> None:
    await province.device("loa-1", "a1")
    await province.policy("a", max_day_s=100)
    start = (utc_now() + DAY).replace(hour=3, minute=0, second=0, microsecond=0)
    bulletin, early = await province.bulletin(seconds=100), utc_now() - 2 * DAY
    excepted = await province.broadcast("a1", [bulletin], at=start, issued_at=early)
    await province.execute(
        """
        INSERT INTO control.policy_exceptions
               (broadcast_id, version, rules, unit_ids, asked_at, asked_by, decided_at, decided_by, is_allowed)
        VALUES ($1, 1, '{day_full}', $4, $2, $3, $2, $3, true)
        """,
        excepted,
        early,
        province.account_id,
        [province.units["a"]],
    )
    other = await province.broadcast("a1", [bulletin], at=start + HOUR, issued_at=early)
    await settle(province, keyring)
    assert len(await province.emissions(other)) == 1

    await province.change_broadcast(excepted, at=start + HOUR / 2, version=2)
    await settle(province, keyring, now=start + HOUR / 2)

    assert [row["withdrawn_at"] for row in await province.emissions(other)] == [None]


async def test_occurrences_that_nobody_heard_use_no_plays(province: Province, keyring: Keyring) -> None:
    await province.device("loa-1", "a1")
    start = (utc_now() + 3 * HOUR).replace(microsecond=0)
    bulletin = await province.bulletin()
    await province.execute("UPDATE control.bulletins SET max_plays = 2")
    broadcast = await province.broadcast("a", [bulletin], at=start, daily=True, level="normal")
    await settle(province, keyring)
    accepted_at = start + 3 * DAY - HOUR
    await settle(province, keyring, now=accepted_at)

    await province.decide(broadcast, "a1", "accepted", at=accepted_at)
    await settle(province, keyring, now=accepted_at)

    planned = [row["occurrence_at"] for row in await province.emissions(broadcast)]
    assert planned == [start + 3 * DAY, start + 4 * DAY]


async def test_plays_are_those_on_record_and_those_that_can_come(province: Province, keyring: Keyring) -> None:
    """Neither times that a changed broadcast never had, nor those before an approver let it pass, use a bulletin up."""
    await province.device("loa-1", "a1")
    start = (utc_now() + 3 * HOUR).replace(microsecond=0)
    bulletin = await province.bulletin()
    await province.execute("UPDATE control.bulletins SET max_plays = 2")
    broadcast = await province.broadcast("a1", [bulletin], at=start, daily=True)
    await settle(province, keyring)

    async def planned() -> list[datetime]:
        return [row["occurrence_at"] for row in await province.emissions(broadcast) if row["withdrawn_at"] is None]

    assert await planned() == [start, start + DAY]

    times = sorted(local_time(start - n * HOUR) for n in range(3))
    await province.change_broadcast(
        broadcast, at=start + HOUR, local_times=times, version=2, starts_on=date(2026, 1, 1)
    )
    await settle(province, keyring, now=start + HOUR)
    assert await planned() == [start, start + DAY - 2 * HOUR]

    allowed_at = start + 2 * DAY + HOUR
    await province.execute(
        """
        INSERT INTO control.policy_exceptions
               (broadcast_id, version, rules, unit_ids, asked_at, asked_by, decided_at, decided_by, is_allowed)
        VALUES ($1, 3, '{}', '{}', $2, $3, $2, $3, true)
        """,
        broadcast,
        allowed_at,
        province.account_id,
    )
    await province.execute("UPDATE control.bulletins SET max_plays = 3")
    await province.change_broadcast(broadcast, at=allowed_at, version=3)
    await province.execute("UPDATE control.broadcasts SET issued_at = $1", start + HOUR)
    await settle(province, keyring, now=allowed_at)
    assert await planned() == [start, start + DAY - 2 * HOUR, start + 3 * DAY - 2 * HOUR]
