"""Alerts prepared beforehand: whole or not at all, heard before they are kept, and told to the devices below."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

from schemas.identifiers import UnitId
from services.control.alerting import template_store, templates
from services.control.alerting.templates import Hand
from services.control.measurement import Limits, measure
from services.control.permissions import Role
from tests.support.control_api import Api, add_device
from tests.support.sounds import tone

pytestmark = pytest.mark.integration

TEMPLATES = "/api/v1/alert-templates"
LIMITS = Limits(max_duration_s=600, max_film_s=60, max_cpu_s=20, max_memory_mib=1024)


def body(unit: UnitId, **changes: Any) -> dict[str, Any]:
    return {
        "unit_id": str(unit),
        "name": "Lũ khẩn cấp",
        "event": "Lũ",
        "category": "met",
        "severity": "extreme",
        "tone": "warning",
        "texts": [
            {"language": "vi", "headline": "Cảnh báo lũ khẩn cấp", "instruction": "Hãy lên nơi cao ngay."},
            {"language": "en", "headline": "Flood warning", "board_text": "FLOOD: go to higher ground"},
        ],
        "repeat_interval_s": 30,
    } | changes


async def created(api: Api, headers: dict[str, str], **changes: Any) -> dict[str, Any]:
    answer = await api.client.post(TEMPLATES, json=body(api.units["24"], **changes), headers=headers)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def sound(api: Api, sha256: str) -> Path:
    return api.services.files.path(bytes.fromhex(sha256))


async def test_a_template_is_spoken_when_it_is_saved(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "24"))

    made = await created(api, operator)

    vietnamese, english = (measure(sound(api, text["media_sha256"]), LIMITS) for text in made["texts"])
    assert vietnamese.mime == english.mime == "audio/mpeg"
    assert vietnamese.duration_ms is not None
    assert vietnamese.duration_ms > 6_000  # four seconds of tone and the words
    assert english.duration_ms is not None
    assert english.duration_ms < 4_000  # the tone is heard once
    for heard in (vietnamese, english):
        assert heard.loudness_lufs == pytest.approx(-14, abs=2.5)
        assert heard.true_peak_dbtp is not None
        assert heard.true_peak_dbtp < 0
    served = await api.client.get(f"/media/{made['texts'][0]['media_sha256']}")
    assert served.status_code == 200
    audited = await api.fetchval("SELECT after FROM control.audit WHERE action = 'alert_template_created'")
    assert audited["texts"][0]["media_sha256"] == made["texts"][0]["media_sha256"]


async def test_the_same_words_are_the_same_file(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "24"))
    one, other = await created(api, operator), await created(api, operator, name="Lũ lần nữa")
    assert [text["media_sha256"] for text in one["texts"]] == [text["media_sha256"] for text in other["texts"]]


async def test_what_is_changed_names_the_version_that_was_read(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "24"))
    made = await created(api, operator)
    address = f"{TEMPLATES}/{made['template_id']}"
    changed = body(api.units["24"], place=3)
    changed["texts"][1]["headline"] = "Flood warning, act now"

    assert (await api.client.put(address, json=changed, headers=operator)).status_code == 428
    stale = await api.client.put(address, json=changed, headers={**operator, "If-Match": '"7"'})
    assert stale.json()["code"] == "version_mismatch"
    answer = await api.client.put(address, json=changed, headers={**operator, "If-Match": '"1"'})

    assert answer.status_code == 200
    assert answer.headers["etag"] == '"2"'
    now = answer.json()
    assert now["place"] == 3
    assert now["texts"][0]["media_sha256"] == made["texts"][0]["media_sha256"]
    assert now["texts"][1]["media_sha256"] != made["texts"][1]["media_sha256"]


async def test_a_recording_is_heard_in_place_of_the_engine(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "24"), (Role.OFFICER, "24"))
    uploaded = await api.client.post(
        "/api/v1/media",
        data={"unit_id": str(api.units["24"])},
        files={"file": ("giong.wav", tone("wav", seconds=9, amplitude=0.01))},
        headers=operator,
    )
    text = {"headline": "Sơ tán", "recording_sha256": uploaded.json()["sha256"]}

    made = await created(api, operator, texts=[text], tone="none")

    heard = measure(sound(api, made["texts"][0]["media_sha256"]), LIMITS)
    assert heard.duration_ms == pytest.approx(9_000, abs=150)
    assert heard.loudness_lufs == pytest.approx(-14, abs=1)  # a whisper was brought up


@pytest.mark.parametrize(
    ("changes", "field", "code"),
    [
        ({"texts": [{"headline": "A", "recording_sha256": "0" * 64}]}, "texts[0]", "alert_recording_unknown"),
        ({"texts": [{"headline": "A"}, {"headline": "B"}]}, "texts[1].language", "alert_language_twice"),
        ({"texts": [{"headline": "A", "description": "một hai ba bốn năm " * 100, "instruction": "sáu bảy tám chín mười " * 90}]}, "texts[0]", "alert_sound_too_long"),
        ({"texts": [{"headline": "A", "spoken": "…", "language": "vi"}], "tone": "none"}, "texts[0]", "alert_sound_silent"),
        ({"texts": []}, "texts", "too_few"),
        ({"texts": [{"headline": "A" * 201}]}, "texts[0].headline", "text_too_long"),
        ({"texts": [{"headline": "A", "description": "a" * 2_001}]}, "texts[0].description", "text_too_long"),
        ({"validity_s": 604_801}, "validity_s", "number_too_large"),
        ({"tone": "siren"}, "tone", "not_one_of"),
        ({"unit_id": str(uuid.UUID(int=5))}, "unit_id", "unknown_unit"),
    ],
)  # fmt: skip
async def test_what_cannot_be_prepared_is_refused_whole(
    api: Api, changes: dict[str, Any], field: str, code: str
) -> None:
    operator = await api.person((Role.OPERATOR, "24"))
    answer = await api.client.post(TEMPLATES, json=body(api.units["24"], **changes), headers=operator)
    assert answer.status_code == 422
    assert (field, code) in [(each["field"], each["code"]) for each in answer.json()["errors"]]
    assert await api.fetchval("SELECT count(*) FROM control.alert_templates") == 0


async def test_a_text_without_sound_is_for_boards(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "24"))
    made = await created(api, operator, texts=[{"headline": "Thông báo", "spoken": ""}], tone="none")
    assert made["texts"][0]["media_sha256"] is None


async def test_rights_end_at_the_subtree(api: Api) -> None:
    north = await api.person((Role.OPERATOR, "1"))
    south = await api.person((Role.OPERATOR, "2"))
    viewer = await api.person((Role.VIEWER, "1"))
    made = await created(api, north, unit_id=str(api.units["1"]))
    address = f"{TEMPLATES}/{made['template_id']}"

    assert (await api.client.post(TEMPLATES, json=body(api.units["24"]), headers=north)).status_code == 403
    assert (await api.client.post(TEMPLATES, json=body(api.units["1"]), headers=viewer)).status_code == 403
    assert (await api.client.post(f"{address}/retire", headers=south)).status_code == 403
    assert (await api.client.put(address, json=body(api.units["1"]), headers=south)).status_code == 403
    assert (await api.client.get(TEMPLATES, headers=south)).json() == []
    (seen,) = (await api.client.get(TEMPLATES, headers=viewer)).json()
    assert seen["template_id"] == made["template_id"]


async def test_a_commune_sees_what_holds_on_its_ground(api: Api) -> None:
    province = await api.person((Role.OPERATOR, "24"))
    commune = await api.person((Role.VIEWER, "11"))
    await created(api, province, name="Của tỉnh", place=1)
    await created(api, province, unit_id=str(api.units["11"]), name="Của xã")
    await created(api, province, unit_id=str(api.units["12"]), name="Của xã khác")

    own = await api.client.get(TEMPLATES, params={"unit_id": str(api.units["11"])}, headers=commune)
    foreign = await api.client.get(TEMPLATES, params={"unit_id": str(api.units["12"])}, headers=commune)

    assert [each["name"] for each in own.json()] == ["Của xã", "Của tỉnh"]
    assert [each["name"] for each in (await api.client.get(TEMPLATES, headers=commune)).json()] == [
        "Của xã",
        "Của tỉnh",
    ]
    assert foreign.status_code == 403


async def test_a_template_out_of_use_stays_so(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "24"))
    made = await created(api, operator)
    address = f"{TEMPLATES}/{made['template_id']}"
    assert (await api.client.post(f"{address}/retire", headers=operator)).status_code == 200
    assert (await api.client.post(f"{address}/retire", headers=operator)).status_code == 409
    answer = await api.client.put(address, json=body(api.units["24"]), headers={**operator, "If-Match": '"2"'})
    assert answer.json()["code"] == "alert_template_retired"
    assert (await api.client.get(TEMPLATES, headers=operator)).json() == []


async def test_it_is_told_how_far_the_sound_has_come(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "24"))
    first_id = await add_device(api, "11")
    await add_device(api, "21")
    first = await api.fetchval("SELECT device_no FROM control.devices WHERE device_id = $1", first_id)
    made = await created(api, operator)
    address = f"{TEMPLATES}/{made['template_id']}"
    assert await api.fetchval("SELECT count(*) FROM control.issue_requests WHERE device_no = $1", first) == 1

    async with api.database.transaction() as connection:
        for text in made["texts"]:
            await connection.execute(
                "INSERT INTO control.device_media (device_no, sha256, stored_at) VALUES ($1, $2, now())",
                first,
                bytes.fromhex(text["media_sha256"]),
            )
    assert (await api.client.get(address, headers=operator)).json()["holders"] == {"devices": 2, "holding": 1}


async def test_bare_tones_are_made_once(api: Api) -> None:
    async with api.database.connection() as connection:
        tree = await api.services.directory.tree(connection, now=api.clock.now)
    hand = Hand(actor=None, origin=None, now=api.clock.now)
    assert await templates.lay_out_tones(api.database, api.services.workshop, tree, hand=hand)
    assert not await templates.lay_out_tones(api.database, api.services.workshop, tree, hand=hand)
    async with api.database.connection() as connection:
        tones = await template_store.tones(connection)
    assert set(tones) == set(templates.BARE_TONES)
    assert all(sound(api, sha256.hex()).exists() for sha256 in tones.values())
