"""Whom an alert reached: from what devices said, as ingest stored it, to one word for each."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from schemas.alerts import Purpose
from schemas.events import AlertHandled, AlertResult, PlayEnded, PlayOutcome, PlayStarted
from schemas.fields import ClockState, PlayReference, PlaySource
from services.control import alerts, enrolment_store, revocation_store, unit_store
from services.control.alerting import alert_store, reach_store
from services.control.alerting.keeper import AlertKeeper
from services.control.alerting.model import Alert, AlertDraft, AlertText, AudienceWish
from services.control.alerts import By
from services.control.metrics import ControlMetrics
from services.control.planning.model import DeviceNo, to_ms
from services.control.planning.recurrence import local_day
from services.control.trust.keyring import Keyring
from services.shared.clock import utc_now
from tests.support.control import LOCAL, Province, some_metrics
from tests.support.device_keys import certify

pytestmark = pytest.mark.integration

SECOND = timedelta(seconds=1)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def keeper(province: Province, keyring: Keyring, registry: CollectorRegistry) -> AlertKeeper:
    metrics = ControlMetrics(registry)
    return AlertKeeper(province.control, time_zone=LOCAL, keyring=keyring, metrics=metrics, wake_alerts=lambda: None)


def boards_in(province: Province, unit: str) -> AudienceWish:
    return AudienceWish(areas=AudienceWish.of_units(province.units[unit]).areas, kinds=("board",))


async def an_alert(
    province: Province,
    keyring: Keyring,
    purpose: Purpose = Purpose.ALERT,
    *,
    ground: str = "a",
    ago: timedelta = 0 * SECOND,
) -> Alert:
    now = utc_now() - ago
    draft = AlertDraft(
        unit_id=province.units["a"],
        purpose=purpose,
        event="Lũ",
        texts=(AlertText(language="vi", headline="Lũ"),),
        audience=boards_in(province, ground),
        valid_until=now + timedelta(hours=3),
    )
    async with province.control.transaction() as connection:
        tree = (await unit_store.load_units(connection)).on(local_day(now, LOCAL))
        return await alerts.issue(connection, draft, by=By(tree=tree), keyring=keyring, now=now)


async def updated(province: Province, keyring: Keyring, alert: Alert, *, after: timedelta, **changes: Any) -> Alert:
    now = alert.first_issued_at + after
    async with province.control.transaction() as connection:
        tree = (await unit_store.load_units(connection)).on(local_day(now, LOCAL))
        locked = await alert_store.alert_for_update(connection, alert.alert_id)
        draft = replace(locked.draft, **changes)
        return await alerts.update(connection, locked, draft, by=By(tree=tree), keyring=keyring, now=now)


async def reached(
    province: Province, keeper: AlertKeeper, alert: Alert, *, after: timedelta = SECOND
) -> dict[str, Any]:
    """How it stands so long after its present version was issued."""
    now = alert.issued_at + after
    await keeper.keep_once(now=now)
    while await keeper.follow_once(now=now):
        pass
    async with province.control.connection() as connection:
        stored = await alert_store.alert(connection, alert.alert_id)
        found = await reach_store.reach(connection, stored, list(province.units.values()), now=now)
    return {each.device_id: each for each in found.devices}


def handled(alert: Alert, result: AlertResult, *, at: datetime | None = None, **values: Any) -> AlertHandled:
    at_ms = to_ms(at or utc_now())
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


async def take(province: Province, device: str, alert: Alert, at: datetime) -> None:
    """As devices say it: that they have the version, and that it sounds."""
    await province.event(device, handled(alert, AlertResult.TAKEN, at=at))
    await province.event(device, started(alert, at))


async def test_who_heard_the_version_before_has_not_heard_the_one_that_holds(
    province: Province, keyring: Keyring, keeper: AlertKeeper, registry: CollectorRegistry
) -> None:
    names = ("nghe-ca-hai", "mat-song", "thieu", "tu-choi", "van-phat-ban-cu", "nhan-chua-phat")
    for name in names:
        await province.device(name, "a1", kind="board")
    first = await an_alert(province, keyring, ago=timedelta(hours=1))
    for name in names:
        await province.heard(name, at=first.issued_at)
        await take(province, name, first, first.issued_at + SECOND / 5)
    found = await reached(province, keeper, first)
    assert {each.reason for each in found.values()} == {"reached"}

    second = await updated(province, keyring, first, after=timedelta(hours=1), event="Sơ tán")
    at = second.issued_at
    found = await reached(province, keeper, second)
    assert {name: each.reason for name, each in found.items()} == dict.fromkeys(names, "offline")

    for name in names:
        await province.heard(name, at=at - timedelta(hours=1) if name == "mat-song" else at)
    await take(province, "nghe-ca-hai", second, at + SECOND / 5)
    await province.event("thieu", handled(second, AlertResult.MEDIA_MISSING, at=at + SECOND))
    await province.event("tu-choi", handled(second, AlertResult.UNSUPPORTED, at=at + SECOND))
    await province.event("van-phat-ban-cu", started(first, at + 3 * SECOND))
    await province.event("nhan-chua-phat", handled(second, AlertResult.TAKEN, at=at + SECOND))
    found = await reached(province, keeper, second, after=20 * SECOND)

    assert {name: each.reason for name, each in found.items()} == {
        "nghe-ca-hai": "reached",
        "mat-song": "offline",
        "thieu": "media_missing",
        "tu-choi": "unsupported",
        "van-phat-ban-cu": "no_answer",
        "nhan-chua-phat": "not_started",
    }
    assert {name: each.version for name, each in found.items() if each.version == 1} == {
        "mat-song": 1,
        "van-phat-ban-cu": 1,
    }
    assert found["nghe-ca-hai"].after_s == pytest.approx(0.2, abs=0.002)
    assert found["mat-song"].after_s is None
    assert found["mat-song"].first_start_at is not None  # of the first version
    await keeper.keep_once(now=at + 40 * SECOND)
    for reason in ("offline", "media_missing", "unsupported", "no_answer", "not_started"):
        assert registry.get_sample_value("control_alert_unreached_devices", {"reason": reason}) == 1


async def test_what_is_late_in_coming_about_the_version_before_is_not_taken_for_the_one_that_holds(
    province: Province, keyring: Keyring, keeper: AlertKeeper
) -> None:
    """Clocks of devices differ from ours: what it says it was given, and what sounded then, are by its own."""
    for name in ("cham-gio", "nhanh-gio"):
        await province.device(name, "a1", kind="board")
    first = await an_alert(province, keyring, ago=60 * SECOND)
    second = await updated(province, keyring, first, after=10 * SECOND, event="Có giọng đọc")
    for name, wrong in (("cham-gio", -30 * SECOND), ("nhanh-gio", 30 * SECOND)):
        await province.heard(name, at=second.issued_at)
        await take(province, name, first, first.issued_at + wrong)
        await province.event(name, handled(second, AlertResult.MEDIA_MISSING, at=second.issued_at + wrong))
        await province.event(name, started(first, first.issued_at + wrong + SECOND))
    found = await reached(province, keeper, second, after=20 * SECOND)
    assert {each.reason for each in found.values()} == {"media_missing"}

    await province.event("cham-gio", started(second, second.issued_at - 30 * SECOND))
    await province.event("nhanh-gio", started(second, second.issued_at + 30 * SECOND))
    found = await reached(province, keeper, second, after=21 * SECOND)
    assert {name: each.is_reached for name, each in found.items()} == {"cham-gio": True, "nhanh-gio": True}


async def test_who_is_meant_only_since_an_update_is_not_late_and_is_waited_for(
    province: Province, keyring: Keyring, keeper: AlertKeeper
) -> None:
    await province.device("cu", "a1", kind="board")
    for name in ("moi", "moi-im-lang"):
        await province.device(name, "a2", kind="board")
    first = await an_alert(province, keyring, ground="a1", ago=timedelta(hours=1))
    await province.heard("cu", at=first.issued_at)
    await take(province, "cu", first, first.issued_at + SECOND / 5)
    assert list(await reached(province, keeper, first)) == ["cu"]

    wider = await updated(province, keyring, first, after=timedelta(hours=1), audience=boards_in(province, "a"))
    for name in ("cu", "moi", "moi-im-lang"):
        await province.heard(name, at=wider.issued_at)
    for name in ("cu", "moi"):
        await take(province, name, wider, wider.issued_at + SECOND / 5)
    found = await reached(province, keeper, wider)

    assert {name: each.reason for name, each in found.items()} == {
        "cu": "reached",
        "moi": "reached",
        "moi-im-lang": "waiting",
    }
    assert found["moi"].after_s == pytest.approx(0.2, abs=0.002)
    found = await reached(province, keeper, wider, after=11 * SECOND)
    assert found["moi-im-lang"].reason == "no_answer"


async def test_who_comes_onto_the_ground_later_is_waited_for_from_then_on(
    province: Province, keyring: Keyring, keeper: AlertKeeper
) -> None:
    alert = await an_alert(province, keyring, ago=timedelta(hours=1))
    half = timedelta(minutes=30)
    assert await reached(province, keeper, alert) == {}
    for name in ("den-sau", "den-sau-phat"):
        await province.device(name, "a1", kind="board")
        await province.heard(name, at=alert.issued_at + half)

    found = await reached(province, keeper, alert, after=half)
    assert {each.reason for each in found.values()} == {"waiting"}
    await take(province, "den-sau-phat", alert, alert.issued_at + half + SECOND)
    found = await reached(province, keeper, alert, after=half + 11 * SECOND)
    assert {name: each.reason for name, each in found.items()} == {"den-sau": "no_answer", "den-sau-phat": "reached"}


async def test_a_stop_elsewhere_and_an_end_ask_nobody_to_hear_it_anew(
    province: Province, keyring: Keyring, keeper: AlertKeeper
) -> None:
    for name, unit in (("o-lai", "a1"), ("bi-dung", "a2")):
        await province.device(name, unit, kind="board")
    alert = await an_alert(province, keyring, ago=timedelta(minutes=10))
    for name in ("o-lai", "bi-dung"):
        await province.heard(name, at=alert.issued_at)
        await take(province, name, alert, alert.issued_at + SECOND / 5)
    async with province.control.transaction() as connection:
        tree = (await unit_store.load_units(connection)).on(local_day(alert.issued_at, LOCAL))
        locked = await alert_store.alert_for_update(connection, alert.alert_id)
        at = alert.issued_at + 60 * SECOND
        stopped = await alerts.stop(
            connection, locked, province.units["a2"], by=By(tree=tree), may_stop=True, keyring=keyring, now=at
        )
    await province.event("bi-dung", handled(stopped, AlertResult.CANCELLED, at=at))
    found = await reached(province, keeper, alert, after=70 * SECOND)
    assert {name: each.reason for name, each in found.items()} == {"o-lai": "reached", "bi-dung": "reached"}

    async with province.control.transaction() as connection:
        locked = await alert_store.alert_for_update(connection, alert.alert_id)
        ended_at = alert.issued_at + 120 * SECOND
        over = await alerts.cancel(connection, locked, by=By(tree=tree), keyring=keyring, now=ended_at)
    await province.event("o-lai", handled(over, AlertResult.CANCELLED, at=ended_at))
    found = await reached(province, keeper, alert, after=130 * SECOND)
    assert {name: each.reason for name, each in found.items()} == {"o-lai": "reached", "bi-dung": "reached"}


async def test_a_silence_that_was_let_go_had_held_all_the_same(
    province: Province, keyring: Keyring, keeper: AlertKeeper
) -> None:
    names = ("im", "khong-tra-loi")
    for name in names:
        await province.device(name, "a1", kind="board")
    silence = await an_alert(province, keyring, Purpose.SILENCE, ago=timedelta(minutes=10))
    for name in names:
        await province.heard(name, at=silence.issued_at)
    await province.event("im", handled(silence, AlertResult.SILENCED, at=silence.issued_at))
    found = await reached(province, keeper, silence, after=20 * SECOND)
    assert {name: each.reason for name, each in found.items()} == {"im": "reached", "khong-tra-loi": "no_answer"}

    async with province.control.transaction() as connection:
        tree = (await unit_store.load_units(connection)).on(local_day(silence.issued_at, LOCAL))
        locked = await alert_store.alert_for_update(connection, silence.alert_id)
        at = silence.issued_at + 60 * SECOND
        over = await alerts.cancel(connection, locked, by=By(tree=tree), keyring=keyring, now=at)
    for name in names:
        await province.event(name, handled(over, AlertResult.RELEASED, at=at))
    # An older word that comes in late is about what held before; it does not unsay the end.
    await province.event("im", handled(silence, AlertResult.SILENCED, at=silence.issued_at))
    found = await reached(province, keeper, silence, after=70 * SECOND)

    assert {name: each.reason for name, each in found.items()} == {"im": "reached", "khong-tra-loi": "no_answer"}
    async with province.control.connection() as connection:
        stored = await alert_store.alert(connection, silence.alert_id)
        whole = await reach_store.reach(connection, stored, list(province.units.values()), now=at + 10 * SECOND)
    assert whole.end_confirmed == 2


async def test_who_says_that_a_silence_in_force_has_ended_is_not_silent(
    province: Province, keyring: Keyring, keeper: AlertKeeper
) -> None:
    await province.device("im", "a1", kind="board")
    silence = await an_alert(province, keyring, Purpose.SILENCE)
    await province.heard("im", at=silence.issued_at)
    await province.event("im", handled(silence, AlertResult.SILENCED))
    await province.event("im", handled(silence, AlertResult.RELEASED))

    found = await reached(province, keeper, silence, after=20 * SECOND)

    assert found["im"].reason == "no_answer"


async def test_what_neither_sounds_nor_shows_is_not_counted_whatever_it_says(
    province: Province, keyring: Keyring, keeper: AlertKeeper
) -> None:
    """Sensors and gateways hear what is said to a whole area, and answer."""
    await province.device("gw", "a1", kind="gateway")
    await province.device("tram-do", "a1", kind="sensor")
    await province.device("cam-bien", "a1", kind="sensor", gateway="gw")
    await province.device("bang", "a1", kind="board")
    for purpose, result in ((Purpose.ALERT, AlertResult.UNSUPPORTED), (Purpose.SILENCE, AlertResult.SILENCED)):
        alert = await an_alert(province, keyring, purpose)
        for name, principal in (("gw", "gw"), ("tram-do", "tram-do"), ("cam-bien", "gw"), ("bang", "bang")):
            await province.event(name, handled(alert, result), principal=principal)
        assert set(await reached(province, keeper, alert)) == {"bang"}


async def test_what_a_device_has_signed_is_told_apart_and_nothing_unsigned_changes_it(
    province: Province, keyring: Keyring, keeper: AlertKeeper
) -> None:
    for name in ("co-ky", "noi", "mat-khoa"):
        await province.device(name, "a1", kind="board")
    async with province.control.connection() as connection:
        key, stolen = [await certify(connection, name) for name in ("co-ky", "mat-khoa")]
        # It was renewed over the same key before it was stolen: that the older certificate gave way makes nothing good.
        await certify(connection, "mat-khoa", renews=stolen, key=stolen)
        assert await revocation_store.revoke_renewed(connection, overlap=timedelta(), now=utc_now())
        device_no = DeviceNo(province.devices["mat-khoa"])
        assert await enrolment_store.revoke(connection, device_no, reason="stolen", by=None, at=utc_now())
    alert = await an_alert(province, keyring, ago=timedelta(minutes=1))
    at = alert.issued_at + SECOND
    for name, by in (("co-ky", key), ("noi", None), ("mat-khoa", stolen)):
        await province.event(name, handled(alert, AlertResult.TAKEN, at=at), key=by)
        await province.event(name, started(alert, at), key=by)

    def told(found: dict[str, Any]) -> dict[str, tuple[str, bool]]:
        return {name: (each.reason, each.is_signed) for name, each in found.items()}

    found = await reached(province, keeper, alert)
    assert told(found) == {"co-ky": ("reached", True), "noi": ("reached", False), "mat-khoa": ("reached", False)}

    # A new version is kept back. The device goes on with the one it has, and somebody says in its place that it took the new.
    second = await updated(province, keyring, alert, after=20 * SECOND)
    later = second.issued_at + SECOND
    await province.event("co-ky", handled(second, AlertResult.TAKEN, at=later))
    await province.event("co-ky", started(alert, later + SECOND), key=key)
    assert told(await reached(province, keeper, second, after=5 * SECOND))["co-ky"] == ("reached", False)
    # Only when it has itself signed that it took it, and begins, is it so by its word.
    await province.event("co-ky", handled(second, AlertResult.TAKEN, at=later + 2 * SECOND), key=key)
    assert told(await reached(province, keeper, second, after=5 * SECOND))["co-ky"] == ("reached", False)
    await province.event("co-ky", started(second, later + 3 * SECOND), key=key)
    assert told(await reached(province, keeper, second, after=6 * SECOND))["co-ky"] == ("reached", True)


async def test_a_test_that_was_passed_is_so_by_a_signed_word_or_by_another(
    province: Province, keyring: Keyring, keeper: AlertKeeper
) -> None:
    for name in ("co-ky", "noi"):
        await province.device(name, "a1", kind="board")
    async with province.control.connection() as connection:
        key = await certify(connection, "co-ky")
    alert = await an_alert(province, keyring, Purpose.SILENT_TEST)
    await province.event("co-ky", handled(alert, AlertResult.TEST_FAILED, detail="clock"), key=key)
    for name in ("co-ky", "noi"):
        await province.event(name, handled(alert, AlertResult.TEST_PASSED))
    found = await reached(province, keeper, alert)
    assert {name: (each.reason, each.is_signed) for name, each in found.items()} == {
        "co-ky": ("reached", False),
        "noi": ("reached", False),
    }
    await province.event("co-ky", handled(alert, AlertResult.TEST_PASSED), key=key)
    assert (await reached(province, keeper, alert))["co-ky"].is_signed
