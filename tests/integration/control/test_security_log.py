"""Security events on their way: to a real file and real receivers that come, go and take their time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from schemas.events import MessageKind, RefusalReason, Refused
from schemas.fields import ClockState
from services.control import audit
from services.control.audit import Entry
from services.control.auditing import chain_store, sealer
from services.control.planning.model import to_ms
from services.control.security.events import SecurityEvent, Severity
from services.control.security.reporter import SecurityLog
from services.control.security.sinks import FileSink, Sink, SinkUnavailable, SyslogSink
from services.local import pki as pki_module
from services.local.pki import Pki
from services.shared.clock import utc_now
from tests.support.control import Province, eventually, some_metrics
from tests.support.control_api import PASSWORD, an_api
from tests.support.database import TestDatabase

pytestmark = pytest.mark.integration


class Receiver:
    """A syslog receiver on a stream that reads octet counts, strictly."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.connections = 0
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[object]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                length = (await reader.readuntil(b" "))[:-1]
                assert re.fullmatch(rb"[1-9][0-9]*", length)
                self.messages.append(await reader.readexactly(int(length)))

    def hang_up(self) -> None:
        for writer in self._writers:
            writer.close()
        self._writers.clear()

    async def end(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=10)

    def names(self) -> list[str]:
        return [message.split(b" ")[5].decode() for message in self.messages]


@asynccontextmanager
async def receiving(
    host: str = "127.0.0.1", port: int = 0, context: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[Receiver, int]]:
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, host, port, ssl=context)
    try:
        yield receiver, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await receiver.end()


@asynccontextmanager
async def handing_over(log: SecurityLog) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(channel.hand_over()) for channel in log._channels]
        yield
        for task in tasks:
            task.cancel()


def an_event(name: str = "LOGIN_FAILED") -> SecurityEvent:
    return SecurityEvent(at=utc_now(), name=name, severity=Severity.WARNING, facts={"origin": "203.0.113.7"})


async def until(names: list[str], receiver: Receiver) -> None:
    async def are_there() -> bool:
        return receiver.names() == names

    await eventually(are_there, what=f"{names} at the receiver")


async def sent(sink: Sink, *names: str) -> None:
    """Send, again and again while the receiver is left alone."""

    async def is_taken() -> bool:
        try:
            await sink.send([an_event(name) for name in names])
        except SinkUnavailable:
            return False
        return True

    await eventually(is_taken, what=f"{names} to be taken")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_over_tcp_messages_are_counted_and_a_new_connection_made_when_the_old_one_ended(host: str) -> None:
    async with receiving(host) as (receiver, port):
        sink = SyslogSink(f"tcp://{f'[{host}]' if ':' in host else host}:{port}", facility=10)
        await sink.send([an_event("A"), an_event("B")])
        await until(["A", "B"], receiver)
        receiver.hang_up()
        await asyncio.wait_for(_is_at_eof(sink), 10)
        await sent(sink, "C")
        await until(["A", "B", "C"], receiver)
        assert receiver.connections == 2
        await sink.close()


async def _is_at_eof(sink: SyslogSink) -> None:
    assert sink._stream is not None
    await sink._stream[0].read()


async def test_over_udp_each_message_is_one_datagram() -> None:
    loop = asyncio.get_running_loop()
    received: asyncio.Queue[bytes] = asyncio.Queue()

    class Datagrams(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: object) -> None:
            received.put_nowait(data)

    transport, _ = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
    try:
        port = transport.get_extra_info("sockname")[1]
        await SyslogSink(f"udp://127.0.0.1:{port}", facility=4).send([an_event("A"), an_event("B")])
        for name in (b"A", b"B"):
            message = await asyncio.wait_for(received.get(), 10)
            assert message.startswith(b"<36>1 ")
            assert message.split(b" ")[5] == name
    finally:
        transport.close()


async def test_over_tls_only_a_receiver_with_a_good_certificate_gets_anything(tmp_path: Path) -> None:
    ours = pki_module.prepare(tmp_path / "ours", now=utc_now(), broker_names=("localhost",))
    other = pki_module.prepare(tmp_path / "other", now=utc_now(), broker_names=("localhost",))
    async with receiving(context=_server_context(ours)) as (receiver, port):
        stranger = SyslogSink(f"tls://localhost:{port}", facility=10, ca_file=other.service_ca)
        with pytest.raises(SinkUnavailable, match="certificate verify failed"):
            await stranger.send([an_event("SECRET")])
        misnamed = SyslogSink(f"tls://127.0.0.2:{port}", facility=10, ca_file=ours.service_ca)
        with pytest.raises(SinkUnavailable):
            await misnamed.send([an_event("SECRET")])
        sink = SyslogSink(f"tls://localhost:{port}", facility=10, ca_file=ours.service_ca)
        await sink.send([an_event("A")])
        await until(["A"], receiver)
        await sink.close()


