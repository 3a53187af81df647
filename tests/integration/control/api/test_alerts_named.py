"""Whoever asks why a broadcast did not sound is told which alert took its place, and who spoke."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.control.alerting.keeper import AlertKeeper
from services.control.permissions import Role
from tests.integration.control.api.test_api_pages import get, log_in
from tests.integration.control.api.test_api_proof_sheets import became, parts, planned, sheet
from tests.support.control import some_metrics
from tests.support.control_api import ZONE, Api, add_device, add_media

pytestmark = pytest.mark.integration

SIX = datetime(2026, 3, 10, 23, 0, tzinfo=UTC)  # 06:00 on the 11th in Việt Nam, when the broadcast begins


async def alerted(api: Api, headline: str) -> str:
    """An alert of the district for its ground, issued a minute before the broadcast; its id."""
    api.clock.now = SIX - timedelta(minutes=1)
    content = {
        "unit_id": str(api.units["1"]),
        "event": "Lũ",
        "severity": "extreme",
        "texts": [{"headline": headline, "media_sha256": await add_media(api)}],
        "audience": {"areas": [{"units": [str(api.units["1"])]}]},
        "valid_until": (SIX + timedelta(hours=1)).isoformat(),
    }
    operator = await api.person((Role.OPERATOR, "1"))
    answer = await api.client.post("/api/v1/alerts", json=content, headers=operator)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["alert_id"])


async def explained(api: Api, device: str, at: datetime) -> dict[str, Any]:
    answer = await api.client.get(
        f"/api/v1/devices/{device}/explanation",
        params={"at": at.isoformat()},
        headers=await api.person((Role.VIEWER, "11")),
    )
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_what_an_alert_cut_names_it_in_explanations_pages_and_sheets(api: Api) -> None:
    device = await add_device(api, "11")
    await planned(api, "1")
    alert_id = await alerted(api, "Lũ khẩn cấp")
    keeper = AlertKeeper(
        api.database,
        time_zone=ZONE,
        keyring=api.services.keyring,
        metrics=some_metrics(),
        wake_alerts=lambda: None,
    )
    await keeper.keep_once(now=api.clock.now)
    await became(
        api, device, 11, "cut", sounded_ms=10_000, reason="outranked", cut_by_source="alert", cut_by=uuid.UUID(alert_id)
    )
    named = {
        "alert_id": alert_id,
        "purpose": "alert",
        "event": "Lũ",
        "headline": "Lũ khẩn cấp",
        "unit_id": str(api.units["1"]),
        "unit_name": "Huyện Bắc",
    }

    told = await explained(api, device, SIX + timedelta(seconds=30))
    assert [each["cut_by_alert"] for each in told["records"]] == [named]
    assert [each["alert"] for each in told["alerts"]] == [named]
    assert told["alerts"][0]["began_at"] is None  # the device has said nothing of it yet
    assert (await explained(api, device, SIX - timedelta(minutes=2)))["alerts"] == []
    assert (await explained(api, device, SIX + timedelta(hours=1)))["alerts"] == []

    await log_in(api, (Role.VIEWER, "11"))
    page = await get(api, f"/devices/{device}/why", at="2026-03-11T06:00")
    assert page.text.count("“Lũ khẩn cấp” (Huyện Bắc)") == 2

    rows = (await parts(api, api.units["1"]))["reason"]
    assert [(row["id"], row["name"].partition(" – ")[2], row["planned"]) for row in rows] == [
        ("cut.outranked", "Lũ khẩn cấp (Huyện Bắc)", "1")
    ]
    assert "Lũ khẩn cấp (Huyện Bắc)" in (await sheet(api, api.units["1"], format="html")).text
    assert (await sheet(api, api.units["1"], format="xlsx")).content[:2] == b"PK"
