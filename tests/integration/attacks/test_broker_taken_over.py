"""Whoever has taken over the broker says what he likes on every topic: no sample sounds, nothing is silenced or let go, no
setting changes, and each refusal is on record in the device's journal, as a security event (S-11).

The attacker has what is sent over a broker, all genuine messages of today and yesterday, and even a platform key that was
stolen and withdrawn since. The broker, the fleet, its sounds and its journals are real.
"""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from schemas import signing
from schemas.alerts import Alert, AlertContent, Purpose
from schemas.commands import Action, Command
from schemas.events import (
    AlertHandled,
    AlertResult,
    Booted,
    CommandDone,
    CommandResult,
    MessageKind,
    PlanAccepted,
    PlayStarted,
    RefusalReason,
    Refused,
)
from schemas.plans import Plan
from schemas.topics import DownlinkKind
from services.control.trust.certificates import ServiceName
from tests.integration.attacks.conftest import STRANGER, WITHDRAWN, Stage, area, down, ground
from tests.integration.firmware.centre import now_ms
from tests.support.attacker import altered, downgraded, emptied, unsigned
from tests.support.broker import connect_service
from tests.unit.firmware_sim.builders import (
    DAY,
    MINUTE,
    PLATFORM,
    PROVINCE,
    a_command,
    a_configuration,
    a_key_set,
    a_plan,
    a_rank,
    an_alert,
    an_emission,
    announced,
    signed,
)

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

FORGED = [  # what every kind of order is tried with first, in this order
    RefusalReason.MALFORMED,  # without a signature
    RefusalReason.BAD_SIGNATURE,  # with an empty one
    RefusalReason.BAD_SIGNATURE,  # one bit changed
    RefusalReason.DOWNGRADED_ALGORITHM,
    RefusalReason.UNKNOWN_KEY,  # of a stranger
    RefusalReason.UNKNOWN_KEY,  # withdrawn
]


def forgeries(genuine: bytes, by_stranger: bytes, by_withdrawn: bytes) -> list[bytes]:
    return [unsigned(genuine), emptied(genuine), altered(genuine), downgraded(genuine), by_stranger, by_withdrawn]


def expected(kind: MessageKind, *more: RefusalReason) -> list[tuple[str, str]]:
    return sorted((kind.name, reason.name) for reason in (*FORGED, *more))


def test_no_forged_plan_sounds(stage: Stage) -> None:
    device, centre = "ke-hoach", stage.centre

    def plan(*, serial: int = 6, of: str = device, at_ms: int | None = None, valid_for_ms: int = DAY) -> Plan:
        """A plan that would sound in a moment."""
        now = now_ms()
        emission = an_emission(at_ms=now + 500, duration_ms=60_000, media=stage.siren.sha256)
        at_ms = now if at_ms is None else at_ms
        files = (stage.siren,)
        return a_plan(emission, device=of, serial=serial, at_ms=at_ms, valid_for_ms=valid_for_ms, files=files)

    centre.send(device, DownlinkKind.PLAN, signed(a_plan(device=device, serial=5, at_ms=now_ms() - 1_000)))
    centre.wait(device, PlanAccepted)
    stage.hush()
    attack = [
        *forgeries(signed(plan()), signed(plan(), STRANGER), signed(plan(), WITHDRAWN)),
        signed(plan(of="lenh")),
        signed(plan(at_ms=now_ms() - 2 * DAY)),
        signed(plan(serial=4)),
        signed(a_command(Action.STOP, device=device, at_ms=now_ms())),
        b"",
    ]
    stage.attack(device, DownlinkKind.PLAN, attack)
    assert stage.refusals(device, count=len(attack)) == expected(
        MessageKind.PLAN,
        RefusalReason.FOREIGN_AUDIENCE,
        RefusalReason.EXPIRED,
        RefusalReason.REPLAYED,
        RefusalReason.WRONG_TYPE,
        RefusalReason.MALFORMED,  # empty, as a retained message is cleared
    )
    assert stage.is_hushed
    centre.wait_heartbeat(device, lambda each: each.plan_serial == 5)

    centre.send(device, DownlinkKind.PLAN, signed(plan(serial=7)))
    assert len(stage.plays(device, count=1)) == 1
    assert [each.serial for each in centre.told(device).of(PlanAccepted)] == [5, 7]


