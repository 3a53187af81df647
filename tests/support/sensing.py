"""Readings as ingest stores them, and rules on them through the API."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from schemas import device_signing
from schemas.readings import UNITS, Quality
from services.control.alerting import proposals
from services.control.alerting.model import AlertDraft, AlertText, AudienceWish, Origin
from services.control.alerting.proposals import Why
from services.control.alerts import By
from services.control.engine_settings import SensingSettings
from services.control.metrics import ControlMetrics
from services.control.permissions import Role
from services.control.sensing.watcher import SensorWatcher
from services.ingest.rows import Signature
from tests.support.control import some_metrics
from tests.support.control_api import ZONE, Api, add_device, add_media
from tests.support.device_keys import certify
from tests.support.people import Person, somebody


async def add_readings(
    api: Api,
    device_id: str,
    *values: float,
    ending: datetime | None = None,
    quantity: str = "water_level",
    quality: Quality = Quality.GOOD,
    key: EllipticCurvePrivateKey | None = None,
    signature: Signature = Signature.VERIFIED,
    every: timedelta = timedelta(minutes=1),
) -> None:
    """Readings `every` so often, the last one at `ending` (default: now); as signed with `key`, where there is one."""
    last = ending or api.clock.now
    instants = [last - (len(values) - 1 - place) * every for place in range(len(values))]
    device_no = await api.fetchval("SELECT device_no FROM control.devices WHERE device_id = $1", device_id)
    signed = (None, None) if key is None else (int(signature), device_signing.key_id(key.public_key()))
    async with api.telemetry.connection() as connection:
        await connection.execute("SELECT telemetry.ensure_partitions($1, $2)", instants[0], last + timedelta(days=1))
        await connection.executemany(
            """
            INSERT INTO telemetry.readings
                   (at, received_at, value, device_no, quality, clock_state, time_source, quantity, unit, signature,
                    signer)
            VALUES ($1, $1, $2, $3, $4, 0, 0, $5, $6, $7, $8)
            """,
            [
                (at, value, device_no, int(quality), quantity, UNITS[quantity], *signed)
                for at, value in zip(instants, values, strict=True)
            ],
        )


def rule_body(api: Api, unit: str, sensor: str | None = None, **changes: Any) -> dict[str, Any]:
    """A river above 4 m for two minutes, until it is at 3.5 m for two minutes."""
    chosen = {"sensors": [sensor]} if sensor is not None else {"sensor_units": [str(api.units[unit])]}
    return {
        "unit_id": str(api.units[unit]),
        "name": "Mực nước sông",
        "quantity": "water_level",
        "raise_at": 4.0,
        "clear_at": 3.5,
        "hold_s": 120,
        "silent_after_s": 300,
        **chosen,
        **changes,
    }


async def add_template(api: Api, unit: str, **changes: Any) -> dict[str, Any]:
    """A template of the unit, made through the API by an operator of the root; the API's answer."""
    body = {
        "unit_id": str(api.units[unit]),
        "name": "Lũ khẩn cấp",
        "event": "Lũ",
        "severity": "extreme",
        "tone": "warning",
        "texts": [{"headline": "Nước sông vượt báo động 3"}],
        "validity_s": 1_800,
        **changes,
    }
    operator = await api.person((Role.OPERATOR, "24"))
    answer = await api.client.post("/api/v1/alert-templates", json=body, headers=operator)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def add_rule(api: Api, unit: str, **changes: Any) -> dict[str, Any]:
    """A rule of the unit on a sensor of it, made through the API by an operator of the root; the API's answer."""
    sensor = changes.pop("sensor", None) or await add_device(api, unit, "sensor")
    operator = await api.person((Role.OPERATOR, "24"))
    body = rule_body(api, unit, sensor, **changes)
    answer = await api.client.post("/api/v1/sensor-rules", json=body, headers=operator)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def a_watcher(api: Api, metrics: ControlMetrics | None = None) -> SensorWatcher:
    """The watcher of another process on the same database."""
    return SensorWatcher(
        api.database,
        settings=SensingSettings(),
        time_zone=ZONE,
        keyring=api.services.keyring,
        metrics=metrics or some_metrics(),
        wake_alerts=api.services.wake_alerts,
    )


async def watched(api: Api, watcher: SensorWatcher) -> None:
    """Turns until there is nothing more to read."""
    while await watcher.watch_once(now=api.clock.now):
        pass


