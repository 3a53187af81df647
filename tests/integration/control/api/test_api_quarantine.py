"""The quarantine inbox by API and by page: looking, mending, deciding, and every way to get it wrong."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from schemas import codec
from services.control import report_store
from services.control.metrics import ControlMetrics
from services.control.permissions import Role
from services.control.quarantine_keeper import QuarantineKeeper
from tests.support.control_api import PASSWORD, Api, add_device
from tests.support.quarantine import GATEWAY, JOURNAL, STRANGER, add_inmate, event, heartbeat, settle

pytestmark = pytest.mark.integration

Headers = dict[str, str]


async def operator(api: Api) -> Headers:
    return await api.person((Role.OPERATOR, "24"))


async def administrator(api: Api) -> Headers:
    return await api.person((Role.ADMINISTRATOR, "24"))


async def get(api: Api, headers: Headers, path: str = "", **query: Any) -> Any:
    response = await api.client.get(f"/api/v1/quarantine{path}", params=query, headers=headers)
    assert response.status_code == 200, response.text
    return response.json()


async def listed(api: Api, headers: Headers, **query: Any) -> list[int]:
    return [each["quarantine_id"] for each in (await get(api, headers, **query))["inmates"]]


async def post(api: Api, headers: Headers, path: str, status: int, **body: Any) -> Any:
    response = await api.client.post(f"/api/v1/quarantine{path}", json={"why": "vì thế", **body}, headers=headers)
    assert response.status_code == status, response.text
    return response.json()


async def replay(api: Api, headers: Headers, *ids: int) -> int:
    answer = await post(api, headers, "/replays", 202, quarantine_ids=list(ids))
    assert answer["inmates"] == len(ids)
    number: int = answer["request_id"]
    return number


async def discard(api: Api, headers: Headers, *ids: int) -> None:
    await post(api, headers, "/discards", 201, quarantine_ids=list(ids))


def problems(answer: Any) -> list[tuple[str, str]]:
    return [(each["field"], each["code"]) for each in answer["errors"]]


# --- looking ---------------------------------------------------------------------------------------------------------


async def test_the_inbox_is_filtered_and_paged(api: Api) -> None:
    headers = await operator(api)
    device = await add_device(api, "11", device_id="cum-an-lac")
    first = await add_inmate(api, reason="not_allowed", device_id=device)
    second = await add_inmate(api, reason="not_cbor", principal="cum-khac-1", device_id="cum-khac-1")
    api.clock.forward(hours=1)
    third = await add_inmate(api)

    assert await listed(api, headers) == [third, second, first]
    assert await listed(api, headers, reason="not_cbor") == [second]
    assert await listed(api, headers, principal="cum-khac-1") == [second]
    assert await listed(api, headers, device_id=STRANGER) == [third]
    assert await listed(api, headers, unit_id=str(api.units["1"])) == [first]
    assert await listed(api, headers, unit_id=str(api.units["2"])) == []
    assert await listed(api, headers, since=(api.clock.now - timedelta(minutes=1)).isoformat()) == [third]
    page = await get(api, headers, limit=2)
    assert page["more_after"] == second
    assert await listed(api, headers, after=page["more_after"]) == [first]


async def test_what_is_open_is_counted_by_reason(api: Api) -> None:
    headers = await operator(api)
    old = api.clock.now - timedelta(days=3)
    await add_inmate(api, at=old, messages=5)
    await add_inmate(api)
    decided = await add_inmate(api, reason="not_cbor")
    await discard(api, headers, decided)

    (count,) = await get(api, headers, "/counts")

    assert (count["reason"], count["inmates"], count["messages"]) == ("unknown_device", 2, 6)
    assert count["oldest_at"] == old.isoformat().replace("+00:00", "Z")
    assert count["explanation"] == "Thiết bị chưa được đăng ký."


async def test_one_is_explained_with_its_bytes_and_what_would_become_of_it(api: Api) -> None:
    headers = await operator(api)
    payload = event(7, at=api.clock.now)
    number = await add_inmate(api, payload, kind="event")

    shown = await get(api, headers, f"/{number}")

    assert shown["mend"].startswith("Đăng ký thiết bị (POST /api/v1/devices)")
    assert shown["original"]["hex"] == payload.hex()
    assert shown["original"]["diagnostic"].startswith(f"{{0: 1, 1: h'{JOURNAL.hex()}', 2: 7, 3: <<{{0: 1, ")
    assert shown["forecast"]["reason"] == "unknown_principal"
    gateway = await add_device(api, "11", "gateway", device_id=GATEWAY)
    assert (await get(api, headers, f"/{number}"))["forecast"]["reason"] == "unknown_device"
    device = await add_device(api, "11", device_id=STRANGER)
    assert (await get(api, headers, f"/{number}"))["forecast"]["reason"] == "not_allowed"
    await api.client.put(
        f"/api/v1/devices/{device}/gateway", json={"gateway_id": gateway}, headers=await administrator(api)
    )
    assert (await get(api, headers, f"/{number}"))["forecast"]["is_admitted"]


async def test_bytes_nobody_can_read_are_shown_as_far_as_they_go(api: Api) -> None:
    number = await add_inmate(api, b"\xa1\x00\xff", reason="not_cbor")
    shown = await get(api, await operator(api), f"/{number}")
    assert shown["original"]["diagnostic"] == "{0:  / byte 2: no CBOR begins with 0xff /"


async def test_a_reason_of_a_newer_ingest_is_shown_as_it_is(api: Api) -> None:
    number = await add_inmate(api, reason="out_of_this_world")
    shown = await get(api, await operator(api), f"/{number}")
    assert (shown["reason"], shown["explanation"], shown["mend"]) == ("out_of_this_world", "out_of_this_world", "")
    await log_in(api, Role.OPERATOR)
    assert "out_of_this_world" in await page(api, f"/quarantine/{number}")


# --- deciding --------------------------------------------------------------------------------------------------------


async def test_a_replay_is_a_request_that_waits_for_ingest(api: Api) -> None:
    headers = await operator(api)
    good, bad, other = await add_inmate(api), await add_inmate(api), await add_inmate(api)
    request_id = await replay(api, headers, good, bad)

    assert await listed(api, headers) == [other]
    assert await listed(api, headers, standing="waiting") == [bad, good]
    assert (await get(api, headers, f"/requests/{request_id}"))["waiting"] == 2
    async with api.telemetry.connection() as connection:
        asked = await connection.fetch("SELECT * FROM control.quarantine_requests ORDER BY quarantine_id")
    assert [(each["request_no"], each["quarantine_id"], each["payload"]) for each in asked] == [
        (request_id, good, None),
        (request_id, bad, None),
    ]

    await settle(api, request_id, good, "stored")
    await settle(api, request_id, bad, "refused", reason="wrong_kind")

    assert await listed(api, headers) == [other, bad]
    assert await listed(api, headers, standing="replayed") == [good]
    progress = await get(api, headers, f"/requests/{request_id}")
    assert progress["waiting"] == 0
    assert {(each["result"], each["reason"], each["inmates"]) for each in progress["results"]} == {
        ("stored", None, 1),
        ("refused", "wrong_kind", 1),
    }
    shown = await get(api, headers, f"/{bad}")
    assert shown["outcomes"][0]["explanation"].startswith("Vẫn chưa được nhận. Thông điệp thuộc loại")
    assert shown["decision"]["why"] == "vì thế"


async def test_many_are_replayed_by_what_they_have_in_common(api: Api) -> None:
    headers = await operator(api)
    wanted = [await add_inmate(api) for _ in range(5)]
    await add_inmate(api, size=9_000)  # cut: left out
    await add_inmate(api, device_id="cum-la-2")
    gone = await add_inmate(api)
    await discard(api, headers, gone)

    answer = await post(
        api, headers, "/replays", 202, matching={"reason": "unknown_device", "device_id": STRANGER}, limit=4
    )

    assert answer["inmates"] == 4
    assert await listed(api, headers, standing="waiting") == wanted[3::-1]  # the oldest first
    again = await post(api, headers, "/replays", 202, matching={"device_id": STRANGER})
    assert again["inmates"] == 1
    nothing = await post(api, headers, "/replays", 409, matching={"device_id": STRANGER})
    assert nothing["code"] == "nothing_to_decide"


async def test_what_is_discarded_leaves_the_inbox_and_is_kept(api: Api) -> None:
    headers = await operator(api)
    number = await add_inmate(api)
    await discard(api, headers, number)

    assert await listed(api, headers) == []
    assert await listed(api, headers, standing="discarded") == [number]
    assert (await get(api, headers, f"/{number}"))["original"]["hex"]
    # One's mind may be changed.
    await replay(api, headers, number)
    assert await listed(api, headers, standing="waiting") == [number]


async def test_the_same_bytes_again_stay_discarded_unless_the_reason_is_another(api: Api) -> None:
    headers = await operator(api)
    number = await add_inmate(api)
    await discard(api, headers, number)

    async def comes_again(reason: str) -> list[int]:
        async with api.telemetry.connection() as connection:
            await connection.execute("UPDATE telemetry.quarantine SET messages = messages + 1, reason = $1", reason)
        return await listed(api, headers)

    assert await comes_again("unknown_device") == []
    assert await comes_again("wrong_kind") == [number]
    assert await comes_again("unknown_device") == []


async def test_what_is_stored_is_decided_about_no_more(api: Api) -> None:
    headers = await administrator(api)
    number, other = await add_inmate(api), await add_inmate(api)
    await settle(api, await replay(api, headers, number), number, "stored")

    for path, body in (
        ("/replays", {"quarantine_ids": [other, number]}),
        ("/discards", {"quarantine_ids": [number]}),
        (f"/{number}/corrections", {"device_id": "cum-dung-1"}),
    ):
        answer = await post(api, headers, path, 409, **body)
        assert answer["code"] == "inmate_replayed"
        assert answer["errors"][0]["code"] == "inmate_is_stored"
    assert await listed(api, headers) == [other]


# --- mending ---------------------------------------------------------------------------------------------------------


async def test_a_corrected_copy_stands_beside_the_original_and_is_what_is_replayed(api: Api) -> None:
    headers = await administrator(api)
    sent = heartbeat(at=api.clock.now)
    data = codec.loads(sent, size_limit=1_024)
    mangled = codec.dumps({**data, 0: 2})
    number = await add_inmate(api, mangled, reason="unsupported_version")

    made = await post(api, headers, f"/{number}/corrections", 201, version=1)

    assert made["correction"]["hex"] == sent.hex()
    assert made["forecast"]["reason"] == "unknown_principal"
    shown = await get(api, headers, f"/{number}")
    assert (shown["original"]["hex"], shown["corrections"][0]["hex"]) == (mangled.hex(), sent.hex())
    request_id = await replay(api, headers, number)
    async with api.telemetry.connection() as connection:
        asked = await connection.fetchrow("SELECT * FROM control.quarantine_requests")
    assert asked is not None
    assert (asked["request_no"], asked["payload"]) == (request_id, sent)
    audited = await api.client.get("/api/v1/audit", headers=headers)
    replayed, corrected = audited.json()[:2]
    assert (corrected["action"], corrected["subject"]) == ("quarantine_corrected", f"quarantine:{number}")
    assert corrected["before"]["payload"] == mangled.hex()
    assert corrected["after"]["payload"] == sent.hex()
    assert (corrected["after"]["why"], corrected["login"]) == ("vì thế", replayed["login"])
    assert replayed["action"] == "quarantine_replay_requested"
    assert replayed["after"]["corrections"] == [made["correction"]["correction_id"]]


async def test_the_newest_copy_counts(api: Api) -> None:
    headers = await administrator(api)
    number = await add_inmate(api, heartbeat(at=api.clock.now))
    for device in ("cum-sai-1", "cum-dung-1"):
        await post(api, headers, f"/{number}/corrections", 201, device_id=device)
    await replay(api, headers, number)
    async with api.telemetry.connection() as connection:
        assert await connection.fetchval("SELECT topic FROM control.quarantine_requests") == (
            f"loa/v1/{GATEWAY}/up/heartbeat/cum-dung-1"
        )


async def test_bytes_that_were_cut_are_replayed_only_as_a_corrected_whole(api: Api) -> None:
    headers = await administrator(api)
    number = await add_inmate(api, bytes(9_000), reason="too_large")
    refused = await post(api, headers, "/replays", 422, quarantine_ids=[number])
    assert problems(refused) == [("quarantine_ids[0]", "inmate_cut")]
    assert (await get(api, headers, f"/{number}"))["forecast"]["reason"] == "payload_cut"
    assert problems(await post(api, headers, f"/{number}/corrections", 422, device_id="cum-dung-1")) == [
        ("payload_hex", "payload_was_cut")
    ]
    await post(api, headers, f"/{number}/corrections", 201, payload_hex=heartbeat(at=api.clock.now).hex())
    await replay(api, headers, number)


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        ({"payload_hex": "xyz"}, "payload_hex", "not_hex"),
        ({"payload_hex": "a0"}, "payload_hex.kind", "payload_refused"),
        ({"payload_diagnostic": "{0: }"}, "payload_diagnostic", "not_diagnostic_notation"),
        ({"topic": "loa/v1/cum-khac-1/up/heartbeat"}, "topic", "principal_changed"),
        ({"device_id": "Cụm"}, "device_id", "bad_device_id"),
        ({"version": 2}, "version", "not_one_of"),
        ({"version": 1, "payload_hex": "a0"}, "payload_hex", "only_one_of_two"),
        ({}, "", "correction_changes_nothing"),
        ({"principal": "cum-khac-1"}, "principal", "field_unknown"),
        ({"why": " "}, "why", "text_too_short"),
        ({"why": "x" * 501}, "why", "text_too_long"),
    ],
)
async def test_a_correction_that_cannot_be_names_the_field(
    api: Api, body: dict[str, Any], field: str, code: str
) -> None:
    number = await add_inmate(api)
    answer = await post(api, await administrator(api), f"/{number}/corrections", 422, **body)
    assert problems(answer) == [(field, code)]
    assert answer["errors"][0]["mend"]
    assert await api.fetchval("SELECT count(*) FROM control.quarantine_corrections") == 0


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        ({}, "", "ids_or_filter"),
        ({"matching": {}}, "", "ids_or_filter"),
        ({"quarantine_ids": [1], "matching": {"reason": "not_cbor"}}, "", "ids_or_filter"),
        ({"quarantine_ids": []}, "quarantine_ids", "too_few"),
        ({"quarantine_ids": [0]}, "quarantine_ids[0]", "number_too_small"),
        ({"quarantine_ids": [2**63]}, "quarantine_ids[0]", "number_too_large"),
        ({"quarantine_ids": ["x"]}, "quarantine_ids[0]", "not_a_whole_number"),
        ({"quarantine_ids": [4_711]}, "quarantine_ids[0]", "unknown_inmate"),
        ({"matching": {"reason": "because"}}, "matching.reason", "not_one_of"),
        ({"matching": {"unit_id": "x"}}, "matching.unit_id", "not_a_uuid"),
        (
            {"matching": {"unit_id": "0198f3c2-5e00-7000-8000-000000000001"}},
            "matching.unit_id",
            "unknown_unit",
        ),
        ({"matching": {"since": "2026-03-01T00:00:00"}}, "matching.since", "not_an_instant"),
        ({"matching": {"device_id": "x"}, "limit": 10_001}, "limit", "number_too_large"),
    ],
)
@pytest.mark.parametrize("path", ["/replays", "/discards"])
async def test_a_decision_that_cannot_be_names_the_field(
    api: Api, path: str, body: dict[str, Any], field: str, code: str
) -> None:
    answer = await post(api, await operator(api), path, 422, **body)
    assert problems(answer) == [(field, code)]
    assert await api.fetchval("SELECT count(*) FROM control.quarantine_decisions") == 0


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"reason": "because"}, "reason"),
        ({"standing": "lost"}, "standing"),
        ({"unit_id": "x"}, "unit_id"),
        ({"principal": "\0"}, "principal"),
        ({"principal": "cum\n"}, "principal"),
        ({"device_id": "cum-an-lac\x9f"}, "device_id"),
        ({"since": "yesterday"}, "since"),
        ({"after": "0"}, "after"),
        ({"limit": "501"}, "limit"),
    ],
)
async def test_a_filter_that_cannot_be_names_the_field(api: Api, query: dict[str, str], field: str) -> None:
    response = await api.client.get("/api/v1/quarantine", params=query, headers=await operator(api))
    assert response.status_code == 422
    assert [each["field"] for each in response.json()["errors"]] == [field]


async def test_what_is_not_there_is_not_found(api: Api) -> None:
    headers = await administrator(api)
    for path, code in (("/4711", "inmate_not_found"), ("/requests/4711", "quarantine_request_not_found")):
        response = await api.client.get(f"/api/v1/quarantine{path}", headers=headers)
        assert (response.status_code, response.json()["code"]) == (404, code)
    assert (await post(api, headers, "/4711/corrections", 404, version=1))["code"] == "inmate_not_found"
    response = await api.client.get("/api/v1/quarantine/abc", headers=headers)
    assert response.status_code == 422


@pytest.mark.parametrize("role", list(Role))
async def test_it_takes_the_right_over_the_root(api: Api, role: Role) -> None:
    number = await add_inmate(api)
    decides, corrects = {Role.OPERATOR, Role.ADMINISTRATOR}, {Role.ADMINISTRATOR}
    for unit in ("24", "1"):
        headers = await api.person((role, unit))
        asked: list[tuple[str, str, dict[str, Any], int, set[Role]]] = [
            ("GET", "", {}, 200, decides),
            ("GET", "/counts", {}, 200, decides),
            ("GET", f"/{number}", {}, 200, decides),
            ("POST", f"/{number}/corrections", {"device_id": "cum-dung-1"}, 201, corrects),
            ("POST", "/replays", {"quarantine_ids": [number]}, 202, decides),
            ("POST", "/discards", {"quarantine_ids": [number]}, 201, decides),
        ]
        for method, path, body, status, roles in asked:
            send: dict[str, Any] = {"json": {"why": "x", **body}} if method == "POST" else {}
            response = await api.client.request(method, f"/api/v1/quarantine{path}", headers=headers, **send)
            expected = status if role in roles and unit == "24" else 403
            assert response.status_code == expected, f"{role} in {unit}: {method} {path}: {response.text}"


# --- proof -----------------------------------------------------------------------------------------------------------


async def test_an_event_from_a_corrected_copy_is_no_device_s_word(api: Api) -> None:
    """It is stored and shown, but proves no play: `report_store` takes it for a foreign principal's."""
    device = await add_device(api, "11")
    number = await api.fetchval("SELECT device_no FROM control.devices WHERE device_id = $1", device)
    async with api.telemetry.transaction() as connection:
        for sequence, is_corrected in ((1, True), (2, False)):
            await connection.execute(
                "INSERT INTO telemetry.events (journal, sequence, at, received_at, device_no, clock_state, time_source,"
                " kind, principal, body) VALUES (5, $1, now(), now(), $2, 0, 0, 'play_started', $3, '{}')",
                sequence,
                number,
                device,
            )
            await connection.execute(
                "INSERT INTO telemetry.quarantine_replays (request_no, quarantine_id, replayed_at, journal, sequence,"
                " device_no, is_corrected, result) VALUES (1, $1, now(), 5, $1, $2, $3, 'stored')",
                sequence,
                number,
                is_corrected,
            )
    from_store = await standings(api)
    assert from_store == {1: "foreign", 2: "device"}