def test_no_forged_configuration_changes_a_device(stage: Stage) -> None:
    device, centre = "cau-hinh", stage.centre

    def configuration(serial: int = 6, of: str = device, volume: int = 99) -> bytes:
        """Everything loud, elsewhere, and media from the attacker."""
        order = a_configuration(
            device=of, serial=serial, at_ms=now_ms(), heartbeat_s=1, volume=volume, cap=100, media_base_url="http://x"
        )
        return signed(order)

    order = a_configuration(device=device, serial=6, at_ms=now_ms(), volume=99, cap=100)
    attack = [
        *forgeries(configuration(), signed(order, STRANGER), signed(order, WITHDRAWN)),
        configuration(of="lenh"),
        configuration(serial=4),
        signed(a_configuration(device=device, serial=6, at_ms=now_ms() - 400 * DAY)),
    ]
    stage.attack(device, DownlinkKind.CONFIG, attack)
    assert stage.refusals(device, count=len(attack)) == expected(
        MessageKind.CONFIG, RefusalReason.FOREIGN_AUDIENCE, RefusalReason.REPLAYED, RefusalReason.EXPIRED
    )
    beat = centre.wait_heartbeat(device, lambda each: True)
    assert (beat.config_serial, beat.volume_percent) == (5, 60)
    centre.send(device, DownlinkKind.CONFIG, configuration(serial=7, volume=40))
    centre.wait_heartbeat(device, lambda each: (each.config_serial, each.volume_percent) == (7, 40))


def test_no_forged_keys_let_anybody_speak(stage: Stage) -> None:
    device, centre = "khoa", stage.centre
    stage.hush()
    order = a_key_set(announced(STRANGER), announced(PLATFORM), serial=3, at_ms=now_ms())
    genuine = signed(order)
    attack = [
        *forgeries(genuine, signed(order, STRANGER), signed(order, WITHDRAWN)),
        # The platform's own key announces nobody.
        signing.sign(order, PLATFORM),
        # What root had signed before one key was stolen: it would bring that key back.
        stage.first_keys,
    ]
    stage.attack(device, DownlinkKind.KEYS, attack)
    assert stage.refusals(device, count=len(attack)) == expected(
        MessageKind.KEYS, RefusalReason.UNKNOWN_KEY, RefusalReason.REPLAYED
    )
    # None of the keys that were announced falsely is believed afterwards.
    alerts = [an_alert(a_content(stage), units=(ground(device),), at_ms=now_ms() + n) for n in range(2)]
    for key, alert in zip((STRANGER, WITHDRAWN), alerts, strict=True):
        stage.attacker.publish(area(ground(device), uuid.uuid4()), signed(alert, key))
    refused = stage.refusals(device, count=len(attack) + 2)
    assert [each for each in refused if each[0] == "ALERT"] == [("ALERT", "UNKNOWN_KEY")] * 2
    assert stage.is_hushed
    assert centre.told(device).of(PlayStarted) == []


