"""What came as CAP sounds a tone at once and is spoken afterwards, unless somebody was quicker to change or end it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from schemas.alerts import Purpose
from services.control.alerting.sounds import Workshop
from services.control.alerting.speaker import AlertSpeaker
from services.control.measurement import Limits
from services.control.measurer import Measurer
from services.control.permissions import Role
from tests.integration.control.api.test_api_alerts import outbox_of
from tests.integration.control.api.test_api_cap import a_message, sent_in
from tests.support.control_api import ZONE, Api

pytestmark = pytest.mark.integration


def a_speaker(api: Api, workshop: Workshop | None = None) -> AlertSpeaker:
    return AlertSpeaker(
        api.database,
        workshop=workshop or api.services.workshop,
        time_zone=ZONE,
        keyring=api.services.keyring,
        wake_alerts=lambda: None,
    )


async def test_the_tone_is_said_at_once_and_the_words_follow_in_the_next_version(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "24"))
    taken = (await sent_in(api, operator, a_message(api))).json()["alert"]
    alert_id = taken["alert_id"]
    tone = taken["content"]["texts"][0]["media_sha256"]
    ((_, first),) = await outbox_of(api, alert_id)
    speaker = a_speaker(api)

    assert await speaker.speak_once(now=api.clock.now) is True
    assert await speaker.speak_once(now=api.clock.now) is False  # nothing is left to say

    ((_, second),) = await outbox_of(api, alert_id)
    assert [each.alert_version for each in (first, second)] == [1, 2]
    assert [each.media and each.media.sha256.hex() for each in first.contents] == [tone, None]
    assert (second.purpose, second.audience, second.rank) == (Purpose.ALERT, first.audience, first.rank)
    assert [each.language for each in second.contents] == ["vi", "vi-001", "en"]
    assert second.contents[0] == first.contents[0]
    voice = second.contents[1].media
    assert voice is not None
    assert voice.mime == "audio/mpeg"
    assert voice.duration_ms is not None
    assert voice.duration_ms > 200
    assert second.contents[1].text == second.contents[0].text
    assert api.services.files.path(voice.sha256).stat().st_size > 1_000
    entry = await api.fetchval("SELECT after FROM control.audit WHERE action = 'alert_updated'")
    assert entry["note"] == "spoken"
    document = await api.client.get(f"/api/v1/alerts/{alert_id}/cap", headers=operator)
    assert document.text.count("<info>") == 2  # the voice says nothing that its text does not


async def test_nobody_who_was_quicker_is_spoken_over(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "24"))
    ended = (await sent_in(api, operator, a_message(api))).json()["alert"]["alert_id"]
    await api.client.post(f"/api/v1/alerts/{ended}/cancel", headers={**operator, "If-Match": "*"})
    stopped = (await sent_in(api, operator, a_message(api, "B-1"))).json()["alert"]["alert_id"]
    await api.execute(
        "INSERT INTO control.policies (unit_id, body, changed_at, changed_by) SELECT $1, $2, now(), account_id"
        " FROM control.accounts LIMIT 1",
        api.units["24"],
        {"may_stop_alerts_from_above": True},
    )
    below = await api.person((Role.OPERATOR, "11"))
    answer = await api.client.post(
        f"/api/v1/alerts/{stopped}/stop",
        json={"unit_id": str(api.units["11"])},
        headers={**below, "If-Match": "*"},
    )
    assert answer.status_code == 200, answer.text

    assert await a_speaker(api).speak_once(now=api.clock.now) is False

    states = await api.fetchval(
        "SELECT array_agg(state || version ORDER BY first_issued_at, version) FROM control.alerts"
    )
    assert sorted(states) == ["cancelled2", "in_force2"]


def a_large_message(api: Api) -> bytes:
    """In seven languages, with as much to do in each as an alert of ours takes: 61 KB on the wire of 64 KiB."""
    document = a_message(api, "LARGE")
    start, end = document.index(b"<info>"), document.rindex(b"</info>") + len(b"</info>")
    info = document[start : document.index(b"</info>") + len(b"</info>")].decode()
    stop = "\N{OCTAGONAL SIGN}"

    def said(language: str, headline: str) -> str:
        more = f"</expires><headline>{headline}</headline><instruction>{stop * 2_000}</instruction>"
        return info.replace("en-US", language).replace("</expires>", more)

    others = [said(language, stop * 200) for language in ("en", "fr", "de", "es", "it", "pt")]
    infos = [said("vi-VN", "Lũ"), *others]
    return document[:start] + "".join(infos).encode() + document[end:]


async def test_one_that_leaves_no_room_for_a_voice_keeps_its_tone_and_holds_up_no_other(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    operator = await api.person((Role.OPERATOR, "24"))
    large = (await sent_in(api, operator, a_large_message(api))).json()["alert"]["alert_id"]
    ((_, first),) = await outbox_of(api, large)
    assert len(first.contents) == 7
    api.clock.forward(seconds=1)
    small = (await sent_in(api, operator, a_message(api))).json()["alert"]["alert_id"]
    speaker = a_speaker(api)

    assert [await speaker.speak_once(now=api.clock.now) for _ in range(4)] == [True, True, False, False]

    versions = {
        str(each): await api.fetchval("SELECT version FROM control.alerts WHERE alert_id = $1::uuid", each)
        for each in (large, small)
    }
    assert versions == {large: 1, small: 2}
    (told,) = [vars(each) for each in caplog.records if each.message == "alert_not_spoken"]
    assert (told["alert_id"], "alert_too_large" in told["reason"]) == (large, True)


async def test_a_voice_that_cannot_be_measured_is_left_out(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "24"))
    await sent_in(api, operator, a_message(api))
    no_time = Limits(max_duration_s=0, max_film_s=0, max_cpu_s=10, max_memory_mib=512)
    speaker = a_speaker(api, replace(api.services.workshop, measurer=Measurer(no_time)))
    assert [await speaker.speak_once(now=api.clock.now) for _ in range(2)] == [True, False]
    assert await api.fetchval("SELECT version FROM control.alerts") == 1
