"""The golden vectors: what is committed is what the code makes, reads and refuses."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from schemas import arbitration, codec, signing, wire
from schemas.errors import DecodeError, SignatureError
from schemas.events import EVENTS
from schemas.fields import Level, PlayReference, PlaySource
from schemas.heartbeats import HEARTBEATS
from schemas.orders import Order, Rank
from schemas.shapes import Record, shape_of
from tests.support.make_vectors import files
from tests.support.vectors import device_signed, downlinks, uplinks
from tests.support.vectors.committed import (
    COMMITTED,
    DEVICE_SIGNED,
    GOLDEN,
    MALFORMED,
    SIGNED,
    TOLERATED,
    UNSIGNED,
    index,
    kind,
    read,
)

GENERATED = files()


def test_no_file_has_changed_unnoticed() -> None:
    assert sorted(COMMITTED) == sorted(GENERATED), "run: python -m tests.support.make_vectors"
    changed = [name for name in GENERATED if COMMITTED[name] != GENERATED[name]]
    assert not changed, "run: python -m tests.support.make_vectors, if the change is meant"


@pytest.mark.parametrize("file", GOLDEN)
def test_a_vector_decodes_to_its_twin(file: str) -> None:
    assert wire.to_json(read(kind(file), COMMITTED[file])) == index(file.replace(".cbor", ".json"))


@pytest.mark.parametrize("file", GOLDEN)
def test_a_vector_encodes_to_the_same_bytes(file: str) -> None:
    message = read(kind(file), COMMITTED[file])
    if isinstance(message, Order):
        encoded = downlinks.signed(message)
    else:
        encoded = device_signed.signed(message) if kind(file) in DEVICE_SIGNED else codec.encode(message)
    assert encoded == COMMITTED[file]


def test_every_message_has_a_vector() -> None:
    found = [read(kind(file), COMMITTED[file]) for file in GOLDEN]
    assert {*HEARTBEATS.values(), *EVENTS.values(), *signing.MEDIA_TYPES} <= {type(message) for message in found}
    assert {kind(file) for file in GOLDEN} == {*UNSIGNED, *SIGNED, *DEVICE_SIGNED}


def test_an_envelope_carries_the_body_vector_of_its_case() -> None:
    cases = [file.removeprefix("event_v1_") for file in GOLDEN if file.startswith("event_v1_")]
    assert cases
    for case in cases:
        envelope = codec.decode_envelope(COMMITTED[f"event_v1_{case}"])
        assert envelope.body == COMMITTED[f"event_body_v1_{case}"]


def test_every_field_stands_in_some_vector() -> None:
    filled: set[str] = set()
    known: set[str] = set()

    def walk(value: object) -> None:
        if isinstance(value, Record):
            for field in shape_of(type(value)).fields:
                known.add(field.name)
                item = getattr(value, field.name)
                if item is not None and item != ():
                    filled.add(field.name)
                    walk(item)
        elif isinstance(value, tuple):
            for item in value:
                walk(item)

    for message in [*uplinks.messages().values(), *downlinks.orders().values()]:
        walk(message)
    assert filled == known


@pytest.mark.parametrize("file", sorted(TOLERATED))
def test_a_receiver_accepts_other_encodings_and_newer_fields(file: str) -> None:
    like = TOLERATED[file]["like"]
    message = read(kind(like), COMMITTED[file])
    assert message == read(kind(like), COMMITTED[like])
    assert COMMITTED[file] != COMMITTED[like]


@pytest.mark.parametrize("file", sorted(MALFORMED))
def test_a_malformed_vector_is_refused_with_its_reason(file: str) -> None:
    expected = MALFORMED[file]
    with pytest.raises((DecodeError, SignatureError)) as refusal:
        read(expected["message"], COMMITTED[file])
    error = refusal.value
    assert isinstance(error, DecodeError | SignatureError)
    assert error.reason == expected["reason"]
    assert (error.field if isinstance(error, DecodeError) else "") == expected.get("field", "")


def test_malformed_vectors_are_indexed() -> None:
    assert set(MALFORMED) == {name for name in COMMITTED if name.startswith("malformed_") and name.endswith(".cbor")}


def contender(data: dict[str, Any]) -> arbitration.Contender:
    reference, rank = data["reference"], data["rank"]
    return arbitration.Contender(
        PlayReference(
            **{**reference, "source": PlaySource[reference["source"].upper()], "id": uuid.UUID(reference["id"])}
        ),
        Rank(**{**rank, "level": Level[rank["level"].upper()]}),
    )


@pytest.mark.parametrize("contest", index("arbitration_v1.json"), ids=lambda contest: contest["name"])
def test_the_stated_contender_wins(contest: dict[str, Any]) -> None:
    contenders = [contender(data) for data in contest["contenders"]]
    winner = contenders[contest["winner"]]
    assert arbitration.winner(contenders) == winner
    assert arbitration.winner(reversed(contenders)) == winner


@pytest.mark.parametrize("contest", index("arbitration_v1.json"), ids=lambda contest: contest["name"])
def test_the_stated_rule_decides(contest: dict[str, Any]) -> None:
    contenders = sorted((contender(data) for data in contest["contenders"]), key=arbitration.precedence)
    decided_by = arbitration.decided_by(contenders[0], contenders[1]) if len(contenders) > 1 else "nobody else"
    assert decided_by == contest["decided_by"]
