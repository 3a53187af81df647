"""Relay sources in a database, wanted by emissions, and what a device would read of them."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from schemas import signing
from schemas.relays import Segment, SegmentList
from services.control.engine_settings import RelaySettings
from services.control.metrics import ControlMetrics
from services.control.relay_files import RelayFiles
from services.control.relay_point import run_relay_point
from services.control.trust.keyring import Keyring
from services.shared.clock import utc_now
from services.shared.database.pool import Database
from tests.support.control import Province, some_metrics, verifier

SETTINGS = RelaySettings(
    segment=timedelta(milliseconds=500),
    delay=timedelta(seconds=2),
    stall_after=timedelta(seconds=1),
    networks=(ip_network("127.0.0.0/8"),),
    turn_every=timedelta(milliseconds=100),
)


async def add_source(province: Province, url: str, **columns: Any) -> uuid.UUID:
    """A source in the first unit of the province; silent after one second."""
    source_id = uuid.uuid4()
    values = {
        "source_id": source_id,
        "unit_id": next(iter(province.units.values())),
        "name": "VOV1",
        "kind": "stream",
        "url": url,
        "is_direct": False,
        "silence_after_ms": 1_000,
        "created_at": utc_now(),
        "created_by": province.account_id,
        **columns,
    }
    places = ", ".join(f"${number}" for number in range(1, len(values) + 1))
    await province.execute(
        f"INSERT INTO control.relay_sources ({', '.join(values)}) VALUES ({places})", *values.values()
    )
    return source_id


async def want(province: Province, source_id: uuid.UUID, device_id: str, **columns: Any) -> None:
    """An emission of the source on a device, on the air now unless said otherwise; as planning would write it."""
    broadcast_id = await province.broadcast(next(iter(province.units)), [])
    now = utc_now()
    values = {
        "broadcast_id": broadcast_id,
        "occurrence_at": now,
        "item": 0,
        "device_no": province.devices[device_id],
        "unit_id": next(iter(province.units.values())),
        "relay_source_id": source_id,
        "content": "relay",
        "level": "normal",
        "issuer_depth": 0,
        "starts_at": now - timedelta(seconds=1),
        "ends_at": now + timedelta(minutes=10),
        "latest_start_at": now + timedelta(minutes=10),
        "fingerprint": b"",
        "planned_at": now,
        **columns,
    }
    places = ", ".join(f"${number}" for number in range(1, len(values) + 1))
    await province.execute(f"INSERT INTO control.emissions ({', '.join(values)}) VALUES ({places})", *values.values())


@asynccontextmanager
async def a_relay_point(
    database: Database,
    files: RelayFiles,
    keyring: Keyring,
    *,
    settings: RelaySettings = SETTINGS,
    metrics: ControlMetrics | None = None,
) -> AsyncIterator[None]:
    """A relay point at work; at the end it is stopped as control stops it."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(
            run_relay_point(
                database, files=files, settings=settings, keyring=keyring, metrics=metrics or some_metrics()
            )
        )
        try:
            yield
        finally:
            task.cancel()


class Listener:
    """Reads a source as a device does: signature, source, age, hashes."""

    def __init__(self, files: RelayFiles, source_id: uuid.UUID, keyring: Keyring) -> None:
        self._files = files
        self._source_id = source_id
        self._keys: dict[bytes, Ed25519PublicKey] = dict(verifier(keyring))
        self._last_ms = 0
        self.segments: dict[int, Segment] = {}  # all there have been, by sequence
        self.sound: dict[int, bytes] = {}

    async def look(self) -> SegmentList | None:
        """The list as it is now, and every segment it names; None while there is none."""
        message = await self._files.read_list(self._source_id, not_before=utc_now() - timedelta(seconds=30))
        if message is None:
            return None
        listed = signing.verify(SegmentList, message, self._keys)
        assert listed.source_id == self._source_id
        assert listed.issued_at_ms >= self._last_ms
        self._last_ms = listed.issued_at_ms
        for segment in listed.segments:
            content = await self._files.read_segment(self._source_id, segment.sha256)
            assert content is not None, f"segment {segment.sequence} is listed and not there"
            assert (len(content), hashlib.sha256(content).digest()) == (segment.size, segment.sha256)
            assert self.segments.setdefault(segment.sequence, segment) == segment
            self.sound[segment.sequence] = content
        return listed

    async def until(self, is_so: Callable[[SegmentList], bool], *, within_s: float = 20) -> SegmentList:
        """Look until a list is as wanted."""
        async with asyncio.timeout(within_s):
            while True:
                listed = await self.look()
                if listed is not None and is_so(listed):
                    return listed
                await asyncio.sleep(0.05)