def test_no_forged_command_sounds_or_silences(stage: Stage) -> None:
    device, centre = "lenh", stage.centre

    def play(*, serial: int, of: str = device, at_ms: int | None = None) -> Command:
        return a_command(
            Action.PLAY,
            device=of,
            serial=serial,
            at_ms=now_ms() if at_ms is None else at_ms,
            media=stage.siren,
            rank=a_rank(),
        )

    genuine = a_command(Action.SET_VOLUME, device=device, serial=5, at_ms=now_ms(), volume_percent=33)
    centre.send(device, DownlinkKind.COMMAND, signed(genuine))
    centre.wait(device, CommandDone)
    stage.hush()
    silence = a_command(Action.SILENCE, device=device, serial=6, at_ms=now_ms())
    louder = a_command(Action.SET_VOLUME, device=device, serial=7, at_ms=now_ms(), volume_percent=100)
    attack = [
        *forgeries(signed(play(serial=6)), signed(silence, STRANGER), signed(louder, WITHDRAWN)),
        signed(play(serial=6, of="khoa")),
        signed(play(serial=4)),
        altered(signed(silence)),
        signed(a_plan(device=device, at_ms=now_ms())),
    ]
    stage.attack(device, DownlinkKind.COMMAND, attack)
    assert stage.refusals(device, count=len(attack)) == expected(
        MessageKind.COMMAND,
        RefusalReason.FOREIGN_AUDIENCE,
        RefusalReason.REPLAYED,
        RefusalReason.BAD_SIGNATURE,
        RefusalReason.WRONG_TYPE,
    )
    # Late is no attack: it is answered as expired and nothing else. What was done is not done again.
    expired = play(serial=8, at_ms=now_ms() - 10 * MINUTE)
    stage.attack(device, DownlinkKind.COMMAND, [signed(expired), signed(genuine)])
    done = centre.wait(device, CommandDone, count=2)
    assert [each.result for each in done] == [CommandResult.DONE, CommandResult.EXPIRED]
    assert stage.is_hushed
    centre.wait_heartbeat(device, lambda each: each.volume_percent == 33)

    honest = play(serial=9)
    centre.send(device, DownlinkKind.COMMAND, signed(honest))
    assert stage.plays(device, count=1) == [honest.command_id]


def test_no_forged_alert_sounds(stage: Stage) -> None:
    device, centre = "bao-dong", stage.centre
    unit = ground(device)

    def alert(name: str, *, at_ms: int | None = None, unit: uuid.UUID = unit, **fields: Any) -> Alert:
        alert_id = uuid.uuid5(unit, name)
        at_ms = now_ms() if at_ms is None else at_ms
        return an_alert(a_content(stage), alert_id=alert_id, units=(unit,), at_ms=at_ms, **fields)

    # One that was genuine, has sounded, and is over.
    yesterday = signed(alert("yesterday", at_ms=now_ms() - DAY, valid_for_ms=10 * MINUTE))
    stage.hush()
    real = signed(alert("forged"))
    attack = [
        *forgeries(real, signed(alert("stranger"), STRANGER), signed(alert("withdrawn"), WITHDRAWN)),
        yesterday,
        signed(a_plan(device=device, at_ms=now_ms())),
        signed(alert("tomorrow", at_ms=now_ms() + DAY)),
    ]
    for each in attack:
        stage.attacker.publish(area(unit, uuid.uuid4()), each)
    assert stage.refusals(device, count=len(attack)) == expected(
        MessageKind.ALERT, RefusalReason.EXPIRED, RefusalReason.WRONG_TYPE, RefusalReason.NOT_YET_VALID
    )
    # An alert for other ground, put on this ground's topic, and a cleared topic are nothing to this device.
    stage.attacker.publish(area(unit, uuid.uuid4()), signed(alert("other", unit=uuid.uuid4())))
    stage.attacker.publish(area(unit, uuid.uuid4()), b"")
    # Nor does it come through a command that is not genuine.
    inside = a_command(Action.ALERT, device=device, at_ms=now_ms(), alert=real)
    stage.attack(device, DownlinkKind.COMMAND, [altered(signed(inside)), signed(inside, WITHDRAWN)])
    refused = stage.refusals(device, count=len(attack) + 2)
    assert [each for each in refused if each[0] == "COMMAND"] == [
        ("COMMAND", "BAD_SIGNATURE"),
        ("COMMAND", "UNKNOWN_KEY"),
    ]
    assert stage.is_hushed

    honest = alert("honest")
    centre.alert(unit, honest)
    assert stage.plays(device, count=1) == [honest.alert_id]
    # Played, then played back by the attacker as often as he likes: same bytes, other topics, other devices' topics.
    for topic in (area(unit, honest.alert_id), area(unit, uuid.uuid4()), area(ground("lenh"), honest.alert_id)):
        stage.attacker.publish(topic, signed(honest))
    last = alert("last")
    centre.alert(unit, last)
    assert stage.plays(device, count=2) == [honest.alert_id, last.alert_id]


