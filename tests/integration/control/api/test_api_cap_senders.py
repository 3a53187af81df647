"""CAP senders a unit trusts: what they deliver is laid before people, and only their own updates and cancels follow."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import httpx
import pytest

from services.control.account_store import Account
from services.control.alerting.cap_deliveries import MOST_WAITING
from services.control.permissions import Role
from tests.integration.control.api.test_alert_speaker import a_speaker
from tests.integration.control.api.test_api_cap import a_message
from tests.integration.control.api.test_api_second_person import REQUESTS, confirm, policy
from tests.support.control_api import Api, add_device
from tests.support.waiting import until

pytestmark = pytest.mark.integration

SENDER = "kttv@example.org"
STATE = "SELECT state FROM control.alerts WHERE alert_id = $1::text::uuid"


class Source:
    """A program that may deliver for a sender that a unit trusts."""

    def __init__(self, api: Api, account: Account, headers: dict[str, str], unit: str) -> None:
        self.api, self.account, self.headers, self.unit = api, account, headers, unit

    @classmethod
    async def of(cls, api: Api, sender: str = SENDER, unit: str = "24") -> Source:
        account = await api.account((Role.CAP_SOURCE, unit))
        administrator = await api.person((Role.ADMINISTRATOR, unit))
        path = f"/api/v1/units/{api.units[unit]}/cap-senders"
        body = {"sender": sender, "account_id": str(account.account_id)}
        trusted = await api.client.put(path, json=body, headers=administrator)
        assert trusted.status_code == 200, trusted.text
        return cls(api, account, await api.token(account), unit)

    async def deliver(self, document: bytes, unit: str | None = None) -> httpx.Response:
        params = {"unit_id": str(self.api.units[unit or self.unit])}
        return await self.api.client.post(
            "/api/v1/cap/deliveries", params=params, content=document, headers=self.headers
        )

    async def delivered(self, document: bytes) -> dict[str, Any]:
        answer = await self.deliver(document)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


def reference(api: Api, name: str) -> str:
    return f"{SENDER},{name},{api.clock.now.isoformat(timespec='seconds')}"


def code_of(answer: httpx.Response) -> str:
    """What stands against it: the first fault, or the refusal itself."""
    problem = answer.json()
    faults = problem.get("errors") or [problem]
    found: str = faults[0]["code"]
    return found


async def decide(api: Api, operator: dict[str, str], alert_id: str, word: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = await api.client.post(
        f"/api/v1/proposals/{alert_id}/{word}", json=body, headers={**operator, "If-Match": '"1"'}
    )
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_what_a_trusted_sender_says_waits_for_a_person(api: Api) -> None:
    source, operator = await Source.of(api), await api.person((Role.OPERATOR, "24"))
    document = a_message(api)
    taken = await source.delivered(document)
    assert (taken["taken"], taken["state"]) == (True, "proposed")
    assert await api.fetchval("SELECT count(*) FROM control.outbox WHERE kind = 'alert'") == 0
    assert await source.delivered(document) == taken  # who missed the answer asks again
    (proposal,) = (await api.client.get("/api/v1/proposals", headers=operator)).json()
    assert (proposal["origin"], proposal["reason"]["sender"], proposal["alert"]["headline"]) == ("cap", SENDER, "Lũ")
    released = await decide(api, operator, taken["alert_id"], "release", {})
    assert (released["state"], released["valid_until"]) == ("in_force", proposal["alert"]["valid_until"])
    assert (await source.delivered(document))["state"] == "in_force"
    other_words = await source.deliver(document.replace("Lũ".encode(), "Mưa".encode()))
    assert (other_words.status_code, code_of(other_words)) == (422, "cap_known_already")
    assert await api.fetchval("SELECT count(*) FROM control.alerts") == 1


async def test_updates_and_cancels_follow_what_is_proposed(api: Api) -> None:
    source = await Source.of(api)
    first = await source.delivered(a_message(api))
    before = reference(api, "A-1")
    api.clock.forward(minutes=1)
    second = await source.delivered(a_message(api, "B", "Update", references=before))
    assert (second["state"], second["alert_id"] != first["alert_id"]) == ("proposed", True)
    before = reference(api, "B")
    api.clock.forward(minutes=1)
    ended = await source.delivered(a_message(api, "C", "Cancel", references=before))
    assert (ended["alert_id"], ended["state"]) == (second["alert_id"], "cancelled")
    outcomes = await api.fetchval("SELECT array_agg(outcome) FROM control.alert_proposals")
    assert outcomes == ["withdrawn", "withdrawn"]


async def test_what_a_person_has_released_ends_by_a_person_only(api: Api) -> None:
    source, operator = await Source.of(api), await api.person((Role.OPERATOR, "24"))
    first = await source.delivered(a_message(api))
    await decide(api, operator, first["alert_id"], "release", {})
    before = reference(api, "A-1")
    api.clock.forward(minutes=1)
    second = await source.delivered(a_message(api, "B", "Update", references=before))
    assert await api.fetchval(STATE, first["alert_id"]) == "in_force"  # until a person releases what replaces it
    audience = {"areas": [{"units": [str(api.units["11"])]}]}
    content = {"event": "Lũ", "texts": [{"headline": "Lũ lên nữa"}], "audience": audience, "repeat_interval_s": 30}
    until = (await api.client.get(f"/api/v1/proposals/{second['alert_id']}", headers=operator)).json()
    content["valid_until"] = until["alert"]["valid_until"]
    await decide(
        api, operator, second["alert_id"], "release", {"content": content}
    )  # in other words, and it ends the first
    assert await api.fetchval(STATE, first["alert_id"]) == "cancelled"
    speaker = a_speaker(api)
    assert await speaker.speak_once(now=api.clock.now) is False  # what a person said instead is left as it was said
    before = reference(api, "B")
    api.clock.forward(minutes=1)

    clear = await source.delivered(a_message(api, "C", "Cancel", references=before))

    assert (clear["state"], clear["alert_id"] != second["alert_id"]) == ("proposed", True)
    assert await api.fetchval(STATE, second["alert_id"]) == "in_force"
    told = await decide(api, operator, clear["alert_id"], "release", {})
    assert [each["headline"] for each in told["content"]["texts"]] == ["Đã hủy: Lũ lên nữa", "Cancelled: Lũ lên nữa"]
    assert (told["content"]["urgency"], told["content"]["repeat_interval_s"]) == ("past", None)
    assert told["content"]["audience"]["areas"][0]["units"] == [str(api.units["11"])]
    assert await api.fetchval(STATE, second["alert_id"]) == "cancelled"
    assert await speaker.speak_once(now=api.clock.now) is True
    assert (
        await api.fetchval("SELECT version FROM control.alerts WHERE alert_id = $1::text::uuid", clear["alert_id"]) == 2
    )


async def test_what_waits_for_a_second_person_is_over_with_its_all_clear(api: Api) -> None:
    source, operator = await Source.of(api), await api.person((Role.OPERATOR, "24"))
    colleague = await api.person((Role.OPERATOR, "24"))
    await add_device(api, "11")
    await policy(api, "24", alerts=1)
    first = await source.delivered(a_message(api))
    release: dict[str, Any] = {"json": {}, "headers": {**operator, "If-Match": '"1"'}}
    asked = await api.client.post(f"/api/v1/proposals/{first['alert_id']}/release", **release)
    assert asked.status_code == 202, asked.text
    assert await api.fetchval(STATE, first["alert_id"]) == "awaiting_second"
    before = reference(api, "A-1")
    api.clock.forward(minutes=1)
    clear = await source.delivered(a_message(api, "C", "Cancel", references=before))
    cleared = await api.client.post(f"/api/v1/proposals/{clear['alert_id']}/release", **release)
    assert cleared.status_code == 202, cleared.text
    assert await api.fetchval(STATE, first["alert_id"]) == "awaiting_second", "nobody has released the all-clear yet"

    told = await confirm(api, cleared.json(), colleague)

    assert told.status_code == 200, told.text
    assert await api.fetchval(STATE, clear["alert_id"]) == "in_force"
    assert await api.fetchval(STATE, first["alert_id"]) == "refused"
    late = await confirm(api, asked.json(), colleague)
    assert (late.status_code, late.json()["code"]) == (409, "request_decided")
    decided = (await api.client.get(f"{REQUESTS}/{asked.json()['request_id']}", headers=operator)).json()
    assert (decided["state"], decided["note"]) == ("refused", "Đã hủy: Lũ")
    assert await api.fetchval("SELECT count(*) FROM control.outbox WHERE kind = 'alert'") == 1, "the all-clear alone"


async def test_what_grew_worse_after_somebody_refused_it_is_proposed_again(api: Api) -> None:
    source, operator = await Source.of(api), await api.person((Role.OPERATOR, "24"))
    first = await source.delivered(a_message(api))
    await decide(api, operator, first["alert_id"], "refuse", {"reason": "Chưa tới mức"})
    before = reference(api, "A-1")
    api.clock.forward(minutes=1)
    worse = await source.delivered(a_message(api, "B", "Update", references=before))
    assert worse["state"] == "proposed"
    unseen = await source.delivered(a_message(api, "C", "Update", references=reference(api, "never-delivered")))
    assert unseen["state"] == "proposed"
    nothing = await source.deliver(a_message(api, "D", "Cancel", references=reference(api, "never-delivered")))
    assert code_of(nothing) == "cap_reference_unknown"


async def test_an_original_that_comes_after_its_update_is_not_laid_before_people_beside_it(api: Api) -> None:
    source, operator = await Source.of(api), await api.person((Role.OPERATOR, "24"))
    original, before = a_message(api), reference(api, "A-1")
    api.clock.forward(minutes=1)
    update = await source.delivered(a_message(api, "B", "Update", references=before))
    assert update["remarks"] == ["cap_update_taken_as_new"]
    page = await api.client.get(f"/api/v1/proposals/{update['alert_id']}", headers=operator)
    assert page.json()["reason"]["is_taken_as_new"] is True
    late = await source.deliver(original)
    assert (late.status_code, code_of(late)) == (422, "cap_superseded")
    assert await api.fetchval("SELECT count(*) FROM control.alerts") == 1


async def test_messages_of_one_sender_at_once_are_taken_one_after_the_other(api: Api) -> None:
    """Whichever comes first, the original does not wait for people beside what replaces it."""
    source, replica = await Source.of(api), f"cap_message:{api.units['24']}:{SENDER}"
    original, before = a_message(api), reference(api, "A-1")
    api.clock.forward(minutes=1)
    update = a_message(api, "B", "Update", references=before)

    async def are_waiting() -> bool:
        waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'"
        return bool(await api.fetchval(waits) == 2)

    async with asyncio.TaskGroup() as group, api.database.transaction() as connection:
        await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", replica)
        both = [group.create_task(source.deliver(each)) for each in (update, original)]
        await until(are_waiting, "both wait for their turn", deadline_s=20)
    later, first = [await each for each in both]

    assert later.status_code == 200, later.text
    if first.status_code == 200:
        assert await api.fetchval(STATE, first.json()["alert_id"]) == "cancelled"
    else:
        assert (first.status_code, code_of(first)) == (422, "cap_superseded")
    assert await api.fetchval("SELECT count(*) FROM control.alerts WHERE state = 'proposed'") == 1


async def test_a_sender_has_its_own_messages_only(api: Api) -> None:
    source, other = await Source.of(api), await Source.of(api, "other@example.org")
    below = await Source.of(api, unit="11")  # a commune trusts somebody else under the same name
    first = await source.delivered(a_message(api))
    before = reference(api, "A-1")
    own = await below.delivered(a_message(api))
    assert own["alert_id"] != first["alert_id"]
    api.clock.forward(minutes=1)
    foreign = await other.deliver(a_message(api, "X", "Cancel", sender="other@example.org", references=before))
    assert code_of(foreign) == "cap_of_another_sender"
    borrowed = await other.deliver(a_message(api, "Y", "Cancel", references=before))
    assert (borrowed.status_code, code_of(borrowed)) == (403, "cap_sender_not_trusted")
    itself = await source.deliver(a_message(api, "Z", "Update", references=reference(api, "Z")))
    assert code_of(itself) == "cap_self_reference"
    assert (await below.delivered(a_message(api, "V", "Cancel", references=before)))["alert_id"] == own["alert_id"]
    assert await api.fetchval(STATE, first["alert_id"]) == "proposed"
    after = (
        "SELECT array_agg(after->>'code' ORDER BY audit_id) FROM control.audit WHERE action = 'cap_delivery_refused'"
    )
    assert await api.fetchval(after) == ["invalid_request", "cap_sender_not_trusted", "invalid_request"]


async def test_what_is_no_alert_for_here_is_refused_by_name(api: Api) -> None:
    source = await Source.of(api, unit="11")
    bomb = b'<!DOCTYPE a [<!ENTITY b "b"><!ENTITY c "&b;&b;">]><alert>&c;</alert>'
    for document, status, code in (
        (bomb, 422, "cap_has_dtd"),
        (a_message(api).replace(b"urn:oasis", b"urn:example"), 422, "cap_wrong_namespace"),
        (b" " * 50 * 1024 * 1024, 413, "body_too_large"),
        (a_message(api, area="<geocode><valueName>loa:unit-code</valueName><value>21</value></geocode>"), 422, "cap_area_unknown"),
        (a_message(api, area="<circle>38.5,-98.0 200</circle>"), 422, "cap_area_outside"),
        (a_message(api, scope="Restricted").replace(b"<references>", b"<restriction>x</restriction><references>"), 422, "cap_not_public"),
        (a_message(api, expires="2020-01-01T00:00:00+00:00"), 422, "cap_expired"),
    ):  # fmt: skip
        answer = await source.deliver(document)
        assert (answer.status_code, code_of(answer)) == (status, code), answer.text[:300]
    assert (await source.delivered(a_message(api, status="Exercise")))["taken"] is False
    assert await api.fetchval("SELECT count(*) FROM control.alerts") == 0


async def test_a_source_delivers_to_its_unit_and_can_do_nothing_else(api: Api) -> None:
    source = await Source.of(api, unit="11")
    for unit in ("24", "12"):
        beside = await source.deliver(a_message(api), unit)
        assert (beside.status_code, beside.json()["code"]) == (403, "not_permitted_here")
    for method, path in (("GET", "alerts"), ("GET", "proposals"), ("GET", "devices"), ("POST", "cap")):
        params = {"unit_id": str(api.units["11"])} if method == "POST" else {}
        answer = await api.client.request(
            method, f"/api/v1/{path}", params=params, content=a_message(api), headers=source.headers
        )
        assert answer.status_code == 403, f"{path}: {answer.text}"


async def test_a_sender_that_floods_waits_for_people(api: Api) -> None:
    source = await Source.of(api)
    for number in range(MOST_WAITING):
        await source.delivered(a_message(api, f"A-{number}"))
    answer = await source.deliver(a_message(api, "one-more"))
    assert (answer.status_code, code_of(answer)) == (409, "cap_too_many_waiting")
    assert (await source.delivered(a_message(api, "A-0")))["state"] == "proposed"


async def test_trust_is_given_and_taken_on_record(api: Api) -> None:
    source, administrator = await Source.of(api), await api.person((Role.ADMINISTRATOR, "24"))
    path = f"/api/v1/units/{api.units['24']}/cap-senders"
    nobody = {"sender": SENDER, "account_id": str(uuid.uuid4())}
    answer = await api.client.put(path, json=nobody, headers=administrator)
    assert code_of(answer) == "unknown_account"
    viewer = await api.account((Role.VIEWER, "24"))
    answer = await api.client.put(
        path, json={"sender": SENDER, "account_id": str(viewer.account_id)}, headers=administrator
    )
    assert code_of(answer) == "account_is_no_cap_source"
    removed = await api.client.post(f"{path}/remove", json={"sender": SENDER}, headers=administrator)
    assert removed.json() == []
    again = await api.client.post(f"{path}/remove", json={"sender": SENDER}, headers=administrator)
    assert again.status_code == 404
    assert (await source.deliver(a_message(api))).status_code == 403
    actions = await api.fetchval(
        "SELECT array_agg(action ORDER BY audit_id) FROM control.audit WHERE subject = $1", f"cap_sender:{SENDER}"
    )
    assert actions == ["cap_sender_trusted", "cap_sender_removed"]
