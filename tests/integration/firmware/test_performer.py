"""The shell around one device, where what it writes and sends goes wrong."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from firmware_sim import inputs
from firmware_sim.downloader import Downloader
from firmware_sim.flash import Flash
from firmware_sim.performer import Performer
from firmware_sim.player import Player
from firmware_sim.relay_stream import Streams
from firmware_sim.session import Taken
from firmware_sim.state import Rhythm
from firmware_sim.workshop import Workshop
from schemas import codec
from schemas.alerts import AlertContent
from schemas.events import (
    AlertHandled,
    Booted,
    BootReason,
    Event,
    EventEnvelope,
    FaultChanged,
    PlayEnded,
    PlayMissed,
    PlayOutcome,
    PlayStarted,
    PowerChanged,
    RefusalReason,
    Refused,
)
from schemas.fields import ClockState, PowerSource
from schemas.orders import MediaReference
from schemas.topics import DownlinkKind
from tests.integration.firmware.centre import make_sound
from tests.unit.firmware_sim.builders import (
    PROVINCE,
    ROOT,
    STRANGER,
    T0,
    a_configuration,
    a_key_set,
    a_plan,
    a_profile,
    an_alert,
    public,
    signed,
)

pytestmark = pytest.mark.integration


@dataclass
class Surroundings:
    """A station whose broker takes events up to `limit` bytes."""

    limit: int = 10_000
    is_up: bool = True
    speed: float = 1.0
    devices_heard: int = 0
    sent: list[EventEnvelope] = field(default_factory=list)

    def read_clock(self) -> tuple[int, ClockState]:
        return T0, ClockState.SYNCHRONISED

    def publish(self, topic: str, payload: bytes) -> Taken:
        if len(payload) > self.limit:
            return Taken.TOO_LARGE
        if topic.endswith("/event"):
            self.sent.append(codec.decode_envelope(payload))
        return Taken.YES

    def sever(self) -> None:
        raise AssertionError("nobody breaks links here")

    def restart(self, performer: Performer) -> None:
        raise AssertionError(f"nobody restarts {performer} here")

    @property
    def events(self) -> list[Event]:
        return [codec.decode_event(envelope.body) for envelope in self.sent]


@asynccontextmanager
async def a_performer(folder: Path, surroundings: Surroundings) -> AsyncIterator[Performer]:
    player, streams = Player(), Streams()
    try:
        async with asyncio.TaskGroup() as tasks:
            workshop = Workshop(
                loop=asyncio.get_running_loop(),
                tasks=tasks,
                player=player,
                streams=streams,
                downloader=Downloader(at_once=1),
                true_ms=lambda: T0,
            )
            performer = Performer(a_profile(), Rhythm(), Flash(folder), surroundings, workshop, itertools.repeat(0.5))
            performer.boot(BootReason.POWER_ON)
            yield performer
            performer.power_off()
    finally:
        streams.close()
        player.close()


def switch_power(performer: Performer) -> None:
    performer.feed(inputs.PowerSwitched(source=PowerSource.BATTERY, battery_percent=50))


async def test_event_the_broker_never_takes_leaves_no_hole_and_is_not_sent_for_ever(tmp_path: Path) -> None:
    surroundings = Surroundings(limit=120)
    async with a_performer(tmp_path, surroundings) as performer:
        performer.feed(inputs.MediaRejected(sha256=bytes(32), detail="x" * 150))
        switch_power(performer)
        performer.connected()  # what has not arrived is sent anew

    latest = {envelope.sequence: codec.decode_event(envelope.body) for envelope in surroundings.sent}
    assert [type(latest[sequence]) for sequence in (1, 2, 3)] == [Booted, FaultChanged, PowerChanged]
    kept = Flash(tmp_path).open_journal()
    assert {entry.sequence: codec.decode_event(entry.body) for entry in kept.entries.values()} == latest


async def test_an_end_never_overtakes_a_beginning_however_long_chores_take(tmp_path: Path) -> None:
    """Thousands of devices share one thread: a sound may be over before its beginning was written down."""
    make_sound(tmp_path / "siren", seconds=0.3)
    content = (tmp_path / "siren").read_bytes()
    siren = MediaReference(sha256=hashlib.sha256(content).digest(), size=len(content), mime="audio/mpeg", path="siren")
    flash = Flash(tmp_path / "flash")
    flash.media_file(siren.sha256).write_bytes(content)
    surroundings = Surroundings()
    alert = an_alert(AlertContent(language="vi", headline="Lũ", media=siren), at_ms=T0)
    async with a_performer(tmp_path / "flash", surroundings) as performer:
        performer.receive(DownlinkKind.KEYS, signed(a_key_set(), ROOT))
        performer.receive(DownlinkKind.CONFIG, signed(a_configuration(membership=(PROVINCE,))))
        workshop = performer._workshop
        workshop.aftermath.add(lambda: time.sleep(0.6))  # somebody else's chore, longer than the sound
        performer.receive_alert(signed(alert))
        while not any(isinstance(event, PlayEnded | PlayMissed) for event in surroundings.events):
            await asyncio.sleep(0.01)

    told = [
        event for event in surroundings.events if isinstance(event, AlertHandled | PlayStarted | PlayEnded | PlayMissed)
    ]
    assert [type(event) for event in told] == [AlertHandled, PlayStarted, PlayEnded]
    assert isinstance(told[-1], PlayEnded)
    assert told[-1].outcome is PlayOutcome.COMPLETED


async def test_what_comes_due_between_a_step_and_the_look_at_the_clock_after_it_is_not_forgotten(
    tmp_path: Path,
) -> None:
    """A repetition of an alert was, in a fleet of thousands: until the next note of being alive, half a minute later."""
    make_sound(tmp_path / "siren", seconds=0.3)
    content = (tmp_path / "siren").read_bytes()
    siren = MediaReference(sha256=hashlib.sha256(content).digest(), size=len(content), mime="audio/mpeg", path="siren")
    Flash(tmp_path / "flash").media_file(siren.sha256).write_bytes(content)
    surroundings = Surroundings()
    alert = an_alert(AlertContent(language="vi", headline="Lũ", media=siren), at_ms=T0, repeat_interval_s=20)
    async with a_performer(tmp_path / "flash", surroundings) as performer:
        performer.receive(DownlinkKind.KEYS, signed(a_key_set(), ROOT))
        performer.receive(DownlinkKind.CONFIG, signed(a_configuration(membership=(PROVINCE,))))
        performer.receive_alert(signed(alert))
        while not any(isinstance(event, PlayEnded) for event in surroundings.events):
            await asyncio.sleep(0.01)
        (standing,) = performer.state.alerts.standing.values()
        due_ms = standing.next_uptime_ms
        assert due_ms is not None
        uptimes = itertools.chain((due_ms - 1,), itertools.repeat(due_ms + 1))
        now = performer.now()
        performer.now = lambda: replace(now, uptime_ms=next(uptimes))  # type: ignore[method-assign]
        performer.feed(inputs.Tick())
        assert performer._timer is not None
        assert performer._timer.when() < asyncio.get_running_loop().time() + 1


async def test_event_that_cannot_be_written_takes_no_number(tmp_path: Path) -> None:
    surroundings = Surroundings()
    async with a_performer(tmp_path, surroundings) as performer:
        journal = tmp_path / "journal"
        journal.rename(tmp_path / "aside")
        journal.mkdir()  # a flash that refuses to be written
        switch_power(performer)
        journal.rmdir()
        (tmp_path / "aside").rename(journal)
        switch_power(performer)

    assert [envelope.sequence for envelope in surroundings.sent] == [1, 2]
    assert [type(event) for event in surroundings.events] == [Booted, PowerChanged]
    assert [entry.sequence for entry in Flash(tmp_path).open_journal().entries.values()] == [1, 2]


async def test_under_another_root_key_it_forgets_orders_and_their_serials_and_keeps_its_journal(tmp_path: Path) -> None:
    surroundings = Surroundings()
    async with a_performer(tmp_path, surroundings) as performer:
        for kind, order in (
            (DownlinkKind.KEYS, a_key_set(serial=7)),
            (DownlinkKind.CONFIG, a_configuration(serial=7)),
            (DownlinkKind.PLAN, a_plan(serial=7)),
        ):
            performer.receive(kind, signed(order))
        assert performer.state.plan is not None
        journal = surroundings.sent[0].journal

        performer.power_off()
        performer.provision(public(STRANGER), is_other=True)
        performer.boot(BootReason.COMMAND)
        forgotten = performer.state
        assert forgotten.trust.keys is None
        assert forgotten.config is None
        assert forgotten.plan is None
        # The new root begins to count anew, and the old one is nobody any more.
        performer.receive(DownlinkKind.KEYS, signed(a_key_set(serial=8), ROOT))
        performer.receive(DownlinkKind.KEYS, signed(a_key_set(serial=1), STRANGER))
        performer.receive(DownlinkKind.PLAN, signed(a_plan(serial=1)))
        assert performer.state.plan is not None
        assert performer.state.plan.order.serial == 1
    assert {envelope.journal for envelope in surroundings.sent} == {journal}
    assert [event.reason for event in surroundings.events if isinstance(event, Refused)] == [RefusalReason.UNKNOWN_KEY]
