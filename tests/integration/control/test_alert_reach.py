"""Whom an alert reached: from what devices said, as ingest stored it, to one word for each."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any

import pytest

from schemas.alerts import Purpose
from schemas.events import AlertHandled, AlertResult, PlayEnded, PlayOutcome, PlayStarted
from schemas.fields import ClockState, PlayReference, PlaySource
from services.control import alerts, unit_store
from services.control.alerting import alert_store, reach_store
from services.control.alerting.keeper import AlertKeeper
from services.control.alerting.model import Alert, AlertDraft, AlertText, AudienceWish
from services.control.alerts import By
from services.control.planning.model import to_ms
from services.control.planning.recurrence import local_day
from services.control.trust.keyring import Keyring
from services.shared.clock import utc_now
from tests.support.control import LOCAL, Province, some_metrics

pytestmark = pytest.mark.integration

SECOND = timedelta(seconds=1)


@pytest.fixture
def keeper(province: Province, keyring: Keyring) -> AlertKeeper:
    return AlertKeeper(
        province.control, time_zone=LOCAL, keyring=keyring, metrics=some_metrics(), wake_alerts=lambda: None
    )


async def an_alert(province: Province, keyring: Keyring, purpose: Purpose = Purpose.ALERT) -> Alert:
    now = utc_now()
    draft = AlertDraft(
        unit_id=province.units["a"],
        purpose=purpose,
        event="Lũ",
        texts=(AlertText(language="vi", headline="Lũ"),),
        audience=AudienceWish(areas=AudienceWish.of_units(province.units["a"]).areas, kinds=("board",)),
        valid_until=now + timedelta(hours=1),
    )
    async with province.control.transaction() as connection:
        tree = (await unit_store.load_units(connection)).on(local_day(now, LOCAL))
        return await alerts.issue(connection, draft, by=By(tree=tree), keyring=keyring, now=now)


async def reached(
    province: Province, keeper: AlertKeeper, alert: Alert, *, after: timedelta = SECOND
) -> dict[str, Any]:
    now = alert.first_issued_at + after
    await keeper.keep_once(now=now)
    while await keeper.follow_once(now=now):
        pass
    async with province.control.connection() as connection:
        stored = await alert_store.alert(connection, alert.alert_id)
        found = await reach_store.reach(connection, stored, list(province.units.values()), now=now)
    return {each.device_id: each for each in found.devices}


def handled(alert: Alert, result: AlertResult, **values: Any) -> AlertHandled:
    at_ms = to_ms(utc_now())
    return AlertHandled(
        device_at_ms=at_ms,
        clock=ClockState.SYNCHRONISED,
        alert_id=alert.alert_id,
        alert_version=values.pop("version", alert.version),
        purpose=alert.draft.purpose,
        result=result,
        **values,
    )


def started(alert: Alert, at: datetime, *, occurrence: datetime | None = None) -> PlayStarted:
    return PlayStarted(
        device_at_ms=to_ms(at),
        clock=ClockState.SYNCHRONISED,
        reference=reference(alert, occurrence or at),
        started_at_ms=to_ms(at),
    )


def reference(alert: Alert, occurrence: datetime) -> PlayReference:
    return PlayReference(source=PlaySource.ALERT, id=alert.alert_id, occurrence_at_ms=to_ms(occurrence), item=0)


def ended(alert: Alert, at: datetime, outcome: PlayOutcome = PlayOutcome.COMPLETED) -> PlayEnded:
    return PlayEnded(
        device_at_ms=to_ms(at),
        clock=ClockState.SYNCHRONISED,
        reference=reference(alert, at),
        started_at_ms=to_ms(at),
        ended_at_ms=to_ms(at) + 5_000,
        outcome=outcome,
        sounded_ms=5_000,
    )


async def test_the_first_moments_of_an_alert_are_not_spent_on_looking_up_whom_it_means(
    province: Province, keyring: Keyring
) -> None:
    await province.device("bang", "a1", kind="board")
    keeper = AlertKeeper(
        province.control,
        time_zone=LOCAL,
        keyring=keyring,
        metrics=some_metrics(),
        wake_alerts=lambda: None,
        look_up_after=SECOND,
    )
    alert = await an_alert(province, keyring)
    assert await reached(province, keeper, alert, after=SECOND * 0.9) == {}
    assert list(await reached(province, keeper, alert, after=SECOND)) == ["bang"]


async def test_everybody_has_a_word_of_their_own(province: Province, keyring: Keyring, keeper: AlertKeeper) -> None:
    await province.device("gw", "a", kind="gateway")
    names = ("dung-gio", "tre", "thieu", "tu-choi", "im-lang", "mat-song", "chua-tung", "khoa")
    for name in names:
        await province.device(name, "a1", kind="board")
    await province.device("qua-cong", "a1", kind="board", gateway="gw")
    await province.device("noi-khac", "b1", kind="board")
    await province.device("loa", "a1")  # boards only
    alert = await an_alert(province, keyring)
    at = alert.first_issued_at
    for name in (*names[:5], "khoa", "qua-cong"):
        await province.heard(name, at=at)
    await province.heard("mat-song", at=at - timedelta(hours=1))
    await province.event("dung-gio", started(alert, at + SECOND / 5))
    await province.event("tre", started(alert, at + 60 * SECOND))
    await province.event("thieu", handled(alert, AlertResult.MEDIA_MISSING, detail="siren"))
    await province.event("tu-choi", handled(alert, AlertResult.UNSUPPORTED))
    await province.event("khoa", handled(alert, AlertResult.KILLED))
    await province.event("qua-cong", started(alert, at + SECOND), principal="gw")

    found = await reached(province, keeper, alert, after=20 * SECOND)

    assert {name: each.reason for name, each in found.items()} == {
        "dung-gio": "reached",
        "tre": "reached_late",
        "thieu": "media_missing",
        "tu-choi": "unsupported",
        "im-lang": "no_answer",
        "mat-song": "offline",
        "chua-tung": "never_heard",
        "khoa": "silenced",
        "qua-cong": "reached_by_gateway",
    }
    assert [name for name, each in found.items() if each.is_reached] == ["dung-gio", "tre"]
    assert found["dung-gio"].after_s == pytest.approx(0.2, abs=0.002)
    assert found["mat-song"].offline_since is not None


async def test_repetitions_are_counted_on_each_device(
    province: Province, keyring: Keyring, keeper: AlertKeeper
) -> None:
    for name in ("mot", "hai"):
        await province.device(name, "a1", kind="board")
    alert = await an_alert(province, keyring)
    at = alert.first_issued_at
    for number in range(3):
        begins = at + number * 30 * SECOND
        await province.event("mot", started(alert, begins))
        await province.event("mot", ended(alert, begins))
    await province.event("hai", started(alert, at + 7 * SECOND))
    await province.event("hai", ended(alert, at + 7 * SECOND, PlayOutcome.CUT))
    await reached(province, keeper, alert)

    async with province.control.connection() as connection:
        rounds = await reach_store.repetitions(connection, alert.alert_id, list(province.units.values()))

    assert [(each.number, each.started, each.completed) for each in rounds] == [(1, 2, 1), (2, 1, 1), (3, 1, 1)]


async def test_an_older_word_does_not_take_the_place_of_a_newer_one(
    province: Province, keyring: Keyring, keeper: AlertKeeper
) -> None:
    await province.device("mot", "a1", kind="board")
    alert = await an_alert(province, keyring, Purpose.SILENT_TEST)
    await province.event("mot", handled(alert, AlertResult.TEST_FAILED, version=2, detail="kênh 2"))
    await province.event("mot", handled(alert, AlertResult.TEST_PASSED, version=1))

    found = await reached(province, keeper, alert)

    assert (found["mot"].reason, found["mot"].detail) == ("test_failed", "kênh 2")


async def test_a_word_about_an_alert_that_is_none_of_ours_or_from_somebody_else_changes_nothing(
    province: Province, keyring: Keyring, keeper: AlertKeeper
) -> None:
    await province.device("gw", "a", kind="gateway")
    await province.device("mot", "a1", kind="board")
    alert = await an_alert(province, keyring)
    stranger = handled(alert, AlertResult.TAKEN).model_copy(update={"alert_id": uuid.uuid4()})
    await province.event("mot", stranger)
    await province.event("mot", started(alert, alert.first_issued_at), principal="gw")  # not its gateway

    found = await reached(province, keeper, alert)

    assert found["mot"].reason == "never_heard"