def test_no_forged_kill_silences_and_no_forged_release_lets_go(stage: Stage) -> None:
    device, centre = "tat-tieng", stage.centre
    unit = ground(device)

    def order(purpose: Purpose, name: str, version: int = 1) -> Alert:
        alert_id = uuid.uuid5(unit, name)
        return an_alert(purpose=purpose, alert_id=alert_id, version=version, units=(unit,), at_ms=now_ms())

    kill = order(Purpose.SILENCE, "forged")
    attack = forgeries(signed(kill), signed(kill, STRANGER), signed(kill, WITHDRAWN))
    for each in attack:
        stage.attacker.publish(area(unit, kill.alert_id), each)
    assert stage.refusals(device, count=len(attack)) == expected(MessageKind.ALERT)
    assert centre.told(device).of(AlertHandled) == []

    # It is not silenced: an alert sounds. Then it is silenced for real, and no forgery lets it go or makes it speak.
    first = an_alert(a_content(stage), alert_id=uuid.uuid5(unit, "first"), units=(unit,), at_ms=now_ms())
    centre.alert(unit, first)
    assert stage.plays(device, count=1) == [first.alert_id]
    real = order(Purpose.SILENCE, "real")
    centre.alert(unit, real)
    centre.wait(device, AlertHandled, count=2)
    stage.hush()
    release = order(Purpose.RELEASE, "real", version=2)
    attack = forgeries(signed(release), signed(release, STRANGER), signed(release, WITHDRAWN))
    for each in attack:
        stage.attacker.publish(area(unit, real.alert_id), each)
    # Clearing what is retained does not let go either: what a device has been told it keeps.
    stage.attacker.publish(area(unit, real.alert_id), b"")
    stage.refusals(device, count=2 * len(attack))
    second = an_alert(a_content(stage), alert_id=uuid.uuid5(unit, "second"), units=(unit,), at_ms=now_ms())
    centre.alert(unit, second)
    told = centre.wait(device, AlertHandled, count=3)
    assert [each.result for each in told] == [AlertResult.TAKEN, AlertResult.SILENCED, AlertResult.KILLED]
    assert stage.is_hushed


def test_two_replicas_out_of_order_end_in_the_newest_word(stage: Stage) -> None:
    """The later version arrives first, from another connection of control; the older one then changes nothing."""
    device, centre = "hai-ban", stage.centre
    unit = ground(device)
    alert_id = uuid.uuid5(unit, "lũ")
    first = an_alert(a_content(stage), alert_id=alert_id, version=1, units=(unit,), at_ms=now_ms() - 1_000)
    cancel = an_alert(purpose=Purpose.CANCEL, alert_id=alert_id, version=2, units=(unit,), at_ms=now_ms())
    stage.hush()
    with connect_service(centre.broker, ServiceName.CONTROL, client_id="control:2") as other:
        topic = f"loa/v1/area/{unit}/alert/{alert_id}"
        other.publish(topic, signed(cancel), retain=True)
        centre.wait(device, AlertHandled)
        other.publish(topic, signed(first), retain=True)
        # And where the later one leaves this device out.
        here, elsewhere = (
            an_alert(a_content(stage), alert_id=uuid.uuid5(unit, "bão"), version=version, units=(of,), at_ms=now_ms())
            for version, of in ((1, unit), (2, uuid.uuid4()))
        )
        for each in (elsewhere, here):
            other.publish(f"loa/v1/area/{unit}/alert/{each.alert_id}", signed(each), retain=True)
    # Two orders of one device, likewise: the later plan first.
    for serial in (9, 8):
        centre.send(device, DownlinkKind.PLAN, signed(a_plan(device=device, serial=serial, at_ms=now_ms())))
    assert stage.refusals(device, count=1) == [("PLAN", "REPLAYED")]
    centre.wait_heartbeat(device, lambda each: each.plan_serial == 9)
    assert [each.result for each in centre.told(device).of(AlertHandled)] == [AlertResult.CANCELLED]
    assert stage.is_hushed
    assert centre.told(device).of(PlayStarted) == []


