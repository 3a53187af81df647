"""What there is to describe: every message with its classes, in the order both documents list them."""

from __future__ import annotations

import enum
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass

from schemas import device_signing, signing
from schemas.events import EVENTS, EventEnvelope
from schemas.heartbeats import HEARTBEATS
from schemas.orders import Order
from schemas.presence import PresenceReport
from schemas.readings import Reading
from schemas.receipts import Receipt
from schemas.shapes import Array, Enumeration, Map, Message, Record, WireType, shape_of


def dashed(name: str) -> str:
    """Return a class or field name in the dashed form CDDL and AsyncAPI use: `ClusterHeartbeat` → `cluster-heartbeat`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).replace("_", "-").lower()


@dataclass(frozen=True, slots=True)
class Entry:
    """One kind of payload: its name on the wire and the classes it may be; `media_type` stands where it is signed."""

    name: str
    classes: tuple[type[Message], ...]
    media_type: str | None = None
    envelope: int = 0  # bytes that a signature may add to the largest message

    @property
    def size_limit(self) -> int:
        """Largest payload in bytes."""
        return max(cls.SIZE_LIMIT for cls in self.classes) + self.envelope


UNSIGNED = (
    Entry("heartbeat", tuple(HEARTBEATS.values())),
    Entry("reading", (Reading,)),
    Entry("event", (EventEnvelope,)),
    Entry("presence", (PresenceReport,)),
    Entry("receipt", (Receipt,)),
)

# What an event's envelope carries in its body.
EVENT_BODIES = Entry("event-body", tuple(EVENTS.values()))


def _signed(cls: type[Order], media_type: str) -> Entry:
    return Entry(
        media_type.removeprefix("application/loa-").removesuffix("+cbor"), (cls,), media_type, signing.OVERHEAD_BYTES
    )


SIGNED = tuple(_signed(cls, media_type) for cls, media_type in signing.MEDIA_TYPES.items())

# What a device may sign, beside the same unsigned: a payload, and what an event's envelope carries.
DEVICE_SIGNED = (Entry("signed-reading", (Reading,), device_signing.READING),)
SIGNED_BODIES = Entry("signed-event-body", EVENT_BODIES.classes, device_signing.EVENT)


def message_classes() -> tuple[type[Message], ...]:
    """Return every class that is a payload or an event's body."""
    return tuple(cls for entry in (*UNSIGNED, EVENT_BODIES, *SIGNED) for cls in entry.classes)


def parts() -> tuple[type[Record | enum.IntEnum], ...]:
    """Return every record and enumeration inside a message, each once, in the order they are met."""
    found: dict[type[Record | enum.IntEnum], None] = {}

    def meet(wire_type: WireType) -> None:
        match wire_type:
            case Array(item):
                meet(item)
            case Enumeration(members):
                found.setdefault(members)
            case Map(cls) if cls not in found:
                found.setdefault(cls)
                for field in shape_of(cls).fields:
                    meet(field.type)
            case _:
                pass

    for cls in message_classes():
        for field in shape_of(cls).fields:
            meet(field.type)
    return tuple(found)


def promise(cls: type) -> str:
    """Return the docstring of `cls` as plain lines."""
    return inspect.cleandoc(cls.__doc__ or "").replace("`", "")


def promise_lines(cls: type) -> Iterator[str]:
    """Yield the docstring of `cls` line by line."""
    yield from promise(cls).splitlines()
