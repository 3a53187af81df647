"""What a CAP message ends: also what waits for a person, and without waiting for one itself."""

from __future__ import annotations

import cbor2
import httpx
import pytest

from services.control.permissions import Role
from tests.integration.control.api.test_api_cap import a_message, sent_in
from tests.integration.control.api.test_api_cap_grounds import LEAVE, OVER, in_force, info, message, taken
from tests.integration.control.api.test_api_cap_senders import STATE, Source, code_of, decide, reference
from tests.integration.control.api.test_api_second_person import REQUESTS, confirm, on_their_way, policy, two
from tests.support.control_api import Api, add_device

pytestmark = pytest.mark.integration


def asked(answer: httpx.Response) -> dict[str, object]:
    assert answer.status_code == 202, answer.text
    found: dict[str, object] = answer.json()["request"]
    return found


async def test_a_message_taken_back_while_it_waits_for_a_second_person_never_sounds(api: Api) -> None:
    people = await two(api, unit="24")
    await add_device(api, "11")
    await policy(api, "24", alerts=1)
    request = asked(await sent_in(api, people.first, a_message(api)))
    before = reference(api, "A-1")
    api.clock.forward(minutes=1)

    ended = taken(await sent_in(api, people.first, a_message(api, "C", "Cancel", references=before)))

    assert (ended["taken"], ended["alerts"]) == (True, [])
    decided = await api.client.get(f"{REQUESTS}/{request['request_id']}", headers=people.second)
    assert decided.json()["state"] == "refused"
    late = await confirm(api, request, people.second)
    assert (late.status_code, late.json()["code"]) == (409, "request_decided")
    assert await on_their_way(api) == 0


async def test_nor_when_its_sender_takes_it_back(api: Api) -> None:
    source, people = await Source.of(api), await two(api, unit="24")
    await add_device(api, "11")
    await policy(api, "24", alerts=1)
    request = asked(await sent_in(api, people.first, a_message(api)))
    before = reference(api, "A-1")
    api.clock.forward(minutes=1)
    ended = await source.delivered(a_message(api, "C", "Cancel", references=before))
    assert (ended["taken"], ended["alert_id"]) == (True, None)
    late = await confirm(api, request, people.second)
    assert (late.status_code, code_of(late)) == (422, "cap_superseded")
    assert await on_their_way(api) == 0


async def test_who_takes_a_message_back_by_hand_takes_back_what_its_sender_has_proposed(api: Api) -> None:
    source, operator = await Source.of(api), await api.person((Role.OPERATOR, "24"))
    first = await source.delivered(a_message(api))
    before = reference(api, "A-1")
    api.clock.forward(minutes=1)
    ended = taken(await sent_in(api, operator, a_message(api, "C", "Cancel", references=before)))
    assert [(each["alert_id"], each["state"]) for each in ended["alerts"]] == [(first["alert_id"], "cancelled")]
    second = await source.delivered(a_message(api, "B"))
    before = reference(api, "B")
    api.clock.forward(minutes=1)
    update = taken(await sent_in(api, operator, a_message(api, "D", "Update", references=before)))
    assert (update["alert"]["state"], await api.fetchval(STATE, second["alert_id"])) == ("in_force", "cancelled")
    assert update["remarks"] == []


@pytest.mark.parametrize("leaves", [True, False])
async def test_an_update_that_says_nothing_here_any_more_ends_what_was_said(api: Api, leaves: bool) -> None:
    source, operator = await Source.of(api), await api.person((Role.OPERATOR, "24"))
    past = "<expires>2020-01-01T00:00:00+07:00</expires><headline>"
    gone = info("99", **LEAVE) if leaves else info("11").replace("<headline>", past)
    code = "cap_area_unknown" if leaves else "cap_expired"
    taken(await sent_in(api, operator, message(api, "A-1", info("11", **LEAVE))))
    before = reference(api, "A-1")
    api.clock.forward(minutes=1)
    ended = taken(await sent_in(api, operator, message(api, "A-2", gone, kind="Update", references=before)))
    assert ([each["state"] for each in ended["alerts"]], ended["remarks"]) == (["cancelled"], [code])
    unknown = reference(api, "never")
    nothing = await sent_in(api, operator, message(api, "A-3", gone, kind="Update", references=unknown))
    assert (nothing.status_code, code_of(nothing)) == (422, code)

    first = await source.delivered(message(api, "B-1", info("11", **LEAVE)))
    await decide(api, operator, first["alert_id"], "release", {})
    before = reference(api, "B-1")
    api.clock.forward(minutes=1)
    clear = await source.delivered(message(api, "B-2", gone, kind="Update", references=before))
    told = await decide(api, operator, clear["alert_id"], "release", {})
    assert told["headline"] == "Đã hủy: SƠ TÁN NGAY"
    assert await api.fetchval(STATE, first["alert_id"]) == "cancelled"