async def standings(api: Api) -> dict[int, str | None]:
    """What each event counts for, by its sequence."""
    async with api.database.connection() as connection:
        events = await report_store.load_events(connection, report_store.BEGINNING, kinds=[], limit=10)
        rows = await connection.fetch("SELECT event_no, sequence FROM telemetry.event_log")
    sequences = {row["event_no"]: row["sequence"] for row in rows}
    return {sequences[each.place.event_no]: each.standing for each in events}


# --- numbers ---------------------------------------------------------------------------------------------------------


async def test_the_numbers_say_what_waits_and_how_long(api: Api) -> None:
    headers = await operator(api)
    registry = CollectorRegistry()
    keeper = QuarantineKeeper(api.database, metrics=ControlMetrics(registry))
    first = await add_inmate(api, at=api.clock.now - timedelta(hours=2))
    await add_inmate(api, reason="not_cbor")
    await keeper.turn(now=api.clock.now)

    def inbox(reason: str) -> float | None:
        return registry.get_sample_value("control_quarantine_inbox", {"reason": reason})

    assert (inbox("unknown_device"), inbox("not_cbor")) == (1, 1)
    assert registry.get_sample_value("control_quarantine_oldest_seconds") == 7_200
    await discard(api, headers, first)
    await keeper.turn(now=api.clock.now)
    assert (inbox("unknown_device"), inbox("not_cbor")) == (0, 1)
    assert registry.get_sample_value("control_quarantine_oldest_seconds") == 0
    decisions = api.services.registry.get_sample_value("control_quarantine_decisions_total", {"decision": "discard"})
    assert decisions == 1


