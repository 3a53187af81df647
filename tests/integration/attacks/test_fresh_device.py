"""Whoever holds the broker and a key that was stolen and withdrawn meets a device that knows no keys yet: a new one, or one
whose flash is new. What came with its certificate, by HTTPS, is the least it believes.
"""

from __future__ import annotations

import base64
import http.server
import json
import ssl
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from schemas.alerts import AlertContent
from schemas.events import MediaStored, PlayEnded, Refused
from schemas.identifiers import AlertId, DeviceId, UnitId
from schemas.topics import AreaAlert, DownlinkKind
from services.control.trust import certificates
from services.local.broker import Broker
from services.shared.clock import utc_now
from tests.integration.attacks.conftest import WITHDRAWN, down
from tests.integration.firmware.centre import a_centre, make_sound, now_ms
from tests.support.attacker import take_over
from tests.support.broker import broker, eventually, pki
from tests.unit.firmware_sim.builders import (
    PLATFORM,
    PROVINCE,
    ROOT,
    a_configuration,
    a_key_set,
    an_alert,
    announced,
    public,
    signed,
)

__all__ = ["broker", "pki"]

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

DEVICE = "loa-moi"


@pytest.mark.parametrize(
    "announced_by_answers",
    [
        pytest.param(["since"], id="new"),
        # It knew the stolen key, and the broker keeps back that it was withdrawn: the next certificate tells.
        pytest.param(["before", "since"], id="renewing"),
    ],
)
def test_what_comes_with_a_certificate_tells_a_device_which_keys_hold_whatever_the_broker_says(
    broker: Broker, tmp_path: Path, announced_by_answers: list[str]
) -> None:
    begin_ms = now_ms() - 60_000
    before = signed(a_key_set(announced(PLATFORM), announced(WITHDRAWN), serial=1, at_ms=begin_ms))
    since = signed(a_key_set(announced(PLATFORM), serial=2, at_ms=begin_ms + 5_000))
    answers = [{"before": before, "since": since}[each] for each in announced_by_answers]
    with (
        take_over(broker) as attacker,
        a_centre(broker, tmp_path) as centre,
        an_office(broker, answers) as (office, given),
    ):
        sound = tmp_path / "siren.mp3"
        make_sound(sound, seconds=0.5)
        siren = centre.media.offer(sound)
        devices = [{"id": DEVICE, "kind": "cluster", "claim_code": "00000-00000-00000-00000"}]
        document = {"version": 1, "root_public_key": "00" * 32, "devices": devices}
        (centre.folder / "fleet.json").write_text(json.dumps(document))
        configuration = a_configuration(
            device=DEVICE,
            at_ms=begin_ms,
            heartbeat_s=1,
            media_base_url=centre.media.url,
            membership=(PROVINCE,),
            alert_media=(siren,),
        )
        # All that the broker lets it have: the keys from before the theft, what is genuine, and the thief's word.
        attacker.publish(down(DEVICE, DownlinkKind.KEYS), before)
        attacker.publish(down(DEVICE, DownlinkKind.CONFIG), signed(configuration))
        content = AlertContent(language="vi", headline="Lũ quét", media=siren)
        false, true = (an_alert(content, alert_id=uuid.uuid4(), units=(PROVINCE,), at_ms=now_ms()) for _ in range(2))
        centre.start(
            SIM_ENROLMENT__URL=office,
            SIM_ENROLMENT__CA_FILE=str(broker.pki.service_ca),
            SIM_ENROLMENT__LOOK_EVERY="200ms",
        )
        centre.wait(DEVICE, MediaStored)
        eventually(lambda: len(given) == len(answers))
        centre.wait_heartbeat(DEVICE, lambda each: True)
        attacker.publish(AreaAlert(UnitId(PROVINCE), AlertId(false.alert_id)), signed(false, WITHDRAWN))
        refused = centre.wait(DEVICE, Refused, count=2)
        centre.alert(PROVINCE, true)
        centre.wait(DEVICE, PlayEnded)

        told = sorted((each.refused.name, each.reason.name) for each in refused)
        assert told == [("ALERT", "UNKNOWN_KEY"), ("KEYS", "REPLAYED")]
        assert [each.reference.id for each in centre.told(DEVICE).of(PlayEnded)] == [true.alert_id]


@contextmanager
def an_office(broker: Broker, keys: list[bytes]) -> Iterator[tuple[str, list[bytes]]]:
    """Answers an enrolment and renewals as control does, with these key sets; gives its address, and what it has given."""
    given: list[bytes] = []
    authority = certificates.parse_authority(broker.pki.device_ca.read_bytes(), broker.pki.device_ca_key.read_bytes())

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            request = certificates.proven_request(asked["csr"].encode())
            certificate = certificates.issue_device_certificate(authority, DeviceId(DEVICE), request, now=utc_now())
            is_first = not given
            given.append(keys[len(given)])
            answer = json.dumps(
                {
                    "device_id": DEVICE,
                    "certificate": certificates.certificate_pem(certificate).decode(),
                    "chain": certificates.certificate_pem(authority.certificate).decode(),
                    "renew_after": (utc_now() + timedelta(days=0 if is_first and keys[1:] else 200)).isoformat(),
                    "root_public_key": public(ROOT).hex(),
                    "keys": base64.b64encode(given[-1]).decode(),
                }
            ).encode()
            self.send_response(201)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(broker.pki.broker.certificate, broker.pki.broker.key)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"https://localhost:{server.server_address[1]}", given
        finally:
            server.shutdown()
            thread.join()
