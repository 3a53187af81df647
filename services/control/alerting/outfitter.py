"""The outfitter: sees to it that devices have something to sound before anything happens.

The bare tones, and in a new installation a few alerts prepared for the root unit. Both are made once, whichever replica
is first: the same words are the same file, and what is stored is stored under a lock.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from services.control.alerting import template_store, templates
from services.control.alerting.prepared import prepared
from services.control.alerting.rendering import Unrenderable
from services.control.alerting.sounds import Workshop
from services.control.alerting.templates import Hand
from services.control.errors import Refusal
from services.control.metrics import ControlMetrics
from services.control.turns import take_turns
from services.control.unit_directory import UnitDirectory
from services.control.units import UnitTree
from services.shared.clock import utc_now
from services.shared.database.pool import Database

EVERY = timedelta(seconds=20)  # units may be imported any time after the start

log = logging.getLogger(__name__)


async def run_alert_outfitter(
    database: Database, *, workshop: Workshop, time_zone: ZoneInfo, prepares: bool, metrics: ControlMetrics
) -> None:
    """Outfit until cancelled; `prepares`: a new installation is given templates."""
    outfitter = AlertOutfitter(database, workshop=workshop, time_zone=time_zone, prepares=prepares)
    await take_turns(
        "alert_outfitter",
        lambda: outfitter.outfit_once(now=utc_now()),
        every=EVERY,
        wake=asyncio.Event(),
        metrics=metrics,
    )


class AlertOutfitter:
    """The outfitter of one process."""

    def __init__(self, database: Database, *, workshop: Workshop, time_zone: ZoneInfo, prepares: bool) -> None:
        self._database = database
        self._workshop = workshop
        self._directory = UnitDirectory(time_zone)
        self._prepares = prepares

    async def outfit_once(self, *, now: datetime) -> bool:
        """Make what is missing, once there is a unit to make it for; what cannot be made is tried again later."""
        async with self._database.connection() as connection:
            tree = await self._directory.tree(connection, now=now)
        if not tree.roots:
            return False
        hand = Hand(actor=None, origin=None, now=now)
        try:
            if await templates.lay_out_tones(self._database, self._workshop, tree, hand=hand):
                log.info("alert_tones_laid_out")
            if self._prepares:
                await self._prepare(tree, hand)
        except (Refusal, Unrenderable) as reason:
            log.warning("alert_sounds_not_made", extra={"reason": str(reason)})
        return False

    async def _prepare(self, tree: UnitTree, hand: Hand) -> None:
        async with self._database.connection() as connection:
            if await template_store.has_any(connection):
                return
        root = tree.roots[0].unit_id
        voiced = [
            await templates.voiced(self._database, self._workshop, each, before=None, hand=hand)
            for each in prepared(root, now=hand.now)
        ]
        async with self._database.transaction() as connection:
            await template_store.lock_all(connection)
            if await template_store.has_any(connection):
                return
            for each in voiced:
                await templates.create(connection, each, tree, hand=hand)
        log.info("alert_templates_prepared", extra={"templates": len(voiced)})
