"""What one would write first: aiomqtt and asyncpg. A process: `python -m services.local.bench.naive`.

Two of them, both as one would honestly write them: `insert_each` stores every message with an INSERT of its own,
`insert_batches` collects and uses `executemany`. Neither checks who may speak for whom, removes duplicates across
restarts, or acknowledges after storing (aiomqtt acknowledges before we see a message), all of which ingest does.
"""

import asyncio
import json
import ssl
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import aiomqtt
import asyncpg
import cbor2

INSERT = """
INSERT INTO naive.messages (device_id, body)
VALUES ($1, $2)
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


def row_of(message: aiomqtt.Message) -> tuple[str, str]:
    """Return what is stored of a message."""
    assert isinstance(message.payload, bytes)
    device_id = str(message.topic).rpartition("/")[2]
    return device_id, json.dumps(cbor2.loads(message.payload), default=bytes.hex)


async def insert_each(task: Task) -> None:
    """One INSERT for each message."""
    async with asyncpg.create_pool(task.database) as pool, subscribed(task) as client:
        async for message in client.messages:
            await pool.execute(INSERT, *row_of(message))


async def insert_batches(task: Task) -> None:
    """One `executemany` for up to `BATCH` messages, or for what came within `BATCH_AGE_S` (looked at when one comes)."""
    async with asyncpg.create_pool(task.database) as pool, subscribed(task) as client:
        rows: list[tuple[str, str]] = []
        loop = asyncio.get_running_loop()
        began_at = loop.time()
        async for message in client.messages:
            if not rows:
                began_at = loop.time()
            rows.append(row_of(message))
            if len(rows) >= BATCH or loop.time() - began_at >= BATCH_AGE_S:
                await pool.executemany(INSERT, rows)
                rows.clear()


def main(path: str) -> None:
    """Do the task in the file `path` until ended."""
    task = Task.read(Path(path))
    asyncio.run(insert_batches(task) if task.in_batches else insert_each(task))


if __name__ == "__main__":
    main(sys.argv[1])
