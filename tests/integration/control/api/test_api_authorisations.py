"""Two officers let the platform release what a rule proposes; whatever changes makes that void, and people decide again."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.control import enrolment_store, revocation_store
from services.control.permissions import Role
from services.control.sensing import rule_store
from services.control.sensing.decision import Allowed
from services.ingest.rows import Signature
from tests.support.control_api import Api, add_device
from tests.support.device_keys import certify, revoke
from tests.support.people import somebody
from tests.support.sensing import Case, a_watcher, add_readings, an_officer, rule_body, watched

pytestmark = pytest.mark.integration


async def test_what_two_officers_have_allowed_is_released_at_once_in_their_names(api: Api) -> None:
    case = await Case.of(api)
    first, second = await case.authorised()
    assert await case.flood() == "in_force"
    assert await api.fetchval("SELECT count(*) FROM control.outbox WHERE kind = 'alert'") == 1
    assert await api.fetchval("SELECT outcome FROM control.alert_proposals") == "released"
    assert await api.fetchval("SELECT created_by IS NULL AND origin = 'rule' FROM control.alerts")
    facts = await api.fetchval("SELECT after FROM control.audit WHERE action = 'alert_released_automatically'")
    assert facts["officers"] == [first.login, second.login]
    issued = await api.fetchval("SELECT after FROM control.audit WHERE action = 'alert_issued'")
    assert first.login in issued["note"]
    assert second.login in issued["note"]


async def test_one_officer_alone_allows_nothing(api: Api) -> None:
    case = await Case.of(api)
    first = await an_officer(api)
    assert (await case.ask(first)).status_code == 201
    api.clock.forward(seconds=31)
    again = await case.confirm(first)
    assert (again.status_code, again.json()["code"]) == (403, "second_person_is_the_first")
    assert await case.flood() == "proposed"


async def test_nobody_allows_it_without_a_factor_or_the_right_or_for_longer_than_a_year(api: Api) -> None:
    case = await Case.of(api)
    bare = await somebody(api, Role.OPERATOR, "11")
    body = {"expires_at": (api.clock.now + timedelta(days=1)).isoformat()}
    answer = await bare.post(f"{case.address}/authorisation", body, **{"If-Match": '"1"'})
    assert (answer.status_code, answer.json()["code"]) == (403, "second_factor_not_enrolled")
    for unit, role in (("12", Role.OPERATOR), ("11", Role.ADMINISTRATOR)):
        assert (await case.ask(await an_officer(api, unit, role))).status_code == 403
    officer = await an_officer(api)
    for days in (0, 367):
        answer = await case.ask(officer, days=days)
        assert answer.json()["errors"][0]["code"] == "authorisation_too_long"
        api.clock.forward(seconds=31)
    assert await api.fetchval("SELECT count(*) FROM control.release_authorisations") == 0


VOID = ("expired", "template", "rule", "disabled", "right", "revoked")


@pytest.mark.parametrize("cause", VOID)
async def test_what_is_void_is_proposed_to_people(api: Api, cause: str) -> None:
    case = await Case.of(api)
    first, second = await case.authorised()
    operator = await api.person((Role.OPERATOR, "24"))
    match cause:
        case "expired":
            api.clock.forward(days=31)
        case "template":
            wanted = {
                "unit_id": str(api.units["11"]),
                "name": "Lũ",
                "event": "Lũ",
                "tone": "none",
                "texts": [{"headline": "Nước lên rất nhanh, chạy ngay"}],
            }
            path = f"/api/v1/alert-templates/{case.template['template_id']}"
            changed = await api.client.put(path, json=wanted, headers={**operator, "If-Match": '"1"'})
            assert changed.status_code == 200, changed.text
        case "rule":
            wanted = rule_body(api, "11", case.sensor, template_id=case.template["template_id"], name="Khác")
            changed = await api.client.put(case.address, json=wanted, headers={**operator, "If-Match": '"1"'})
            assert changed.status_code == 200, changed.text
        case "disabled":
            await api.execute("UPDATE control.accounts SET disabled_at = now() WHERE login = $1", second.login)
        case "right":
            query = "DELETE FROM control.role_grants g USING control.accounts a"
            await api.execute(f"{query} WHERE a.account_id = g.account_id AND a.login = $1", first.login)
        case "revoked":
            ended = await api.client.delete(f"{case.address}/authorisation", headers=operator)
            assert ended.status_code == 204, ended.text
    assert await case.flood() == "proposed"
    assert await api.fetchval("SELECT count(*) FROM control.outbox WHERE kind = 'alert'") == 0
    assert await api.fetchval("SELECT count(*) FROM control.release_authorisations WHERE ended_at IS NULL") == 0


async def test_what_cannot_be_issued_stays_a_proposal(api: Api) -> None:
    case = await Case.of(api)
    await case.authorised()
    # Between the officers' word and the flood the sound of the template is lost.
    await api.execute("UPDATE control.alert_template_texts SET media_sha256 = NULL")
    assert await case.flood() == "proposed"
    facts = await api.fetchval("SELECT after FROM control.audit WHERE action = 'alert_not_released_automatically'")
    assert facts["code"] == "invalid_request"


# --- what counts: readings that are signed ---------------------------------------------------------------------------


async def is_told(api: Api) -> dict[str, object]:
    """What is on record of why it was not released."""
    found: dict[str, object] = await api.fetchval(
        "SELECT after FROM control.audit WHERE action = 'alert_not_released_automatically'"
    )
    return found


async def test_what_nobody_has_signed_is_proposed_and_why_is_on_record(api: Api) -> None:
    case = await Case.of(api)
    await case.authorised()
    assert await case.unsigned_flood() == "proposed"
    assert await api.fetchval("SELECT count(*) FROM control.outbox WHERE kind = 'alert'") == 0
    assert (await is_told(api))["code"] == "readings_not_signed"
    # It is allowed still: nothing is void, and the next one may be signed.
    assert await api.fetchval("SELECT count(*) FROM control.release_authorisations WHERE ended_at IS NULL") == 1
    assert await case.state() == "proposed"
    assert await api.fetchval("SELECT count(*) FROM control.audit WHERE action LIKE 'alert_not_released%'") == 1


async def test_a_proposal_that_waits_goes_out_when_signed_readings_say_the_same(api: Api) -> None:
    case = await Case.of(api)
    await case.authorised()
    assert await case.unsigned_flood() == "proposed"
    api.clock.forward(minutes=3)
    assert await case.flood() == "in_force"
    assert await api.fetchval("SELECT count(*) FROM control.alert_proposals") == 1
    assert await api.fetchval("SELECT outcome FROM control.alert_proposals") == "released"


async def test_what_was_proposed_before_it_was_allowed_waits_for_a_person(api: Api) -> None:
    case = await Case.of(api)
    assert await case.flood() == "proposed"
    api.clock.forward(minutes=1)
    await case.authorised()
    assert await case.flood(ending=api.clock.now) == "proposed"


async def test_what_a_person_refused_is_not_released_afterwards(api: Api) -> None:
    case = await Case.of(api)
    await case.authorised()
    assert await case.unsigned_flood() == "proposed"
    alert_id = await api.fetchval("SELECT alert_id FROM control.alert_proposals")
    headers = {**await api.person((Role.OPERATOR, "24")), "If-Match": '"1"'}
    refused = await api.client.post(f"/api/v1/proposals/{alert_id}/refuse", json={"reason": "thử"}, headers=headers)
    assert refused.status_code == 200, refused.text
    api.clock.forward(minutes=3)
    assert await case.flood() == "refused"


async def test_a_reading_that_came_late_may_be_an_old_one_and_does_not_count(api: Api) -> None:
    case = await Case.of(api)
    await case.authorised()
    assert await case.flood(signature=Signature.UNTIMELY) == "proposed"
    assert (await is_told(api))["code"] == "readings_not_signed"


@pytest.mark.parametrize(("reason", "state"), [("stolen", "proposed"), ("superseded", "in_force")])
async def test_what_was_signed_with_a_key_that_was_called_bad_since_does_not_count(
    api: Api, reason: str, state: str
) -> None:
    case = await Case.of(api)
    await case.authorised()
    async with api.database.connection() as connection:
        await revoke(connection, case.key, reason=reason, now=api.clock.now)
    assert await case.flood() == state


async def renewed(api: Api, case: Case, *, keeps_key: bool) -> None:
    """The sensor renews its certificate, and the one before gives way."""
    async with api.database.connection() as connection:
        now = api.clock.now
        same = case.key if keeps_key else None
        await certify(connection, case.sensor, renews=case.key, key=same, now=now + timedelta(seconds=1))
        assert await revocation_store.revoke_renewed(connection, overlap=timedelta(), now=now + timedelta(seconds=1))


async def revoked(api: Api, case: Case, *, reason: str) -> None:
    """An officer revokes what the sensor holds."""
    async with api.database.connection() as connection:
        device_no = await api.fetchval("SELECT device_no FROM control.devices WHERE device_id = $1", case.sensor)
        assert await enrolment_store.revoke(connection, device_no, reason=reason, by=None, at=api.clock.now)


@pytest.mark.parametrize("keeps_key", [True, False], ids=["over_the_same_key", "over_another_key"])
async def test_a_stolen_sensor_counts_no_more_with_any_key_that_only_gave_way_at_a_renewal(
    api: Api, keeps_key: bool
) -> None:
    case = await Case.of(api)
    await case.authorised()
    await add_readings(api, case.sensor, 4.5, 4.5, 4.5, key=case.key)
    await renewed(api, case, keeps_key=keeps_key)
    api.clock.forward(seconds=2)
    await revoked(api, case, reason="stolen")
    assert await case.state() == "proposed"
    shown = (await api.client.get(case.address, headers=await api.person((Role.OPERATOR, "24")))).json()
    assert [each["signs"] for each in shown["watched"]] == [False]


async def test_a_key_that_two_devices_have_counts_for_neither(api: Api) -> None:
    """It was certified before such requests were refused, or at the same moment."""
    case = await Case.of(api)
    await case.authorised()
    async with api.database.connection() as connection:
        await certify(connection, await add_device(api, "11", "sensor"), key=case.key, now=api.clock.now)
    assert await case.flood() == "proposed"


async def test_a_key_that_gave_way_at_a_renewal_signs_nothing_any_more(api: Api) -> None:
    """Ingest refuses it; should it not have heard of that yet, the rule has."""
    case = await Case.of(api)
    await case.authorised()
    await renewed(api, case, keeps_key=False)
    api.clock.forward(minutes=5)
    assert await case.flood() == "proposed"


async def test_a_sensor_that_is_enrolled_anew_counts_by_what_it_signs_from_then_on(api: Api) -> None:
    case = await Case.of(api)
    await case.authorised()
    await add_readings(api, case.sensor, 4.5, 4.5, key=case.key)
    await revoked(api, case, reason="replaced")
    async with api.database.connection() as connection:
        await certify(connection, case.sensor, key=case.key, now=api.clock.now)  # a device may keep its key
    api.clock.forward(minutes=1)
    await add_readings(api, case.sensor, 4.5, key=case.key)
    assert await case.state() == "proposed"
    api.clock.forward(minutes=2)
    await add_readings(api, case.sensor, 4.5, 4.5, key=case.key)
    assert await case.state() == "in_force"


async def test_a_threshold_that_is_held_for_a_day_is_held_by_all_that_was_signed(api: Api) -> None:
    case = await Case.of(api, hold_s=86_400)
    await case.authorised()
    await add_readings(api, case.sensor, *[4.5] * 2_890, every=timedelta(seconds=30), key=case.key)
    assert await case.state() == "in_force"


async def test_what_is_signed_is_read_only_where_something_is_proposed(api: Api) -> None:
    """It may be a day's readings of many sensors, and rules are looked at whenever anything is measured."""
    case = await Case.of(api)
    await case.authorised()

    async def allowed() -> Allowed | None:
        async with api.database.connection() as connection:
            rules = await rule_store.in_force(connection)
            (found,) = await rule_store.watched(connection, rules, now=api.clock.now)
        return found.allowed

    await watched(api, a_watcher(api))  # its sensors are looked up
    await add_readings(api, case.sensor, 1.5, 1.5, 1.5, key=case.key)
    assert await allowed() is None
    api.clock.forward(minutes=3)
    assert await case.unsigned_flood() == "proposed"
    assert await allowed() is not None