async def test_an_update_that_says_only_that_it_is_over_waits_for_no_second_person(api: Api) -> None:
    people = await two(api, unit="24")
    await add_device(api, "11")
    taken(await sent_in(api, people.first, message(api, "A-1", info("11", **LEAVE))))
    await policy(api, "24", alerts=1)
    before = reference(api, "A-1")
    api.clock.forward(minutes=1)
    over = message(api, "A-2", info("11", **OVER), kind="Update", references=before)
    assert [each["state"] for each in taken(await sent_in(api, people.first, over))["alerts"]] == ["cancelled"]
    assert await in_force(api, people.first) == []


async def test_a_message_that_came_to_mean_other_ground_is_not_confirmed_as_it_was_read(api: Api) -> None:
    """What a second person reads is worked out when it is asked for; devices that move meanwhile change whom it means."""
    people = await two(api, unit="24")
    await add_device(api, "11", latitude=21.3, longitude=106.4)
    await policy(api, "24", alerts=1)
    circle = "<circle>21.3,106.4 3</circle>"
    moved = asked(await sent_in(api, people.first, a_message(api, "A-1", area=circle, expires="")))
    same = asked(await sent_in(api, people.first, a_message(api, "A-2", expires="")))
    await add_device(api, "21", latitude=21.301, longitude=106.4)
    api.clock.forward(minutes=2)

    late = await confirm(api, moved, people.second)

    assert (late.status_code, late.json()["code"]) == (409, "request_reads_otherwise")
    assert "A-1" in late.json()["detail"]
    assert await on_their_way(api) == 0
    waiting = await api.client.get(f"{REQUESTS}/{moved['request_id']}", headers=people.second)
    assert waiting.json()["state"] == "waiting"
    assert (await confirm(api, same, people.second)).status_code == 200, "though it ends two minutes later"
    again = asked(await sent_in(api, people.first, a_message(api, "A-3", area=circle)))
    assert (await confirm(api, again, people.second)).status_code == 200


async def test_the_end_of_an_event_of_many_messages_is_one_word(api: Api) -> None:
    """Devices are told sixteen of them with it; the others end by a word of their own."""
    source, operator = await Source.of(api), await api.person((Role.OPERATOR, "24"))
    said = []
    before: list[str] = []
    for number in range(20):
        first = await source.delivered(a_message(api, f"A-{number}"))
        await decide(api, operator, first["alert_id"], "release", {})
        said.append(first["alert_id"])
        before.append(reference(api, f"A-{number}"))
    api.clock.forward(minutes=1)

    clear = await source.delivered(a_message(api, "C", "Cancel", references=" ".join(before)))

    assert (clear["state"], len(clear["alerts"])) == ("proposed", 1)
    assert {await api.fetchval(STATE, each) for each in said} == {"in_force"}
    shown = (await api.client.get(f"/api/v1/proposals/{clear['alert_id']}", headers=operator)).json()
    assert sorted(shown["alert"]["content"]["references"]) == sorted(said)
    told = await decide(api, operator, clear["alert_id"], "release", {})
    assert sorted(told["content"]["references"]) == sorted(said)
    assert {await api.fetchval(STATE, each) for each in said} == {"cancelled"}
    message = await api.fetchval(
        "SELECT message FROM control.alert_versions WHERE alert_id = $1::text::uuid", clear["alert_id"]
    )
    assert len(cbor2.loads(cbor2.loads(message)[2])[16]) == 16