def test_what_a_device_was_told_before_it_moved_does_not_take_it_back(stage: Stage) -> None:
    device, centre = "doi-cho", stage.centre
    before, after = ground(device), uuid.uuid4()

    def configuration(serial: int, unit: uuid.UUID) -> bytes:
        order = a_configuration(
            device=device, serial=serial, at_ms=now_ms(), heartbeat_s=1, membership=(PROVINCE, unit),
            media_base_url=centre.media.url, alert_media=(stage.siren,),
        )  # fmt: skip
        return signed(order)

    there, here = configuration(6, before), configuration(7, after)
    centre.send(device, DownlinkKind.CONFIG, there)
    centre.wait_heartbeat(device, lambda each: each.config_serial == 6)
    centre.send(device, DownlinkKind.CONFIG, here)
    centre.wait_heartbeat(device, lambda each: each.config_serial == 7)
    stage.attack(device, DownlinkKind.CONFIG, [there])
    assert stage.refusals(device, count=1) == [("CONFIG", "REPLAYED")]
    # A genuine alert for where it was, on every topic it hears.
    old = an_alert(a_content(stage), alert_id=uuid.uuid5(before, "cũ"), units=(before,), at_ms=now_ms())
    for unit in (before, after, PROVINCE):
        stage.attacker.publish(area(unit, old.alert_id), signed(old))
    new = an_alert(a_content(stage), alert_id=uuid.uuid5(before, "mới"), units=(after,), at_ms=now_ms())
    centre.alert(after, new)
    assert stage.plays(device, count=1) == [new.alert_id]


WRAPPINGS: list[dict[str, Any]] = [
    {"PayloadFormatIndicator": 1},  # says that it is text
    {"ContentType": "x" * 500},
    {"ResponseTopic": "loa/v1/bom-thu/up/event", "CorrelationData": b"\x00" * 500},
    {"UserProperty": [("\u202e", "x" * 50)] * 10},
    {"expiry_s": 2**32 - 1},
]


def test_no_wrapping_name_or_mass_of_messages_keeps_an_alert_from_sounding(stage: Stage) -> None:
    """What MQTT puts around a payload, topics nobody has, and more retained messages than a small computer has room for:
    live, and again when the device comes back.
    """
    device, centre = "bom-thu", stage.centre
    unit = ground(device)
    kinds = (DownlinkKind.PLAN, DownlinkKind.CONFIG, DownlinkKind.KEYS, DownlinkKind.COMMAND, DownlinkKind.RECEIPT)
    for properties in WRAPPINGS:
        for kind in kinds:
            stage.attacker.publish(down(device, kind), b"\xff garbage", **properties)
        stage.attacker.publish(area(unit, uuid.uuid4()), b"\xff garbage", **properties)
    for name in (
        f"loa/v1/{device}/down/unheard-of",
        f"loa/v1/{device}/down/plan/x/y",
        f"loa/v1/{device}/down/plan/hai-ban",
    ):
        stage.attacker.publish_anywhere(name, b"x", retain=True)
    for name in ("khong-phai-uuid", "x" * 5_000, "\u202e"):
        stage.attacker.publish_anywhere(f"loa/v1/area/{unit}/alert/{name}", b"x", retain=True)
    for _ in range(2 * 32):  # twice what a device takes at once
        stage.attacker.publish(area(unit, uuid.uuid4()), bytes(50_000))

    def alert(name: str) -> Alert:
        return an_alert(a_content(stage), alert_id=uuid.uuid5(unit, name), units=(unit,), at_ms=now_ms())

    live, back = alert("live"), alert("back")
    for properties in WRAPPINGS:
        stage.attacker.publish(area(unit, live.alert_id), signed(live), **properties)
    assert stage.plays(device, count=1) == [live.alert_id]
    assert stage.simulator.stop() == 0
    stage.simulator.start()
    centre.wait(device, Booted, count=2)
    centre.alert(unit, back)
    assert stage.plays(device, count=2) == [live.alert_id, back.alert_id]
    assert len(centre.told(device).of(Refused)) <= 2 * 16 + 5  # a burst after each start, and one a minute


def a_content(stage: Stage) -> AlertContent:
    return AlertContent(language="vi", headline="Lũ quét", media=stage.siren)