async def test_as_many_sensors_have_to_sign_as_have_to_agree(api: Api) -> None:
    case = await Case.of(api)
    other = await add_device(api, "11", "sensor")
    operator = await api.person((Role.OPERATOR, "24"))
    wanted = rule_body(api, "11", case.sensor, template_id=case.template["template_id"], quorum=2)
    wanted["sensors"] = [case.sensor, other]
    changed = await api.client.put(case.address, json=wanted, headers={**operator, "If-Match": '"1"'})
    assert changed.status_code == 200, changed.text
    await case.authorised(version=2)
    await add_readings(api, other, 4.5, 4.5, 4.5)
    assert await case.flood() == "proposed"
    shown = (await api.client.get(case.address, headers=operator)).json()
    assert {each["device_id"]: each["signs"] for each in shown["watched"]} == {case.sensor: True, other: False}
    async with api.database.connection() as connection:
        key = await certify(connection, other, now=api.clock.now)
    api.clock.forward(minutes=3)
    await add_readings(api, other, 4.5, 4.5, 4.5, key=key)
    assert await case.flood() == "in_force"
    facts = await api.fetchval("SELECT after FROM control.audit WHERE action = 'alert_released_automatically'")
    assert [each["device_id"] for each in facts["sensors"]] == sorted([case.sensor, other])
