"""What came as CAP sounds a tone at once and is spoken afterwards, unless somebody was quicker to change or end it."""

from __future__ import annotations

import pytest

from schemas.alerts import Purpose
from services.control.alerting.speaker import AlertSpeaker
from services.control.permissions import Role
from tests.integration.control.api.test_api_alerts import outbox_of
from tests.integration.control.api.test_api_cap import a_message, sent_in
from tests.support.control_api import ZONE, Api

pytestmark = pytest.mark.integration


def a_speaker(api: Api) -> AlertSpeaker:
    return AlertSpeaker(
        api.database,
        workshop=api.services.workshop,
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
