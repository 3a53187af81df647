"""Alerts over the API: in force within one transaction, refused with every fault, ended in one defined order."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from schemas import signing
from schemas.alerts import Alert, Purpose
from services.control.alerting import template_store
from services.control.alerting.keeper import AlertKeeper
from services.control.alerting.prepared import prepared
from services.control.alerting.template import Template
from services.control.permissions import Role
from tests.support.control import some_metrics
from tests.support.control_api import ZONE, Api, add_device

pytestmark = pytest.mark.integration


async def a_sound(api: Api) -> str:
    sha256 = uuid.uuid4().bytes * 2
    await api.execute(
        """
        INSERT INTO control.media (sha256, size, mime, duration_ms, sample_rate_hz, channels, stored_at)
        VALUES ($1, 16000, 'audio/mpeg', 20000, 44100, 1, now())
        """,
        sha256,
    )
    return sha256.hex()


async def a_body(api: Api, unit: str = "1", **changes: Any) -> dict[str, Any]:
    return {
        "unit_id": str(api.units[unit]),
        "event": "Lũ",
        "severity": "extreme",
        "texts": [{"headline": "Lũ khẩn cấp", "media_sha256": await a_sound(api)}],
        "audience": {"areas": [{"units": [str(api.units[unit])]}]},
        "valid_until": (api.clock.now + timedelta(hours=6)).isoformat(),
        "repeat_interval_s": 60,
        **changes,
    }


async def outbox_of(api: Api, alert_id: str) -> list[tuple[str, Alert]]:
    async with api.database.connection() as connection:
        rows = await connection.fetch(
            "SELECT topic, payload FROM control.outbox WHERE kind = 'alert' AND topic LIKE '%' || $1 ORDER BY topic",
            alert_id,
        )
    keys = {api.services.keyring.kid: api.services.keyring.private_key.public_key()}
    return [(row["topic"], signing.verify(Alert, row["payload"], keys)) for row in rows]


async def test_an_alert_is_one_signed_message_on_the_topic_of_each_unit(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "24"))
    both = [{"units": [str(api.units["11"]), str(api.units["21"])]}]
    body = await a_body(api, "24", audience={"areas": both})

    answer = await api.client.post("/api/v1/alerts", json=body, headers=operator)

    assert answer.status_code == 201, answer.text
    sent = await outbox_of(api, answer.json()["alert_id"])
    assert {topic for topic, _ in sent} == {
        f"loa/v1/area/{api.units[code]}/alert/{answer.json()['alert_id']}" for code in ("11", "21")
    }
    assert sent[0][1] == sent[1][1]
    assert (sent[0][1].purpose, sent[0][1].alert_version, sent[0][1].rank.severity) == (Purpose.ALERT, 1, 4)
    assert sent[0][1].rank.issuer_depth == 0
    assert await api.fetchval("SELECT action FROM control.audit ORDER BY audit_id DESC LIMIT 1") == "alert_issued"


async def test_an_alert_in_words_alone_sounds_the_tone_that_every_device_holds(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "1"))
    sound = await a_sound(api)
    await api.execute(
        "INSERT INTO control.alert_tones (tone, media_sha256) VALUES ('warning', $1)"
        " ON CONFLICT (tone) DO UPDATE SET media_sha256 = excluded.media_sha256",
        bytes.fromhex(sound),
    )

    answer = await api.client.post(
        "/api/v1/alerts", json=await a_body(api, texts=[{"headline": "Cháy chợ"}]), headers=operator
    )

    assert answer.status_code == 201, answer.text
    ((_, sent),) = await outbox_of(api, answer.json()["alert_id"])
    assert sent.contents[0].media is not None
    assert sent.contents[0].media.sha256.hex() == sound


async def test_an_operator_reaches_own_ground_only_and_the_attempt_is_on_record(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "1"))
    body = await a_body(api, "1", audience={"areas": [{"units": [str(api.units["1"]), str(api.units["21"])]}]})

    answer = await api.client.post("/api/v1/alerts", json=body, headers=operator)

    assert answer.status_code == 403
    assert [each["field"] for each in answer.json()["errors"]] == ["audience.areas[0].units[1]"]
    assert await api.fetchval("SELECT count(*) FROM control.alerts") == 0
    last = await api.fetchval("SELECT action FROM control.audit ORDER BY audit_id DESC LIMIT 1")
    assert last == "alert_issue_refused"


async def test_nor_does_an_operator_silence_other_ground_and_the_attempt_is_on_record(api: Api) -> None:
    operator, above = await api.person((Role.OPERATOR, "1")), await api.person((Role.OPERATOR, "24"))
    elsewhere = await add_device(api, "21")
    body = {"unit_id": str(api.units["1"]), "reason": "Loa bị chiếm quyền"}
    audiences: list[dict[str, Any]] = [
        {"areas": [{"units": [str(api.units["24"])]}]},
        {"areas": [{"units": [str(api.units["1"])]}], "devices": [elsewhere]},
    ]
    for audience in audiences:
        answer = await api.client.post("/api/v1/silences", json={**body, "audience": audience}, headers=operator)
        assert answer.status_code == 403, answer.text
    whole = {"unit_id": str(api.units["24"]), "reason": "x", "audience": audiences[0]}
    issued = await api.client.post("/api/v1/silences", json=whole, headers=above)
    assert issued.status_code == 201, issued.text
    path = f"/api/v1/silences/{issued.json()['alert_id']}/release"
    released = await api.client.post(path, json={}, headers={**operator, "If-Match": "*"})
    assert released.status_code == 403
    actions = await api.fetchval(
        "SELECT array_agg(action ORDER BY audit_id) FROM control.audit WHERE action LIKE '%refused'"
    )
    assert actions == ["silence_refused", "silence_refused", "silence_release_refused"]
    assert await api.fetchval("SELECT count(*) FROM control.alerts WHERE state = 'in_force'") == 1


UNIT = "00000000-0000-4000-8000-0000000000ff"
BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "no_event": ({"event": ""}, "event", "text_too_short"),
    "unknown_status": ({"status": "joke"}, "status", "not_one_of"),
    "unknown_severity": ({"severity": "11"}, "severity", "not_one_of"),
    "no_texts": ({"texts": []}, "texts", "too_few"),
    "no_headline": ({"texts": [{"headline": " "}]}, "texts[0].headline", "text_too_short"),
    "bad_language": ({"texts": [{"headline": "A", "language": "?"}]}, "texts[0].language", "bad_language_tag"),
    "no_sha": ({"texts": [{"headline": "A", "media_sha256": "x"}]}, "texts[0].media_sha256", "not_a_sha256"),
    "no_such_file": (
        {"texts": [{"headline": "A", "media_sha256": "0" * 64}]},
        "texts[0].media_sha256",
        "unknown_media",
    ),
    "silent": ({"texts": [{"headline": "A"}]}, "texts", "alert_without_sound"),
    "nobody": ({"audience": {}}, "audience", "nobody_addressed"),
    "unknown_unit": ({"audience": {"areas": [{"units": [UNIT]}]}}, "audience.areas[0].units[0]", "unknown_unit"),
    "unknown_device": ({"audience": {"devices": ["khong-co"]}}, "audience.devices[0]", "unknown_device"),
    "bad_kind": ({"audience": {"devices": ["a-1"], "kinds": ["sensor"]}}, "audience.kinds[0]", "not_one_of"),
    "two_corners": (
        {"audience": {"areas": [{"units": [UNIT], "polygons": [[{"latitude": 1, "longitude": 1}] * 2]}]}},
        "audience.areas[0].polygons[0]",
        "too_few",
    ),
    "north_of_north": (
        {
            "audience": {
                "areas": [{"units": [UNIT], "circles": [{"centre": {"latitude": 91, "longitude": 1}, "radius_m": 5}]}]
            }
        },
        "audience.areas[0].circles[0].centre.latitude",
        "number_too_large",
    ),
    "no_instant": ({"valid_until": "tomorrow"}, "valid_until", "not_an_instant"),
    "over": ({"valid_until": "2026-03-10T01:00:00Z"}, "valid_until", "alert_over_at_once"),
    "for_ever": ({"valid_until": "2027-03-10T01:00:00Z"}, "valid_until", "instant_too_late"),
    "hasty": ({"repeat_interval_s": 0}, "repeat_interval_s", "number_too_small"),
    "true_is_no_number": ({"repeat_interval_s": True}, "repeat_interval_s", "not_a_whole_number"),
    "silent_volume": ({"volume_percent": 0}, "volume_percent", "number_too_small"),
    "bad_resume": ({"resume": "later"}, "resume", "not_one_of"),
    "unknown_reference": ({"references": [UNIT]}, "references[0]", "unknown_alert"),
    "misspelt": ({"evnet": "Lũ"}, "evnet", "field_unknown"),
}


@pytest.mark.parametrize("case", list(BAD))
async def test_bad_input_names_the_field_and_nothing_is_sent(api: Api, case: str) -> None:
    changes, field, code = BAD[case]
    operator = await api.person((Role.OPERATOR, "24"))

    answer = await api.client.post("/api/v1/alerts", json=await a_body(api, "24", **changes), headers=operator)

    assert answer.status_code == 422, answer.text
    found = {(each["field"], each["code"]) for each in answer.json()["errors"]}
    assert (field, code) in found
    assert all(each["mend"] for each in answer.json()["errors"])
    assert await api.fetchval("SELECT count(*) FROM control.outbox WHERE kind = 'alert'") == 0


async def test_racing_update_and_cancel_end_in_one_defined_order(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "1"))
    issued = await api.client.post("/api/v1/alerts", json=await a_body(api), headers=operator)
    url, tag = f"/api/v1/alerts/{issued.json()['alert_id']}", {**operator, "If-Match": issued.headers["ETag"]}
    content = {name: value for name, value in (await a_body(api, severity="severe")).items() if name != "unit_id"}

    updated, cancelled = await asyncio.gather(
        api.client.post(f"{url}/update", json=content, headers=tag), api.client.post(f"{url}/cancel", headers=tag)
    )

    # Whoever came second meant a version that is no more, and is told so.
    assert sorted([updated.status_code, cancelled.status_code]) == [200, 409]
    ended = await api.client.post(f"{url}/cancel", headers={**operator, "If-Match": "*"})
    assert ended.status_code == (200 if updated.status_code == 200 else 409)
    ((_, last),) = await outbox_of(api, issued.json()["alert_id"])
    assert last.purpose is Purpose.CANCEL
    assert last.alert_version == (3 if updated.status_code == 200 else 2)
    late = await api.client.post(f"{url}/update", json=content, headers={**operator, "If-Match": "*"})
    assert (late.status_code, late.json()["code"]) == (409, "alert_over")


async def test_a_cancel_lasts_as_long_as_any_version_could_have(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "1"))
    issued = await api.client.post("/api/v1/alerts", json=await a_body(api), headers=operator)
    url = f"/api/v1/alerts/{issued.json()['alert_id']}"
    soon = (api.clock.now + timedelta(minutes=5)).isoformat()
    content = {name: value for name, value in (await a_body(api, valid_until=soon)).items() if name != "unit_id"}
    await api.client.post(f"{url}/update", json=content, headers={**operator, "If-Match": "*"})

    await api.client.post(f"{url}/cancel", headers={**operator, "If-Match": "*"})

    ((_, last),) = await outbox_of(api, issued.json()["alert_id"])
    assert last.valid_until_ms == round((api.clock.now + timedelta(hours=6)).timestamp() * 1000)


async def test_a_commune_may_not_stop_an_alert_from_above_unless_policy_lets_it(api: Api) -> None:
    above, below = await api.person((Role.OPERATOR, "1")), await api.person((Role.OPERATOR, "11"))
    issued = await api.client.post("/api/v1/alerts", json=await a_body(api), headers=above)
    alert_id = issued.json()["alert_id"]
    url, body = f"/api/v1/alerts/{alert_id}", {"unit_id": str(api.units["11"])}

    refused = await api.client.post(f"{url}/stop", json=body, headers=below)
    cancelled = await api.client.post(f"{url}/cancel", headers={**below, "If-Match": "*"})

    assert (refused.status_code, refused.json()["code"]) == (403, "alert_from_above")
    assert cancelled.status_code == 403
    assert await api.fetchval("SELECT count(*) FROM control.audit WHERE action = 'alert_stop_refused'") == 1

    await api.execute(
        "INSERT INTO control.policies (unit_id, body, changed_at, changed_by) SELECT $1, $2, now(), account_id"
        " FROM control.accounts LIMIT 1",
        api.units["1"],
        {"may_stop_alerts_from_above": True},
    )
    stopped = await api.client.post(f"{url}/stop", json=body, headers=below)

    assert stopped.status_code == 200, stopped.text
    assert stopped.json()["stopped_in"] == [str(api.units["11"])]
    sent = dict(await outbox_of(api, alert_id))
    assert {topic.split("/")[3]: (each.purpose, each.alert_version) for topic, each in sent.items()} == {
        str(api.units["1"]): (Purpose.ALERT, 1),
        str(api.units["11"]): (Purpose.CANCEL, 2),
    }


async def test_the_kill_switch_is_let_go_in_parts_and_then_whole(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "1"))
    body = {
        "unit_id": str(api.units["1"]),
        "reason": "Loa bị chiếm quyền",
        "audience": {"areas": [{"units": [str(api.units["1"])]}]},
    }
    killed = await api.client.post("/api/v1/silences", json=body, headers=operator)
    assert killed.status_code == 201, killed.text
    url, any_version = f"/api/v1/silences/{killed.json()['alert_id']}/release", {**operator, "If-Match": "*"}

    part = await api.client.post(url, json={"except_units": [str(api.units["11"])]}, headers=any_version)
    assert part.status_code == 200, part.text
    ((_, sent),) = await outbox_of(api, killed.json()["alert_id"])
    assert (sent.purpose, sent.audience.except_units) == (Purpose.SILENCE, (api.units["11"],))

    whole = await api.client.post(url, json={}, headers=any_version)
    assert whole.json()["state"] == "cancelled"
    ((_, sent),) = await outbox_of(api, killed.json()["alert_id"])
    assert sent.purpose is Purpose.RELEASE
    assert (await api.client.post(url, json={}, headers=any_version)).status_code == 409


async def test_reach_names_everybody_and_what_to_do(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "1"))
    for device_id, code in (("cum-1", "11"), ("cum-2", "12"), ("cum-3", "21")):
        await api.execute(
            "INSERT INTO control.devices (device_id, kind, unit_id, name, registered_at) VALUES ($1, 'cluster', $2, $1, now())",
            device_id,
            api.units[code],
        )
    issued = await api.client.post("/api/v1/alerts", json=await a_body(api), headers=operator)
    keeper = AlertKeeper(
        api.database,
        time_zone=ZONE,
        keyring=api.services.keyring,
        metrics=some_metrics(),
        wake_alerts=lambda: None,
    )
    await keeper.keep_once(now=api.clock.now)
    url = f"/api/v1/alerts/{issued.json()['alert_id']}"

    reach = (await api.client.get(f"{url}/reach", headers=operator)).json()

    assert (reach["addressed"], reach["reached"], reach["not_reached"], reach["is_counted"]) == (2, 0, 2, True)
    assert [(each["device_id"], each["reason"]) for each in reach["devices"]] == [
        ("cum-1", "never_heard"),
        ("cum-2", "never_heard"),
    ]
    assert all(each["what_to_do"] for each in reach["devices"])

    api.clock.forward(hours=7)
    await keeper.keep_once(now=api.clock.now)
    assert (await api.client.get(url, headers=operator)).json()["state"] == "expired"
    cleared = await api.fetchval("SELECT count(*) FROM control.outbox WHERE kind = 'alert' AND payload = ''")
    assert cleared == 1


# --- by a template ---------------------------------------------------------------------------------------------------


async def a_template(api: Api, unit: str, **changes: Any) -> Template:
    """A template of the unit in use, with a sound."""
    first, *_ = prepared(api.units[unit], now=api.clock.now)
    sound = bytes.fromhex(await a_sound(api))
    texts = tuple(replace(text, media_sha256=sound) for text in first.texts)
    template = replace(first, template_id=uuid.uuid4(), texts=texts, **changes)
    async with api.database.transaction() as connection:
        await template_store.add(connection, template)
    return template


async def test_an_alert_by_a_template_needs_only_its_audience(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "1"))
    template = await a_template(api, "24")
    body = {
        "unit_id": str(api.units["1"]),
        "template_id": str(template.template_id),
        "audience": {"areas": [{"units": [str(api.units["11"])]}]},
    }

    answer = await api.client.post("/api/v1/alerts", json=body, headers=operator)

    assert answer.status_code == 201, answer.text
    content = answer.json()["content"]
    assert (content["event"], content["severity"], content["status"]) == ("Lũ", "extreme", "actual")
    assert content["template_id"] == str(template.template_id)
    assert answer.json()["valid_until"] == (api.clock.now + template.validity).isoformat().replace("+00:00", "Z")
    ((_, sent),) = await outbox_of(api, answer.json()["alert_id"])
    assert [each.media.sha256 for each in sent.contents if each.media] == [text.media_sha256 for text in template.texts]
    assert sent.repeat_interval_s == 30


async def test_what_the_request_says_itself_takes_the_template_s_place(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "1"))
    template = await a_template(api, "1")
    until = api.clock.now + timedelta(minutes=20)
    body = {
        "unit_id": str(api.units["1"]),
        "template_id": str(template.template_id),
        "audience": {"areas": [{"units": [str(api.units["1"])]}]},
        "status": "exercise",
        "severity": "minor",
        "texts": [{"headline": "Diễn tập", "media_sha256": await a_sound(api)}],
        "valid_until": until.isoformat(),
        "repeat_interval_s": 90,
        "volume_percent": 40,
    }

    answer = await api.client.post("/api/v1/alerts", json=body, headers=operator)

    assert answer.status_code == 201, answer.text
    ((_, sent),) = await outbox_of(api, answer.json()["alert_id"])
    assert ([each.headline for each in sent.contents], sent.rank.severity) == (["Diễn tập"], 1)
    assert (sent.repeat_interval_s, sent.volume_percent) == (90, 40)
    assert answer.json()["content"]["status"] == "exercise"
    assert answer.json()["headline"] == "Diễn tập"


async def test_a_template_from_elsewhere_retired_or_for_something_else_is_refused(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "24"))
    beside, retired, for_tests = (
        await a_template(api, "2"),
        await a_template(api, "1"),
        await a_template(api, "1", purpose=Purpose.AUDIBLE_TEST),
    )
    async with api.database.transaction() as connection:
        await template_store.retire(connection, retired.template_id, by=None, at=api.clock.now)
    body = {"unit_id": str(api.units["1"]), "audience": {"areas": [{"units": [str(api.units["1"])]}]}}

    found = {}
    for name, changes in {
        "beside": {"template_id": str(beside.template_id)},
        "retired": {"template_id": str(retired.template_id)},
        "another purpose": {"template_id": str(for_tests.template_id), "purpose": "alert"},
        "none": {},
    }.items():
        answer = await api.client.post("/api/v1/alerts", json=body | changes, headers=operator)
        found[name] = [(each["field"], each["code"]) for each in answer.json()["errors"]]

    assert found == {
        "beside": [("template_id", "no_alert_template_here")],
        "retired": [("template_id", "no_alert_template_here")],
        "another purpose": [("purpose", "not_one_of")],
        "none": [("event", "field_missing"), ("texts", "field_missing"), ("valid_until", "field_missing")],
    }
    assert await api.fetchval("SELECT count(*) FROM control.alerts") == 0
