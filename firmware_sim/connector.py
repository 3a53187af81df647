"""One MQTT session per principal, kept up: TLS with the device's own certificate, keep-alive, reconnecting with backoff.

What is said over it is `session`'s; who wants to say it is a `Speaker`. Connections of a fleet pass through one gate, so
that ten thousand devices that come back at once do not all shake hands at once.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from firmware_sim import backoff
from firmware_sim.session import RECEIVE_MAXIMUM, REFUSED, Answered, Message, Opened, Session, SessionFailed, Taken

log = logging.getLogger(__name__)

ANSWERED_WITHIN_S = 3.0  # what the broker may wait for; sooner when there is something else to say
# Answers held back at most: from here on it says them at once, so that the broker can go on with what is under way.
HELD_BACK = RECEIVE_MAXIMUM // 2
GOODBYE_S = 2.0  # how long taking leave may take, twice: for what is under way, and for the broker to close


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where the broker is and how to behave towards it."""

    host: str
    port: int
    ca_file: Path
    keepalive_s: int
    connect_timeout_s: float
    backoff_base_ms: int
    backoff_cap_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A client certificate and its key; the certificate's common name is the client id."""

    client_id: str
    certificate: Path
    key: Path


class Speaker(Protocol):
    """Whom a connector speaks for."""

    def announcement(self, *, is_online: bool) -> tuple[str, bytes]:
        """Topic and payload of the presence report for the present connection number."""

    def connecting(self) -> None:
        """A connection is about to be tried."""

    def connected(self) -> None:
        """The session is up."""

    def disconnected(self) -> None:
        """The session is down."""

    def received(self, topic: str, payload: bytes) -> bool:
        """A downlink came; it is acknowledged when this returns. Whether the broker may wait a while for the answer."""


