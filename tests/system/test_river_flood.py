"""A river rises: a simulated sensor measures it, a rule proposes the alert, a person releases it, and loudspeakers sound.

Every part is real: MQTT over TLS, ingest, control, the simulated fleet with its flash and its player.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from firmware_sim import physics
from services.local import demo, factory
from services.local.office import Desk, desk
from services.local.platform import Platform, free_port, platform
from services.local.province import lay_out, read_units
from services.shared.clock import utc_now
from tests.support import waiting

DEADLINE_S = 240.0
RISE_M = 2.5

pytestmark = [pytest.mark.system, pytest.mark.timeout(1200)]

PASSWORD = "nuoc song dang len cao"


until = partial(waiting.until, deadline_s=DEADLINE_S)


async def an_operator(site: Platform, unit_id: str) -> None:
    async with demo.person(site, demo.ADMINISTRATOR) as administrator:
        await administrator.post(
            "/accounts",
            {
                "login": "truc-ban",
                "display_name": "Trực ban phòng chống thiên tai",
                "unit_id": unit_id,
                "password": PASSWORD,
                "grants": [{"unit_id": unit_id, "role": "operator"}],
            },
        )


async def a_rule(operator: Desk, unit_id: str, sensor: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A template and a rule that proposes it once the river stands a metre above its usual level."""
    template = await operator.post(
        "/alert-templates",
        {
            "unit_id": unit_id,
            "name": "Lũ khẩn cấp",
            "event": "Lũ",
            "severity": "extreme",
            "tone": "evacuate",
            "texts": [{"headline": "Nước sông dâng cao, di chuyển ngay đến nơi an toàn"}],
        },
    )
    usual = physics.measure(sensor, "water_level", int(utc_now().timestamp() * 1_000))
    wish = {
        "unit_id": unit_id,
        "name": "Sông lên nhanh",
        "quantity": "water_level",
        "raise_at": usual + 1.0,
        "clear_at": usual + 0.5,
        "hold_s": 2,
        "silent_after_s": 60,
        "severity": "extreme",
        "template_id": template["template_id"],
        "sensors": [sensor],
    }
    return template, await operator.post("/sensor-rules", wish)


async def test_a_rising_river_is_proposed_released_and_sounded(passable_tmp: Path) -> None:
    data = passable_tmp / "province"
    file, valid_from = demo.TREES[False]
    scenario = passable_tmp / "flood.toml"
    scenario.write_text(f'description = "a flood"\n[flood]\nafter_s = 0\nrising_s = 20\nrise_m = {RISE_M}\n')
    async with AsyncExitStack() as parts:
        units = parts.enter_context(resources.as_file(resources.files("services.control") / "data" / file))
        province = lay_out(read_units(units), 2)
        sensor = next(each.device_id for each in province.devices if each.kind == "sensor" and each.gateway is None)
        site = await parts.enter_async_context(platform(data, http_port=free_port()))
        await demo.found(site, units, valid_from)
        factory.equip(site.pki, province.devices, data / "fleet.json", now=utc_now())
        await parts.enter_async_context(site.ingest())
        await parts.enter_async_context(site.control())
        await demo.settle(site, province)
        async with demo.person(site, demo.ADMINISTRATOR) as administrator:
            root = next(each["unit_id"] for each in await administrator.get("/units/tree") if not each["parent_id"])
        await an_operator(site, root)
        operator = await parts.enter_async_context(desk(site.url, "truc-ban", PASSWORD))
        template, rule = await a_rule(operator, root, sensor)
        settings = demo.FAST_HEARTBEATS | {"SIM_READING_INTERVAL": "1s", "SIM_SCENARIO": str(scenario)}
        await parts.enter_async_context(site.fleet(data / "fleet.json", settings))

        (proposal,) = await until(lambda: operator.get("/proposals"), "an alert is proposed")
        (alarm,) = [each for each in await operator.get("/sensor-alarms") if each["kind"] == "sensor_threshold"]
        alert_id = proposal["alert"]["alert_id"]
        assert (alarm["alert_id"], alarm["sensor_rule_id"]) == (alert_id, rule["sensor_rule_id"])
        assert [each["device_id"] for each in proposal["reason"]["sensors"]] == [sensor]
        assert proposal["reason"]["sensors"][0]["value"] >= rule["raise_at"]
        assert proposal["alert"]["content"]["template_id"] == template["template_id"]
        assert (await operator.get(f"/alerts/{alert_id}/reach"))["reached"] == 0

        released = await operator.post(
            f"/proposals/{alert_id}/release", {}, headers={"If-Match": f'"{proposal["version"]}"'}
        )
        assert (released["state"], released["content"]["origin"]) == ("in_force", "rule")

        async def is_sounded() -> bool:
            reach = await operator.get(f"/alerts/{alert_id}/reach")
            return bool(reach["published_at"] and reach["reached"])

        await until(is_sounded, "the broker has taken it and a device says that it began")
        await operator.post(f"/alerts/{alert_id}/cancel", headers={"If-Match": "*"})
