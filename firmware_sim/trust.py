"""Whom a device believes: signatures, audience, validity window, serial, and the floor under its clock.

A device is provisioned with the root public key. The `keys` message, signed by root, names the platform's signing keys;
every other order must be signed by one of them. The broker is not trusted, so nothing here depends on how a message
came in. Each refusal is a security event (S-11).
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from nacl.bindings import crypto_sign_BYTES, crypto_sign_open
from nacl.exceptions import BadSignatureError

from firmware_sim.clock import Moment
from schemas import signing
from schemas.alerts import Alert
from schemas.errors import SignatureError, SignatureReason
from schemas.events import MessageKind, RefusalReason
from schemas.fields import ClockState
from schemas.keys import KeySet
from schemas.orders import DeviceOrder, Order
from schemas.relays import SegmentList

OrderT = TypeVar("OrderT", bound=Order)
DeviceOrderT = TypeVar("DeviceOrderT", bound=DeviceOrder)

# How far a device's synchronised clock may lie behind the platform's before an order counts as not yet valid. It only
# concerns `valid_from`: two honest clocks disagree by less, and nobody gains anything by two minutes.
SKEW_MS = 120_000

_REASONS = {
    SignatureReason.MALFORMED: RefusalReason.MALFORMED,
    SignatureReason.DOWNGRADED_ALGORITHM: RefusalReason.DOWNGRADED_ALGORITHM,
    SignatureReason.WRONG_TYPE: RefusalReason.WRONG_TYPE,
    SignatureReason.UNKNOWN_KEY: RefusalReason.UNKNOWN_KEY,
    SignatureReason.BAD_SIGNATURE: RefusalReason.BAD_SIGNATURE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Held(Generic[OrderT]):
    """An order the device lives by, with the signed bytes it came in: what is kept on flash and checked again."""

    raw: bytes
    order: OrderT


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a message was not accepted; `detail` is for people."""

    reason: RefusalReason
    serial: int | None = None
    detail: str | None = None


class Unchanged(enum.Enum):
    """The message is byte for byte what the device already holds: a retained message delivered again."""

    UNCHANGED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Root key (raw Ed25519), announced keys, last accepted serial per kind of order, and the newest verified issue time."""

    root: bytes
    keys: Held[KeySet] | None = None
    serials: Mapping[MessageKind, int] = field(default_factory=dict)
    floor_ms: int = 0

    def raised(self, kind: MessageKind, order: Order, serial: int) -> Trust:
        """The trust after `order` was accepted."""
        return replace(
            self,
            serials={**self.serials, kind: serial},
            floor_ms=max(self.floor_ms, order.issued_at_ms),
        )


def withdraws(held: Held[KeySet] | None, following: KeySet) -> bool:
    """Whether a key that was announced is no longer: it was stolen, and nothing it said holds."""
    return held is not None and not {key.kid for key in held.order.keys} <= {key.kid for key in following.keys}


def is_trusted(now: Moment, floor_ms: int) -> bool:
    """Whether a device may act on its clock: it was set, and does not lie before what it has seen signed."""
    return now.clock is not ClockState.UNSYNCHRONISED and now.at_ms >= floor_ms - SKEW_MS


def believed_ms(now: Moment, floor_ms: int) -> int:
    """The earliest instant it can be: the clock when it is trusted, and never below the floor."""
    return max(now.at_ms, floor_ms) if is_trusted(now, floor_ms) else floor_ms


def judge_keys(message: bytes, trust: Trust, *, now: Moment) -> Held[KeySet] | Refusal | Unchanged:
    """Judge a `keys` message, which only the root key can sign.

    By the time as root told it: a stolen platform key that spoke of years to come must not shut root out.
    """
    if trust.keys is not None and message == trust.keys.raw:
        return Unchanged.UNCHANGED
    order = verify_keys(message, trust.root)
    if isinstance(order, Refusal):
        return order
    last = trust.serials.get(MessageKind.KEYS)
    by_root = replace(trust, floor_ms=0 if trust.keys is None else trust.keys.order.issued_at_ms)
    return (
        _stale(order.serial, last, is_held=trust.keys is not None)
        or out_of_window(order, order.serial, by_root, now=now)
        or Held(raw=message, order=order)
    )


def judge(
    cls: type[DeviceOrderT],
    message: bytes,
    trust: Trust,
    *,
    kind: MessageKind,
    device: str,
    held: Held[DeviceOrderT] | None,
    now: Moment,
) -> Held[DeviceOrderT] | Refusal | Unchanged:
    """Judge an order to `device`: signature, audience, serial, window, in this order.

    The serial comes before the window, so that yesterday's order is named for what it is: a replay.
    """
    if held is not None and message == held.raw:
        return Unchanged.UNCHANGED
    order = verify(cls, message, trust, device=device)
    if isinstance(order, Refusal):
        return order
    return (
        _stale(order.serial, trust.serials.get(kind), is_held=held is not None)
        or out_of_window(order, order.serial, trust, now=now)
        or Held(raw=message, order=order)
    )


def verify_keys(message: bytes, root: bytes) -> KeySet | Refusal:
    """The key set in `message` if root signed it."""
    key = Ed25519PublicKey.from_public_bytes(root)
    return _opened(KeySet, message, lambda: signing.verify(KeySet, message, {signing.key_id(key): key}))


def verify(cls: type[DeviceOrderT], message: bytes, trust: Trust, *, device: str) -> DeviceOrderT | Refusal:
    """The order in `message` if an announced key signed it while it was valid, and it is for `device`."""
    keys = trust.keys
    if keys is None:
        return Refusal(reason=RefusalReason.UNKNOWN_KEY, detail="no keys were announced yet")
    order = _opened(cls, message, lambda: signing.verify_under(cls, message, keys.order))
    if isinstance(order, cls) and order.device != device:
        return Refusal(reason=RefusalReason.FOREIGN_AUDIENCE, serial=order.serial, detail=f"for {order.device}")
    return order


def verify_alert(message: bytes, trust: Trust) -> Alert | Refusal:
    """The alert in `message` if an announced key signed it while it was valid."""
    keys = trust.keys
    if keys is None:
        return Refusal(reason=RefusalReason.UNKNOWN_KEY, detail="no keys were announced yet")
    return _opened(
        Alert,
        message,
        lambda: signing.verify_under(Alert, message, keys.order, verifier=_Sodium, unsealed=_unsealed, decode=_decoded),
    )


@dataclass(frozen=True, slots=True)
class _Sodium:
    """A key as libsodium sees it, which judges a signature in less than half of the time that OpenSSL takes."""

    raw: bytes

    def verify(self, signature: bytes, data: bytes) -> None:
        if len(signature) != crypto_sign_BYTES:  # libsodium takes both in one, and would draw the line elsewhere
            raise InvalidSignature
        try:
            crypto_sign_open(signature + data, self.raw)
        except BadSignatureError:
            raise InvalidSignature from None


# A fleet in one process hears the same bytes thousands of times. What they say is worked out once: how a message comes
# apart, and what its payload means. In between each device checks the signature, over the bytes it got itself.


@functools.lru_cache(maxsize=64)
def _unsealed(cls: type[Order], message: bytes) -> signing.Sealed:
    return signing.unseal(cls, message)


@functools.lru_cache(maxsize=64)
def _decoded(cls: type[Alert], payload: bytes) -> Alert:
    return signing.strictly(cls, payload)


def verify_segments(message: bytes, trust: Trust) -> SegmentList | Refusal:
    """The list of a relay's segments in `message` if an announced key signed it while it was valid."""
    keys = trust.keys
    if keys is None:
        return Refusal(reason=RefusalReason.UNKNOWN_KEY, detail="no keys were announced yet")
    return _opened(SegmentList, message, lambda: signing.verify_under(SegmentList, message, keys.order))