async def test_decisions_about_what_ingest_forgot_are_forgotten_and_stay_audited(api: Api) -> None:
    headers = await administrator(api)
    number, other = await add_inmate(api), await add_inmate(api)
    await post(api, headers, f"/{number}/corrections", 201, device_id="cum-dung-1")
    await discard(api, headers, number, other)
    async with api.telemetry.connection() as connection:
        await connection.execute("DELETE FROM telemetry.quarantine WHERE quarantine_id = $1", number)

    await QuarantineKeeper(api.database, metrics=ControlMetrics(CollectorRegistry())).turn(now=api.clock.now)

    assert await api.fetchval("SELECT array_agg(quarantine_id) FROM control.quarantine_decided") == [other]
    assert await api.fetchval("SELECT count(*) FROM control.quarantine_corrections") == 0
    assert await api.fetchval("SELECT count(*) FROM control.audit WHERE action LIKE 'quarantine_%'") == 2


# --- the pages -------------------------------------------------------------------------------------------------------


async def log_in(api: Api, role: Role, unit: str = "24") -> None:
    account = await api.account((role, unit))
    response = await api.client.post("/login", data={"login": account.login, "password": PASSWORD})
    assert response.status_code == 303


async def page(api: Api, path: str, **query: str) -> str:
    response = await api.client.get(path, params=query)
    assert response.status_code == 200, response.text[:500]
    return html.unescape(response.text)


