"""The keeper of alerts: looks up whom they mean, follows what devices say, and lets them expire; also what waited in vain.

All of it happens after an alert is on its way: nothing here stands between a person's word and the broker. Events are
followed by a cursor of their own, one replica at a time; looking up an audience twice does no harm. When devices have
stopped believing the key that signed what holds (it was stolen), the same is said again under the present one.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from schemas import alerts as wire
from schemas.identifiers import AlertId
from schemas.topics import AreaAlert
from services.control import alerts, issue_store, operation_store, operations
from services.control.alerting import alert_store, prompt_store, reach_store
from services.control.alerting.addressing import addressed
from services.control.alerting.prompt_store import Refused
from services.control.alerting.reach import REASONS, Reach
from services.control.alerting.reach_store import Play, Told
from services.control.delivery import outbox
from services.control.delivery.outbox import Publish
from services.control.errors import Refusal
from services.control.metrics import ControlMetrics
from services.control.planning.model import from_ms
from services.control.report_store import has_unsettled
from services.control.trust.keyring import Keyring
from services.control.turns import take_turns_listening
from services.control.unit_directory import UnitDirectory
from services.control.units import UnitTree
from services.shared.clock import utc_now
from services.shared.database.pool import Connection, Database
from services.shared.settings import DatabaseSettings

EVENTS = "telemetry_committed"
BATCH = 2_000
COUNT_EVERY = timedelta(seconds=15)
# Of those, monitoring is told: what waits may yet come, and where it was stopped it is not wanted.
UNREACHED = tuple(reason for reason in REASONS if reason not in ("reached", "reached_late", "waiting", "stopped_here"))
# The first second of a version belongs to its way to the devices: looking up thousands of them takes the processors that
# database, broker and lane need then.
LOOK_UP_AFTER = timedelta(seconds=1)
LOOK_UP_EVERY = timedelta(minutes=1)  # devices come, move and go while an alert holds
TURN_EVERY = timedelta(seconds=1)
LOOK_AT_KEYS_EVERY = timedelta(minutes=1)  # another process may still sign with a key that this one has seen withdrawn
KEYS_FIRST = timedelta(minutes=1)  # how long what is signed anew waits for the key set to reach the broker
SETTLING = timedelta(milliseconds=50)  # how long to leave an older transaction alone that hides what we were woken for
_PLAYS = {"play_started", "play_ended", "play_missed"}

log = logging.getLogger(__name__)


async def run_alert_keeper(
    database: Database,
    *,
    listening: DatabaseSettings,
    time_zone: ZoneInfo,
    keyring: Keyring,
    metrics: ControlMetrics,
    wake_alerts: Callable[[], None],
) -> None:
    """Look up, follow and expire until cancelled."""
    keeper = AlertKeeper(
        database,
        time_zone=time_zone,
        keyring=keyring,
        metrics=metrics,
        wake_alerts=wake_alerts,
        look_up_after=LOOK_UP_AFTER,
    )
    loops = (
        ("alert_follower", keeper.follow_once, [EVENTS]),
        ("alert_keeper", keeper.keep_once, [alert_store.CHANNEL]),
    )
    async with asyncio.TaskGroup() as group:
        for name, turn, channels in loops:
            group.create_task(
                take_turns_listening(
                    name,
                    lambda turn=turn: turn(now=utc_now()),  # type: ignore[misc]
                    every=TURN_EVERY,
                    listening=listening,
                    channels=channels,
                    metrics=metrics,
                )
            )


class AlertKeeper:
    """The keeper of one process."""

    def __init__(
        self,
        database: Database,
        *,
        time_zone: ZoneInfo,
        keyring: Keyring,
        metrics: ControlMetrics,
        wake_alerts: Callable[[], None],
        look_up_after: timedelta = timedelta(0),
    ) -> None:
        self._database = database
        self._directory = UnitDirectory(time_zone)
        self._keyring = keyring
        self._keys_hash = hashlib.sha256(keyring.announced.message).digest()
        self._metrics = metrics
        self._wake_alerts = wake_alerts
        self._look_up_after = look_up_after
        self._counted_at: datetime | None = None
        self._keys_looked_at: datetime | None = None
        self._disbelieved_since: datetime | None = None

    async def keep_once(self, *, now: datetime) -> bool:
        """Look up audiences that are not known, or were looked up a while ago, and end what is over."""
        async with self._database.connection() as connection:
            tree = await self._directory.tree(connection, now=now)
            waiting = await reach_store.to_resolve(
                connection, looked_up_before=now - LOOK_UP_EVERY, issued_before=now - self._look_up_after, now=now
            )
        for alert_id in waiting:
            async with self._database.transaction() as connection:
                await self._look_up(connection, alert_id, tree, now=now)
        async with self._database.transaction() as connection:
            await operations.expire(connection, tree=tree, now=now)
        await self._expire(tree, now=now)
        await self._sign_anew(tree, now=now)
        await self._count(tree, now=now)
        return False

    async def _sign_anew(self, tree: UnitTree, *, now: datetime) -> None:
        """Say again, under our key, what devices do not believe any more: once they have been told which key that is."""
        if self._keys_looked_at is not None and now < self._keys_looked_at + LOOK_AT_KEYS_EVERY:
            return
        if not self._keyring.may_sign(now=now):
            return  # what is signed now would be believed no more than what there is, and be said again and again
        async with self._database.connection() as connection:
            disbelieved = await self._disbelieved(connection, now=now)
            if disbelieved:
                self._disbelieved_since = self._disbelieved_since or now
                are_out = await issue_store.keys_are_out(connection, keys_hash=self._keys_hash)
                if not are_out and now < self._disbelieved_since + KEYS_FIRST:
                    return
        for alert_id in disbelieved:
            async with self._database.transaction() as connection:
                alert = await alert_store.alert_for_update(connection, alert_id)
                if alert_id not in await self._disbelieved(connection, now=now):
                    continue  # another replica has been at it
                try:
                    await alerts.sign_anew(connection, alert, tree=tree, keyring=self._keyring, now=now)
                except Refusal as refusal:
                    # It has been changed too often, or is at the limit of size: whoever spoke has to say it again.
                    log.warning("alert_not_signed_anew", extra={"alert_id": str(alert_id), "reason": str(refusal)})
                else:
                    log.warning("alert_signed_anew", extra={"alert_id": str(alert_id), "version": alert.version + 1})
        if disbelieved:
            self._wake_alerts()
        self._keys_looked_at, self._disbelieved_since = now, None

    async def _disbelieved(self, connection: Connection, *, now: datetime) -> list[AlertId]:
        return [
            alert_id
            for alert_id, messages in await alert_store.what_holds(connection, now=now)
            if not all(self._keyring.is_believed(wire.Alert, message) for message in messages)
        ]

    async def _count(self, tree: UnitTree, *, now: datetime) -> None:
        """Tell monitoring how many are in force, and every few seconds whom they have not reached."""
        async with self._database.connection() as connection:
            counts = await reach_store.in_force(connection, now=now)
            asked, alone = await operation_store.open_counts(connection)
            if self._counted_at is None or now >= self._counted_at + COUNT_EVERY:
                self._counted_at = now
                self._unreached(await self._reaches(connection, tree, now=now))
        self._metrics.requests_waiting.set(asked)
        self._metrics.glass_broken.set(alone)
        for purpose in ("alert", "silent_test", "audible_test", "silence"):
            self._metrics.alerts_in_force.labels(purpose).set(counts.get(purpose, 0))

    async def _reaches(self, connection: Connection, tree: UnitTree, *, now: datetime) -> list[Reach]:
        """How the alerts in force that are meant in earnest stand with every device."""
        everywhere = [unit.unit_id for unit in tree]
        found: list[Reach] = []
        for alert_id in await reach_store.in_earnest(connection, now=now):
            alert = await alert_store.alert(connection, alert_id)
            found += (await reach_store.reach(connection, alert, everywhere, now=now)).devices
        return found

    def _unreached(self, reaches: Iterable[Reach]) -> None:
        counts = Counter(each.reason for each in reaches if not each.is_reached)
        for reason in UNREACHED:
            self._metrics.alert_unreached.labels(reason).set(counts[reason])

    async def follow_once(self, *, now: datetime) -> bool:
        """Deal with the next committed events; returns whether there may be more."""
        del now
        async with self._database.transaction() as connection:
            place = await reach_store.lock_cursor(connection)
            if place is None:
                return False
            told = await reach_store.load_told(connection, place, limit=BATCH)
            if told:
                place = told[-1].place
                ours = [each for each in told if each.counts]
                words = tuple(_words(ours))
                plays = [play for each in ours if (play := _play(each)) is not None]
                await reach_store.note_words(connection, words)
                await prompt_store.note_refused(connection, _refusals(ours))
                await reach_store.note_plays(connection, plays)
                about = {(alert_id, word.device_no) for alert_id, word, *_ in words}
                await reach_store.sum_up(connection, about | {(play.alert_id, play.device_no) for play in plays})
                await reach_store.move_cursor(connection, place)
            is_early = await has_unsettled(connection, place)
        is_full = len(told) == BATCH
        if is_early and not is_full:
            await asyncio.sleep(SETTLING.total_seconds())
        return is_early or is_full

    async def _look_up(self, connection: Connection, alert_id: uuid.UUID, tree: UnitTree, *, now: datetime) -> None:
        alert = await alert_store.alert(connection, alert_id)
        wish = alert.draft.audience
        ground = {below for unit in wish.units for below in tree.subtree(unit)}
        found = await reach_store.candidates(connection, ground, wish.devices)
        meant = await asyncio.to_thread(addressed, alert, found, tree)
        await reach_store.put_audience(
            connection, alert.alert_id, alert.version, [(each.device_no, each.unit_id) for each in meant], at=now
        )

    async def _expire(self, tree: UnitTree, *, now: datetime) -> None:
        async with self._database.transaction() as connection:
            for alert_id in await reach_store.expired(connection, now=now):
                alert = await alert_store.alert_for_update(connection, alert_id)
                try:
                    await alerts.expire(connection, alert, tree=tree, keyring=self._keyring, now=now)
                except Refusal as refusal:
                    log.warning("alert_not_expired", extra={"alert_id": str(alert_id), "reason": str(refusal)})
                else:
                    log.info("alert_expired", extra={"alert_id": str(alert_id), "version": alert.version})
            cleared = await reach_store.forget_topics(connection, now=now)
            await outbox.enqueue(
                connection,
                [
                    Publish(topic=AreaAlert(unit, alert_id), payload=b"", kind=outbox.ALERT)
                    for alert_id, unit in cleared
                ],
                at=now,
            )
        if cleared:
            self._wake_alerts()


def _words(told: Iterable[Told]) -> Iterable[tuple[uuid.UUID, Told, int, str, str | None]]:
    """What devices say they did with versions; what we cannot read is no word."""
    for each in told:
        if each.kind != "alert_handled":
            continue
        try:
            yield (
                uuid.UUID(each.body["alert_id"]),
                each,
                int(each.body["alert_version"]),
                str(each.body["result"]),
                each.body.get("detail"),
            )
        except (KeyError, TypeError, ValueError):
            log.warning("alert_word_not_read", extra={"event_no": each.place.event_no})


def _refusals(told: Iterable[Told]) -> Iterable[Refused]:
    """Answers to commands that what was in them is refused; whether it was an alert, the record of commands knows."""
    for each in told:
        detail = each.body.get("detail")
        if each.kind != "command_done" or each.body.get("result") != "failed" or not isinstance(detail, str):
            continue
        if detail.startswith("refused") and (command_id := _uuid(each.body.get("command_id"))) is not None:
            yield Refused(
                command_id=command_id, device_no=each.device_no, detail=detail, at=each.at, told_by=each.told_by
            )


def _uuid(value: Any) -> uuid.UUID | None:
    try:
        return uuid.UUID(value)
    except (TypeError, ValueError, AttributeError):
        return None


def _play(told: Told) -> Play | None:
    """What is said of a repetition of an alert; None for every other play."""
    if told.kind not in _PLAYS:
        return None
    body: Mapping[str, Any] = told.body
    try:
        reference = body["reference"]
        if reference["source"] != "alert":
            return None
        outcome = "missed" if told.kind == "play_missed" else body.get("outcome")
        return Play(
            alert_id=uuid.UUID(reference["id"]),
            device_no=told.device_no,
            occurrence_at=from_ms(int(reference["occurrence_at_ms"])),
            item=int(reference["item"]),
            started_at=_instant(body.get("started_at_ms")),
            ended_at=_instant(body.get("ended_at_ms")),
            outcome=outcome,
            reason=body.get("reason"),
            sounded_ms=body.get("sounded_ms"),
            told_by=told.told_by,
            is_signed=told.is_signed,
        )
    except (KeyError, TypeError, ValueError):
        return None


def _instant(at_ms: Any) -> datetime | None:
    return from_ms(int(at_ms)) if at_ms is not None else None
