"""The platform's side of the wire in miniature, with real parts: broker, HTTP server, and the fleet as its own process.

`Centre` publishes signed orders, takes uplinks in, answers events with receipts (or does not), and serves media with
Range (or badly). Nothing of the services is involved: what devices do is judged from what they put on the wire.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from array import array
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import av
import paho.mqtt.client as mqtt
from av.audio.frame import AudioFrame

from schemas import codec, device_signing, topics
from schemas.alerts import Alert
from schemas.events import Event, EventEnvelope
from schemas.heartbeats import Heartbeat
from schemas.identifiers import AlertId, DeviceId, UnitId
from schemas.orders import MediaReference
from schemas.presence import PresenceReport
from schemas.readings import Reading
from schemas.receipts import Receipt, SequenceRange
from schemas.topics import AreaAlert, Downlink, DownlinkKind, Presence, Uplink, UplinkKind
from services.control.trust.certificates import ServiceName
from services.local.broker import Broker
from services.local.pki import issue_devices
from services.shared.clock import utc_now
from tests.support.broker import MqttClient, connect_service
from tests.unit.firmware_sim.builders import ROOT, a_configuration, a_key_set, public, signed

DEADLINE_S = 90.0

EventT = TypeVar("EventT", bound=Event)
T = TypeVar("T")


def now_ms() -> int:
    return int(utc_now().timestamp() * 1_000)


def eventually(look: Callable[[], T | None], what: str, *, deadline_s: float = DEADLINE_S) -> T:
    """Return what `look` finds once it finds something; fails when that takes too long."""
    until = time.monotonic() + deadline_s
    while not (found := look()):
        assert time.monotonic() < until, f"waited {deadline_s:g} s in vain for {what}"
        time.sleep(0.02)  # between two looks at other processes
    return found


# --- media -----------------------------------------------------------------------------------------------------------


def make_sound(path: Path, *, seconds: float, rate: int = 24_000) -> int:
    """Write a real MP3 of a tone; returns how many samples the decoder gets out of it."""
    tone = array("h", (round(8_000 * math.sin(2 * math.pi * 440 * n / rate)) for n in range(round(seconds * rate))))
    with av.open(path, "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=rate, layout="mono")
        frame = AudioFrame(format="s16", layout="mono", samples=len(tone))
        frame.sample_rate = rate
        frame.planes[0].update(tone.tobytes())
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(path) as container:
        return sum(frame.samples for frame in container.decode(audio=0))


class MediaServer:
    """Serves files by path over HTTP, with Range; can be told to break off, to be down, or to serve other bytes."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.answers: dict[str, Callable[[], bytes | None]] = {}  # what is made when it is asked for, by path
        self.requests: list[tuple[str, str | None]] = []  # path and Range
        self.break_after: int | None = None  # bytes after which a first, unranged answer breaks off
        self.is_down = False
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                wanted = self.headers.get("Range")
                server.requests.append((self.path, wanted))
                made = server.answers.get(self.path)
                content = server.files.get(self.path) if made is None else made()
                if server.is_down or content is None:
                    self.send_error(503 if server.is_down else 404)
                    return
                begin = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
                body = content[begin:]
                self.send_response(206 if wanted else 200)
                if wanted:
                    self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if server.break_after is not None and not wanted:
                    self.wfile.write(body[: server.break_after])
                    self.close_connection = True
                    return
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Tests read `requests` instead."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def offer(self, path: Path, *, served: bytes | None = None) -> MediaReference:
        """Offer a file; with `served`, other bytes than the ones that are signed."""
        content = path.read_bytes()
        sha256 = hashlib.sha256(content).digest()
        where = f"media/{sha256.hex()}"
        self.files[f"/{where}"] = content if served is None else served
        return MediaReference(sha256=sha256, size=len(content), mime="audio/mpeg", path=where)


# --- the fleet -------------------------------------------------------------------------------------------------------