async def lay_proposal(api: Api, unit: str, **reason: Any) -> str:
    """An alert proposed for the ground of the unit, for this reason (none: by nothing in particular); its id."""
    async with api.database.transaction() as connection:
        tree = await api.services.directory.tree(connection, now=api.clock.now)
    until = api.clock.now + timedelta(hours=6)
    draft = AlertDraft(
        unit_id=api.units[unit],
        event="Lũ",
        texts=(AlertText(language="vi", headline="Lũ", media_sha256=bytes.fromhex(await add_media(api))),),
        audience=AudienceWish.of_units(api.units[unit]),
        valid_until=until,
        origin=Origin.CAP,
    )
    async with api.database.transaction() as connection:
        proposal = await proposals.propose(
            connection, draft, Why(reason=reason), by=By(tree=tree), validity=None, expires_at=until, now=api.clock.now
        )
    return str(proposal.alert.alert_id)


async def add_proposal(api: Api, unit: str) -> str:
    """An alert that a rule of the unit has proposed for its ground; its id."""
    sensor = await add_device(api, unit, "sensor")
    template = await add_template(api, unit)
    rule = await add_rule(api, unit, sensor=sensor, template_id=template["template_id"])
    await add_readings(api, sensor, 4.1, 4.2, 4.3)
    await watched(api, a_watcher(api))
    found = await api.fetchval(
        "SELECT alert_id FROM control.alert_proposals WHERE rule_id = $1::text::uuid", rule["sensor_rule_id"]
    )
    assert found is not None, "the rule has proposed nothing"
    return str(found)


async def an_officer(api: Api, unit: str = "11", role: Role = Role.OPERATOR) -> Person:
    person = await somebody(api, role, unit)
    await person.enrol()
    api.clock.forward(seconds=31)  # a code is good for one use
    return person


class Case:
    """A rule on a sensor with a template, its address, and officers who let what it proposes out without asking."""

    def __init__(
        self, api: Api, sensor: str, template: dict[str, Any], rule: dict[str, Any], key: EllipticCurvePrivateKey
    ) -> None:
        self.api, self.sensor, self.template, self.rule, self.key = api, sensor, template, rule, key
        self.address = f"/api/v1/sensor-rules/{rule['sensor_rule_id']}"

    @classmethod
    async def of(cls, api: Api, **changes: Any) -> Case:
        sensor, template = await add_device(api, "11", "sensor"), await add_template(api, "11")
        async with api.database.connection() as connection:
            key = await certify(connection, sensor, now=api.clock.now)
        rule = await add_rule(api, "11", sensor=sensor, template_id=template["template_id"], **changes)
        return cls(api, sensor, template, rule, key)

    async def ask(self, officer: Person, *, days: float = 30, version: int = 1) -> Any:
        body = {"expires_at": (self.api.clock.now + timedelta(days=days)).isoformat()}
        code = {"Loa-Second-Factor": officer.code(), "If-Match": f'"{version}"'}
        return await officer.post(f"{self.address}/authorisation", body, **code)

    async def confirm(self, officer: Person, *, version: int = 1) -> Any:
        code = {"Loa-Second-Factor": officer.code(), "If-Match": f'"{version}"'}
        return await officer.post(f"{self.address}/authorisation/confirm", **code)

    async def authorised(self, *, version: int = 1) -> tuple[Person, Person]:
        first = await an_officer(self.api)
        asked = await self.ask(first, version=version)
        assert asked.status_code == 201, asked.text
        assert asked.json()["authorisation"]["void_because"] == "not_confirmed"
        second = await an_officer(self.api)
        confirmed = await self.confirm(second, version=version)
        assert confirmed.status_code == 200, confirmed.text
        assert confirmed.json()["authorisation"]["void_because"] is None
        return first, second

    async def flood(self, *, key: EllipticCurvePrivateKey | None = None, **changes: Any) -> str:
        """The state of the alert that the rule laid down, by readings that the sensor has signed, or by others."""
        await add_readings(self.api, self.sensor, 4.5, 4.5, 4.5, key=key or self.key, **changes)
        return await self.state()

    async def unsigned_flood(self) -> str:
        """The state of the alert that the rule laid down, by readings that nobody signed."""
        await add_readings(self.api, self.sensor, 4.5, 4.5, 4.5)
        return await self.state()

    async def state(self) -> str:
        """The state of the alert after the watcher's next turns."""
        await watched(self.api, a_watcher(self.api))
        state: str = await self.api.fetchval("SELECT state FROM control.alerts")
        return state
