"""Alerts over a real broker: who hears them, what is retained, and what has expired."""

from __future__ import annotations

import uuid

import pytest

from firmware_sim.session import RECEIVE_MAXIMUM
from schemas.alerts import AlertContent, Purpose
from schemas.events import AlertHandled, AlertResult, Booted, MediaStored, PlayEnded, PlayOutcome, PlayStarted
from schemas.fields import PlaySource
from schemas.orders import MediaReference
from tests.integration.firmware.centre import Centre, make_sound, now_ms
from tests.unit.firmware_sim.builders import COMMUNE, ELSEWHERE, PROVINCE, an_alert

pytestmark = pytest.mark.integration

CLUSTER, FAR, BOARD, GATEWAY = "loa-0001", "loa-0002", "bang-01", "gw-01"
BEHIND = ("day-01", "day-02")
FIRE, FLOOD = (uuid.uuid5(uuid.NAMESPACE_OID, name) for name in ("fire", "flood"))


@pytest.fixture
def siren(centre: Centre) -> MediaReference:
    sound = centre.folder / "siren.mp3"
    make_sound(sound, seconds=1.0)
    return centre.media.offer(sound)


def a_content(media: MediaReference) -> AlertContent:
    return AlertContent(language="vi", headline="Lũ quét", media=media)


def test_one_publish_reaches_everybody_on_the_ground_and_nobody_else(centre: Centre, siren: MediaReference) -> None:
    children = dict.fromkeys(BEHIND, "cluster")
    centre.provision(
        {CLUSTER: "cluster", FAR: "cluster", BOARD: "board", GATEWAY: "gateway"}, children={GATEWAY: children}
    )
    for device in (CLUSTER, BOARD, GATEWAY):
        centre.greet(device, membership=(PROVINCE, COMMUNE), alert_media=(siren,))
    centre.greet(FAR, membership=(PROVINCE, ELSEWHERE), alert_media=(siren,))
    for child in BEHIND:
        centre.greet(child, principal=GATEWAY, membership=(PROVINCE, COMMUNE), alert_media=(siren,))
    centre.start()
    for device in (CLUSTER, FAR, *BEHIND):
        centre.wait(device, MediaStored)
    centre.wait(BOARD, Booted)
    centre.wait_heartbeat(BOARD, lambda each: each.config_serial == 1)

    centre.alert(COMMUNE, an_alert(a_content(siren), at_ms=now_ms(), units=(COMMUNE,)))
    for device in (CLUSTER, *BEHIND, BOARD):
        (handled,) = centre.wait(device, AlertHandled)
        assert handled.result is AlertResult.TAKEN
        (started,) = centre.wait(device, PlayStarted)
        assert started.reference.source is PlaySource.ALERT
    for device in (CLUSTER, *BEHIND):
        (ended,) = centre.wait(device, PlayEnded)
        assert ended.outcome is PlayOutcome.COMPLETED
    (told,) = centre.wait(GATEWAY, AlertHandled)
    assert told.result is AlertResult.UNSUPPORTED
    assert centre.told(FAR).of(AlertHandled) == []


def test_who_comes_back_in_time_sounds_it_and_who_comes_back_later_does_not(
    centre: Centre, siren: MediaReference
) -> None:
    centre.provision({CLUSTER: "cluster"})
    centre.greet(CLUSTER, membership=(PROVINCE,), alert_media=(siren,))
    simulator = centre.start()
    centre.wait(CLUSTER, MediaStored)
    simulator.stop()
    centre.alert(PROVINCE, an_alert(a_content(siren), alert_id=FIRE, at_ms=now_ms(), valid_for_ms=1_000), expires_s=1)
    centre.alert(PROVINCE, an_alert(a_content(siren), alert_id=FLOOD, at_ms=now_ms() + 1), expires_s=600)
    # The broker forgets the first one: whoever subscribes from now on hears of the second only.
    until_ms = now_ms() + 2_000
    while now_ms() < until_ms:
        centre.told(CLUSTER)
    simulator.start()
    centre.wait(CLUSTER, PlayEnded)
    assert [each.alert_id for each in centre.told(CLUSTER).of(AlertHandled)] == [FLOOD]

    # Once more through the same door: what is retained comes again and sounds no more.
    simulator.stop()
    simulator.start()
    centre.wait(CLUSTER, Booted, count=3)
    centre.alert(PROVINCE, an_alert(a_content(siren), alert_id=FIRE, version=2, at_ms=now_ms()), expires_s=600)
    centre.wait(CLUSTER, PlayEnded, count=2)
    assert [each.reference.id for each in centre.told(CLUSTER).of(PlayStarted)] == [FLOOD, FIRE]