def _opened(cls: type[OrderT], message: bytes, opener: Callable[[], OrderT]) -> OrderT | Refusal:
    limit = cls.SIZE_LIMIT + signing.OVERHEAD_BYTES
    if len(message) > limit:
        return Refusal(reason=RefusalReason.TOO_LARGE, detail=f"{len(message)} bytes, limit {limit}")
    try:
        return opener()
    except SignatureError as error:
        return Refusal(reason=_REASONS[error.reason], detail=error.detail[:160] or None)


def _stale(serial: int, last: int | None, *, is_held: bool) -> Refusal | None:
    """A serial must grow. The last one itself is taken again when the order it belongs to is no longer at hand."""
    if last is None or serial > last or (serial == last and not is_held):
        return None
    return Refusal(reason=RefusalReason.REPLAYED, serial=serial, detail=f"last accepted serial {last}")


def out_of_window(order: Order, serial: int | None, trust: Trust, *, now: Moment) -> Refusal | None:
    """Why an order does not hold at this moment, if so."""
    if order.valid_until_ms <= believed_ms(now, trust.floor_ms):
        return Refusal(reason=RefusalReason.EXPIRED, serial=serial)
    # A device that does not know the time cannot tell the future; it accepts, and plays nothing by the clock anyway.
    latest_ms = now.at_ms + SKEW_MS
    is_early = order.valid_from_ms > latest_ms or order.issued_at_ms > latest_ms
    if is_early and is_trusted(now, trust.floor_ms):
        return Refusal(reason=RefusalReason.NOT_YET_VALID, serial=serial)
    return None


# --- how often a refusal is told -------------------------------------------------------------------------------------

BURST = 16  # refusals told at once; after that one a minute, so that a flood fills neither journal nor uplink
REFILL_MS = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusals:
    """A bucket of refusals that may still be told, and how many were kept back since the last one told."""

    left: int = BURST
    refilled_ms: int = 0
    untold: int = 0

    def tell(self, uptime_ms: int) -> tuple[Refusals, bool]:
        """The bucket after one more refusal, and whether that one is told."""
        gained = (uptime_ms - self.refilled_ms) // REFILL_MS
        left = min(BURST, self.left + gained)
        # A full bucket starts to refill when the first one is taken out of it.
        refilled_ms = uptime_ms if left == BURST else self.refilled_ms + gained * REFILL_MS
        if left == 0:
            return replace(self, left=0, refilled_ms=refilled_ms, untold=self.untold + 1), False
        return Refusals(left=left - 1, refilled_ms=refilled_ms, untold=0), True
