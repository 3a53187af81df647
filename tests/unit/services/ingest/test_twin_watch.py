"""What the watch for copied certificates remembers, and of whom."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from schemas.fields import DeviceKind
from services.ingest import twin_store, twin_watch
from services.ingest.admission import judge
from services.ingest.batch import Taken
from services.ingest.metrics import Metrics
from services.ingest.registry import Registry, pack
from services.ingest.stamps import TimeWindow
from services.ingest.twin_watch import SUSPECT_FROM, TwinWatch
from services.ingest.twins import Verdict
from tests.support import ingest_builders as builders

REGISTRY = Registry((builders.CLUSTER, (b"cluster-9", pack(DeviceKind.CLUSTER, 9, 9))))


def taken(topic: str, payload: bytes) -> Taken:
    """As it is committed."""
    verdict = judge(topic, payload, is_retained=False, registry=REGISTRY, now=builders.NOW, window=TimeWindow())
    return Taken(
        topic=topic,
        payload=payload,
        is_retained=False,
        packet_id=1,
        connection=1,
        received_at=builders.NOW,
        verdict=verdict,
    )


def connections(device_id: str) -> Iterable[Taken]:
    """As many as make a suspect."""
    return [taken(f"loa/v1/{device_id}/presence", builders.presence()) for _ in range(SUSPECT_FROM)]


def event(device_id: str, volume: int) -> Taken:
    body = builders.event_body(started_at_ms=builders.NOW_MS - volume)
    return taken(f"loa/v1/{device_id}/up/event", builders.event(7, body))


class _NoDatabase:
    @asynccontextmanager
    async def connection(self) -> AsyncIterator[None]:
        yield None


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The devices that were reported, each time; every round begins a span of its own."""
    found: list[int] = []

    async def evidence(*_: Any, **__: Any) -> tuple[tuple[()], tuple[()]]:
        return (), ()

    async def report(_: Any, device_no: int, __: Verdict, **___: Any) -> None:
        found.append(device_no)

    async def count(*_: Any, **__: Any) -> int:
        return 0

    monkeypatch.setattr(twin_store, "evidence", evidence)
    monkeypatch.setattr(twin_store, "report", report)
    monkeypatch.setattr(twin_store, "count", count)
    monkeypatch.setattr(twin_watch, "SPAN", timedelta())
    return found


async def test_nothing_is_held_against_a_device_that_was_cleared_while_another_is_suspected(
    reported: list[int],
) -> None:
    watch = TwinWatch(_NoDatabase(), clock=lambda: builders.NOW, metrics=Metrics())  # type: ignore[arg-type]
    watch.note([*connections("cluster-1"), *connections("cluster-9")])
    await watch.round()
    watch.note([event("cluster-1", 1), event("cluster-1", 2)])
    watch.note([*connections("cluster-1"), *connections("cluster-9")])
    await watch.round()
    assert reported == [1]

    for _ in range(2):
        watch.note(connections("cluster-9"))
        await watch.round()
    reported.clear()
    watch.note([*connections("cluster-1"), *connections("cluster-9")])
    await watch.round()

    assert reported == []
