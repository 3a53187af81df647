"""The sealer: chains what was recorded, signs the head of the chain once a day, and sends it away.

One replica seals at a time. It remembers what it sealed last: a chain that is shorter, or other, than it was a second
ago is told at once. Before a head is signed everything since the one before is verified; a broken chain gets none.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from datetime import datetime, timedelta

from services.control import audit
from services.control.audit import Entry
from services.control.auditing import chain_store, heads, sending
from services.control.auditing.chain import BEGINNING, Finding, Link, Walk, Wrong, sealed
from services.control.auditing.heads import Head
from services.control.engine_settings import AuditSettings
from services.control.metrics import ControlMetrics
from services.control.trust.keyring import Keyring
from services.control.turns import take_turns
from services.shared.clock import utc_now
from services.shared.database.pool import Connection, Database

TURN_EVERY = timedelta(seconds=1)
BATCH = 1_000
COUNT_EVERY = timedelta(seconds=15)
TRY_EVERY = timedelta(minutes=5)  # to sign, where verifying found the chain broken

log = logging.getLogger(__name__)


async def run_sealer(database: Database, *, settings: AuditSettings, keyring: Keyring, metrics: ControlMetrics) -> None:
    """Seal, sign and send away until cancelled."""
    sealer = Sealer(database, settings=settings, keyring=keyring, metrics=metrics)
    await take_turns(
        "audit", lambda: sealer.turn(now=utc_now()), every=TURN_EVERY, wake=asyncio.Event(), metrics=metrics
    )


class Sealer:
    """The sealer of one process."""

    def __init__(
        self, database: Database, *, settings: AuditSettings, keyring: Keyring, metrics: ControlMetrics
    ) -> None:
        self._database = database
        self._settings = settings
        self._keyring = keyring
        self._metrics = metrics
        self._sealed: tuple[int, bytes] | None = None  # the last link we know to have been there
        self._told: tuple[Wrong, int | None] | None = None
        self._counted_at: datetime | None = None
        self._tried_at: datetime | None = None  # to sign
        self._sent = 0  # number of the newest head in the directory, as far as we know

    async def turn(self, *, now: datetime) -> bool:
        """Seal what waits, sign when it is time, send what has not been sent; says whether more waits."""
        async with self._database.transaction() as connection:
            if not await chain_store.try_lock(connection):
                return False
            more = await self._seal(connection, now=now)
            last = await chain_store.last(connection)
        self._sealed = last  # only now is it committed
        if not more:
            await self._sign_daily(now=now)
            await self._send_away(now=now)
        return more

    async def _seal(self, connection: Connection, *, now: datetime) -> bool:
        if self._sealed is not None and await chain_store.hash_of(connection, self._sealed[0]) != self._sealed[1]:
            gone = Finding(
                wrong=Wrong.TRUNCATED,
                number=self._sealed[0],
                audit_id=None,
                detail="the link that was the last one a moment ago is gone, or another",
            )
            await self._tell(connection, gone, now=now)
        links = await _seal_batch(connection, now=now)
        return len(links) == BATCH

    async def _sign_daily(self, *, now: datetime) -> None:
        async with self._database.transaction() as connection:
            newest = await chain_store.newest_head(connection)
            is_ours = newest is not None and newest.kid == self._keyring.kid
            if newest is not None and is_ours and now - newest.signed_at < self._settings.head_every:
                return
            if self._tried_at is not None and now - self._tried_at < TRY_EVERY:
                return
            self._tried_at = now
            if await chain_store.try_lock(connection):
                await self._sign(connection, now=now)

    async def _sign(self, connection: Connection, *, now: datetime) -> None:
        signed = await sign_head(connection, self._keyring, now=now)
        if isinstance(signed, Finding):
            await self._tell(connection, signed, now=now)
        elif signed is not None:
            self._metrics.audit_seal_broken.set(0)

    async def _tell(self, connection: Connection, finding: Finding, *, now: datetime) -> None:
        """Say that the chain is broken: once for each place, in the audit too, which then is about itself."""
        self._metrics.audit_seal_broken.set(1)
        if self._told == (finding.wrong, finding.number):
            return
        self._told = finding.wrong, finding.number
        facts = {"wrong": finding.wrong.value, "number": finding.number, "detail": finding.detail}
        log.error("audit_seal_broken", extra=facts)
        entry = Entry(action="audit_seal_broken", subject="audit", after=facts)
        await audit.record(connection, entry, actor=None, origin=None, at=now)

    async def _send_away(self, *, now: datetime) -> None:
        async with self._database.connection() as connection:
            if self._settings.head_directory is not None:
                await self._write(await chain_store.heads(connection, after=self._sent))
            if self._counted_at is None or now - self._counted_at >= COUNT_EVERY:
                self._counted_at = now
                await self._count(connection, now=now)

    async def _write(self, waiting: tuple[Head, ...]) -> None:
        directory = self._settings.head_directory
        assert directory is not None
        for head in waiting:
            try:
                await asyncio.to_thread(sending.write, directory, head)
            except OSError as error:
                log.warning("audit_head_not_written", extra={"directory": str(directory), "reason": str(error)})
                return
            self._sent = head.number

    async def _count(self, connection: Connection, *, now: datetime) -> None:
        found = await chain_store.count_waiting(connection)
        self._metrics.audit_unsealed.set(found.entries)
        newest = await chain_store.newest_head(connection)
        is_sent = newest is not None and (self._settings.head_directory is None or self._sent >= newest.number)
        if newest is not None and is_sent:
            self._metrics.audit_head_seconds.set((now - newest.signed_at).total_seconds())


async def seal_waiting(connection: Connection, *, now: datetime) -> None:
    """Seal all that waits; the caller holds the lock."""
    while await _seal_batch(connection, now=now):
        pass


async def _seal_batch(connection: Connection, *, now: datetime) -> tuple[Link, ...]:
    entries = await chain_store.waiting(connection, limit=BATCH)
    links = sealed(entries, after=await chain_store.last(connection), at=now)
    if links:
        await chain_store.append(connection, links)
    return links


async def sign_head(connection: Connection, keyring: Keyring, *, now: datetime) -> Head | Finding | None:
    """Sign the end of the chain after verifying it since the head before; None of a chain without links.

    The caller holds the lock.
    """
    newest = await chain_store.newest_head(connection)
    number, previous = (newest.number, newest.hash) if newest is not None else (0, BEGINNING)
    if await chain_store.hash_of(connection, number) != previous:
        detail = "the link that was signed last is gone, or another"
        return Finding(wrong=Wrong.REWRITTEN, number=number, audit_id=None, detail=detail)
    walk = await verify(connection, after=number, previous=previous, known={})
    if walk.finding is not None:
        return walk.finding
    if walk.number == 0:
        return None
    head = heads.sign(walk.number, walk.hash, keyring.private_key, now=now)
    if newest is None or head.number > newest.number:
        await chain_store.keep_head(connection, head)
        entries = [Entry(action="audit_head_signed", subject="audit", after=head.facts)]
        if newest is not None and newest.kid != head.kid:
            was, is_now = {"key": newest.kid.hex()}, {"key": head.kid.hex()}
            entries.append(Entry(action="signing_key_changed", subject="signing_key", before=was, after=is_now))
        await audit.record_all(connection, entries, actor=None, origin=None, at=now)
        return head
    return newest


async def verify(connection: Connection, *, after: int, previous: bytes, known: Mapping[int, bytes]) -> Walk:
    """Walk along the chain behind a link to its end; one transaction, so that nothing is sealed meanwhile."""
    walk = Walk(number=after, hash=previous, heads=known)
    while links := await chain_store.links(connection, after=walk.number, limit=BATCH):
        for link in links:
            walk.take(link)
    walk.end()
    if (found := await chain_store.stray(connection)) is not None:
        walk.stray(found[0], is_gone=found[1])
    return walk
