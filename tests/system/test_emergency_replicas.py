"""Two controls at once, one of them killed at bad moments: an alert that was accepted sounds on each device, and once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import uuid
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.local.processes import ManagedProcess
from tests.system.drill import Drill, Person, a_drill, until

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

CLUSTERS = 3
KILLED_AFTER_S = (0.0, 0.01, 0.03)  # from the beginning of a request: before, around and after its commit


async def accepted(drill: Drill, headline: str) -> str | None:
    """The id of the alert with this headline, if it is on record."""
    found = await drill.database.fetchval("SELECT alert_id FROM control.alerts WHERE headline = $1", headline)
    return None if found is None else str(found)


def titled(drill: Drill, headline: str, unit_id: str) -> dict[str, Any]:
    body = drill.alert(unit_id)
    return {**body, "texts": [{**body["texts"][0], "headline": headline}]}


async def asked_of_the_dying(
    operator: Person, url: str, body: dict[str, Any], process: ManagedProcess, *, after_s: float
) -> httpx.Response | None:
    """What a control answers that is killed so soon after the request began; None when it did not come to that."""
    answers: list[httpx.Response] = []

    async def ask() -> None:
        with contextlib.suppress(httpx.HTTPError):
            answers.append(await operator.ask(url, "POST", "/alerts", body))

    async with asyncio.TaskGroup() as group:
        group.create_task(ask())
        await asyncio.sleep(after_s)
        process.kill()
    return answers[0] if answers else None


async def sounds(drill: Drill, alert_id: str) -> None:
    """Wait until every device has begun it."""
    await until(lambda: len(drill.starts(alert_id)) == CLUSTERS, "everybody sounds it")


async def ended(drill: Drill, operator: Person, alert_id: str) -> None:
    """Cancel it, and wait until it is over everywhere: each device has begun it once."""
    await operator.done(drill.site.url, "POST", f"/alerts/{alert_id}/cancel", If_Match="*")
    await until(lambda: drill.over(alert_id, 2) == CLUSTERS, "it is over everywhere")
    assert set(drill.starts(alert_id).values()) == {1}


async def test_an_alert_survives_the_control_that_took_it(passable_tmp: Path) -> None:
    async with AsyncExitStack() as stack:
        drill = await stack.enter_async_context(a_drill(passable_tmp, clusters=CLUSTERS))
        operator = await stack.enter_async_context(drill.person(drill.root, "operator"))
        await drill.prepare_sound(operator)
        await stack.enter_async_context(drill.fleet("fleet", drill.province.devices))
        await drill.prepare(operator, drill.province.devices)

        # Accepted, and killed while the broker takes nothing: the other replica sends it.
        async with drill.second_control() as (url, process):
            os.kill(drill.site.broker.process.pid, signal.SIGSTOP)
            try:
                taken = await operator.done(url, "POST", "/alerts", titled(drill, "broker held", drill.root))
                process.kill()
            finally:
                os.kill(drill.site.broker.process.pid, signal.SIGCONT)
        await sounds(drill, taken["alert_id"])

        async def is_sent() -> bool:
            return bool(await drill.database.fetchval("SELECT count(*) = 0 FROM control.outbox WHERE kind = 'alert'"))

        await until(is_sent, "nothing waits to be sent: what the dead one had taken was sent once more")
        await ended(drill, operator, taken["alert_id"])

        # Killed at any moment of a request: on record and sounding everywhere once, or neither.
        for number, delay_s in enumerate(KILLED_AFTER_S):
            headline = f"killed {number}"
            async with drill.second_control() as (url, process):
                answer = await asked_of_the_dying(
                    operator, url, titled(drill, headline, drill.root), process, after_s=delay_s
                )
            alert_id = await accepted(drill, headline)
            if answer is not None and answer.is_success:
                assert alert_id == answer.json()["alert_id"], "what was answered is on record"
            if alert_id is not None:
                await sounds(drill, alert_id)
                await until(is_sent, "nothing waits to be sent")
                await ended(drill, operator, alert_id)


async def test_alerts_from_two_replicas_and_two_levels_end_the_same_everywhere(passable_tmp: Path) -> None:
    async with AsyncExitStack() as stack:
        drill = await stack.enter_async_context(a_drill(passable_tmp, clusters=CLUSTERS))
        codes = {unit.code: unit for unit in drill.province.units}
        communes = {each.unit_code for each in drill.province.devices}
        (district,) = {codes[code].parent_code for code in communes}
        below = drill.units[district]
        above = await stack.enter_async_context(drill.person(drill.root, "operator"))
        beneath = await stack.enter_async_context(drill.person(below, "operator"))
        await drill.prepare_sound(above)
        await stack.enter_async_context(drill.fleet("fleet", drill.province.devices))
        await drill.prepare(above, drill.province.devices)
        one = drill.site.url
        two, _ = await stack.enter_async_context(drill.second_control())

        # Two emergencies at once, from two levels by two replicas: both sound everywhere, each once.
        high, low = await asyncio.gather(
            above.done(one, "POST", "/alerts", titled(drill, "province", drill.root)),
            beneath.done(two, "POST", "/alerts", titled(drill, "district", below)),
        )
        for each in (high, low):
            await sounds(drill, each["alert_id"])
        for each in (high, low):
            await ended(drill, above, each["alert_id"])

        # The district says something else while the province ends it: whoever comes second is judged by what the first did.
        for _ in range(3):
            alert_id = (await beneath.done(one, "POST", "/alerts", titled(drill, "race", below)))["alert_id"]
            await sounds(drill, alert_id)
            said = titled(drill, "race, again", below)
            changed = {name: value for name, value in said.items() if name not in ("unit_id", "purpose")}
            update, cancel = await asyncio.gather(
                beneath.ask(one, "POST", f"/alerts/{alert_id}/update", changed, If_Match='"1"'),
                above.ask(two, "POST", f"/alerts/{alert_id}/cancel", If_Match="*"),
            )
            assert cancel.status_code == 200, cancel.text
            assert update.status_code in (200, 409, 412), update.text
            state, version = await drill.database.fetchrow(
                "SELECT state, version FROM control.alerts WHERE alert_id = $1", uuid.UUID(alert_id)
            )
            assert (state, version) == ("cancelled", 3 if update.status_code == 200 else 2)
            await until(lambda a=alert_id, v=version: drill.over(a, v) == CLUSTERS, "it is over everywhere")
            newest = {device: max(word[1] for word in told) for device, told in drill.look(alert_id).handled.items()}
            assert set(newest.values()) == {version}