def _server_context(made: Pki) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.broker.certificate, made.broker.key)
    return context


async def test_a_file_gets_a_line_each_also_after_it_was_rotated(tmp_path: Path) -> None:
    path = tmp_path / "security.jsonl"
    sink = FileSink(path)
    await sink.send([an_event("A"), an_event("B")])
    path.rename(tmp_path / "security.jsonl.1")
    await sink.send([an_event("C")])
    lines = [*(tmp_path / "security.jsonl.1").read_text().splitlines(), *path.read_text().splitlines()]
    assert [json.loads(line)["event"] for line in lines] == ["A", "B", "C"]
    assert path.stat().st_mode & 0o007 == 0
    with pytest.raises(SinkUnavailable):
        await FileSink(tmp_path / "not" / "there").send([an_event()])


async def test_nobody_waits_for_a_receiver_that_is_away_and_what_had_no_room_is_counted_and_told() -> None:
    metrics = some_metrics()
    async with receiving() as (_, port):
        pass  # nobody listens there any more
    log = SecurityLog([SyslogSink(f"tcp://127.0.0.1:{port}", facility=10)], room=10, metrics=metrics)
    async with handing_over(log):

        async def is_down() -> bool:
            return bool(metrics.security_sink_down.labels("syslog")._value.get())

        log.note(an_event("FIRST"))
        await eventually(is_down, what="the receiver to be found away")
        for number in range(25):
            log.note(an_event(f"N{number}"))
        assert metrics.security_events_dropped.labels("syslog")._value.get() == 15
        async with receiving(port=port) as (receiver, _):
            await until(["FIRST", "EVENTS_DROPPED", *(f"N{number}" for number in range(10))], receiver)
            assert b'events="15"' in receiver.messages[1]
            assert metrics.security_sink_down.labels("syslog")._value.get() == 0
    await log.close()


# --- from the database -----------------------------------------------------------------------------------------------


async def recorded(province: Province, *actions: str) -> None:
    """Entries of the audit, sealed."""
    async with province.control.transaction() as connection:
        for action in actions:
            entry = Entry(
                action=action, subject="thing:x", unit_id=province.units["a"], after={"code": "not_permitted"}
            )
            await audit.record(connection, entry, actor=None, origin="203.0.113.7", at=utc_now())
        await chain_store.lock(connection)
        await sealer.seal_waiting(connection, now=utc_now())


