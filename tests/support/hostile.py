"""What a broken or hostile device may send, made of the golden vectors: for the tests that throw it at ingest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cbor2
from hypothesis import strategies as st

from schemas import codec, limits
from schemas.events import EventEnvelope
from schemas.shapes import CRITICAL_KEY
from tests.support.vectors.committed import COMMITTED, GOLDEN, MALFORMED, TOLERATED, kind

_JOURNAL = bytes(8)
_UPLINKS = ("heartbeat", "reading", "event", "event_body", "presence")
LEVELS = {"heartbeat": "up/heartbeat", "reading": "up/reading", "event": "up/event", "presence": "presence"}


def _as_sent(message: str, payload: bytes) -> tuple[str, bytes]:
    """Return the kind of uplink and the payload it travels in: a body never goes without its envelope."""
    if message != "event_body":
        return message, payload
    return "event", codec.encode(EventEnvelope(journal=_JOURNAL, sequence=1, body=payload))


def honest() -> dict[str, tuple[str, bytes]]:
    """Return every golden uplink, by the name of its vector: its kind and its bytes."""
    return {name: _as_sent(kind(name), COMMITTED[name]) for name in GOLDEN if kind(name) in _UPLINKS}


def edges() -> dict[str, tuple[str, bytes]]:
    """Return the uplinks among the vectors that stand at the edge of the contract, on both sides of it."""
    named = {name: each["message"] for name, each in MALFORMED.items()}
    named |= {name: kind(each["like"]) for name, each in TOLERATED.items()}
    return {name: _as_sent(message, COMMITTED[name]) for name, message in named.items() if message in _UPLINKS}


BOMBS = {
    "arrays_without_end": b"\x81" * 4_000,
    "maps_without_end": b"\xa1\x00" * 500,
    "indefinite_arrays": b"\x9f" * 1_000,
    "indefinite_maps_by_key": b"\xbf\x00" * 500,
    "tags_without_end": b"\xc6" * 1_000,
    "array_of_2_to_64": b"\x9b" + b"\xff" * 8,
    "array_of_2_to_31": b"\x9a\x7f\xff\xff\xff",
    "map_of_2_to_64": b"\xbb" + b"\xff" * 8,
    "text_of_2_to_64": b"\x7b" + b"\xff" * 8,
    "text_of_2_to_31": b"\x7a\x7f\xff\xff\xff",
    "bytes_of_2_to_40": b"\x5b\x00\x00\x01\x00\x00\x00\x00\x00",
    "bignum": b"\xc2\x59\x03\xe8" + b"\xff" * 1_000,
    "huge_text": cbor2.dumps({0: 1, 4: "x" * 60_000}),
    "empty": b"",
}

# Numbers nobody expects, texts of all sizes, what PostgreSQL cannot hold, other types than the field's.
_SCALARS: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(
        [float("nan"), float("inf"), float("-inf"), 1e300, -0.0, 2**31, 2**63, 2**64 - 1, -(2**63), 10**30, None, True]
    ),
    st.sampled_from(["", "x" * 5_000, "\0", "cm", "ổn định " * 40, "\U0001f6a8" * 200, b"", bytes(3_000)]),
    st.integers(-(2**64), 2**64 - 1),
    st.floats(),
    st.text(max_size=20),
    st.binary(max_size=20),
    st.builds(cbor2.CBORTag, st.sampled_from([0, 1, 2, 24, 28, 29, 35, 258, 55_799, 70_000]), st.integers(0, 9)),
)


def _nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


_VALUES = st.one_of(
    _SCALARS,
    st.lists(_SCALARS, max_size=3),
    st.dictionaries(st.integers(-3, 300) | st.text(max_size=3), _SCALARS, max_size=3),
    st.integers(1, 60).map(_nested),
)

# What a field of a newer minor version may hold, as long as it is plain: anything.
PLAIN_VALUES: st.SearchStrategy[Any] = st.one_of(
    st.integers(-(2**64), 2**64 - 1),
    st.floats(),
    st.booleans(),
    st.none(),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.binary(max_size=12),
    st.lists(st.integers(0, 70_000), max_size=3),
    st.dictionaries(st.integers(0, 300), st.integers(0, 70_000), max_size=3),
)


def containers(data: Any) -> Iterator[Any]:
    """Yield every map and array inside decoded CBOR, itself first."""
    if isinstance(data, dict | list):
        yield data
        for inner in data.values() if isinstance(data, dict) else data:
            yield from containers(inner)


@st.composite
def _rebuilt(draw: st.DrawFn, payload: bytes) -> bytes:
    """The message with other fields, or other values in them; of an event the body as often as the envelope."""
    data = cbor2.loads(payload)
    if isinstance(data.get(3), bytes) and draw(st.booleans()):
        data[3] = draw(_rebuilt(data[3]))
        return cbor2.dumps(data)
    for _ in range(draw(st.integers(1, 2))):
        place = draw(st.sampled_from(list(containers(data))))
        if isinstance(place, list):
            place[draw(st.integers(0, len(place) - 1)) if place else slice(0)] = draw(_VALUES) if place else []
            continue
        key = draw(st.sampled_from(sorted(place, key=repr)) if place and draw(st.booleans()) else st.integers(0, 300))
        if draw(st.integers(0, 4)):
            place[key] = draw(_VALUES)
        else:
            place.pop(key, None)
    return cbor2.dumps(data)


@st.composite
def _damaged(draw: st.DrawFn, payload: bytes) -> bytes:
    """The bytes flipped, cut, doubled or filled up in a few places."""
    damaged = bytearray(payload)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(damaged)))
        match draw(st.integers(0, 4)):
            case 0:
                del damaged[at:]
            case 1:
                damaged[at:at] = draw(st.binary(min_size=1, max_size=8))
            case 2:
                del damaged[at : at + draw(st.integers(1, 8))]
            case 3:
                damaged[at:at] = damaged[max(0, at - 9) : at]
            case _:
                damaged[at : at + 1] = bytes([draw(st.integers(0, 255))])
    return bytes(damaged)


def payloads(payload: bytes) -> st.SearchStrategy[bytes]:
    """What may become of an honest payload, now and then nothing at all."""
    return st.one_of(
        _rebuilt(payload),
        _damaged(payload),
        st.just(payload),
        st.sampled_from(list(BOMBS.values())),
        st.binary(max_size=60),
    )


def fits(payload: bytes) -> bool:
    """Whether every uplink may be that long, so that its length is not what it is refused for."""
    return len(payload) <= limits.PRESENCE_BYTES


CRITICAL_KEYS = st.integers(CRITICAL_KEY, 2**64 - 1)
MINOR_KEYS = st.integers(CRITICAL_KEY - 28, CRITICAL_KEY - 1)  # 100 to 127, which no message of version 1 uses
