"""All SQL of the benches that break things: who is registered, what is stored, and the ending of sessions."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING

import asyncpg

from schemas.identifiers import DeviceId
from services.local.bench import store
from services.local.bench.chaos_ledger import Ledger
from services.local.bench.population import Population

if TYPE_CHECKING:
    from services.local.bench.store import Connection

CONNECT_TIMEOUT_S = 10

REGISTER_DEVICE = """
INSERT INTO control.devices (device_no, device_id, kind, unit_id, name, registered_at)
OVERRIDING SYSTEM VALUE
VALUES ($1, $2, $3, $4, 'bench', $5)
"""

ASSIGN_DEVICE = "INSERT INTO control.gateway_assignments (device_no, gateway_no, valid_from) VALUES ($1, $2, $3)"

SESSIONS = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'ingest %' AND datname = current_database()"

TERMINATE = """
SELECT count(pg_terminate_backend(pid))
  FROM pg_stat_activity
 WHERE application_name LIKE 'ingest %' AND datname = current_database()
"""

Registered = tuple[int, DeviceId]  # number and name


@asynccontextmanager
async def connected(url: str) -> "AsyncIterator[Connection]":
    """A connection for a moment. A server that has been killed has no use for longer ones."""
    connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S)
    try:
        yield connection
    finally:
        connection.terminate()


async def register(
    connection: "Connection",
    population: Population,
    gateways: Sequence[tuple[Registered, Sequence[Registered]]],
    *,
    now: datetime,
) -> None:
    """Register a population, and more `gateways` with the clusters behind them."""
    await store.fill_registry(connection, population, now=now)
    for (gateway_no, gateway_id), devices in gateways:
        await connection.execute(REGISTER_DEVICE, gateway_no, gateway_id, "gateway", population.unit, now)
        await connection.executemany(
            REGISTER_DEVICE, [(number, name, "cluster", population.unit, now) for number, name in devices]
        )
        await connection.executemany(ASSIGN_DEVICE, [(number, gateway_no, now) for number, _ in devices])


async def make_login(connection: "Connection", role: str, password: str) -> None:
    """Make a login for ingest; both arguments are of our own making."""
    await connection.execute(f"CREATE ROLE {role} LOGIN IN ROLE loa_ingest PASSWORD '{password}'")


async def enter_rows(connection: "Connection", ledger: Ledger) -> None:
    """Enter every heartbeat and every event there is."""
    for query in (store.HEARTBEATS, store.SENSOR_HEARTBEATS):
        async for rows in store.rows(connection, query):
            for row in rows:
                ledger.enter_heartbeat(row["device_no"], row["at_ms"])
    async for rows in store.rows(connection, store.EVENTS):
        for row in rows:
            ledger.enter_event(row["device_no"], row["journal"], row["sequence"])
