"""The platform's signing key is replaced while a device is away: what it finds retained when it comes back is all it needs.

The key sets are those that `./loa installation` makes; broker, device and sounds are real. How control signs anew is tried
in `tests/integration/control/test_alerts_signed_anew.py` and `test_dispatcher.py`.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas import signing
from schemas.alerts import Alert, AlertContent, Purpose
from schemas.events import AlertHandled, MediaStored, PlanAccepted, PlayEnded, PlayStarted, Refused
from schemas.identifiers import AlertId, UnitId
from schemas.limits import INT64_MAX
from schemas.orders import MediaReference, Order
from schemas.topics import AreaAlert, DownlinkKind, format_topic
from services.local import key_sets
from services.local import pki as authorities
from services.local.broker import Broker
from services.shared.clock import utc_now
from tests.integration.firmware.centre import Centre, Simulator, a_centre, make_sound
from tests.support.broker import broker, pki
from tests.unit.firmware_sim.builders import DAY, MINUTE, PROVINCE, a_configuration, a_plan, an_alert

__all__ = ["broker", "pki"]

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

CLUSTER = "loa-0001"
FLOOD, STORM = (uuid.uuid5(PROVINCE, name) for name in ("flood", "storm"))


@dataclass
class Office:
    """Who has the authority and signs orders: at this moment with the key that is current."""

    centre: Centre
    siren: MediaReference

    @property
    def key(self) -> Ed25519PrivateKey:
        infrastructure = self.centre.broker.pki
        return authorities.load_signing_key(infrastructure.platform_signing_key)

    def rotate(self, *, distrust: bool, at: datetime) -> None:
        key_sets.replace(self.centre.broker.pki, distrust=distrust, now=at)
        self.announce()

    def announce(self) -> None:
        self.centre.send(CLUSTER, DownlinkKind.KEYS, key_sets.path(self.centre.broker.pki).read_bytes())

    def order(self, kind: DownlinkKind, order: Order, key: Ed25519PrivateKey) -> None:
        self.centre.send(CLUSTER, kind, signing.sign(order, key))

    def configure(self, serial: int, key: Ed25519PrivateKey, *, at: datetime) -> None:
        order = a_configuration(
            device=CLUSTER,
            serial=serial,
            at_ms=ms(at),
            heartbeat_s=1,
            media_base_url=self.centre.media.url,
            membership=(PROVINCE,),
            alert_media=(self.siren,),
        )
        self.order(DownlinkKind.CONFIG, order, key)

    def plan(self, serial: int, key: Ed25519PrivateKey, *, at: datetime) -> None:
        plan = a_plan(device=CLUSTER, serial=serial, at_ms=ms(at), valid_for_ms=30 * DAY)
        self.order(DownlinkKind.PLAN, plan, key)

    def alert(self, alert: Alert, key: Ed25519PrivateKey) -> None:
        topic = format_topic(AreaAlert(UnitId(PROVINCE), AlertId(alert.alert_id)))
        self.centre.control.publish(topic, signing.sign(alert, key), retain=True)

    def an_alert(self, alert_id: uuid.UUID, *, version: int = 1) -> Alert:
        content = AlertContent(language="vi", headline="Lũ quét", media=self.siren)
        return an_alert(content, alert_id=alert_id, version=version, at_ms=ms(utc_now()), valid_for_ms=30 * MINUTE)


def ms(at: datetime) -> int:
    return int(at.timestamp() * 1_000)


@pytest.fixture
def office(broker: Broker, tmp_path: Path) -> Iterator[Office]:
    """Twenty days ago a key was announced and a device given its orders."""
    with a_centre(broker, tmp_path) as centre:
        sound = tmp_path / "siren.mp3"
        make_sound(sound, seconds=0.5)
        began = utc_now() - timedelta(days=20)
        key_sets.current(broker.pki, now=began)
        centre.provision({CLUSTER: "cluster"}, root=key_sets.root_public_key(broker.pki))
        made = Office(centre, centre.media.offer(sound))
        made.announce()
        made.configure(1, made.key, at=began)
        made.plan(1, made.key, at=began)
        yield made


def go_offline(office: Office) -> Simulator:
    simulator = office.centre.start()
    office.centre.wait(CLUSTER, PlanAccepted)
    office.centre.wait(CLUSTER, MediaStored)
    assert simulator.stop() == 0
    return simulator


def test_back_within_the_overlap_it_obeys_the_old_key_and_the_new_one(office: Office) -> None:
    simulator, old = go_offline(office), office.key
    office.rotate(distrust=False, at=utc_now() - timedelta(hours=1))
    # Control has not been restarted everywhere yet: one replica still signs with the old key.
    office.plan(2, old, at=utc_now())
    office.alert(office.an_alert(FLOOD), old)
    office.alert(office.an_alert(STORM), office.key)

    simulator.start()
    office.centre.wait(CLUSTER, PlayEnded, count=2)
    assert {each.reference.id for each in office.centre.told(CLUSTER).of(PlayStarted)} == {FLOOD, STORM}
    office.centre.wait_heartbeat(CLUSTER, lambda each: (each.config_serial, each.plan_serial) == (1, 2))
    assert office.centre.told(CLUSTER).of(Refused) == []


def test_back_long_after_the_overlap_it_obeys_the_new_key_and_what_the_old_one_had_signed_before(
    office: Office,
) -> None:
    simulator, old = go_offline(office), office.key
    office.rotate(distrust=False, at=utc_now() - timedelta(days=10))
    office.plan(2, office.key, at=utc_now() - timedelta(days=5))
    office.alert(office.an_alert(STORM), office.key)
    office.alert(office.an_alert(FLOOD), old)  # a thief of the old key, now that it should be of no use

    simulator.start()
    office.centre.wait(CLUSTER, PlayEnded)
    # The configuration is still the one of twenty days ago, and holds.
    office.centre.wait_heartbeat(CLUSTER, lambda each: (each.config_serial, each.plan_serial) == (1, 2))
    refused = office.centre.wait(CLUSTER, Refused)
    assert [(each.refused.name, each.reason.name) for each in refused] == [("ALERT", "UNKNOWN_KEY")]
    assert [each.reference.id for each in office.centre.told(CLUSTER).of(PlayStarted)] == [STORM]


def test_back_after_a_theft_it_forgets_what_the_stolen_key_signed_and_takes_what_was_signed_anew(
    office: Office,
) -> None:
    simulator, stolen = go_offline(office), office.key
    office.alert(office.an_alert(FLOOD), stolen)
    office.rotate(distrust=True, at=utc_now())
    for serial, key in ((2, office.key), (3, stolen)):
        office.configure(serial, key, at=utc_now())
        office.plan(serial, key, at=utc_now())
    # The thief's were retained last; control compares what heartbeats say with what it issued, and sends its own again.
    simulator.start()
    office.centre.wait(CLUSTER, Refused, count=2)
    office.configure(2, office.key, at=utc_now())
    office.plan(2, office.key, at=utc_now())
    office.centre.wait_heartbeat(CLUSTER, lambda each: (each.config_serial, each.plan_serial) == (2, 2))
    office.alert(office.an_alert(FLOOD, version=2), office.key)
    office.centre.wait(CLUSTER, PlayEnded)

    told = office.centre.told(CLUSTER).of(Refused)
    assert {each.refused.name for each in told} >= {"CONFIG", "PLAN"}
    assert {each.reason.name for each in told} == {"UNKNOWN_KEY"}
    assert [each.serial for each in office.centre.told(CLUSTER).of(PlanAccepted)] == [1, 2]
    assert len(office.centre.told(CLUSTER).of(PlayStarted)) == 1


def test_a_thief_who_had_the_last_word_does_not_keep_it_once_root_has_dropped_the_key(office: Office) -> None:
    """The highest serials and the highest version there are, while the stolen key was still believed."""
    office.centre.start()
    office.centre.wait(CLUSTER, PlanAccepted)
    office.centre.wait(CLUSTER, MediaStored)
    stolen = office.key
    cancel = an_alert(purpose=Purpose.CANCEL, alert_id=FLOOD, version=65_535, at_ms=ms(utc_now()))
    office.alert(cancel, stolen)
    office.configure(INT64_MAX, stolen, at=utc_now())
    office.plan(INT64_MAX, stolen, at=utc_now())
    both = (INT64_MAX, INT64_MAX)
    office.centre.wait_heartbeat(CLUSTER, lambda each: (each.config_serial, each.plan_serial) == both)
    office.centre.wait(CLUSTER, AlertHandled)

    office.rotate(distrust=True, at=utc_now())
    office.centre.wait(CLUSTER, Refused, count=2)
    office.configure(2, office.key, at=utc_now())
    office.plan(2, office.key, at=utc_now())
    office.centre.wait_heartbeat(CLUSTER, lambda each: (each.config_serial, each.plan_serial) == (2, 2))
    office.alert(office.an_alert(FLOOD, version=2), office.key)
    office.centre.wait(CLUSTER, PlayEnded)
    assert [each.reference.id for each in office.centre.told(CLUSTER).of(PlayStarted)] == [FLOOD]


def test_a_device_from_which_the_new_keys_are_kept_obeys_the_thief_until_it_hears_of_them(office: Office) -> None:
    """What is not held: who has both the broker and the key is obeyed by whom root has not reached."""
    office.centre.start()
    office.centre.wait(CLUSTER, MediaStored)
    stolen = office.key
    key_sets.replace(office.centre.broker.pki, distrust=True, now=utc_now())  # and the broker keeps it to itself

    office.alert(office.an_alert(FLOOD), stolen)
    office.centre.wait(CLUSTER, PlayEnded)
    office.announce()
    office.configure(2, office.key, at=utc_now())
    office.centre.wait_heartbeat(CLUSTER, lambda each: each.config_serial == 2)
    office.alert(office.an_alert(STORM), stolen)
    honest = office.an_alert(uuid.uuid4())
    office.alert(honest, office.key)

    office.centre.wait(CLUSTER, PlayEnded, count=2)
    assert [each.reference.id for each in office.centre.told(CLUSTER).of(PlayStarted)] == [FLOOD, honest.alert_id]
    refused = office.centre.told(CLUSTER).of(Refused)
    assert ("ALERT", "UNKNOWN_KEY") in {(each.refused.name, each.reason.name) for each in refused}