def csrf(text: str) -> str:
    match = re.search(r'name="csrf_token" value="([0-9a-f]+)"', text)
    assert match is not None
    return match.group(1)


async def test_the_pages_show_the_inbox_and_take_decisions(api: Api) -> None:
    await log_in(api, Role.ADMINISTRATOR)
    number = await add_inmate(api)
    cut = await add_inmate(api, b"\xff" * 9_000, reason="not_cbor", detail="<script>alert(1)</script>")

    inbox = await page(api, "/quarantine")
    assert "Thông điệp bị giữ lại" in inbox
    assert "Thiết bị chưa được đăng ký. (1)" in inbox
    raw = (await api.client.get("/quarantine")).text
    assert "<script>alert" not in raw
    assert f"/quarantine/{number}" in inbox
    assert f"/quarantine/{number}" not in await page(api, "/quarantine", reason="not_cbor")
    assert "9000 byte, chỉ giữ phần đầu" in await page(api, f"/quarantine/{cut}")
    shown = await page(api, f"/quarantine/{number}")
    token = csrf(shown)
    for path, form in (
        (f"/quarantine/{number}/correct", {"device_id": "cum-dung-1"}),
        (f"/quarantine/{number}", {"decision": "discard"}),
        ("/quarantine/replay", {"reason": "not_cbor"}),
    ):
        bare = await api.client.post(path, data={"why": "x", **form})
        assert bare.status_code == 403, "without its CSRF token a form does nothing"
    made = await api.client.post(
        f"/quarantine/{number}/correct", data={"why": "gõ nhầm", "device_id": "cum-dung-1", "csrf_token": token}
    )
    assert (made.status_code, made.headers["location"]) == (303, f"/quarantine/{number}")
    assert f"loa/v1/{GATEWAY}/up/heartbeat/cum-dung-1" in await page(api, f"/quarantine/{number}")
    done = await api.client.post(f"/quarantine/{number}", data={"why": "x", "decision": "replay", "csrf_token": token})
    assert done.status_code == 303
    assert "Đang chờ xét lại" in await page(api, f"/quarantine/{number}")
    await api.client.post(f"/quarantine/{cut}", data={"why": "rác", "decision": "discard", "csrf_token": token})
    assert "Không có thông điệp nào ở đây" in await page(api, "/quarantine")
    assert "rác" in await page(api, f"/quarantine/{cut}")


