"""The prompter: tells an alert once more, by a command of its own, to a device that is heard from and says nothing.

The area's topic reaches everybody at once and is what counts. But a subscription can be lost on one device, or a broker's
rule stand against one topic: then the same signed bytes come to it on its own topic. What came both ways is played once.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta

from schemas import limits
from schemas.commands import Action, Command
from schemas.topics import Downlink, DownlinkKind
from services.control.alerting import prompt_store
from services.control.delivery import outbox
from services.control.delivery.outbox import Publish
from services.control.metrics import ControlMetrics
from services.control.orders import BACKDATE
from services.control.planning.model import to_ms
from services.control.trust.keyring import Keyring
from services.control.turns import take_turns
from services.shared.clock import utc_now
from services.shared.database.pool import Database

SILENCE = timedelta(seconds=5)  # after the broker took the alert: a device answers within one
TURN_EVERY = timedelta(seconds=2)
AT_ONCE = 100  # devices prompted in a turn: a province that says nothing must not drown what else is sent
VALID_FOR = timedelta(minutes=1)
# What is left of a command for the alert inside it; a larger one goes by the area's topic alone.
LARGEST_ALERT = limits.COMMAND_BYTES - 512

log = logging.getLogger(__name__)


async def run_alert_prompter(
    database: Database, *, keyring: Keyring, metrics: ControlMetrics, wake_alerts: Callable[[], None]
) -> None:
    """Prompt until cancelled."""
    prompter = AlertPrompter(database, keyring=keyring, metrics=metrics, wake_alerts=wake_alerts)
    await take_turns(
        "alert_prompter",
        lambda: prompter.prompt_once(now=utc_now()),
        every=TURN_EVERY,
        wake=asyncio.Event(),
        metrics=metrics,
    )


class AlertPrompter:
    """The prompter of one process."""

    def __init__(
        self, database: Database, *, keyring: Keyring, metrics: ControlMetrics, wake_alerts: Callable[[], None]
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._metrics = metrics
        self._wake_alerts = wake_alerts

    async def prompt_once(self, *, now: datetime) -> bool:
        """Prompt the devices that are silent, some at a time; the rest have their turn a little later."""
        async with self._database.transaction() as connection:
            silent = await prompt_store.silent(
                connection, for_at_least=SILENCE, largest=LARGEST_ALERT, limit=AT_ONCE, now=now
            )
            if not silent:
                return False
            serials = await prompt_store.serials(connection, [each.device_no for each in silent], at_least=to_ms(now))
            prompted = [(each, uuid.uuid4()) for each in silent]
            await outbox.enqueue(
                connection,
                [
                    Publish(
                        topic=Downlink(principal=each.principal, kind=DownlinkKind.COMMAND, device=each.device_id),
                        payload=self._keyring.sign(
                            Command(
                                device=each.device_id,
                                serial=serials[each.device_no],
                                issued_at_ms=to_ms(now),
                                valid_from_ms=to_ms(now - BACKDATE),
                                valid_until_ms=to_ms(min(each.valid_until, now + VALID_FOR)),
                                command_id=command_id,
                                action=Action.ALERT,
                                alert=each.message,
                            )
                        ),
                        kind=outbox.ALERT,
                        device_no=each.device_no,
                        serial=serials[each.device_no],
                        expires_at=min(each.valid_until, now + VALID_FOR),
                    )
                    for each, command_id in prompted
                ],
                at=now,
            )
            await prompt_store.note(connection, prompted, at=now)
        self._wake_alerts()
        self._metrics.alert_commands.inc(len(prompted))
        log.info("devices_prompted", extra={"devices": len(prompted)})
        return False