def test_more_alerts_than_the_broker_sends_unanswered_come_through(centre: Centre, siren: MediaReference) -> None:
    """Devices let the broker wait for the answer to an alert; never so that it keeps back the next one for good."""
    centre.provision({CLUSTER: "cluster"})
    centre.greet(CLUSTER, membership=(PROVINCE,), alert_media=(siren,))
    centre.start()
    centre.wait(CLUSTER, MediaStored)
    many = RECEIVE_MAXIMUM + 8
    for _ in range(many):
        silent = an_alert(a_content(siren), alert_id=uuid.uuid4(), at_ms=now_ms(), purpose=Purpose.SILENT_TEST)
        centre.alert(PROVINCE, silent)
    assert len(centre.wait(CLUSTER, AlertHandled, count=many)) == many


def test_a_trace_tells_when_the_packet_was_there_and_what_became_of_it(centre: Centre, siren: MediaReference) -> None:
    centre.provision({CLUSTER: "cluster"})
    centre.greet(CLUSTER, membership=(PROVINCE,), alert_media=(siren,))
    trace = centre.folder / "trace"
    simulator = centre.start(SIM_TRACE=str(trace))
    centre.wait(CLUSTER, MediaStored)
    centre.alert(PROVINCE, an_alert(a_content(siren), alert_id=FIRE, at_ms=now_ms()))
    (started,) = centre.wait(CLUSTER, PlayStarted)
    centre.wait(CLUSTER, PlayEnded)
    simulator.stop()

    lines = [line.split("\t") for line in trace.read_text("ascii").splitlines()]
    assert {line[1] for line in lines} == {CLUSTER}
    what = [line[0] for line in lines]
    assert what.count("up") == what.count("down") == 1
    came, handled, begun, ended = (next(line for line in lines if line[0] == each) for each in (
        "came", "handled", "started", "ended"
    ))  # fmt: skip
    occurrence = str(started.reference.occurrence_at_ms)
    assert handled[3:] == [str(FIRE), "1", "taken"]
    assert begun[2:] == [str(1_000 * started.started_at_ms), str(FIRE), occurrence, "0"]
    assert ended[3:] == [str(FIRE), occurrence, "0", "completed"]
    assert came[3] == str(FIRE)
    # The packet is stamped to the microsecond, the play to the millisecond.
    assert int(came[2]) < int(begun[2]) + 1_000 < int(ended[2])


def test_a_new_configuration_brings_the_alerts_of_the_new_ground(centre: Centre, siren: MediaReference) -> None:
    centre.provision({GATEWAY: "gateway"}, children={GATEWAY: dict.fromkeys(BEHIND, "cluster")})
    centre.greet(GATEWAY, membership=(PROVINCE,))
    first, second = BEHIND
    centre.greet(first, principal=GATEWAY, membership=(PROVINCE, COMMUNE), alert_media=(siren,))
    centre.greet(second, principal=GATEWAY, membership=(ELSEWHERE,), alert_media=(siren,))
    centre.start()
    for child in BEHIND:
        centre.wait(child, MediaStored)
    centre.alert(COMMUNE, an_alert(a_content(siren), at_ms=now_ms(), units=(COMMUNE,)), expires_s=600)
    centre.wait(first, PlayEnded)
    assert centre.told(second).of(AlertHandled) == []
    # The gateway hears that unit already; the broker has to send again what it retains.
    centre.greet(second, principal=GATEWAY, membership=(PROVINCE, COMMUNE), alert_media=(siren,))
    centre.wait(second, PlayEnded)
    assert len(centre.told(first).of(PlayStarted)) == 1
