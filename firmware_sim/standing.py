"""Alerts, silences and tests as a device holds them: values, and how they are kept on flash. `alerts` acts on these."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.alerts import Alert, Purpose


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """An order that is in force here, with the signed bytes it came in.

    What sounds goes in rounds: `round_at_ms` is when the present one began by the device's clock, `item` the content under
    way, `left` those that are still to come in it; `next_uptime_ms` is when the next round is due, while there is none.
    """

    raw: bytes
    alert: Alert
    until_uptime_ms: int  # when it is over, by a device that does not know the time
    round_at_ms: int = 0  # of the last round; 0 before the first
    item: int | None = None
    left: tuple[int, ...] = ()
    next_uptime_ms: int | None = None

    @property
    def is_silence(self) -> bool:
        """Whether it keeps the device quiet."""
        return self.alert.purpose is Purpose.SILENCE


@dataclass(frozen=True, slots=True, kw_only=True)
class Handled:
    """The highest version of an alert this device has dealt with, and until when that must not be forgotten.

    One that is not meant for this device is taken after all once the device has been moved to where it is.
    """

    version: int
    until_ms: int
    is_meant: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Alerts:
    """Everything a device knows of alerts."""

    standing: Mapping[uuid.UUID, Standing] = field(default_factory=dict)
    handled: Mapping[uuid.UUID, Handled] = field(default_factory=dict)

    @property
    def is_quiet(self) -> bool:
        """Whether a silence is in force."""
        return any(each.is_silence for each in self.standing.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A standing order as the flash gives it back: its signature is still to be checked."""

    raw: bytes
    round_at_ms: int
    is_under_way: bool
    left: tuple[int, ...]
    next_in_ms: int | None  # before the next round, when this was written
    remaining_ms: int  # before it is over, when this was written


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalled:
    """What the flash holds of alerts."""

    kept: tuple[Kept, ...] = ()
    handled: Mapping[uuid.UUID, Handled] = field(default_factory=dict)


def dump(alerts: Alerts, *, uptime_ms: int) -> bytes:
    """The alerts as bytes for the flash."""
    return json.dumps(
        {
            "standing": [_standing_out(each, uptime_ms) for each in alerts.standing.values()],
            "handled": {key.hex: [each.version, each.until_ms, each.is_meant] for key, each in alerts.handled.items()},
        },
        separators=(",", ":"),
    ).encode()


def load(content: bytes | None) -> Recalled:
    """What is in `content`; unreadable is as good as nothing."""
    if content is None:
        return Recalled()
    try:
        data = json.loads(content)
        return Recalled(
            kept=tuple(_kept_in(each) for each in data["standing"]),
            handled={
                uuid.UUID(hex=key): Handled(version=int(version), until_ms=int(until_ms), is_meant=all(is_meant))
                for key, (version, until_ms, *is_meant) in data["handled"].items()  # flash of older firmware has two
            },
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return Recalled()


def _standing_out(standing: Standing, uptime_ms: int) -> dict[str, Any]:
    next_ms = standing.next_uptime_ms
    return {
        "raw": standing.raw.hex(),
        "round_at_ms": standing.round_at_ms,
        "is_under_way": standing.item is not None,
        "left": standing.left,
        "next_in_ms": None if next_ms is None else max(0, next_ms - uptime_ms),
        "remaining_ms": max(0, standing.until_uptime_ms - uptime_ms),
    }


def _kept_in(data: dict[str, Any]) -> Kept:
    return Kept(
        raw=bytes.fromhex(data["raw"]),
        round_at_ms=int(data["round_at_ms"]),
        is_under_way=bool(data["is_under_way"]),
        left=tuple(int(each) for each in data["left"]),
        next_in_ms=None if data["next_in_ms"] is None else int(data["next_in_ms"]),
        remaining_ms=int(data["remaining_ms"]),
    )
