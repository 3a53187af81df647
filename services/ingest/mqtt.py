"""Our own MQTT 5 session: the `mqtt5` codec inside an asyncio protocol, because this is the hot path.

Messages are handed over in the chunks they arrive in, without a task or a queue per message, and are acknowledged by
whoever stored them. What bounds memory is the Receive Maximum: the broker sends that many unacknowledged messages and
no more. The session is persistent, so the broker keeps what we have not acknowledged, over our restarts and, with its
own persistence, over its own.

A session is one object for as long as the process lives; connections come and go beneath it and are numbered. What is
acknowledged on another connection than it came over is ignored: the broker delivers it again by itself.
"""

import asyncio
import logging
import random
import ssl
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol, TypeVar, cast

import mqtt5

from services.ingest.errors import ProtocolViolated, SessionRefused
from services.ingest.frames import Unreadable, packet_size, salvage
from services.shared.settings import BrokerSettings

NEVER_EXPIRES = 0xFFFF_FFFF  # also the only expiry Mosquitto 2.0 survives a SIGHUP with (broker_config/README.md)
UNANSWERED = timedelta(seconds=10)  # how long SUBACK, UNSUBACK and a last flush may take

# Reason codes from here on are refusals (MQTT 5, section 2.4). The codec's enumerations are not Python's: no order, no name.
_FIRST_REFUSAL = 0x80

_PING = mqtt5.PingReqPacket().write()
_PUBACK = b"\x40\x02"  # followed by the packet id: success and no properties need no more

AnswerT = TypeVar("AnswerT", mqtt5.ConnAckPacket, mqtt5.SubAckPacket, mqtt5.UnsubAckPacket)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """A topic filter.

    `retained_first` asks for the retained messages when the subscription is new to the session, and has the retain flag
    tell these from what is published now. Without it the flag is the publisher's own: a retained message on such a topic
    is an error that has to show.
    """

    topic_filter: str
    retained_first: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """What makes a session."""

    broker: BrokerSettings
    client_id: str
    subscriptions: tuple[Subscription, ...]
    receive_maximum: int
    # What a session of an earlier version may still be subscribed to, and what is now for another session.
    given_up: tuple[str, ...] = ()
    # Otherwise the broker forgets us with the connection, and each new one begins with what is retained.
    is_durable: bool = True
    backoff_shortest: timedelta = timedelta(milliseconds=200)
    backoff_longest: timedelta = timedelta(seconds=15)


class Receiver(Protocol):
    """Who is handed what arrives. Called from the event loop, and must not block it for long."""

    def take_known(self, data: bytes, start: int, *, connection: int) -> int:
        """Take messages that need no codec, from `start` on; return where the first other packet begins."""

    def take(self, publishes: Sequence[mqtt5.PublishPacket], *, connection: int) -> None:
        """Take the messages of one chunk, in order."""

    def take_unreadable(self, packet: Unreadable, *, connection: int) -> None:
        """Take a message the codec could not read."""


class _Writable(Protocol):
    def write(self) -> bytes: ...


