"""The speaker: says in words what came as CAP, which brings no sound that devices hold.

Such an alert begins with a bare tone, so that it waits for nothing. Its words are spoken afterwards by the engine that
speaks templates, and it goes out as its next version with both. Whoever changed, ended or stopped it meanwhile is not
spoken over, nor who released it in other words; what cannot be spoken keeps its tone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from schemas.identifiers import AlertId
from services.control import alerts
from services.control.alerting import alert_store, template_store, voicing
from services.control.alerting.model import Alert, Origin
from services.control.alerting.rendering import Unrenderable
from services.control.alerting.sounds import Workshop
from services.control.alerts import By
from services.control.errors import Refusal
from services.control.metrics import ControlMetrics
from services.control.trust.keyring import Keyring
from services.control.turns import take_turns
from services.control.unit_directory import UnitDirectory
from services.shared.clock import utc_now
from services.shared.database.pool import Database

EVERY = timedelta(seconds=3)
LEAST_LEFT = timedelta(seconds=30)  # of an alert's time: the voice takes seconds to be made, and longer to be fetched

log = logging.getLogger(__name__)


async def run_alert_speaker(
    database: Database,
    *,
    workshop: Workshop,
    time_zone: ZoneInfo,
    keyring: Keyring,
    metrics: ControlMetrics,
    wake_alerts: Callable[[], None],
) -> None:
    """Speak until cancelled."""
    speaker = AlertSpeaker(database, workshop=workshop, time_zone=time_zone, keyring=keyring, wake_alerts=wake_alerts)
    await take_turns(
        "alert_speaker",
        lambda: speaker.speak_once(now=utc_now()),
        every=EVERY,
        wake=asyncio.Event(),
        metrics=metrics,
    )


class AlertSpeaker:
    """The speaker of one process."""

    def __init__(
        self,
        database: Database,
        *,
        workshop: Workshop,
        time_zone: ZoneInfo,
        keyring: Keyring,
        wake_alerts: Callable[[], None],
    ) -> None:
        self._database = database
        self._workshop = workshop
        self._directory = UnitDirectory(time_zone)
        self._keyring = keyring
        self._wake_alerts = wake_alerts
        self._unspoken: set[tuple[AlertId, int]] = set()  # versions that cannot be spoken

    async def speak_once(self, *, now: datetime) -> bool:
        """Give one alert its voice; returns whether there may be another that wants one."""
        async with self._database.connection() as connection:
            tones = set((await template_store.tones(connection)).values())
            found = await alert_store.in_force_of(connection, Origin.CAP, now=now + LEAST_LEFT)
        self._unspoken &= {(each.alert_id, each.version) for each in found}
        wanting = [each for each in found if not each.stopped_in and voicing.wants_a_voice(each.draft, tones)]
        alert = next((each for each in wanting if (each.alert_id, each.version) not in self._unspoken), None)
        if alert is None:
            return False
        try:
            sound = await self._workshop.make(self._database, voicing.job_of(alert.draft), by=None, now=now)
            await self._say(alert, sound.sha256, now=now)
        except (Refusal, Unrenderable, OSError) as reason:
            # Words from outside may be unspeakable, or leave no room for a voice; whatever it is, the tone sounds already.
            self._unspoken.add((alert.alert_id, alert.version))
            log.warning("alert_not_spoken", extra={"alert_id": str(alert.alert_id), "reason": str(reason)})
        return True

    async def _say(self, alert: Alert, sound: bytes, *, now: datetime) -> None:
        async with self._database.transaction() as connection:
            stored = await alert_store.alert_for_update(connection, alert.alert_id)
            if stored.version != alert.version or stored.is_over(now=now):
                return
            tree = await self._directory.tree(connection, now=now)
            draft = voicing.with_voice(stored.draft, sound)
            by = By(tree=tree, note="spoken")
            await alerts.update(connection, stored, draft, by=by, keyring=self._keyring, now=now)
        self._wake_alerts()
        log.info("alert_spoken", extra={"alert_id": str(alert.alert_id)})
