"""Our connection to the broker: MQTT 5 over TLS, publishing only. The only module that knows aiomqtt.

aiomqtt 2 takes a negative PUBACK for a positive one: a publish that the broker's access list refuses would count as
sent and be lost. So publishing is done here on the same client, with the reason code read (`_Client`); a test refuses a
publish with the real broker.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import Any

import aiomqtt
from paho.mqtt.client import MQTT_ERR_SUCCESS, Client
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from schemas.topics import QOS
from services.control.errors import ControlError
from services.shared.settings import BrokerSettings

# The first reason code of PUBACK that means the message was not taken (MQTT 5, 3.4.2.1). 0x10, nobody subscribed, is
# not one of them: a retained message is kept, and for a command nobody may be there.
FIRST_REFUSAL = 0x80

MQTT_LOG = logging.getLogger("services.control.delivery.mqtt")
MQTT_LOG.setLevel(logging.ERROR)  # the client reports each outage in its own words; ours are in the log already


class BrokerError(ControlError):
    """The broker did not take what we had for it."""


class BrokerUnreachable(BrokerError):
    """There is no connection: not made, or lost."""


class PublishTimedOut(BrokerError):
    """The broker did not confirm in time."""


class PublishRefused(BrokerError):
    """The broker says that it did not take the message; `code` is the reason code of MQTT 5."""

    def __init__(self, code: int, name: str) -> None:
        super().__init__(f"{code:#04x} {name}")
        self.code = code


class _Client(aiomqtt.Client):
    """aiomqtt's client with publishes that tell refused from taken, and an end that leaves nothing behind."""

    def __init__(self, settings: BrokerSettings, *, client_id: str, inflight: int) -> None:
        context = ssl.create_default_context(cafile=str(settings.ca_file))
        context.load_cert_chain(settings.cert_file, settings.key_file)
        super().__init__(
            settings.host,
            settings.port,
            identifier=client_id,
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=True,
            keepalive=max(5, round(settings.keepalive.total_seconds())),
            timeout=settings.connect_timeout.total_seconds(),
            max_inflight_messages=inflight,
            tls_context=context,
            logger=MQTT_LOG,
        )
        self._client.connect_timeout = settings.connect_timeout.total_seconds()
        self._answers: dict[int, asyncio.Future[ReasonCode]] = {}

    async def publish_confirmed(
        self, topic: str, payload: bytes, *, is_retained: bool, properties: Properties, timeout: float
    ) -> ReasonCode:
        """Return the broker's reason code; raises `MqttError` without a connection, `TimeoutError` without an answer."""
        # The callback runs in this same event loop, so the answer cannot come before it is waited for.
        info = self._client.publish(topic, payload, QOS, is_retained, properties)
        if info.rc != MQTT_ERR_SUCCESS:
            raise aiomqtt.MqttError("not connected")
        answer: asyncio.Future[ReasonCode] = asyncio.get_running_loop().create_future()
        self._answers[info.mid] = answer
        either: set[asyncio.Future[Any]] = {answer, self._disconnected}
        try:
            async with asyncio.timeout(timeout):
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._answers.pop(info.mid, None)
        if not answer.done():
            raise aiomqtt.MqttError("disconnected")
        return answer.result()

    def _on_publish(
        self, client: Client, userdata: Any, mid: int, reason_code: ReasonCode, properties: Properties
    ) -> None:
        del client, userdata, properties
        answer = self._answers.get(mid)
        if answer is not None and not answer.done():
            answer.set_result(reason_code)

    @property
    def is_lost(self) -> bool:
        """Whether the connection is gone."""
        return self._disconnected.done()

    async def lost(self) -> None:
        """Return when the connection is gone."""
        await asyncio.wait({self._disconnected})

    def release(self) -> None:
        """Close whatever is still open. aiomqtt leaves the socket when connecting times out."""
        if self._client.socket() is not None:
            self._client._sock_close()  # noqa: SLF001 - paho closes its socket only from inside its own loops
        for future in (self._connected, self._disconnected):
            if future.done() and not future.cancelled():
                future.exception()  # somebody has seen it: asyncio need not complain


class Connection:
    """An open connection to the broker."""

    def __init__(self, client: _Client, publish_timeout: timedelta) -> None:
        self._client = client
        self._publish_timeout = publish_timeout.total_seconds()

    async def publish(
        self, topic: str, payload: bytes, *, is_retained: bool, expires_at: datetime | None, now: datetime
    ) -> None:
        """Return when the broker has taken the message, which it forgets at `expires_at`.

        Raises `BrokerUnreachable`, `PublishTimedOut` or `PublishRefused`. After the first two it may have arrived.
        """
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        if expires_at is not None:
            # Whole seconds and at least one: 0 would mean at once.
            properties.MessageExpiryInterval = max(1, int((expires_at - now).total_seconds()))
        try:
            code = await self._client.publish_confirmed(
                topic, payload, is_retained=is_retained, properties=properties, timeout=self._publish_timeout
            )
        except TimeoutError:
            raise PublishTimedOut(topic) from None
        except (aiomqtt.MqttError, OSError) as error:
            raise BrokerUnreachable(str(error)) from error
        if code.value >= FIRST_REFUSAL:
            raise PublishRefused(code.value, code.getName())

    @property
    def is_lost(self) -> bool:
        """Whether the connection is gone."""
        return self._client.is_lost

    async def lost(self) -> None:
        """Return when the connection is gone."""
        await self._client.lost()


@asynccontextmanager
async def connected(
    settings: BrokerSettings, *, client_id: str, inflight: int, publish_timeout: timedelta
) -> AsyncIterator[Connection]:
    """A connection inside the block; raises `BrokerUnreachable` when it cannot be made.

    A lost connection does not end the block: publishes raise, and `Connection.lost` returns.
    """
    try:
        client = _Client(settings, client_id=client_id, inflight=inflight)
    except (OSError, ssl.SSLError) as error:
        raise BrokerUnreachable(f"certificates: {error}") from error
    # Connecting blocks a thread that cannot be interrupted. When we are cancelled, what it opens must be closed again.
    entering = asyncio.get_running_loop().create_task(client.__aenter__())
    try:
        try:
            await asyncio.shield(entering)
        except (aiomqtt.MqttError, OSError, TimeoutError) as error:
            raise BrokerUnreachable(f"{settings.host}:{settings.port}: {error}") from error
        yield Connection(client, publish_timeout)
    finally:
        with suppress(aiomqtt.MqttError, OSError, TimeoutError):
            await entering
            await client.__aexit__(None, None, None)
        client.release()