class Session:
    """A persistent session with the broker, connected again whenever it is lost."""

    def __init__(self, options: SessionOptions, receiver: Receiver) -> None:
        self._options = options
        self._receiver = receiver
        self._connected: Callable[[bool], None] = lambda _: None
        self._writable: Callable[[], None] = lambda: None
        # From its making until it is lost: what the broker delivers again comes, and is acknowledged, before SUBACK.
        self._connection: _Connection | None = None
        self._is_connected = False
        self._connections = 0
        self._was_known = False
        self._is_leaving = False
        self._is_closing = asyncio.Event()
        self._flows = asyncio.Event()  # cleared while nothing shall be taken; set for good by `close`
        self._flows.set()

    @property
    def is_connected(self) -> bool:
        """Whether the broker has accepted us and our subscriptions."""
        return self._is_connected

    @property
    def connections(self) -> int:
        """How many connections there have been so far."""
        return self._connections

    @property
    def was_known(self) -> bool:
        """Whether the broker had kept a session of ours when we last connected."""
        return self._was_known

    def watch(self, *, connected: Callable[[bool], None], writable: Callable[[], None]) -> None:
        """Call `connected` when the connection comes and goes, and `writable` whenever publishing may be tried again."""
        self._connected = connected
        self._writable = writable

    # --- life ---

    async def run(self) -> None:
        """Keep the session connected until `close` or cancellation, but for times when nothing shall be taken.

        With each new connection the broker delivers again up to a Receive Maximum of messages: while the database is away
        a connection that comes and goes would fill the memory.
        """
        attempt = 0
        loop = asyncio.get_running_loop()
        while True:
            await self._flows.wait()
            if self._is_closing.is_set():
                return
            began_at = loop.time()
            try:
                await self._live()
            except (OSError, TimeoutError, SessionRefused, ProtocolViolated) as error:
                log.warning("broker_unreachable", extra={"reason": _name(error), "attempt": attempt})
            # A connection that is lost at once (two processes with one client id throw each other out) is a failure too.
            was_steady = loop.time() - began_at > self._options.backoff_longest.total_seconds()
            attempt = 0 if was_steady else attempt + 1
            await self._rest(attempt)

    async def close(self, *, ends_session: bool = False) -> None:
        """Say goodbye, and do not come back. With `ends_session` the broker forgets us and what it holds for us."""
        self._is_closing.set()
        self._flows.set()
        if self._connection is not None and self._is_connected:
            await self._connection.say_goodbye(0 if ends_session else None)

    def leave(self) -> None:
        """Be without subscriptions from the next connection on, so that the group's share goes to others."""
        self._is_leaving = True

    async def unsubscribe(self) -> None:
        """Leave every subscription, now and for good; what is queued for us still comes. May be asked again.

        Raises `OSError`, `TimeoutError`, `SessionRefused` or `ProtocolViolated` when the broker cannot be told or does not
        agree; the next connection is without subscriptions all the same.
        """
        self.leave()
        if self._connection is None or not self._is_connected:
            raise ConnectionError("not connected")
        await self._connection.unsubscribe()

    async def _live(self) -> None:
        """One connection, from its beginning to its end. Raises when it cannot be made; returns when it is lost."""
        loop = asyncio.get_running_loop()
        broker = self._options.broker
        self._connections += 1
        number = self._connections
        async with asyncio.timeout(broker.connect_timeout.total_seconds()):
            _, connection = await loop.create_connection(
                lambda: _Connection(self._options, self._receiver, number, self._writable),
                broker.host,
                broker.port,
                ssl=tls_context(broker),
            )
        self._connection = connection
        try:
            try:
                self._was_known = await connection.begin(subscribes=not self._is_leaving)
            except ProtocolViolated:
                if connection.bug is not None:
                    raise connection.bug from None
                raise
            if not self._flows.is_set():
                connection.pause_reading()
            self._is_connected = True
            self._connected(True)
            self._writable()
            await connection.lost.wait()
            if connection.bug is not None:
                raise connection.bug
        finally:
            was_connected = self._is_connected
            self._connection = None
            self._is_connected = False
            connection.abort()
            if was_connected:
                self._connected(False)
                level = logging.INFO if self._is_closing.is_set() else logging.WARNING
                log.log(level, "broker_disconnected", extra={"reason": connection.reason, "connection": number})

    async def _rest(self, attempt: int) -> None:
        """Wait before the next attempt: longer each time, and never in step with other replicas."""
        ceiling = self._options.backoff_shortest * 2 ** min(attempt, 16)
        longest = min(ceiling, self._options.backoff_longest)
        try:
            async with asyncio.timeout(longest.total_seconds() * random.uniform(0.5, 1.0)):  # noqa: S311 - not a secret
                await self._is_closing.wait()
        except TimeoutError:
            pass

    # --- traffic ---

    def acknowledge(self, packet_ids: Iterable[int], *, connection: int) -> None:
        """Acknowledge messages that came over the numbered connection, in the order they came."""
        if self._connection is not None and self._connection.number == connection:
            self._connection.acknowledge(packet_ids)

    def publish(
        self, topic: str, payload: bytes, *, is_retained: bool = False, expires_after: timedelta | None = None
    ) -> bool:
        """Publish at QoS 0; False when it cannot be sent now (`writable` is called when it may be tried again)."""
        if self._connection is None or not self._is_connected or not self._connection.may_write:
            return False
        self._connection.publish(topic, payload, is_retained=is_retained, expires_after=expires_after)
        return True

    def pause(self) -> None:
        """Take nothing more from the network until `resume`."""
        if self._flows.is_set():
            self._flows.clear()
            if self._connection is not None and self._is_connected:
                self._connection.pause_reading()

    def resume(self) -> None:
        """Take messages again."""
        if not self._flows.is_set():
            self._flows.set()
            if self._connection is not None and self._is_connected:
                self._connection.resume_reading()


