"""Who may speak for whom: the device registry as ingest holds it in memory.

A value to look things up in; `registry_loader` fills it from control's views.

There may be millions of devices, so one device is one pair of a dictionary: its name in ASCII bytes, and one integer.

    bits 0 and 1    kind, the value of `DeviceKind`
    bits 2 to 33    device_no
    bits 34 to 65   speaker_no: the number of the one who may speak for it now; its own where it speaks for itself

That costs 48 bytes for a name of up to 15 characters (16 more for each 16 more), 32 for the integer and 30 to 60 for the
place in the dictionary, which doubles when it is two thirds full: 110 to 140 bytes a device. The collector of cycles
never looks at it.

A speaker counts only while it is a registered device itself, and nothing of that is written into the entries of the
devices behind it: whoever admits a message looks up both, and they fit when

    number_of(entries[principal]) == speaker_of(entries[device_id])

A gateway retired takes 700,000 devices off the air by its own entry going, and brings them back by its coming. So the
number of a principal must not be remembered from one message to the next.

Where more than one may speak for a device (assignments that overlap while it is handed over), the entry names one of
them and a table on the side the others. `find` looks there too.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from schemas.fields import DeviceKind
from services.ingest.device_keys import DeviceKeys

Row: TypeAlias = tuple[bytes, int]
"""A device's name and its entry; once for each who may speak for it."""

KIND_MASK = 0b11
NUMBER_SHIFT = 2
NUMBER_MASK = 0xFFFF_FFFF
SPEAKER_SHIFT = 34


def pack(kind: int, device_no: int, speaker_no: int) -> int:
    """Return the entry of a device."""
    return kind | device_no << NUMBER_SHIFT | speaker_no << SPEAKER_SHIFT


def kind_of(entry: int) -> DeviceKind:
    """Return the kind of the device with this entry."""
    return DeviceKind(entry & KIND_MASK)


def number_of(entry: int) -> int:
    """Return the device_no of the device with this entry."""
    return entry >> NUMBER_SHIFT & NUMBER_MASK


def speaker_of(entry: int) -> int:
    """Return the device_no of the one who may speak for the device with this entry."""
    return entry >> SPEAKER_SHIFT


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A device as spoken for by one principal; `principal_no` is None where it speaks for itself."""

    device_id: str
    device_no: int
    kind: DeviceKind
    principal: str
    principal_no: int | None

    @property
    def speaker_no(self) -> int:
        """Number of whoever speaks: the gateway's or the device's own."""
        return self.device_no if self.principal_no is None else self.principal_no


class Registry:
    """Lookups by principal and device. A principal counts only while it is a registered device itself.

    `entries` is for reading and stays the same object: it may be held on to. `keys` are those of devices that sign.
    """

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self.entries: dict[bytes, int] = {}
        self.keys = DeviceKeys()
        self._further: dict[bytes, tuple[int, ...]] = {}  # speakers besides the one in the entry
        self._counts = [0] * len(DeviceKind)
        self.hold(rows)

    def __len__(self) -> int:
        return len(self.entries)

    def count(self, kind: DeviceKind) -> int:
        """How many devices of this kind are registered."""
        return self._counts[kind]

    def knows(self, device_id: str) -> bool:
        """Whether a device of this name is registered, whoever speaks for it."""
        return device_id.encode() in self.entries

    def numbers(self, device_ids: Iterable[str]) -> list[int]:
        """Return the numbers of those of these devices that are registered."""
        found = (self.entries.get(each.encode()) for each in device_ids)
        return [number_of(entry) for entry in found if entry is not None]

    def find(self, principal: str, device_id: str) -> Registered | None:
        """Return the device if `principal` may speak for it now."""
        name = device_id.encode()
        entry = self.entries.get(name)
        speaker = self.entries.get(principal.encode())
        if entry is None or speaker is None:
            return None
        principal_no = number_of(speaker)
        if principal_no != speaker_of(entry) and principal_no not in self._further.get(name, ()):
            return None
        return Registered(
            device_id=device_id,
            device_no=number_of(entry),
            kind=kind_of(entry),
            principal=principal,
            principal_no=None if principal == device_id else principal_no,
        )

    def merge(self, device_ids: Iterable[str], rows: Iterable[Row]) -> int:
        """Replace what is held of `device_ids` by `rows`, which is all the database knows of them.

        Return how many devices are held differently from before.
        """
        rows = dict.fromkeys(rows)
        found = {name for name, _ in rows}
        gone = sum(self._forget(name) for name in {each.encode() for each in device_ids} - found)
        return gone + self.hold(rows)

    def hold(self, rows: Iterable[Row]) -> int:
        """Replace what is held of the devices in `rows`; each is there with all who may speak for it.

        Return how many devices are held differently from before.
        """
        fresh: dict[bytes, int] = {}
        further: dict[bytes, tuple[int, ...]] = {}
        for name, entry in rows:
            if fresh.setdefault(name, entry) != entry:
                further[name] = (*further.get(name, ()), speaker_of(entry))
        changed = 0
        for name, entry in fresh.items():
            held = self.entries.get(name)
            if held != entry:
                changed += 1
                self._put(name, entry, held)
        if self._further or further:
            for name in fresh:
                self._further.pop(name, None)
            self._further.update(further)
        return changed

    def _put(self, name: bytes, entry: int, held: int | None) -> None:
        if held is not None:
            self._counts[held & KIND_MASK] -= 1
        self._counts[entry & KIND_MASK] += 1
        self.entries[name] = entry

    def _forget(self, name: bytes) -> bool:
        entry = self.entries.pop(name, None)
        self._further.pop(name, None)
        if entry is not None:
            self._counts[entry & KIND_MASK] -= 1
        return entry is not None
