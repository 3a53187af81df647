"""When a connection answers: an alert's answer may wait a while, and nothing waits because of it."""

from __future__ import annotations

import asyncio
from typing import Any

import mqtt5
import pytest

from firmware_sim import connector
from firmware_sim.connector import HELD_BACK, _Link
from firmware_sim.session import Session

ALERT, PLAN = "alert", "plan"


class Wire(asyncio.Transport):
    """Keeps what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return False


class Listener:
    """A speaker that lets the broker wait for the answer to alerts only."""

    def announcement(self, *, is_online: bool) -> tuple[str, bytes]:
        return "presence", b"online" if is_online else b"offline"

    def connecting(self) -> None: ...

    def connected(self) -> None: ...

    def disconnected(self) -> None: ...

    def received(self, topic: str, payload: bytes) -> bool:
        return topic == ALERT


@pytest.fixture
async def line(monkeypatch: pytest.MonkeyPatch) -> tuple[_Link, Wire]:
    """A connection that is up, whose late answers are as good as never."""
    monkeypatch.setattr(connector, "ANSWERED_WITHIN_S", 86_400.0)
    wire = Wire()
    link = _Link(Session("loa-0001", ("down/#",), keep_alive_s=60_000), Listener(), asyncio.get_running_loop())
    link.connection_made(wire)
    link.data_received(mqtt5.ConnAckPacket().write())
    await said_by(wire)
    return link, wire


async def said_by(wire: Wire) -> list[mqtt5.Packet]:
    """What was written by the end of this turn of the loop."""
    await asyncio.sleep(0)
    found, view = [], memoryview(bytes(wire.written))
    while view:
        packet, length = mqtt5.read(view)
        found.append(packet)
        view = view[length:]
    wire.written.clear()
    return found


def came(*topics: str, first: int = 1) -> bytes:
    return b"".join(
        mqtt5.PublishPacket(topic, b"x", qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=number).write()
        for number, topic in enumerate(topics, start=first)
    )


def acknowledged(said: list[mqtt5.Packet]) -> list[int]:
    return [packet.packet_id for packet in said if isinstance(packet, mqtt5.PubAckPacket)]


@pytest.mark.parametrize("topics", [(PLAN,), (ALERT, PLAN), (PLAN, ALERT)])
async def test_what_is_no_alert_is_answered_at_once_whatever_it_came_with(
    line: tuple[_Link, Wire], topics: tuple[str, ...]
) -> None:
    link, wire = line
    link.data_received(came(*topics))
    assert acknowledged(await said_by(wire)) == list(range(1, len(topics) + 1))


async def test_answers_to_alerts_wait_until_half_of_what_may_be_under_way_is_unanswered(
    line: tuple[_Link, Wire],
) -> None:
    link, wire = line
    for number in range(1, HELD_BACK):
        link.data_received(came(ALERT, first=number))
    assert await said_by(wire) == []
    link.data_received(came(ALERT, first=HELD_BACK))
    assert acknowledged(await said_by(wire)) == list(range(1, HELD_BACK + 1))
    link.data_received(came(ALERT))
    assert await said_by(wire) == []
    whole = came(ALERT, first=2)
    link.data_received(whole[:3])
    assert await said_by(wire) == []
    link.data_received(whole[3:] + came(*[ALERT] * HELD_BACK, first=3))
    assert acknowledged(await said_by(wire)) == list(range(1, HELD_BACK + 3))