async def test_all_of_a_reason_are_replayed_from_the_page(api: Api) -> None:
    await log_in(api, Role.OPERATOR)
    number = await add_inmate(api)
    token = csrf(await page(api, "/quarantine", reason="unknown_device"))
    form = {"reason": "unknown_device", "why": "đã đăng ký", "csrf_token": token}
    response = await api.client.post("/quarantine/replay", data=form)
    assert (response.status_code, response.headers["location"]) == (303, "/quarantine?standing=waiting")
    assert f"/quarantine/{number}" in await page(api, "/quarantine", standing="waiting")
    nothing = await api.client.post("/quarantine/replay", data=form)
    assert nothing.status_code == 409
    assert "Không có thông điệp nào phù hợp" in nothing.text


async def test_a_form_that_says_too_little_is_a_page_that_says_so(api: Api) -> None:
    await log_in(api, Role.ADMINISTRATOR)
    number = await add_inmate(api)
    token = csrf(await page(api, f"/quarantine/{number}"))
    for path, form in (
        (f"/quarantine/{number}", {"decision": "replay"}),
        (f"/quarantine/{number}/correct", {"why": "x", "payload_diagnostic": "{"}),
        (f"/quarantine/{number}/correct", {"why": "x"}),
        ("/quarantine/replay", {"why": "x"}),
        ("/quarantine/replay", {"why": "x", "reason": "because"}),
    ):
        response = await api.client.post(path, data={**form, "csrf_token": token})
        assert response.status_code == 422, f"{path} {form}"
        assert response.headers["content-type"] == "text/html; charset=utf-8"


async def test_only_who_may_see_it_is_led_to_it(api: Api) -> None:
    await log_in(api, Role.OPERATOR)
    assert 'href="/quarantine"' in await page(api, f"/units/{api.units['24']}")
    assert "Sửa bản sao" not in await page(api, f"/quarantine/{await add_inmate(api)}")
    await log_in(api, Role.OPERATOR, "1")
    assert 'href="/quarantine"' not in await page(api, f"/units/{api.units['1']}")
    assert (await api.client.get("/quarantine")).status_code == 403


async def test_the_page_is_there_in_english_too(api: Api) -> None:
    await log_in(api, Role.OPERATOR)
    await add_inmate(api)
    assert "The device is not registered." in await page(api, "/quarantine", lang="en")
