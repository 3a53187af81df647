"""Who may speak for whom: the device registry as ingest holds it in memory.

A value to look things up in; `registry_loader` fills it from control's view.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from schemas.fields import DeviceKind


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryRow:
    """One row of the view: `principal` may speak for `device_id` now (its own id where it speaks for itself)."""

    device_id: str
    device_no: int
    kind: DeviceKind
    principal: str


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
    """Lookups by principal and device. A principal counts only while it is a registered device itself."""

    def __init__(self, rows: Iterable[RegistryRow] = ()) -> None:
        self._numbers: dict[str, int] = {}
        self._spoken_for: dict[str, tuple[Registered, ...]] = {}  # almost always one
        self.replace(rows)

    def __len__(self) -> int:
        return len(self._numbers)

    def knows(self, device_id: str) -> bool:
        """Whether a device of this name is registered, whoever speaks for it."""
        return device_id in self._numbers

    def find(self, principal: str, device_id: str) -> Registered | None:
        """Return the device if `principal` may speak for it now."""
        for registered in self._spoken_for.get(device_id, ()):
            if registered.principal == principal:
                return registered
        return None

    def replace(self, rows: Iterable[RegistryRow]) -> None:
        """Hold exactly `rows` from now on."""
        rows = tuple(rows)
        self._numbers = {row.device_id: row.device_no for row in rows}
        self._spoken_for = {}
        self._admit(rows)

    def merge(self, device_ids: Iterable[str], rows: Iterable[RegistryRow]) -> None:
        """Replace what is held of `device_ids` by `rows`, which is all the database knows of them."""
        rows = tuple(rows)
        for device_id in device_ids:
            self._numbers.pop(device_id, None)
            self._spoken_for.pop(device_id, None)
        self._numbers.update((row.device_id, row.device_no) for row in rows)
        self._admit(rows)

    def _admit(self, rows: Iterable[RegistryRow]) -> None:
        for row in rows:
            principal_no = self._numbers.get(row.principal)
            if principal_no is not None:
                registered = Registered(
                    device_id=row.device_id,
                    device_no=row.device_no,
                    kind=row.kind,
                    principal=row.principal,
                    principal_no=None if row.principal == row.device_id else principal_no,
                )
                self._spoken_for[row.device_id] = (*self._spoken_for.get(row.device_id, ()), registered)
