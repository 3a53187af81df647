"""Public keys of devices that sign what they say, as they are held in memory: those that were asked for, and not for ever.

Most devices sign nothing, so nothing is read ahead: a key that is not here is looked up by whoever writes the batch
(`writer`), and the message judged again. What changes is forgotten when control says so, and everything after a while.
A device has one key, or two while it renews its certificate.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

MOST_DEVICES = 100_000  # with about 1 KiB for each key
# Forgetting on a word from control may come to nothing (the word was lost, or came while the key was being read). Control
# itself looks at the certificate again before anything sounds.
HELD_FOR = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceKey:
    """A key by which a device signs, until its certificate runs out."""

    kid: bytes
    key: EllipticCurvePublicKey
    not_after: datetime


@dataclass(frozen=True, slots=True)
class _Held:
    keys: tuple[DeviceKey, ...]
    since: datetime


class DeviceKeys:
    """Keys by number of the device, and key id."""

    def __init__(self, *, room: int = MOST_DEVICES) -> None:
        self._held: dict[int, _Held] = {}
        self._room = room

    def __len__(self) -> int:
        return len(self._held)

    def find(self, device_no: int, kid: bytes, *, now: datetime) -> EllipticCurvePublicKey | None:
        """Return the device's key of that id, where it is held and good at `now`."""
        held = self._held.get(device_no)
        if held is None or now - held.since > HELD_FOR:
            return None
        return next((each.key for each in held.keys if each.kid == kid and now < each.not_after), None)

    def hold(self, device_nos: Iterable[int], keys: Mapping[int, Collection[DeviceKey]], *, now: datetime) -> None:
        """Replace what is held of these devices by `keys`, which is all the database knows of them."""
        for device_no in device_nos:
            self._held.pop(device_no, None)
            if found := keys.get(device_no):
                self._held[device_no] = _Held(tuple(found), now)
        while len(self._held) > self._room:
            del self._held[next(iter(self._held))]  # who was looked up longest ago

    def forget(self, device_no: int | None) -> None:
        """Look this device's keys up again, or everybody's (None)."""
        if device_no is None:
            self._held.clear()
        else:
            self._held.pop(device_no, None)
