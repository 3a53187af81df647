"""After a signing key was stolen and withdrawn, what holds is said again under the new one: once, and where it held."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas import signing
from schemas.alerts import Alert, Purpose
from schemas.audience import addresses
from schemas.configuration import Ownership
from schemas.fields import DeviceKind
from services.control import alerts, unit_store
from services.control.alerting import alert_store
from services.control.alerting.keeper import KEYS_FIRST, LOOK_AT_KEYS_EVERY, AlertKeeper
from services.control.alerting.model import Alert as Issued
from services.control.alerting.model import AlertDraft, AlertText, AudienceWish
from services.control.alerts import By
from services.control.planning.model import to_ms
from services.control.planning.recurrence import local_day
from services.control.trust.keyring import Keyring, parse_key_set
from services.control.units import UnitTree
from services.shared.clock import utc_now
from tests.support.control import LOCAL, Province, a_keyring, a_planner, some_metrics, verifier

pytestmark = pytest.mark.integration

ROOT = Ed25519PrivateKey.generate()


@pytest.fixture
def stolen() -> Keyring:
    return a_keyring(ROOT)


def a_keeper(province: Province, keyring: Keyring) -> AlertKeeper:
    return AlertKeeper(
        province.control, time_zone=LOCAL, keyring=keyring, metrics=some_metrics(), wake_alerts=lambda: None
    )


def still_listing(new: Keyring, old: Keyring) -> Keyring:
    """The new key as a routine rotation announces it: the old one stays listed for what it has signed."""
    listed = old.announced.content.keys[0].model_copy(update={"not_after_ms": to_ms(utc_now() + timedelta(hours=1))})
    keys = new.announced.content.model_copy(update={"serial": 2, "keys": (*new.announced.content.keys, listed)})
    return Keyring(private_key=new.private_key, announced=parse_key_set(signing.sign(keys, ROOT), source="test"))


async def tree_of(province: Province) -> UnitTree:
    async with province.control.connection() as connection:
        return (await unit_store.load_units(connection)).on(local_day(utc_now(), LOCAL))


async def issued(province: Province, keyring: Keyring, *, purpose: Purpose = Purpose.ALERT, unit: str = "a") -> Issued:
    draft = AlertDraft(
        unit_id=province.units[unit],
        purpose=purpose,
        event="Lũ",
        texts=(AlertText(language="vi", headline="Lũ"),) if purpose is Purpose.ALERT else (),
        audience=AudienceWish(areas=AudienceWish.of_units(province.units[unit]).areas, kinds=("board",)),
        valid_until=utc_now() + timedelta(hours=1),
    )
    async with province.control.transaction() as connection:
        by = By(tree=await tree_of(province))
        return await alerts.issue(connection, draft, by=by, keyring=keyring, now=utc_now())


async def retained(province: Province, keyring: Keyring, alert_id: uuid.UUID) -> dict[uuid.UUID, Alert]:
    """What waits to be sent on the topics of an alert, by unit, as somebody reads it who believes one key only."""
    rows = await province.rows(
        "SELECT topic, payload FROM control.outbox WHERE kind = 'alert' AND topic LIKE '%' || $1", str(alert_id)
    )
    return {
        uuid.UUID(row["topic"].split("/")[3]): signing.verify(Alert, row["payload"], verifier(keyring)) for row in rows
    }


def hears(alert: Alert, path: tuple[uuid.UUID, ...]) -> bool:
    facts = {"device": "bang-01", "kind": DeviceKind.BOARD, "ownership": Ownership.PUBLIC, "position": None}
    return addresses(alert.audience, membership=path, **facts)  # type: ignore[arg-type]


async def test_what_is_in_force_holds_on_under_the_new_key_and_what_was_stopped_stays_stopped(
    province: Province, stolen: Keyring
) -> None:
    p, a, a1, a2 = (province.units[name] for name in ("p", "a", "a1", "a2"))
    alert = await issued(province, stolen)
    silence = await issued(province, stolen, purpose=Purpose.SILENCE)
    over = await issued(province, stolen)
    tree = await tree_of(province)
    async with province.control.transaction() as connection:
        locked = await alert_store.alert_for_update(connection, alert.alert_id)
        await alerts.stop(connection, locked, a1, by=By(tree=tree), may_stop=True, keyring=stolen, now=utc_now())
        locked = await alert_store.alert_for_update(connection, over.alert_id)
        await alerts.cancel(connection, locked, by=By(tree=tree), keyring=stolen, now=utc_now())

    new = a_keyring(ROOT)
    await a_keeper(province, new).keep_once(now=utc_now())

    said = await retained(province, new, alert.alert_id)
    assert set(said) == {a, a1}
    assert {(each.alert_version, each.purpose) for each in said.values()} == {(3, Purpose.ALERT)}
    assert said[a].rank.issued_at_ms == to_ms(alert.first_issued_at)
    assert (hears(said[a], (p, a, a2)), hears(said[a], (p, a, a1))) == (True, False)
    (quiet,) = (await retained(province, new, silence.alert_id)).values()
    assert (quiet.alert_version, quiet.purpose) == (2, Purpose.SILENCE)
    (ended,) = (await retained(province, new, over.alert_id)).values()
    assert (ended.alert_version, ended.purpose) == (3, Purpose.CANCEL)
    actions = [row["action"] for row in await province.rows("SELECT action FROM control.audit ORDER BY audit_id")]
    assert actions.count("alert_signed_anew") == 3
    async with province.control.connection() as connection:
        stored = await alert_store.alert(connection, alert.alert_id)
    assert stored.stopped_in == (a1,)

    # Once: neither this process nor another one says it a third time.
    for keeper in (a_keeper(province, new), a_keeper(province, new)):
        await keeper.keep_once(now=utc_now() + LOOK_AT_KEYS_EVERY)
    assert {each.alert_version for each in (await retained(province, new, alert.alert_id)).values()} == {3}


async def test_a_routine_rotation_changes_no_alert(province: Province, stolen: Keyring) -> None:
    alert = await issued(province, stolen)
    await a_keeper(province, still_listing(a_keyring(ROOT), stolen)).keep_once(now=utc_now())
    (said,) = (await retained(province, stolen, alert.alert_id)).values()
    assert said.alert_version == 1


async def test_a_key_that_is_not_believed_itself_says_nothing_again(province: Province, stolen: Keyring) -> None:
    alert = await issued(province, stolen)
    new = a_keyring(ROOT)
    after = utc_now() + timedelta(days=701)  # nobody has given control a newer key set
    async with province.control.transaction() as connection:
        await connection.execute(
            "UPDATE control.alerts SET holds_until = $1, valid_until = $1", after + timedelta(days=1)
        )
    await a_keeper(province, new).keep_once(now=after)
    (said,) = (await retained(province, stolen, alert.alert_id)).values()
    assert said.alert_version == 1


async def test_what_another_process_signs_with_the_withdrawn_key_is_found(province: Province, stolen: Keyring) -> None:
    new = a_keyring(ROOT)
    keeper, now = a_keeper(province, new), utc_now()
    await keeper.keep_once(now=now)
    alert = await issued(province, stolen)
    await keeper.keep_once(now=now + LOOK_AT_KEYS_EVERY)
    (said,) = (await retained(province, new, alert.alert_id)).values()
    assert said.alert_version == 2


async def test_the_key_set_goes_first_but_is_not_waited_for_for_ever(province: Province, stolen: Keyring) -> None:
    await province.device("bang-01", "a1", kind="board")
    planner = a_planner(province.control, stolen)
    await planner.turn()
    alert = await issued(province, stolen)
    new = a_keyring(ROOT)
    keeper, now = a_keeper(province, new), utc_now()

    # Devices still have the old set; then the new one is on its way; then the broker has it.
    await keeper.keep_once(now=now)
    assert set(await retained(province, stolen, alert.alert_id)) == {province.units["a"]}
    await a_planner(province.control, new).turn()
    await keeper.keep_once(now=now)
    assert set(await retained(province, stolen, alert.alert_id)) == {province.units["a"]}
    other = a_keeper(province, new)
    await province.execute("DELETE FROM control.outbox WHERE kind = 'keys'")
    await other.keep_once(now=now)
    assert set(await retained(province, new, alert.alert_id)) == {province.units["a"]}

    late = await issued(province, stolen)
    await province.execute("UPDATE control.issued_orders SET content_hash = '\\x00' WHERE kind = 'keys'")
    await keeper.keep_once(now=now + KEYS_FIRST)
    (said,) = (await retained(province, new, late.alert_id)).values()
    assert said.alert_version == 2


async def test_one_that_cannot_be_said_again_keeps_no_other_from_it_and_is_over_in_its_time(
    province: Province, stolen: Keyring
) -> None:
    worn_out, alert = await issued(province, stolen), await issued(province, stolen)
    await province.execute(
        "UPDATE control.alerts SET version = $2, holds_until = holds_until + interval '1 hour' WHERE alert_id = $1",
        worn_out.alert_id,
        alerts.LAST_VERSION,
    )
    new = a_keyring(ROOT)
    keeper = a_keeper(province, new)

    await keeper.keep_once(now=utc_now())

    (said,) = (await retained(province, new, alert.alert_id)).values()
    assert said.alert_version == 2
    after = utc_now() + timedelta(hours=1, seconds=1)  # devices may hold it for longer, and cannot be told
    await keeper.keep_once(now=after)
    await keeper.keep_once(now=after + timedelta(hours=1))
    rows = await province.rows("SELECT alert_id, state FROM control.alerts")
    assert {row["alert_id"]: row["state"] for row in rows} == dict.fromkeys(
        (worn_out.alert_id, alert.alert_id), "expired"
    )