def lines_of(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


async def test_what_is_sealed_and_what_devices_refused_is_told_once_from_when_the_sink_came(
    province: Province, tmp_path: Path
) -> None:
    path = tmp_path / "events.jsonl"
    (channel,) = SecurityLog([FileSink(path)])._channels
    await province.device("cum-1", "a1")
    await recorded(province, "glass_broken")  # before there was a sink
    await channel.follow_once(province.control, now=utc_now())
    assert lines_of(path) == []
    await recorded(province, "certificate_revoked", "bulletin_approved", "alert_issue_refused")
    refused = Refused(
        device_at_ms=to_ms(utc_now()),
        clock=ClockState.SYNCHRONISED,
        refused=MessageKind.ALERT,
        reason=RefusalReason.BAD_SIGNATURE,
        serial=9,
        detail="x",
    )
    await province.event("cum-1", refused)
    # Two replicas at once, and once more: nothing comes twice.
    (other,) = SecurityLog([FileSink(path)])._channels
    for _ in range(3):
        await asyncio.gather(*(each.follow_once(province.control, now=utc_now()) for each in (channel, other)))
    told = lines_of(path)
    assert [each["event"] for each in told] == ["CERTIFICATE_REVOKED", "ATTEMPT_REFUSED", "DOWNLINK_REFUSED"]
    assert told[0].items() >= {"origin": "203.0.113.7", "number": 2, "subject": "thing:x"}.items()
    assert told[1]["code"] == "not_permitted"
    assert told[2].items() >= {"device": "cum-1", "reason": "bad_signature", "refused": "alert", "serial": 9}.items()


async def test_what_a_sink_did_not_take_waits_in_the_database(province: Province, tmp_path: Path) -> None:
    folder = tmp_path / "away"
    folder.mkdir()
    (channel,) = SecurityLog([FileSink(folder / "events.jsonl")])._channels
    await channel.follow_once(province.control, now=utc_now())
    folder.rename(tmp_path / "elsewhere")
    await recorded(province, *["token_revoked"] * 450)
    assert not await channel.follow_once(province.control, now=utc_now())
    (tmp_path / "elsewhere").rename(folder)
    while await channel.follow_once(province.control, now=utc_now()):
        pass
    assert [each["number"] for each in lines_of(folder / "events.jsonl")] == list(range(1, 451))


async def test_a_certificate_that_two_devices_use_is_told(province: Province, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    (channel,) = SecurityLog([FileSink(path)])._channels
    device_no = await province.device("cum-1", "a1")
    await channel.follow_once(province.control, now=utc_now() - timedelta(hours=1))
    async with province.ingest.connection() as connection:
        await connection.execute(
            "INSERT INTO telemetry.shared_certificates VALUES ($1, now() - interval '1 minute', now(), 'boots', 'two')",
            device_no,
        )
    for _ in range(2):
        await channel.follow_once(province.control, now=utc_now())
    (told,) = lines_of(path)
    assert told.items() >= {"event": "CERTIFICATE_SHARED", "severity": "alert", "device": "cum-1"}.items()


async def test_an_uplink_whose_signature_is_wrong_is_told_once(province: Province, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    (channel,) = SecurityLog([FileSink(path)])._channels
    now = utc_now()
    await channel.follow_once(province.control, now=now - timedelta(hours=1))
    rows = (("bad_signature", 50), ("unknown_key", 40), ("not_cbor", 30), ("bad_signature", 1))  # reason, seconds ago
    async with province.ingest.connection() as connection:
        for number, (reason, ago) in enumerate(rows):
            await connection.execute(
                "INSERT INTO telemetry.quarantine (messages, first_seen_at, last_seen_at, size, is_receipted, principal,"
                " device, topic, reason, detail, sha256, payload)"
                " VALUES (7, $1, $2, 1, false, 'gateway-1', 'tram-do-1', 't', $3, 'why', $4, 'x')",
                now - timedelta(seconds=ago),
                now,
                reason,
                bytes([number]),
            )
    for _ in range(2):
        await channel.follow_once(province.control, now=now)
    told = lines_of(path)
    assert [each["reason"] for each in told] == [
        "bad_signature",
        "unknown_key",
    ]  # the last one may not be committed yet
    wanted = {"event": "UPLINK_SIGNATURE_WRONG", "severity": "warning", "device": "tram-do-1", "principal": "gateway-1"}
    assert told[0].items() >= {**wanted, "detail": "why"}.items()
    await channel.follow_once(province.control, now=now + timedelta(seconds=30))
    assert len(lines_of(path)) == 3


# --- from requests ---------------------------------------------------------------------------------------------------


async def test_refused_requests_are_told_with_who_and_from_where(database: TestDatabase, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    log = SecurityLog([FileSink(path)])
    async with handing_over(log), an_api(database, tmp_path, security=log) as api:
        viewer = await api.account(login="nguoi-xem")
        headers = await api.token(viewer)
        await api.client.post("/api/v1/sessions", json={"login": "nguoi-xem", "password": "sai mat khau"})
        await api.client.get("/api/v1/account", headers={"Authorization": "Bearer loa_nobody"})
        await api.client.get("/api/v1/audit", headers=headers)
        session = await api.client.post("/api/v1/sessions", json={"login": "nguoi-xem", "password": PASSWORD})
        assert session.status_code == 201
        await api.client.post("/api/v1/tokens", json={"name": "x"})  # by cookie, without the CSRF token
        await api.client.get("/api/v1/account")  # nothing to tell

        async def are_there() -> bool:
            return len(lines_of(path)) >= 4

        await eventually(are_there, what="four events")
    told = [(each["event"], each.get("login"), each["origin"], each["route"]) for each in lines_of(path)]
    assert told == [
        ("LOGIN_FAILED", None, "203.0.113.7", "/api/v1/sessions"),
        ("TOKEN_REFUSED", None, "203.0.113.7", "/api/v1/account"),
        ("PERMISSION_REFUSED", "nguoi-xem", "203.0.113.7", "/api/v1/audit"),
        ("CSRF_REFUSED", None, "203.0.113.7", "/api/v1/tokens"),
    ]
    assert "sai mat khau" not in path.read_text()