class _Connection(asyncio.Protocol):
    """One network connection of the session."""

    def __init__(self, options: SessionOptions, receiver: Receiver, number: int, writable: Callable[[], None]) -> None:
        self.number = number
        self.lost = asyncio.Event()
        self.may_write = True
        self.reason = "closed"
        self._options = options
        self._receiver = receiver
        self._writable = writable
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._tail = b""  # the beginning of a packet whose end has not arrived
        self._answers: dict[type, asyncio.Future[Any]] = {}
        self.bug: Exception | None = None
        self._heard_at = self._loop.time()
        self._keepalive_s = options.broker.keepalive.total_seconds()
        self._is_paused = False
        self._timer: asyncio.TimerHandle | None = None

    # --- beginning and end ---

    async def begin(self, *, subscribes: bool) -> bool:
        """CONNECT, and SUBSCRIBE or the opposite; return whether the broker has kept a session of ours.

        Raises `SessionRefused`, `ProtocolViolated`, `TimeoutError` or `OSError`.
        """
        options = self._options
        connect = mqtt5.ConnectPacket(
            client_id=options.client_id,
            clean_start=not options.is_durable,
            keep_alive=round(self._keepalive_s),
            session_expiry_interval=NEVER_EXPIRES if options.is_durable else 0,
            receive_max=options.receive_maximum,
        )
        answer = await self._ask(connect, mqtt5.ConnAckPacket, options.broker.connect_timeout)
        if answer.reason_code != mqtt5.ConnAckReasonCode.SUCCESS:
            raise SessionRefused(f"CONNACK {answer.reason_code}")
        if answer.server_keep_alive is not None:
            self._keepalive_s = float(answer.server_keep_alive)
        self._timer = self._loop.call_later(self._keepalive_s / 2, self._keep_alive)
        log.info(
            "broker_connected",
            extra={"connection": self.number, "session_present": answer.session_present, "client": options.client_id},
        )
        # Whatever the session remembers: Mosquitto 2.0.11 does not restore shared subscriptions after its own restart.
        await (self._subscribe() if subscribes else self.unsubscribe())
        if answer.session_present and options.given_up:
            await self._unsubscribe(options.given_up)
        return bool(answer.session_present)

    async def _subscribe(self) -> None:
        filters = [
            mqtt5.TopicFilter(
                each.topic_filter,
                max_qos=mqtt5.QoS.AT_LEAST_ONCE,
                retain_as_published=not each.retained_first,
                retain_handling=(
                    mqtt5.RetainHandling.SEND_IF_SUBSCRIPTION_NOT_EXISTS
                    if each.retained_first
                    else mqtt5.RetainHandling.SEND_NEVER
                ),
            )
            for each in self._options.subscriptions
        ]
        answer = await self._ask(mqtt5.SubscribePacket(1, filters), mqtt5.SubAckPacket, UNANSWERED)
        refused = {str(code) for code in answer.reason_codes if int(code) >= _FIRST_REFUSAL}
        if refused:  # the filters are not named: they hold the group's secret
            raise SessionRefused(f"SUBACK {', '.join(sorted(refused))}")

    async def unsubscribe(self) -> None:
        """UNSUBSCRIBE from everything."""
        await self._unsubscribe([each.topic_filter for each in self._options.subscriptions])

    async def _unsubscribe(self, topic_filters: Sequence[str]) -> None:
        packet = mqtt5.UnsubscribePacket(2, list(topic_filters))
        answer = await self._ask(packet, mqtt5.UnsubAckPacket, UNANSWERED)
        if any(int(code) >= _FIRST_REFUSAL for code in answer.reason_codes):
            raise SessionRefused("UNSUBACK")

    async def say_goodbye(self, session_expiry_s: int | None) -> None:
        """DISCONNECT after everything written so far has been sent."""
        self.reason = "goodbye"
        self._transport.write(mqtt5.DisconnectPacket(session_expiry_interval=session_expiry_s).write())
        # The broker hangs up. If we did, what it has sent meanwhile would meet a closed socket, and the reset that answers
        # it could overtake our last acknowledgements.
        if self._is_paused:
            self.resume_reading()
        try:
            async with asyncio.timeout(UNANSWERED.total_seconds()):
                await self.lost.wait()
        except TimeoutError:
            self.abort()

    def abort(self) -> None:
        """Drop the connection at once."""
        if self._timer is not None:
            self._timer.cancel()
        self._transport.abort()

    def _fail(self, reason: str) -> None:
        if not self.lost.is_set():
            self.reason = reason
            self._transport.abort()
            self._forget(ProtocolViolated(reason))

    def _forget(self, error: Exception) -> None:
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(error)
        self.lost.set()

    async def _ask(self, packet: "_Writable", kind: type[AnswerT], within: timedelta) -> AnswerT:
        """Send `packet` and return the answer of the given kind."""
        answer: asyncio.Future[AnswerT] = self._loop.create_future()
        self._answers[kind] = answer
        self._transport.write(packet.write())
        try:
            async with asyncio.timeout(within.total_seconds()):
                return await answer
        finally:
            del self._answers[kind]

    def _keep_alive(self) -> None:
        if self._keepalive_s <= 0:
            return  # the broker has asked for none
        # While reading is paused no answer can be seen; the broker still sees our pings.
        if not self._is_paused and self._loop.time() - self._heard_at > 1.5 * self._keepalive_s:
            self._fail("the broker is silent")
            return
        self._transport.write(_PING)
        self._timer = self._loop.call_later(self._keepalive_s / 2, self._keep_alive)

    # --- what the transport calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake whoever waits."""
        if exc is not None and self.reason == "closed":
            self.reason = _name(exc)
        self._forget(ConnectionResetError(self.reason))

    def pause_writing(self) -> None:
        """The broker reads slowly."""
        self.may_write = False

    def resume_writing(self) -> None:
        """The broker has caught up."""
        self.may_write = True
        self._writable()

    def data_received(self, data: bytes) -> None:
        """Read every whole packet in what has arrived, and hand the messages over together."""
        self._heard_at = self._loop.time()
        if self._tail:
            data = self._tail + data
        publishes: list[mqtt5.PublishPacket] = []
        view = memoryview(data)
        start = 0
        while True:
            start = self._take_known(data, start)
            if start >= len(data):
                break
            try:
                packet, size = mqtt5.read(view[start:])
            except BaseException as error:  # noqa: BLE001 - the codec's panics are no `Exception`
                size = self._refused(view[start:], error, publishes)
                if size == 0:
                    break
            else:
                if type(packet) is mqtt5.PublishPacket:
                    publishes.append(packet)
                else:
                    self._heard(packet)
            start += size
        self._tail = data[start:]
        self._hand_over(publishes)

    def _take_known(self, data: bytes, start: int) -> int:
        try:
            return self._receiver.take_known(data, start, connection=self.number)
        except Exception as error:  # noqa: BLE001 - as below
            self._found(error)
            return len(data)

    def _refused(self, view: memoryview, error: BaseException, publishes: list[mqtt5.PublishPacket]) -> int:
        """Deal with bytes the codec refused; return how many, 0 where the packet is still arriving."""
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise error
        try:
            size = packet_size(view)
        except ValueError as problem:
            self._fail(f"malformed: {problem}")
            return 0
        if size is None or size > len(view):
            return 0
        unreadable = salvage(bytes(view[:size]), _name(error))
        if unreadable is None:
            self._fail(f"unreadable packet: {_name(error)}")
            return 0
        self._hand_over(publishes)
        publishes.clear()
        self._receiver.take_unreadable(unreadable, connection=self.number)
        return size

    def _hand_over(self, publishes: list[mqtt5.PublishPacket]) -> None:
        if not publishes:
            return
        try:
            self._receiver.take(publishes, connection=self.number)
        except Exception as error:  # noqa: BLE001 - the transport would swallow it; `Session.run` raises it
            self._found(error)

    def _found(self, bug: Exception) -> None:
        self.bug = bug
        self._fail(f"bug: {_name(bug)}")

    def _heard(self, packet: mqtt5.Packet) -> None:
        """Take a packet that is no message."""
        match packet:
            case mqtt5.ConnAckPacket() | mqtt5.SubAckPacket() | mqtt5.UnsubAckPacket():
                answer = self._answers.get(type(packet))
                if answer is not None and not answer.done():
                    answer.set_result(packet)
            case mqtt5.PingRespPacket():
                pass
            case mqtt5.DisconnectPacket():
                self._fail(f"DISCONNECT {packet.reason_code}")
            case _:
                self._fail(f"{type(packet).__name__} out of place")

    # --- what the session calls ---

    def acknowledge(self, packet_ids: Iterable[int]) -> None:
        """PUBACK, all in one write."""
        self._transport.write(b"".join([_PUBACK + packet_id.to_bytes(2, "big") for packet_id in packet_ids]))

    def publish(self, topic: str, payload: bytes, *, is_retained: bool, expires_after: timedelta | None) -> None:
        """PUBLISH at QoS 0."""
        expiry_s = None if expires_after is None else round(expires_after.total_seconds())
        packet = mqtt5.PublishPacket(topic, payload, retain=is_retained, message_expiry_interval=expiry_s)
        self._transport.write(packet.write())

    def pause_reading(self) -> None:
        """Leave what arrives in the network's buffers."""
        self._is_paused = True
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        self._is_paused = False
        self._heard_at = self._loop.time()
        self._transport.resume_reading()


def tls_context(broker: BrokerSettings) -> ssl.SSLContext:
    """Return a context that checks the broker's certificate and shows ours. Raises `OSError` for unusable files."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(broker.ca_file))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(broker.cert_file, broker.key_file)
    return context


def _name(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:200]
