"""Make the golden vectors in `schemas/vectors`: run `python -m tests.support.make_vectors` after a deliberate change.

A test compares what this module makes with what is committed, so the contract never changes unnoticed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import schemas
from schemas import codec, device_signing, signing, wire
from tests.support.vectors.audiences import DEVICES, audiences
from tests.support.vectors.contests import contests
from tests.support.vectors.device_signed import device_signed
from tests.support.vectors.downlinks import orders, signed
from tests.support.vectors.edges import malformed, tolerated
from tests.support.vectors.uplinks import messages
from tests.support.vectors.world import (
    DEVICE_KEY,
    NEXT_PLATFORM_KEY,
    PLATFORM_KEY,
    ROOT_KEY,
    SENSOR,
    encoded,
    raw,
)

DIRECTORY = Path(schemas.__file__).parent / "vectors"


def files() -> dict[str, bytes]:
    """Return the content of every generated file in `schemas/vectors` by its name."""
    found: dict[str, bytes] = {}
    for name, message in messages().items():
        found[f"{name}.cbor"] = codec.encode(message)
        found[f"{name}.json"] = _json(wire.to_json(message))
    for name, order in orders().items():
        found[f"{name}.cbor"] = signed(order)
        found[f"{name}.json"] = _json(wire.to_json(order))
    for name, (message, payload) in device_signed().items():
        found[f"{name}.cbor"] = payload
        found[f"{name}.json"] = _json(wire.to_json(message))
    for name, example in tolerated().items():
        found[f"{name}.cbor"] = example.payload
    for name, bad in malformed().items():
        found[f"{name}.cbor"] = bad.payload
    found["tolerated.json"] = _json(
        {f"{name}.cbor": {"like": f"{example.like}.cbor", "why": example.why} for name, example in tolerated().items()}
    )
    found["malformed.json"] = _json(
        {
            f"{name}.cbor": {"message": bad.as_message, "reason": bad.reason}
            | ({"field": bad.field} if bad.field else {})
            for name, bad in malformed().items()
        }
    )
    found["keys.json"] = _json(
        {
            name: {"kid": signing.key_id(key.public_key()).hex(), "public_key": raw(key).hex()}
            for name, key in (("root", ROOT_KEY), ("platform", PLATFORM_KEY), ("next_platform", NEXT_PLATFORM_KEY))
        }
        | {
            "device": {
                "kid": device_signing.key_id(DEVICE_KEY.public_key()).hex(),
                "public_key": encoded(DEVICE_KEY).hex(),
                "device": SENSOR,
            }
        }
    )
    found["arbitration_v1.json"] = _json(
        [
            {
                "name": contest.name,
                "contenders": [
                    {"reference": wire.to_json(contender.reference), "rank": wire.to_json(contender.rank)}
                    for contender in contest.contenders
                ],
                "winner": contest.winner,
                "decided_by": contest.decided_by,
            }
            for contest in contests()
        ]
    )
    found["audience_v1.json"] = _json(
        {
            "devices": [
                {
                    "device": each.device,
                    "kind": each.kind.name.lower(),
                    "ownership": each.ownership.name.lower(),
                    "membership": [str(unit) for unit in each.membership],
                    "position": None if each.position is None else wire.to_json(each.position),
                }
                for each in DEVICES
            ],
            "audiences": [
                {"name": each.name, "audience": wire.to_json(each.audience), "addressed": sorted(each.addressed)}
                for each in audiences()
            ],
        }
    )
    return found


def _json(data: Any) -> bytes:
    return (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode()


def main() -> None:
    """Write the files and remove generated ones that are no longer made."""
    wanted = files()
    DIRECTORY.mkdir(exist_ok=True)
    for path in DIRECTORY.iterdir():
        if path.suffix in {".cbor", ".json"} and path.name not in wanted:
            path.unlink()
    for name, content in wanted.items():
        (DIRECTORY / name).write_bytes(content)


if __name__ == "__main__":
    main()
