"""What one would write first: aiomqtt and asyncpg. A process: `python -m services.local.bench.naive`.

Two of them, both as one would honestly write them, with a loop over the client's messages and a pool: `insert_each` stores
every message with an INSERT of its own, `insert_batches` collects and uses `executemany`.

What they share with ingest: broker, TLS, QoS 1, subscriptions; the database server with its settings, and commits that
wait for the disk; columns, key (device and instant) and registry (by a name's index, in the INSERT), so that what is
stored is the same rows. What they are spared: partitions or hypertables, device states, totals, the ledger of events.

What they do not do, and ingest does: check values and who may speak for whom, keep what is wrong, judge clocks,
acknowledge after storing. aiomqtt acknowledges when it has read a message, before the loop sees it, so what was read
and not stored is lost when they are killed; and messages behind the first error too, for nothing is caught.

Nothing is done to slow them down: the C parser of CBOR, binary arguments, prepared statements (asyncpg keeps them),
columns that a message lacks left out of the decoding. Nothing is tuned that a first version would not have: uvloop,
several connections at once, COPY. One connection held for good instead of a pool would spare `insert_each` a second
round trip for each message (a pool resets what it gets back): 3,900 messages a second instead of 2,500.
"""

import asyncio
import json
import ssl
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import aiomqtt
import asyncpg
import cbor2

# Received again, a message changes nothing.
INSERT_HEARTBEAT = """
INSERT INTO naive.heartbeats
       (at, received_at, device_no, kind, clock_state, time_source, firmware, uptime_s,
        network_type, signal_dbm, network_operator, power_source, battery_percent, plan_serial, config_serial,
        storage_free_mib, storage_total_mib, journal_pending, volume_percent, temperature_tenths_c)
SELECT $2, now(), device_no, $3, $4, 0, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18
  FROM control.devices
 WHERE device_id = $1
    ON CONFLICT DO NOTHING
"""

INSERT_OTHER = """
INSERT INTO naive.others (at, device_no, uplink, body)
SELECT $2, device_no, $3, $4
  FROM control.devices
 WHERE device_id = $1
    ON CONFLICT DO NOTHING
"""

SUBSCRIBED = "subscribed"  # said when messages may come

BATCH = 1_000
BATCH_AGE_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What one is told, as a JSON file."""

    host: str
    port: int
    ca_file: str
    cert_file: str
    key_file: str
    database: str
    filters: Sequence[str]
    in_batches: bool

    def write(self, path: Path) -> None:
        """Write it down."""
        path.touch(mode=0o600)
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return what was written down."""
        return cls(**json.loads(path.read_text()))


@asynccontextmanager
async def subscribed(task: Task) -> AsyncIterator[aiomqtt.Client]:
    """A client that is given every uplink at QoS 1."""
    context = ssl.create_default_context(cafile=task.ca_file)
    context.load_cert_chain(task.cert_file, task.key_file)
    async with aiomqtt.Client(
        task.host,
        task.port,
        identifier="naive:1",
        protocol=aiomqtt.ProtocolVersion.V5,
        tls_context=context,
    ) as client:
        for topic_filter in task.filters:
            await client.subscribe(topic_filter, qos=1)
        print(SUBSCRIBED, flush=True)
        yield client


def row_of(message: aiomqtt.Message) -> tuple[str, tuple[object, ...]]:
    """Return the statement that stores a message, and its values."""
    assert isinstance(message.payload, bytes)
    uplink, device_id = str(message.topic).split("/")[-2:]
    body = cbor2.loads(message.payload)
    if uplink == "heartbeat":
        return INSERT_HEARTBEAT, (device_id, *heartbeat_values(body))
    if uplink == "event":
        body = body | {3: cbor2.loads(body[3])}
    at = instant((body[3] if uplink == "event" else body)[1])
    return INSERT_OTHER, (device_id, at, uplink, json.dumps(body, default=bytes.hex))


def heartbeat_values(body: Mapping[int, Any]) -> tuple[object, ...]:
    """Return the values of `INSERT_HEARTBEAT` behind the device."""
    network, power, storage = body.get(6, {}), body.get(7, {}), body.get(10, {})
    return (
        instant(body[1]),
        body[3],
        body[2],
        body[4],
        body[5],
        network.get(0),
        network.get(1),
        network.get(2),
        power.get(0),
        power.get(1),
        body.get(8),
        body.get(9),
        storage.get(0),
        storage.get(1),
        body.get(11),
        body.get(20),
        body.get(22),
    )


def instant(milliseconds: int) -> datetime:
    """Return the time that a device speaks of."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


async def insert_each(task: Task) -> None:
    """One INSERT for each message."""
    async with asyncpg.create_pool(task.database) as pool, subscribed(task) as client:
        async for message in client.messages:
            statement, values = row_of(message)
            await pool.execute(statement, *values)


async def insert_batches(task: Task) -> None:
    """One `executemany` for up to `BATCH` messages, or for what came within `BATCH_AGE_S` (looked at when one comes)."""
    async with asyncpg.create_pool(task.database) as pool, subscribed(task) as client:
        rows = defaultdict[str, list[tuple[object, ...]]](list)
        loop = asyncio.get_running_loop()
        count, began_at = 0, loop.time()
        async for message in client.messages:
            if not count:
                began_at = loop.time()
            statement, values = row_of(message)
            rows[statement].append(values)
            count += 1
            if count >= BATCH or loop.time() - began_at >= BATCH_AGE_S:
                for each, of_it in rows.items():
                    await pool.executemany(each, of_it)
                rows.clear()
                count = 0


def main(path: str) -> None:
    """Do the task in the file `path` until ended."""
    task = Task.read(Path(path))
    asyncio.run(insert_batches(task) if task.in_batches else insert_each(task))


if __name__ == "__main__":
    main(sys.argv[1])
