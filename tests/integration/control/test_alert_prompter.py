"""Devices that are heard from and say nothing about an alert get it once more on their own topic, and only they."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from schemas import signing
from schemas.alerts import Purpose
from schemas.commands import Action, Command
from schemas.events import AlertHandled, AlertResult, CommandDone, CommandResult
from schemas.fields import ClockState
from services.control import alerts, unit_store
from services.control.alerting import alert_store, reach_store
from services.control.alerting.keeper import AlertKeeper
from services.control.alerting.model import Alert, AlertDraft, AlertText, AudienceWish
from services.control.alerting.prompter import AT_ONCE, SILENCE, AlertPrompter
from services.control.alerts import By
from services.control.metrics import ControlMetrics
from services.control.planning.model import to_ms
from services.control.planning.recurrence import local_day
from services.control.trust.keyring import Keyring
from services.control.units import UnitTree
from services.shared.clock import utc_now
from tests.support.control import LOCAL, Province, some_metrics, verifier

pytestmark = pytest.mark.integration

SECOND = timedelta(seconds=1)


class Desk:
    """Whoever issues alerts here, and the loops of control whose turns the test takes itself."""

    def __init__(self, province: Province, keyring: Keyring) -> None:
        self.province = province
        self.keyring = keyring
        self.registry = CollectorRegistry()
        self.keeper = AlertKeeper(
            province.control, time_zone=LOCAL, keyring=keyring, metrics=some_metrics(), wake_alerts=lambda: None
        )
        self.prompter = AlertPrompter(
            province.control, keyring=keyring, metrics=ControlMetrics(self.registry), wake_alerts=lambda: None
        )

    async def tree(self) -> UnitTree:
        async with self.province.control.connection() as connection:
            return (await unit_store.load_units(connection)).on(local_day(utc_now(), LOCAL))

    def draft(self, now: datetime, purpose: Purpose = Purpose.ALERT, words: str = "Lũ") -> AlertDraft:
        return AlertDraft(
            unit_id=self.province.units["a"],
            purpose=purpose,
            event="Lũ",
            texts=(AlertText(language="vi", headline=words[:100], description=words),),
            audience=AudienceWish(areas=AudienceWish.of_units(self.province.units["a"]).areas, kinds=("board",)),
            valid_until=now + timedelta(hours=1),
        )

    async def issue(self, now: datetime, **values: Any) -> Alert:
        """An alert that the broker took at once and whose audience is known."""
        by = By(tree=await self.tree())
        async with self.province.control.transaction() as connection:
            alert = await alerts.issue(connection, self.draft(now, **values), by=by, keyring=self.keyring, now=now)
        return await self.published(alert, now)

    async def update(self, alert: Alert, now: datetime) -> Alert:
        by = By(tree=await self.tree())
        async with self.province.control.transaction() as connection:
            stored = await alert_store.alert_for_update(connection, alert.alert_id)
            changed = await alerts.update(
                connection, stored, self.draft(now, words="Lũ lớn"), by=by, keyring=self.keyring, now=now
            )
        return await self.published(changed, now)

    async def published(self, alert: Alert, now: datetime) -> Alert:
        async with self.province.control.transaction() as connection:
            await alert_store.note_published(connection, [(alert.alert_id, alert.version)], at=now)
        await self.keeper.keep_once(now=now)
        return alert

    async def commands(self) -> dict[str, Command]:
        """The commands that wait for the lane of alerts, by topic; they are taken out."""
        rows = await self.province.rows(
            "DELETE FROM control.outbox WHERE kind = 'alert' AND topic LIKE '%/down/command%' RETURNING topic, payload"
        )
        return {row["topic"]: signing.verify(Command, row["payload"], verifier(self.keyring)) for row in rows}


@pytest.fixture
def desk(province: Province, keyring: Keyring) -> Desk:
    return Desk(province, keyring)


def handled(alert: Alert, result: AlertResult) -> AlertHandled:
    return AlertHandled(
        device_at_ms=to_ms(utc_now()),
        clock=ClockState.SYNCHRONISED,
        alert_id=alert.alert_id,
        alert_version=alert.version,
        purpose=alert.draft.purpose,
        result=result,
    )


async def test_only_who_is_heard_from_and_says_nothing_is_told_once_more(province: Province, desk: Desk) -> None:
    await province.device("cong-1", "a", kind="gateway")
    for name in ("im-lang", "da-noi", "mat-song"):
        await province.device(name, "a1", kind="board")
    await province.device("sau-cong", "a1", kind="board", gateway="cong-1")
    await province.device("noi-khac", "b1", kind="board")
    await province.device("loa", "a1")  # the alert is for boards
    now = utc_now()
    for name in ("im-lang", "da-noi", "noi-khac", "loa", "sau-cong"):
        await province.heard(name, at=now)
    await province.heard("mat-song", at=now - timedelta(hours=1))
    alert = await desk.issue(now)
    await province.event("da-noi", handled(alert, AlertResult.TAKEN))
    while await desk.keeper.follow_once(now=now):
        pass

    await desk.prompter.prompt_once(now=now + SILENCE - SECOND)
    assert await desk.commands() == {}
    await desk.prompter.prompt_once(now=now + SILENCE)
    commands = await desk.commands()

    assert set(commands) == {"loa/v1/im-lang/down/command", "loa/v1/cong-1/down/command/sau-cong"}
    command = commands["loa/v1/im-lang/down/command"]
    message = await province.value("SELECT message FROM control.alert_versions")
    assert (command.action, command.alert, command.device) == (Action.ALERT, message, "im-lang")
    assert desk.registry.get_sample_value("control_alert_commands_total") == 2
    await desk.prompter.prompt_once(now=now + 2 * SILENCE)
    assert await desk.commands() == {}


async def test_a_new_version_is_told_again_with_a_higher_serial(province: Province, desk: Desk) -> None:
    await province.device("im-lang", "a1", kind="board")
    now = utc_now()
    await province.heard("im-lang", at=now)
    alert = await desk.issue(now)
    await desk.prompter.prompt_once(now=now + SILENCE)
    (first,) = (await desk.commands()).values()

    await desk.update(alert, now + SILENCE)
    # As if by a replica whose clock is behind.
    await province.execute("UPDATE control.command_serials SET serial = serial + 86400000")
    await desk.prompter.prompt_once(now=now + 3 * SILENCE)
    (second,) = (await desk.commands()).values()

    assert second.serial > first.serial + 86_400_000
    assert second.alert != first.alert


async def test_a_silence_is_told_once_more_and_a_test_is_not(province: Province, desk: Desk) -> None:
    await province.device("im-lang", "a1", kind="board")
    now = utc_now()
    await province.heard("im-lang", at=now)
    await desk.issue(now, purpose=Purpose.SILENT_TEST)
    await desk.prompter.prompt_once(now=now + SILENCE)
    assert await desk.commands() == {}

    await desk.issue(now, purpose=Purpose.SILENCE)
    await desk.prompter.prompt_once(now=now + SILENCE)

    assert len(await desk.commands()) == 1


async def test_of_two_alerts_a_device_is_told_one_at_a_time(province: Province, desk: Desk) -> None:
    await province.device("im-lang", "a1", kind="board")
    now = utc_now()
    await province.heard("im-lang", at=now)
    for _ in range(2):
        await desk.issue(now)

    await desk.prompter.prompt_once(now=now + SILENCE)
    first = await desk.commands()
    await desk.prompter.prompt_once(now=now + SILENCE + SECOND)
    second = await desk.commands()

    assert (len(first), len(second)) == (1, 1)
    assert next(iter(second.values())).serial > next(iter(first.values())).serial


async def test_so_many_at_a_time_and_replicas_do_not_double_them(province: Province, desk: Desk) -> None:
    now = utc_now()
    for number in range(AT_ONCE + 5):
        await province.device(f"im-{number}", "a1", kind="board")
        await province.heard(f"im-{number}", at=now)
    await desk.issue(now)
    other = Desk(province, desk.keyring)

    await desk.prompter.prompt_once(now=now + SILENCE)
    assert len(await desk.commands()) == AT_ONCE
    await asyncio.gather(*(each.prompter.prompt_once(now=now + SILENCE + SECOND) for each in (desk, other)))

    assert len(await desk.commands()) == 5


async def test_what_does_not_fit_a_command_goes_by_the_area_alone(province: Province, desk: Desk) -> None:
    await province.device("im-lang", "a1", kind="board")
    now = utc_now()
    await province.heard("im-lang", at=now)
    alert = await desk.issue(now)
    await province.execute("UPDATE control.alert_versions SET message = $1", bytes(8 * 1024))

    await desk.prompter.prompt_once(now=now + SILENCE)

    assert await desk.commands() == {}
    assert alert.version == 1


async def test_that_a_device_refuses_it_is_seen_in_its_reach(province: Province, desk: Desk) -> None:
    await province.device("im-lang", "a1", kind="board")
    now = utc_now()
    await province.heard("im-lang", at=now)
    alert = await desk.issue(now)
    await desk.prompter.prompt_once(now=now + SILENCE)
    (command,) = (await desk.commands()).values()
    await province.event(
        "im-lang",
        CommandDone(
            device_at_ms=to_ms(now),
            clock=ClockState.SYNCHRONISED,
            command_id=command.command_id,
            result=CommandResult.FAILED,
            detail="refused: unknown_key",
        ),
    )
    while await desk.keeper.follow_once(now=now):
        pass

    async with province.control.connection() as connection:
        found = await reach_store.reach(
            connection, alert, list(province.units.values()), now=now + timedelta(seconds=20)
        )
    (device,) = found.devices
    assert (device.reason, device.detail) == ("refused", "refused: unknown_key")

    # Its own later word counts more: it has been given the key meanwhile.
    await province.event("im-lang", handled(alert, AlertResult.TAKEN))
    while await desk.keeper.follow_once(now=now):
        pass
    assert await province.value("SELECT told FROM control.alert_reach") == "taken"
