"""Where things are broken: what a killed broker may have lost, and what goes wrong beside a block."""

import asyncio
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.local.bench import chaos_faults
from services.local.bench.chaos_faults import Breaker
from services.local.bench.chaos_ledger import Ledger
from services.local.bench.chaos_schedule import Fault, Kind
from services.local.bench.chaos_server import OwnServer
from services.local.bench.chaos_site import ChaosSite, meanwhile
from services.local.broker import Broker
from services.shared.clock import utc_now


class StubBroker:
    """A broker that saves when it is told to."""

    host, device_port, service_port = "127.0.0.1", 1, 2

    def __init__(self, folder: Path) -> None:
        self.database = folder / "mosquitto.db"

    async def start(self) -> None:
        pass

    async def kill(self) -> None:
        pass


def a_site() -> ChaosSite:
    nobody: Any = SimpleNamespace()
    ledger = Ledger(traffic=nobody, heartbeats=[], journals={}, event_devices={})
    return ChaosSite(
        folder=nobody, pki=nobody, server=nobody, ledger=ledger, to_database=nobody, to_broker=nobody,
        witness=nobody, identities={}, event_gateways=[],
    )  # fmt: skip


async def test_a_broker_that_never_saved_has_lost_nothing_from_before_its_start(tmp_path: Path) -> None:
    site = a_site()
    before = time.monotonic()
    await site.open_broker(cast("Broker", StubBroker(tmp_path)))

    assert before <= await site.kill_broker() <= time.monotonic()

    again = await site.start_broker(saved_at=before)
    assert await site.kill_broker() == again


async def test_a_broker_has_lost_nothing_from_before_its_last_save(tmp_path: Path) -> None:
    site, broker = a_site(), StubBroker(tmp_path)
    await site.open_broker(cast("Broker", broker))
    began_at = await site.start_broker(saved_at=0.0)
    broker.database.touch()
    an_hour_on = utc_now().timestamp() + 3_600
    os.utime(broker.database, (an_hour_on, an_hour_on))

    assert await site.kill_broker() == pytest.approx(time.monotonic() + 3_600, abs=5)

    os.utime(broker.database, (1, 1))  # by the broker before
    assert await site.kill_broker() == began_at


async def test_what_goes_wrong_beside_a_block_is_raised_as_it_is() -> None:
    async def fail() -> None:
        raise ProcessLookupError("gone")

    with pytest.raises(ProcessLookupError, match="gone"):
        async with meanwhile(fail()):
            await asyncio.Event().wait()


class Disk(OwnServer):
    """A server whose disk can be filled."""

    is_full = False
    is_running = True

    def __init__(self) -> None:
        pass

    def fill_disk(self) -> None:
        self.is_full = True

    def empty_disk(self) -> None:
        self.is_full = False


@pytest.mark.parametrize("is_felt", [False, True])
async def test_a_full_disk_counts_where_it_was_felt(is_felt: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chaos_faults, "FELT_WITHIN_S", 0.1)
    monkeypatch.setattr(chaos_faults, "DATABASE_DOWN_S", 0.0)
    site = a_site()
    site.server = server = Disk()
    site.ledger.last_acknowledged_at = time.monotonic() - (chaos_faults.FELT_AFTER_S if is_felt else 0.0)
    breaker = Breaker(site)
    fault = Fault(kind=Kind.DISK_FULL, wait_s=0, hold_s=0, replica=0, is_followed=False)

    over_at = await breaker.do(fault)

    assert (over_at is not None) is is_felt
    assert breaker.done == ({Kind.DISK_FULL: 1} if is_felt else {})
    assert not server.is_full


class StubReplica:
    """Notes what is done to it."""

    def __init__(self) -> None:
        self.story: list[str] = []
        self.started_at = 0.0

    def kill(self) -> None:
        self.story.append("killed")

    def start(self) -> None:
        self.story.append("started")
        self.started_at = time.monotonic()


async def test_a_killed_replica_is_started_again_when_its_recovery_begins() -> None:
    site, killed, other = a_site(), StubReplica(), StubReplica()
    site.replicas = cast("Any", [other, killed])
    fault = Fault(kind=Kind.INGEST_KILLED, wait_s=0, hold_s=0, replica=1, is_followed=False)

    over_at = await Breaker(site).do(fault)

    assert over_at is not None
    assert over_at <= killed.started_at
    assert (killed.story, other.story) == (["killed", "started"], [])
