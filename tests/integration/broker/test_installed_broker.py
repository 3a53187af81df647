"""The broker of an installation, with the configuration and the certificates its runbook makes, over IPv6 (R-23)."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from schemas.fields import DeviceKind
from schemas.identifiers import DeviceId
from services.control.trust.certificates import ServiceName
from services.local import installation
from services.local.broker import has_ipv6_loopback
from services.local.directories import temporary_directory
from services.local.pki import Identity, Pki
from services.local.platform import free_port
from services.local.processes import running
from services.shared.clock import utc_now
from tests.support.broker import NOT_AUTHORIZED, MqttClient, NotConnected

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not has_ipv6_loopback(), reason="the loopback of this machine has no IPv6 address ([::1])"),
]

DEVICE = DeviceId.parse("loa-0001")


class Installed:
    """A running broker of an installation."""

    def __init__(self, folder: Path) -> None:
        self.authority, self.site = Pki(folder / "authority"), folder / "site"
        self.device_port, self.service_port = free_port(), free_port()

    def prepare(self) -> None:
        """What the runbook has an operator do."""
        now = utc_now()
        surroundings = replace(installation.IN_CONTAINERS, owners=installation.Owners())
        installation.prepare(
            installation.Request(
                site=self.site,
                authority=self.authority.directory,
                broker_names=("mqtt.example.vn",),
                surroundings=surroundings,
                database=surroundings.database,
                device_connections=1_000,
                logs_refusals=False,
            ),
            now=now,
        )
        installation.issue_devices(
            self.authority.directory, self.site / "fleet", [(DEVICE, DeviceKind.CLUSTER)], now=now
        )

    def configured(self) -> Path:
        """Its configuration as it is, but for ports that are free here and the user the tests run as."""
        text = (self.site / "broker/mosquitto.conf").read_text("utf-8")
        for theirs, ours in ((8883, self.device_port), (8884, self.service_port)):
            text, count = re.subn(rf"^listener {theirs}$", f"listener {ours}", text, flags=re.M)
            assert count == 1
        (self.site / "broker/log").mkdir()
        path = self.site / "broker/here.conf"
        path.write_text(text + ("\nuser root\n" if os.geteuid() == 0 else ""))
        return path

    async def lets_in(self) -> bool:
        try:
            MqttClient(
                self.service_port,
                self.authority,
                self.authority.service(ServiceName.MONITOR),
                client_id="monitor:ready",
                host="::1",
            ).close()
        except NotConnected:
            return False
        return True


@pytest_asyncio.fixture
async def installed() -> AsyncIterator[Installed]:
    with temporary_directory() as folder:
        broker = Installed(folder)
        broker.prepare()
        command = ["mosquitto", "-c", broker.configured().name]
        path = os.environ["PATH"] + ":/usr/local/sbin:/usr/sbin"
        async with running(
            "mosquitto", command, log=folder / "log", cwd=broker.site / "broker", env={"TZ": "UTC", "PATH": path}
        ) as process:
            await process.wait_ready(broker.lets_in, deadline=timedelta(seconds=30))
            yield broker


async def test_a_device_speaks_to_an_installed_broker_over_ipv6(installed: Installed) -> None:
    fleet = installed.site / "fleet"
    identity = Identity(certificate=fleet / f"{DEVICE}.pem", key=fleet / f"{DEVICE}.key")
    topic = f"loa/v1/{DEVICE}/presence"
    with (
        MqttClient(
            installed.service_port,
            installed.authority,
            installed.authority.service(ServiceName.INGEST),
            client_id="ingest:1",
            host="::1",
        ) as ingest,
        MqttClient(installed.device_port, installed.authority, identity, client_id=DEVICE, host="::1") as device,
    ):
        ingest.subscribe("loa/v1/+/presence")
        assert device.publish(topic, b"here", retain=True) != NOT_AUTHORIZED
        ingest.wait_for(b"here")
        assert device.publish("loa/v1/loa-0002/presence", b"somebody else") == NOT_AUTHORIZED


async def test_over_ipv6_too_nobody_comes_in_without_the_right_certificate(installed: Installed) -> None:
    authority = installed.authority
    service = authority.service(ServiceName.INGEST)
    for port, identity in ((installed.device_port, None), (installed.device_port, service)):
        with pytest.raises(NotConnected):
            MqttClient(port, authority, identity, client_id="x", host="::1").close()
    fleet = installed.site / "fleet"
    device = Identity(certificate=fleet / f"{DEVICE}.pem", key=fleet / f"{DEVICE}.key")
    with pytest.raises(NotConnected):
        MqttClient(installed.service_port, authority, device, client_id="x", host="::1").close()