class Simulator:
    """`python -m firmware_sim` as a process of its own."""

    def __init__(self, environ: Mapping[str, str], log: Path) -> None:
        self._environ = dict(environ)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "firmware_sim"], env=os.environ | self._environ, stdout=output, stderr=output
            )

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def stop(self) -> int:
        """Ask it to stop; returns its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=20)

    def kill(self) -> None:
        """Kill -9."""
        self.process.kill()
        self.process.wait(timeout=20)

    def end(self) -> None:
        """Whatever its state, it is gone afterwards."""
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def log_lines(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self._log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    def status(self) -> dict[str, Any]:
        """What the latest process says of itself."""
        url = eventually(lambda: self.log_lines("status_listening"), "the status address")[-1]["url"]
        with urllib.request.urlopen(f"{url}/status", timeout=5) as response:
            status: dict[str, Any] = json.load(response)
            return status


# --- the centre ------------------------------------------------------------------------------------------------------


@dataclass
class Told:
    """What one device has put on the wire, in order of arrival; an event that came again stands once."""

    heartbeats: list[Heartbeat] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    events: dict[tuple[bytes, int], Event] = field(default_factory=dict)
    envelopes: list[EventEnvelope] = field(default_factory=list)
    principals: set[str] = field(default_factory=set)

    def of(self, cls: type[EventT]) -> list[EventT]:
        return [event for event in self.events.values() if isinstance(event, cls)]


class Centre:
    """Everything a device meets."""

    def __init__(self, broker: Broker, folder: Path) -> None:
        self.broker = broker
        self.folder = folder
        self.media = MediaServer()
        self.gives_receipts = True
        self.presence: dict[str, list[PresenceReport]] = {}
        self.simulator: Simulator | None = None
        self._told: dict[str, Told] = {}
        self._serials: dict[tuple[str, str], int] = {}
        self._ledger: dict[tuple[str, bytes], set[int]] = {}
        self._taken = 0
        self.control = connect_service(broker, ServiceName.CONTROL)
        self.ingest = self._listen()

    def _listen(self) -> MqttClient:
        ingest = connect_service(self.broker, ServiceName.INGEST)
        for each in topics.uplink_filters():
            ingest.subscribe(each)
        return ingest

    def reconnect(self) -> None:
        """Connect again after the broker was away."""
        self._take_in()
        self.control.close()
        self.ingest.close()
        self.control, self.ingest, self._taken = connect_service(self.broker, ServiceName.CONTROL), self._listen(), 0

    def close(self) -> None:
        if self.simulator is not None:
            self.simulator.end()
        self.media.close()
        self.control.close()
        self.ingest.close()

    # --- provisioning ------------------------------------------------------------------------------------------------

    def provision(
        self,
        kinds: Mapping[str, str],
        *,
        children: Mapping[str, Mapping[str, str]] | None = None,
        root: bytes | None = None,
    ) -> None:
        """Make certificates and the manifest for devices (id → kind) and for those behind gateways."""
        identities = issue_devices(self.broker.pki, [DeviceId.parse(each) for each in kinds], now=utc_now())
        devices = []
        for device, kind in kinds.items():
            identity = identities[DeviceId(device)]
            entry = {
                "id": device,
                "kind": kind,
                "certificate": str(identity.certificate),
                "key": str(identity.key),
                "children": [{"id": c, "kind": k} for c, k in (children or {}).get(device, {}).items()],
            }
            devices.append(entry)
        document = {"version": 1, "root_public_key": (root or public(ROOT)).hex(), "devices": devices}
        (self.folder / "fleet.json").write_text(json.dumps(document))

    def start(self, **environ: str) -> Simulator:
        """Start the fleet."""
        settings = {
            "SIM_MANIFEST": str(self.folder / "fleet.json"),
            "SIM_DATA": str(self.folder / "devices"),
            "SIM_BROKER__HOST": "127.0.0.1",
            "SIM_BROKER__PORT": str(self.broker.device_port),
            "SIM_BROKER__CA_FILE": str(self.broker.pki.service_ca),
            "SIM_BROKER__BACKOFF_BASE": "200ms",
            "SIM_BROKER__BACKOFF_CAP": "1s",
            "SIM_RAMP": "10ms",
            "SIM_HEARTBEAT_INTERVAL": "1s",
            "SIM_READING_INTERVAL": "1s",
            **environ,
        }
        self.simulator = Simulator(settings, self.folder / "simulator.log")
        self.simulator.start()
        return self.simulator

    # --- downlinks ---------------------------------------------------------------------------------------------------

    def next_serial(self, device: str, kind: str) -> int:
        self._serials[device, kind] = self._serials.get((device, kind), 0) + 1
        return self._serials[device, kind]

    def send(
        self, device: str, kind: DownlinkKind, payload: bytes, *, principal: str | None = None, retain: bool = True
    ) -> None:
        topic = topics.format_topic(Downlink(DeviceId(principal or device), kind, DeviceId(device)))
        self.control.publish(topic, payload, retain=retain and kind is not DownlinkKind.COMMAND)

    def greet(
        self,
        device: str,
        *,
        principal: str | None = None,
        heartbeat_s: int = 1,
        membership: tuple[uuid.UUID, ...] = (),
        alert_media: tuple[MediaReference, ...] = (),
    ) -> None:
        """Send a device its keys and configuration."""
        if principal is None:
            self.send(device, DownlinkKind.KEYS, signed(a_key_set(at_ms=now_ms() - 5_000)))
        configuration = a_configuration(
            device=device,
            serial=self.next_serial(device, "config"),
            at_ms=now_ms(),
            heartbeat_s=heartbeat_s,
            media_base_url=self.media.url,
            membership=membership,
            alert_media=alert_media,
        )
        self.send(device, DownlinkKind.CONFIG, signed(configuration), principal=principal)

    def alert(self, unit: uuid.UUID, alert: Alert, *, expires_s: int | None = None) -> None:
        """Publish an alert on a unit's topic, retained, and for the broker to forget after `expires_s`."""
        topic = topics.format_topic(AreaAlert(UnitId(unit), AlertId(alert.alert_id)))
        self.control.publish(topic, signed(alert), retain=True, expiry_s=expires_s)

    # --- uplinks -----------------------------------------------------------------------------------------------------

    def told(self, device: str) -> Told:
        """Everything that came from a device so far."""
        self._take_in()
        return self._told.setdefault(device, Told())

    def wait(self, device: str, cls: type[EventT], *, count: int = 1, deadline_s: float = DEADLINE_S) -> list[EventT]:
        """Wait for events of a class; returns all of them."""

        def look() -> list[EventT] | None:
            found = self.told(device).of(cls)
            return found if len(found) >= count else None

        try:
            return eventually(look, f"{count} {cls.__name__}", deadline_s=deadline_s)
        except AssertionError as error:
            told = "\n".join(map(repr, self.told(device).events.values()))
            raise AssertionError(f"{error} of {device}, which told\n{told}") from None

    def wait_heartbeat(self, device: str, wanted: Callable[[Any], bool]) -> Any:
        """Wait for a heartbeat that `wanted` says yes to; only new ones are asked about."""
        seen = len(self.told(device).heartbeats)

        def look() -> Heartbeat | None:
            return next((each for each in self.told(device).heartbeats[seen:] if wanted(each)), None)

        return eventually(look, f"a heartbeat of {device}")

    def wait_reading(self, device: str) -> Reading:
        """Wait for a device's first reading."""
        return eventually(lambda: self.told(device).readings, f"a reading of {device}")[0]

    def wait_presence(self, principal: str, *, online: bool) -> PresenceReport:
        """Wait until the latest presence report says so."""

        def look() -> PresenceReport | None:
            latest = self.latest_presence(principal)
            return latest if latest is not None and latest.online is online else None

        return eventually(look, f"{principal} to be {'online' if online else 'offline'}")

    def _take_in(self) -> None:
        messages = list(self.ingest.messages)
        fresh, self._taken = messages[self._taken :], len(messages)
        for message in fresh:
            self._take(message)

    def _take(self, message: mqtt.MQTTMessage) -> None:
        topic, payload = topics.parse_topic(message.topic), bytes(message.payload)
        match topic:
            case Presence(principal):
                if message.payload:
                    self.presence.setdefault(principal, []).append(codec.decode_presence(payload))
            case Uplink(principal, kind, device):
                told = self._told.setdefault(device, Told())
                told.principals.add(principal)
                match kind:
                    case UplinkKind.HEARTBEAT:
                        told.heartbeats.append(codec.decode_heartbeat(payload))
                    case UplinkKind.READING:
                        told.readings.append(codec.decode_reading(plain(payload, device, device_signing.READING)))
                    case UplinkKind.EVENT:
                        self._take_event(principal, device, told, codec.decode_envelope(payload))
            case _:
                raise AssertionError(f"{message.topic} is no uplink")

    def _take_event(self, principal: str, device: str, told: Told, envelope: EventEnvelope) -> None:
        told.envelopes.append(envelope)
        key = (envelope.journal, envelope.sequence)
        event = codec.decode_event(plain(envelope.body, device, device_signing.EVENT))
        assert told.events.setdefault(key, event) == event, "one number, two events"
        seen = self._ledger.setdefault((device, envelope.journal), set())
        seen.add(envelope.sequence)
        if self.gives_receipts:
            topic = topics.format_topic(Downlink(DeviceId(principal), DownlinkKind.RECEIPT, DeviceId(device)))
            self.ingest.publish(topic, codec.encode(receipt_for(envelope.journal, seen)))

    def latest_presence(self, principal: str) -> PresenceReport | None:
        self._take_in()
        reports = self.presence.get(principal, [])
        return reports[-1] if reports else None


def plain(message: bytes, device: str, media_type: str) -> bytes:
    """What a device says, whether it signs that or not: whose signature is whose is tried elsewhere."""
    return device_signing.unseal(media_type, message, device).payload if device_signing.is_signed(message) else message


def receipt_for(journal: bytes, seen: set[int]) -> Receipt:
    """The receipt for a set of sequence numbers."""
    through = 0
    while through + 1 in seen:
        through += 1
    spans: list[SequenceRange] = []
    for sequence in sorted(each for each in seen if each > through):
        if spans and spans[-1].last == sequence - 1:
            spans[-1] = SequenceRange(first=spans[-1].first, last=sequence)
        else:
            spans.append(SequenceRange(first=sequence, last=sequence))
    return Receipt(journal=journal, through=through, ranges=tuple(spans[:64]))


@contextmanager
def a_centre(broker: Broker, folder: Path) -> Iterator[Centre]:
    centre = Centre(broker, folder)
    try:
        yield centre
    finally:
        centre.close()
