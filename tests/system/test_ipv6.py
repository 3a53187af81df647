"""The whole platform over IPv6 and nothing else: broker, services, pages, files, and devices that are told of no other way.

The client's plan wants IPv6 on all equipment (R-23).
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import httpx
import pytest

from services.local.broker import has_ipv6_loopback
from services.local.platform import IPV4, IPV6
from tests.system.drill import a_drill, until

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(400),
    pytest.mark.skipif(not has_ipv6_loopback(), reason="the loopback of this machine has no IPv6 address ([::1])"),
]

_CONNECTED = re.compile(r"New client connected from (\S+?):\d+ as (\S+)")


async def test_an_alert_is_said_fetched_sounded_and_reported_over_ipv6_alone(passable_tmp: Path) -> None:
    async with a_drill(passable_tmp, clusters=3, boards=1, address=IPV6) as drill:
        site, devices = drill.site, drill.province.devices
        assert site.url == f"http://[::1]:{site.http_port}"
        async with httpx.AsyncClient(trust_env=False) as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(f"http://{IPV4}:{site.http_port}/healthz")
        async with drill.person(drill.root, "operator") as operator, drill.fleet("six", devices):
            await drill.prepare_sound(operator)
            await drill.prepare(
                operator, devices
            )  # all of them have fetched the sound, or showed the words, and said so

            alert = await operator.done(site.url, "POST", "/alerts", drill.alert(drill.root))

            async def is_reported() -> bool:
                reach = await operator.done(site.url, "GET", f"/alerts/{alert['alert_id']}/reach")
                return bool(reach["reached"] == len(devices))

            await until(lambda: len(drill.starts(alert["alert_id"])) == len(devices), "every device sounds it")
            await until(is_reported, "control knows it from every device")
        holding = "SELECT count(*) FROM control.device_media WHERE sha256 = $1"
        held = await drill.database.fetchval(holding, bytes.fromhex(drill.sound))
        assert held >= 2, "clusters fetched the sound from control"
        came_by = Counter(_CONNECTED.findall(site.broker.log.read_text("utf-8")))
        names = {name.partition(":")[0] for _, name in came_by}
        assert {"ingest", "control"} | {each.device_id for each in devices} <= names
        # The launcher asks over IPv4 whether the broker is up.
        assert {name for host, name in came_by if host != IPV6} <= {"monitor:ready"}, "nobody came another way"
