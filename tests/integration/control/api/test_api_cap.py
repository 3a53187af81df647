"""Alerts of ours as CAP 1.2: what was said, read back by our own reading of the standard."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest

from services.control.alerting.cap import MessageType, Status
from services.control.alerting.cap_reading import parse
from services.control.permissions import Role
from tests.support.control_api import Api, add_media

pytestmark = pytest.mark.integration


async def test_each_version_is_a_message_that_names_those_before(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "24"))
    content = {
        "event": "Lũ",
        "severity": "extreme",
        "texts": [{"headline": "Lũ <khẩn> & gấp", "media_sha256": await add_media(api)}],
        "audience": {"areas": [{"units": [str(api.units["11"])]}]},
        "valid_until": (api.clock.now + timedelta(hours=6)).isoformat(),
    }
    issued = await api.client.post(
        "/api/v1/alerts", json={**content, "unit_id": str(api.units["24"])}, headers=operator
    )
    assert issued.status_code == 201, issued.text
    address = f"/api/v1/alerts/{issued.json()['alert_id']}"
    api.clock.forward(minutes=5)
    ended = await api.client.post(f"{address}/cancel", headers={**operator, "If-Match": "*"})
    assert ended.status_code == 200, ended.text

    first = await api.client.get(f"{address}/cap", params={"version": 1}, headers=operator)
    newest = await api.client.get(f"{address}/cap", headers=operator)

    assert first.headers["content-type"] == "application/cap+xml"
    one, two = parse(first.content), parse(newest.content)
    assert (one.faults, one.remarks, two.faults, two.remarks) == ((), (), (), ())
    assert one.alert is not None
    assert two.alert is not None
    assert (one.alert.status, one.alert.message_type) == (Status.ACTUAL, MessageType.ALERT)
    assert one.alert.infos[0].headline == "Lũ <khẩn> & gấp"
    assert one.alert.infos[0].areas[0].geocodes[0].value == "11"
    assert (two.alert.message_type, two.alert.references) == (MessageType.CANCEL, (one.alert.reference,))
    assert (await api.client.get(f"{address}/cap", params={"version": 9}, headers=operator)).status_code == 404
    assert (await api.client.get(f"/api/v1/alerts/{uuid.uuid4()}/cap", headers=operator)).status_code == 404