class _Link(asyncio.Protocol):
    """One connection: bytes between the transport and the session."""

    def __init__(self, session: Session, speaker: Speaker, loop: asyncio.AbstractEventLoop) -> None:
        self._session = session
        self._speaker = speaker
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._flush_handle: asyncio.Handle | None = None
        self._late_handle: asyncio.TimerHandle | None = None
        self._beat_handle: asyncio.TimerHandle | None = None
        self._held_back = 0  # answers to downlinks that are not written yet
        self._has_sent = False
        self._has_received = False
        self._is_up = False
        self.opened: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[str] = loop.create_future()

    # --- asyncio's side ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(
            "asyncio.Transport", transport
        )  # uvloop's TLS transport is one in all but its base class
        topic, payload = self._speaker.announcement(is_online=False)
        self._session.connect(topic, payload)
        self.flush()

    def data_received(self, data: bytes) -> None:
        self._has_received = True
        may_wait = True  # as long as all that came lets us
        try:
            for happening in self._session.receive(data):
                match happening:
                    case Message():
                        may_wait &= self._speaker.received(happening.topic, happening.payload)
                        self._session.acknowledge(happening)
                        self._held_back += 1
                    case Opened():
                        may_wait = False
                        self._open()
                    case Answered(topic=topic, reason=reason):
                        may_wait = False  # there may be room for what waited
                        if reason >= REFUSED:
                            log.warning("publish_refused", extra={"topic": topic, "reason": reason})
            if may_wait and 0 < self._held_back < HELD_BACK:
                self._flush_late()
            else:
                self.flush_soon()  # after the other devices of this process have read what is there for them
        except SessionFailed as error:
            self.abort(str(error))

    def connection_lost(self, exc: Exception | None) -> None:
        for handle in (self._flush_handle, self._late_handle, self._beat_handle):
            if handle is not None:
                handle.cancel()
        self._end("connection closed" if exc is None else str(exc))

    # --- the connector's side ----------------------------------------------------------------------------------------

    @property
    def is_up(self) -> bool:
        return self._is_up

    def flush(self) -> None:
        """Write what the session has to say; called at most once per turn of the loop."""
        self._flush_handle = None
        self._held_back = 0
        if self._late_handle is not None:
            self._late_handle.cancel()
            self._late_handle = None
        if self._transport is not None and not self._transport.is_closing():
            out = self._session.take()
            if out:
                self._has_sent = True
                self._transport.write(out)

    def flush_soon(self) -> None:
        if self._flush_handle is None:
            self._flush_handle = self._loop.call_soon(self.flush)

    def _flush_late(self) -> None:
        if self._late_handle is None:
            self._late_handle = self._loop.call_later(ANSWERED_WITHIN_S, self.flush)

    def abort(self, reason: str) -> None:
        """Cut the line without a word, as a lost uplink does."""
        self._end(reason)
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Take leave."""
        self._session.disconnect()
        self.flush()
        if self._transport is not None:
            self._transport.close()

    def _open(self) -> None:
        self._is_up = True
        topic, payload = self._speaker.announcement(is_online=True)
        self._session.publish(topic, payload, retain=True)
        self._beat_handle = self._loop.call_later(self._session.keep_alive_s / 2, self._beat)
        if not self.opened.done():
            self.opened.set_result(None)
        self._speaker.connected()

    def _beat(self) -> None:
        """Twice per keep-alive interval: ping when either side was silent, give up when the last ping was."""
        if self._session.is_ping_unanswered:
            self.abort("no answer to ping")
            return
        if not (self._has_sent and self._has_received):
            self._session.ping()
            self.flush()
        self._has_sent = self._has_received = False
        self._beat_handle = self._loop.call_later(self._session.keep_alive_s / 2, self._beat)

    def _end(self, reason: str) -> None:
        if self.lost.done():
            return
        self.lost.set_result(reason)
        if not self.opened.done():
            self.opened.set_exception(SessionFailed(reason))
            self.opened.exception()  # whoever waited may have given up already
        self._session.disconnected()
        if self._is_up:
            self._is_up = False
            self._speaker.disconnected()


class Connector:
    """Keeps one principal's session up until it is told to stop."""

    def __init__(
        self,
        endpoint: Endpoint,
        identity: Identity,
        filters: tuple[str, ...],
        speaker: Speaker,
        *,
        gate: asyncio.Semaphore,
        draw: Callable[[], float],
    ) -> None:
        self._endpoint = endpoint
        self._identity = identity
        self._speaker = speaker
        self._gate = gate
        self._draw = draw
        self._session = Session(
            identity.client_id,
            filters,
            keep_alive_s=endpoint.keepalive_s,
        )
        self._link: _Link | None = None
        self._leaving: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._away_until = 0.0

    @property
    def is_up(self) -> bool:
        """Whether the session is connected."""
        return self._link is not None and self._link.is_up

    def publish(self, topic: str, payload: bytes) -> Taken:
        """Send a message with QoS 1."""
        if self._link is None:
            return Taken.NOT_NOW
        taken = self._session.publish(topic, payload)
        self._link.flush_soon()
        return taken

    def listen(self, filters: frozenset[str], *, anew: frozenset[str] = frozenset()) -> None:
        """Subscribe to these filters besides the principal's own (see `Session.listen`)."""
        self._session.listen(filters, anew=anew)
        if self._link is not None:
            self._link.flush_soon()

    def sever(self, *, away_s: float = 0.0) -> None:
        """Break the link as an outage does, and keep it broken for `away_s`."""
        self._away_until = max(self._away_until, asyncio.get_running_loop().time() + away_s)
        if self._link is not None:
            self._link.abort("link severed")

    def stop(self) -> None:
        """Let `run` take leave and return."""
        if not self._leaving.done():
            self._leaving.set_result(None)

    async def run(self, *, after_s: float) -> None:
        """Connect, stay connected, reconnect; returns after `stop`."""
        loop = asyncio.get_running_loop()
        await self.pause(after_s)
        attempt = 0
        while not self._leaving.done():
            await self.pause(self._away_until - loop.time())
            try:
                link = await self._connect(loop)
            except (OSError, SessionFailed) as error:
                attempt += 1
                log.debug(
                    "connection_failed",
                    extra={"device": self._identity.client_id, "attempt": attempt, "error": str(error)[:200]},
                )
            else:
                attempt = 1
                await self._stay(link)
            self._link = None
            if not self._leaving.done():
                wait_ms = backoff.delay_ms(
                    attempt,
                    base_ms=self._endpoint.backoff_base_ms,
                    cap_ms=self._endpoint.backoff_cap_ms,
                    draw=self._draw(),
                )
                await self.pause(wait_ms / 1_000)

    async def _connect(self, loop: asyncio.AbstractEventLoop) -> _Link:
        """One attempt, from the TCP handshake to the broker's CONNACK."""

        def link() -> _Link:
            self._link = _Link(self._session, self._speaker, loop)
            return self._link

        async with self._gate:
            self._speaker.connecting()
            try:
                async with asyncio.timeout(self._endpoint.connect_timeout_s):
                    _, made = await loop.create_connection(
                        link,
                        self._endpoint.host,
                        self._endpoint.port,
                        ssl=tls_context(self._endpoint, self._identity),
                        server_hostname=self._endpoint.host,
                    )
                    try:
                        await made.opened
                    except BaseException:
                        made.abort("gave up")
                        raise
            except TimeoutError:
                raise SessionFailed("timed out") from None
        return made

    async def _stay(self, link: _Link) -> None:
        """Until the link is lost, or until we are told to stop and have taken leave."""
        await asyncio.wait((self._leaving, link.lost), return_when=asyncio.FIRST_COMPLETED)
        if link.lost.done():
            log.debug("connection_lost", extra={"device": self._identity.client_id, "reason": link.lost.result()[:200]})
            return
        topic, payload = self._speaker.announcement(is_online=False)
        self._session.publish(topic, payload, retain=True)
        link.flush()
        await self._drain(link)
        link.close()
        await asyncio.wait((link.lost,), timeout=GOODBYE_S)
        link.abort("left")

    async def _drain(self, link: _Link) -> None:
        """Give the broker a moment to answer what is under way, the goodbye above all."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + GOODBYE_S
        while not self._session.is_idle and not link.lost.done() and loop.time() < deadline:
            await asyncio.sleep(0.02)

    async def pause(self, seconds: float) -> None:
        """Sleep, unless told to stop."""
        if seconds > 0:
            await asyncio.wait((self._leaving,), timeout=seconds)

    async def wait(self, awaited: asyncio.Future[None]) -> None:
        """Wait for something, unless told to stop."""
        await asyncio.wait((self._leaving, awaited), return_when=asyncio.FIRST_COMPLETED)


def tls_context(endpoint: Endpoint, identity: Identity) -> ssl.SSLContext:
    """TLS 1.2 or newer, the broker's name and chain checked, the device's own certificate shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(endpoint.ca_file)
    context.load_cert_chain(identity.certificate, identity.key)
    return context
