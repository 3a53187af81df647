"""An emergency from an officer's request to the speakers and back, through everything real."""

from __future__ import annotations

import uuid
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas import signing
from schemas.commands import Action, Command
from schemas.identifiers import DeviceId
from services.control.trust.certificates import ServiceName
from services.local import demo
from services.shared.clock import utc_now
from tests.support.broker import connect_service
from tests.system.drill import Drill, a_drill, until

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

SHORT = timedelta(seconds=12)
BROADCAST = timedelta(seconds=25)


async def emission_starts(database: asyncpg.Connection[asyncpg.Record], kind: str) -> int:
    """How many devices have told of the beginning, or the whole end, of a planned emission."""
    found = await database.fetchval(
        "SELECT count(DISTINCT device_no) FROM telemetry.event_log WHERE kind = $1"
        " AND body->'reference'->>'source' = 'emission' AND coalesce(body->>'outcome', 'completed') = 'completed'",
        kind,
    )
    return int(found)


def commanded(drill: Drill, device_id: str, message: bytes) -> Command:
    """The order to one device to do what an alert says, which it may have heard already."""
    now_ms = int(utc_now().timestamp() * 1_000)
    return Command(
        device=DeviceId(device_id),
        issued_at_ms=now_ms,
        valid_from_ms=now_ms - 60_000,
        valid_until_ms=now_ms + 60_000,
        serial=now_ms,
        command_id=uuid.uuid4(),
        action=Action.ALERT,
        alert=message,
    )


async def pass_on(drill: Drill, device_id: str, alert_id: str) -> None:
    """Send an alert once more, to one device, inside a command; return when the device has told that it is done."""
    message = await drill.database.fetchval(
        "SELECT message FROM control.alert_versions WHERE alert_id = $1 AND alert_version = 1", uuid.UUID(alert_id)
    )
    key = serialization.load_pem_private_key(drill.site.pki.platform_signing_key.read_bytes(), password=None)
    assert isinstance(key, Ed25519PrivateKey)
    command = commanded(drill, device_id, message)
    with connect_service(drill.site.broker, ServiceName.CONTROL, client_id="control:drill") as control:
        assert control.publish(f"loa/v1/{device_id}/down/command", signing.sign(command, key)) == 0

    async def is_told() -> bool:
        return bool(
            await drill.database.fetchval(
                "SELECT count(*) = 1 FROM telemetry.event_log"
                " WHERE kind = 'command_done' AND body->>'command_id' = $1 AND body->>'result' = 'done'",
                str(command.command_id),
            )
        )

    await until(is_told, "the device has answered the command")


async def test_an_alert_reaches_those_it_can_ends_when_told_and_gives_the_programme_back(passable_tmp: Path) -> None:
    async with a_drill(passable_tmp, clusters=4, boards=1) as drill:
        site, url = drill.site, drill.site.url
        early, late = drill.province.devices[2:4]
        steady = [each for each in drill.province.devices if each not in (early, late)]
        steady_ids = {each.device_id for each in steady}
        async with drill.person(drill.root, "operator") as operator, drill.fleet("steady", steady):
            await drill.prepare_sound(operator)
            async with drill.fleet("early", [early]), drill.fleet("late", [late]):
                await drill.prepare(operator, drill.province.devices)

            # Two are away. One comes back within the validity and sounds it; the other comes back later and does not.
            first = await operator.done(url, "POST", "/alerts", drill.alert(drill.root, SHORT))
            alert_id = first["alert_id"]
            await until(lambda: set(drill.starts(alert_id)) >= steady_ids, "those who are there sound it")
            async with drill.fleet("early", [early]):
                await until(lambda: early.device_id in drill.starts(alert_id), "who is back in time sounds it")
                await pass_on(drill, steady[0].device_id, alert_id)
                await until(lambda: utc_now().isoformat() > first["valid_until"], "it is over")
                async with drill.fleet("late", [late]):
                    second = await operator.done(url, "POST", "/alerts", drill.alert(drill.root))
                    await until(
                        lambda: late.device_id in drill.starts(second["alert_id"]), "who was late hears the next one"
                    )
                    await operator.done(url, "POST", f"/alerts/{second['alert_id']}/cancel", If_Match="*")
                assert drill.starts(alert_id) == dict.fromkeys([*steady_ids, early.device_id], 1)

                async def is_known() -> bool:
                    reach = await operator.done(url, "GET", f"/alerts/{alert_id}/reach")
                    return bool(reach["reached"] == 4 and reach["not_reached"] == 1)

                await until(is_known, "control knows whom the first alert reached")
                reach = await operator.done(url, "GET", f"/alerts/{alert_id}/reach?reached=false")
                assert [each["device_id"] for each in reach["devices"]] == [late.device_id]
                assert all(each["what_to_do"] for each in reach["devices"])

            # The programme is cut by an alert, and goes on when the alert is cancelled.
            async with demo.person(site, demo.OFFICER) as officer, demo.person(site, demo.APPROVER) as approver:
                broadcast = await demo.schedule(officer, approver, drill.province, BROADCAST)

                async def is_on_air() -> bool:
                    return await emission_starts(drill.database, "play_started") >= len(steady)

                await until(is_on_air, "the programme is on the air")
                third = await operator.done(url, "POST", "/alerts", drill.alert(drill.root, repeat_interval_s=1))
                cut_id = third["alert_id"]
                await until(lambda: set(drill.starts(cut_id)) == steady_ids, "the alert sounds instead")
                await operator.done(url, "POST", f"/alerts/{cut_id}/cancel", If_Match="*")
                await until(lambda: drill.over(cut_id, 2) == len(steady), "the alert is over everywhere")

                async def is_resumed() -> bool:
                    return await emission_starts(drill.database, "play_ended") == len(steady)

                await until(is_resumed, "the programme went on to its end")

                async def is_proven() -> bool:
                    proof = (await officer.get(f"/broadcasts/{broadcast['broadcast_id']}"))["proof"]
                    return bool(proof["played"] + proof["late"] == len(steady))

                await until(is_proven, "cut and resumed, it counts as played")
        cut = await drill.database.fetchval(
            "SELECT count(DISTINCT device_no) FROM telemetry.event_log WHERE kind = 'play_ended'"
            " AND body->'reference'->>'source' = 'emission' AND (body->>'interruptions')::int > 0"
        )
        assert cut == len(steady)
