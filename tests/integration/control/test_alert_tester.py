"""Tests of alerts by the calendar: issued once over several replicas, weighed by the device's own word, and who fails."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from schemas import signing
from schemas.alerts import Alert as WireAlert
from schemas.alerts import Purpose
from schemas.events import AlertHandled, AlertResult
from schemas.fields import ClockState
from services.control.alerting import alert_store, timetable_store
from services.control.alerting.keeper import AlertKeeper
from services.control.alerting.model import State
from services.control.alerting.tester import AlertTester
from services.control.metrics import ControlMetrics
from services.control.planning.model import to_ms
from services.control.trust.keyring import Keyring
from services.shared.clock import utc_now
from tests.support.control import LOCAL, Province, some_metrics, verifier

pytestmark = pytest.mark.integration

# A Tuesday, ten o'clock in Việt Nam: when the silent test is due that nobody had to ask for.
TEN = datetime(2026, 3, 10, 3, 0, tzinfo=UTC)
DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)


class Calendar:
    """A tester and a keeper of one replica, whose turns the test takes itself."""

    def __init__(self, province: Province, keyring: Keyring) -> None:
        self.province = province
        self.registry = CollectorRegistry()
        self.woken: list[bool] = []
        parts: dict[str, Any] = {"time_zone": LOCAL, "keyring": keyring, "wake_alerts": lambda: self.woken.append(True)}
        self.tester = AlertTester(province.control, metrics=ControlMetrics(self.registry), **parts)
        self.keeper = AlertKeeper(province.control, metrics=some_metrics(), **parts)

    async def tests(self) -> list[dict[str, Any]]:
        return await self.province.rows(
            "SELECT alert_id, purpose, origin, unit_id FROM control.alerts ORDER BY first_issued_at, unit_id"
        )

    async def runs(self) -> list[tuple[str, str, datetime]]:
        rows = await self.province.rows("SELECT * FROM control.alert_test_runs ORDER BY due_at, purpose")
        return [(row["purpose"], row["outcome"], row["due_at"]) for row in rows]

    async def a_test(self, at: datetime, **answers: AlertResult) -> uuid.UUID:
        """Have the test of `at` issued, answered by these devices at once, and weighed when it is over."""
        await self.tester.test_once(now=at)
        await self.keeper.keep_once(now=at)
        alert_id: uuid.UUID = (await self.tests())[-1]["alert_id"]
        for name, result in answers.items():
            await self.province.event(name.replace("_", "-"), answer(alert_id, result))
        await self.weigh(at)
        return alert_id

    async def weigh(self, at: datetime) -> None:
        while await self.keeper.follow_once(now=at):
            pass
        await self.keeper.keep_once(now=at + 5 * MINUTE)
        await self.tester.weigh_once(now=at + 6 * MINUTE)

    async def outcomes(self, alert_id: uuid.UUID) -> dict[str, str]:
        rows = await self.province.rows(
            """
            SELECT d.device_id, r.outcome, r.reason
              FROM control.alert_test_results r JOIN control.devices d USING (device_no)
             WHERE r.alert_id = $1
            """,
            alert_id,
        )
        return {row["device_id"]: f"{row['outcome']}: {row['reason']}" for row in rows}

    async def failing(self) -> dict[str, int]:
        async with self.province.control.connection() as connection:
            found = await timetable_store.failing(connection, list(self.province.units.values()))
        return {each.device_id: each.failures for each in found}


@pytest.fixture
def calendar(province: Province, keyring: Keyring) -> Calendar:
    return Calendar(province, keyring)


def answer(alert_id: uuid.UUID, result: AlertResult) -> AlertHandled:
    return AlertHandled(
        device_at_ms=to_ms(utc_now()),
        clock=ClockState.SYNCHRONISED,
        alert_id=alert_id,
        alert_version=1,
        purpose=Purpose.SILENT_TEST,
        result=result,
    )


async def a_device(province: Province, name: str, **values: Any) -> None:
    await province.device(name, "a1", kind=values.pop("kind", "board"), registered_at=TEN - 30 * DAY, **values)


async def a_timetable(province: Province, unit: str, since: datetime = TEN - 30 * DAY, **times: Any) -> None:
    await province.execute(
        "INSERT INTO control.alert_timetables (unit_id, silent, audible, version, changed_at) VALUES ($1, $2, $3, 1, $4)",
        province.units[unit],
        times.get("silent"),
        times.get("audible"),
        since,
    )


async def test_a_test_that_is_due_is_issued_by_the_platform_itself_and_once(
    province: Province, keyring: Keyring, calendar: Calendar
) -> None:
    await calendar.tester.test_once(now=TEN - MINUTE)
    assert await calendar.tests() == []

    for _ in range(3):
        await calendar.tester.test_once(now=TEN + MINUTE)

    (test,) = await calendar.tests()
    assert (test["purpose"], test["origin"], test["unit_id"]) == ("silent_test", "schedule", province.units["p"])
    assert await calendar.runs() == [("silent_test", "issued", TEN)]
    assert calendar.woken
    ((payload, expires_at),) = [
        (row["payload"], row["expires_at"])
        for row in await province.rows("SELECT payload, expires_at FROM control.outbox WHERE kind = 'alert'")
    ]
    sent = signing.verify(WireAlert, payload, verifier(keyring))
    assert (sent.purpose, sent.contents) == (Purpose.SILENT_TEST, ())
    assert expires_at == TEN + 6 * MINUTE


async def test_of_several_replicas_one_issues_it(province: Province, keyring: Keyring) -> None:
    replicas = [Calendar(province, keyring) for _ in range(4)]

    await asyncio.gather(*(each.tester.test_once(now=TEN) for each in replicas))

    assert len(await replicas[0].tests()) == 1
    assert sum(len(each.woken) for each in replicas) == 1


async def test_what_could_not_be_issued_in_time_is_missed_and_not_made_up_for(calendar: Calendar) -> None:
    # Nobody was there yet on the first day, so nothing was missed.
    await calendar.tester.test_once(now=TEN - DAY + 60 * MINUTE)
    assert await calendar.runs() == []
    await calendar.tester.test_once(now=TEN)

    await calendar.tester.test_once(now=TEN + DAY + 15 * MINUTE)
    await calendar.tester.test_once(now=TEN + DAY + 20 * MINUTE)

    assert await calendar.runs() == [("silent_test", "issued", TEN), ("silent_test", "missed", TEN + DAY)]
    assert len(await calendar.tests()) == 1
    labels = {"purpose": "silent_test", "outcome": "missed"}
    assert calendar.registry.get_sample_value("control_alert_tests_total", labels) == 1


async def test_units_with_a_word_of_their_own_are_tested_apart(
    province: Province, keyring: Keyring, calendar: Calendar
) -> None:
    await a_timetable(province, "a", silent={"at": "10:05"})
    await a_timetable(province, "b1", silent={"on": False})

    await calendar.tester.test_once(now=TEN + 5 * MINUTE)

    async with province.control.connection() as connection:
        found = [await alert_store.alert(connection, each["alert_id"]) for each in await calendar.tests()]
    assert {each.draft.unit_id: set(each.draft.audience.except_units) for each in found} == {
        province.units["p"]: {province.units["a"], province.units["b1"]},
        province.units["a"]: set(),
    }


async def test_a_test_that_sounds_is_kept_from_the_units_whose_policies_object(
    province: Province, calendar: Calendar
) -> None:
    await province.bulletin()
    await province.execute(
        "INSERT INTO control.alert_tones (tone, media_sha256) SELECT 'test', sha256 FROM control.media LIMIT 1"
    )
    await a_timetable(province, "p", silent={"on": False}, audible={"at": "10:00"})
    await province.policy("b", quiet=[{"begin": "09:00", "end": "11:00"}])

    await calendar.tester.test_once(now=TEN)

    (test,) = await calendar.tests()
    async with province.control.connection() as connection:
        alert = await alert_store.alert(connection, test["alert_id"])
    assert alert.draft.audience.except_units == (province.units["b"],)
    assert alert.draft.status == "test"

    await province.policy("p", quiet=[{"begin": "09:00", "end": "11:00"}])
    await calendar.tester.test_once(now=TEN + DAY)

    assert await calendar.runs() == [
        ("audible_test", "issued", TEN),
        ("audible_test", "not_allowed", TEN + DAY),
    ]
    assert len(await calendar.tests()) == 1


async def test_what_cannot_be_issued_is_noted_with_the_reason_and_nothing_is_half_done(
    province: Province, calendar: Calendar
) -> None:
    # No tone was ever made here: a test that sounds has nothing to sound.
    await a_timetable(province, "p", silent={"on": False}, audible={"at": "10:00"})

    await calendar.tester.test_once(now=TEN)

    assert await province.rows("SELECT outcome, detail, alert_id FROM control.alert_test_runs") == [
        {"outcome": "refused", "detail": "alert_without_sound", "alert_id": None}
    ]
    assert await calendar.tests() == []


async def test_each_device_passes_by_its_own_word_and_a_gateway_s_is_neither(
    province: Province, calendar: Calendar
) -> None:
    await a_device(province, "gw", kind="gateway")
    for name in ("dat", "hong", "im", "khoa", "nghi"):
        await a_device(province, name)
    await a_device(province, "qua-cong", gateway="gw")
    await province.change_device("nghi", retired_at=TEN - DAY)
    await calendar.tester.test_once(now=TEN)
    await calendar.keeper.keep_once(now=TEN)
    await province.device("moi", "a1", kind="board", registered_at=TEN + MINUTE)  # after the test
    await calendar.keeper.keep_once(now=TEN + 2 * MINUTE)
    alert_id = (await calendar.tests())[0]["alert_id"]
    for name, result in (
        ("dat", AlertResult.TEST_PASSED),
        ("hong", AlertResult.TEST_FAILED),
        ("khoa", AlertResult.KILLED),
        ("qua-cong", AlertResult.TEST_PASSED),
    ):
        principal = "gw" if name == "qua-cong" else None
        await province.event(name, answer(alert_id, result), principal=principal)

    await calendar.weigh(TEN)

    assert await calendar.outcomes(alert_id) == {
        "dat": "passed: reached",
        "hong": "failed: test_failed",
        "im": "failed: never_heard",
        "khoa": "excused: silenced",
        "qua-cong": "by_gateway: reached_by_gateway",
    }
    entry = (await province.rows("SELECT after FROM control.audit WHERE action = 'alert_test_weighed'"))[0]["after"]
    assert (entry["passed"], entry["failed"], entry["by_gateway"], entry["excused"]) == (1, 2, 1, 1)
    assert await calendar.failing() == {}


async def test_two_failures_in_a_row_are_an_alarm_that_the_next_success_ends(
    province: Province, calendar: Calendar
) -> None:
    for name in ("mot", "hai", "ba"):
        await a_device(province, name)
    passed, failed = AlertResult.TEST_PASSED, AlertResult.TEST_FAILED
    await calendar.a_test(TEN, mot=failed, hai=failed, ba=passed)
    assert await calendar.failing() == {}
    await calendar.a_test(TEN + DAY, mot=failed, hai=passed, ba=failed)
    assert await calendar.failing() == {"mot": 2}
    assert calendar.registry.get_sample_value("control_alert_test_failing_devices") == 1

    await calendar.a_test(TEN + 2 * DAY, hai=failed, mot=AlertResult.KILLED)
    # Silenced, it was not asked; nobody else has answered twice.
    assert await calendar.failing() == {"ba": 2}
    await calendar.a_test(TEN + 3 * DAY, mot=failed, hai=failed, ba=passed)
    assert await calendar.failing() == {"hai": 2, "mot": 3}
    await calendar.a_test(TEN + 4 * DAY, mot=passed, hai=passed, ba=passed)

    assert await calendar.failing() == {}
    assert calendar.registry.get_sample_value("control_alert_test_failing_devices") == 0
    entries = await province.rows(
        "SELECT after FROM control.audit WHERE action = 'alert_test_weighed' ORDER BY audit_id"
    )
    assert [(each["after"]["began_to_fail"], each["after"]["fail_no_longer"]) for each in entries] == [
        ([], []),
        (["mot"], []),
        (["ba"], ["mot"]),
        (["hai", "mot"], ["ba"]),
        ([], ["hai", "mot"]),
    ]


async def test_a_word_that_was_spoken_in_time_counts_however_late_it_comes_in(
    province: Province, calendar: Calendar
) -> None:
    await a_device(province, "mot")
    first = await calendar.a_test(TEN)
    second = await calendar.a_test(TEN + DAY)
    assert await calendar.failing() == {"mot": 2}

    # Ingest was away: the device's journal kept its words.
    for alert_id in (first, second):
        await province.event("mot", answer(alert_id, AlertResult.TEST_PASSED))
    while await calendar.keeper.follow_once(now=TEN + DAY):
        pass
    await calendar.tester.weigh_once(now=TEN + DAY + 61 * MINUTE)

    assert await calendar.outcomes(second) == {"mot": "passed: reached"}
    assert await calendar.failing() == {}


async def test_a_test_that_somebody_cancelled_says_nothing_about_anybody(
    province: Province, calendar: Calendar
) -> None:
    await a_device(province, "mot")
    await calendar.tester.test_once(now=TEN)
    await calendar.keeper.keep_once(now=TEN)
    await province.execute("UPDATE control.alerts SET state = $1, ended_at = now()", State.CANCELLED.value)

    await calendar.tester.weigh_once(now=TEN + 6 * MINUTE)

    assert await province.value("SELECT count(*) FROM control.alert_test_results") == 0
    assert await province.value("SELECT count(*) FROM control.alerts WHERE weighed_at IS NOT NULL") == 1


async def test_tests_are_forgotten_after_more_than_a_year(province: Province, calendar: Calendar) -> None:
    await a_device(province, "mot")
    await calendar.a_test(TEN)

    await calendar.tester.weigh_once(now=TEN + 399 * DAY)
    assert await province.value("SELECT count(*) FROM control.alert_test_results") == 1
    await calendar.tester.weigh_once(now=TEN + 401 * DAY)

    assert await province.value("SELECT count(*) FROM control.alert_test_results") == 0
    assert await province.value("SELECT count(*) FROM control.alert_reach") == 0
    assert await province.value("SELECT count(*) FROM control.alert_test_runs") == 0
