"""`asyncapi.yaml` names every topic and describes every message as its JSON twin shows it.

Against the JSON schema of AsyncAPI 3.0.0 itself the document is checked by hand (DECISIONS.md): it is 380 KB of somebody
else's file.
"""

from __future__ import annotations

import copy
import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import schemas
from schemas import device_signing, topics
from schemas.events import RefusalReason
from schemas.topics import DownlinkKind, UplinkKind
from services.local.describe import catalogue
from tests.support.vectors.committed import COMMITTED, GOLDEN, SIGNED, kind, read

DOCUMENT = yaml.safe_load((Path(schemas.__file__).parent / "asyncapi.yaml").read_text(encoding="utf-8"))
EXAMPLES = {
    "principal": "cum-loa-0142",
    "device": "bang-led-07",
    "unit_id": "0198f3c2-5e00-7000-8000-000000000001",
    "alert_id": "0198f3c2-5e00-7000-8000-000000000007",
}


def resolve(reference: str) -> Any:
    node = DOCUMENT
    for part in reference.removeprefix("#/").split("/"):
        node = node[part]
    return node


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


@functools.cache
def validator(schema: str) -> jsonschema.Draft7Validator:
    whole = {"$ref": f"#/components/schemas/{schema}", "components": DOCUMENT["components"]}
    return jsonschema.Draft7Validator(whole, format_checker=jsonschema.Draft7Validator.FORMAT_CHECKER)


def twin(file: str) -> tuple[str, dict[str, Any]]:
    """Return the name of the schema of a golden vector, and its JSON twin."""
    return type(read(kind(file), COMMITTED[file])).__name__, json.loads(COMMITTED[file.replace(".cbor", ".json")])


def test_every_reference_leads_somewhere() -> None:
    found = set(references(DOCUMENT))
    assert found
    for reference in found:
        assert resolve(reference)


def test_every_channel_is_a_topic_and_every_topic_a_channel() -> None:
    described = set()
    for channel in DOCUMENT["channels"].values():
        address = re.sub(r"\{(\w+)\}", lambda match: EXAMPLES[match[1]], channel["address"])
        described.add(topics.parse_topic(address))
        assert set(channel["parameters"]) == set(re.findall(r"\{(\w+)\}", channel["address"]))
    assert len(described) == len(DOCUMENT["channels"]) == 2 * (len(UplinkKind) + len(DownlinkKind)) + 2


def test_operations_say_who_sends_and_how() -> None:
    assert len(DOCUMENT["operations"]) == len(DOCUMENT["channels"])
    for operation in DOCUMENT["operations"].values():
        channel = resolve(operation["channel"]["$ref"])
        address = re.sub(r"\{(\w+)\}", lambda match: EXAMPLES[match[1]], channel["address"])
        topic = topics.parse_topic(address)
        binding = operation["bindings"]["mqtt"]
        is_uplink = isinstance(topic, topics.Uplink | topics.Presence)
        assert operation["action"] == ("send" if is_uplink else "receive")
        assert binding["qos"] == topics.qos(topic)
        assert binding["retain"] == topics.is_retained(topic)
        assert {message["$ref"].rsplit("/")[-1] for message in operation["messages"]} == set(channel["messages"])


def test_what_a_device_may_sign_goes_where_it_goes_unsigned() -> None:
    for entry in catalogue.DEVICE_SIGNED:
        plain = entry.name.removeprefix("signed-")
        ways = [set(each["messages"]) for each in DOCUMENT["channels"].values() if plain in each["messages"]]
        assert ways == [{plain, f"signed-{plain}"}] * 2  # of the device itself, and through a gateway


def test_what_is_not_kept_expires() -> None:
    for name, operation in DOCUMENT["operations"].items():
        expires = "messageExpiryInterval" in operation["bindings"]["mqtt"]
        assert expires == any(word in name for word in ("command", "receipt", "alert"))


def test_every_payload_is_described() -> None:
    described = {message["payload"]["$ref"].rsplit("/")[-1] for message in DOCUMENT["components"]["messages"].values()}
    assert described == {cls.__name__ for entry in (*catalogue.UNSIGNED, *catalogue.SIGNED) for cls in entry.classes}
    for message in DOCUMENT["components"]["messages"].values():
        cls = message["payload"]["$ref"].rsplit("/")[-1]
        by_device = message["name"].startswith("signed-")
        assert not by_device or message["x-cose-typ"] in device_signing.MEDIA_TYPES.values()
        is_signed = by_device or cls in {order.__name__ for order in SIGNED.values()}
        assert ("x-cose-typ" in message) == is_signed
        assert message["contentType"].startswith("application/cose" if is_signed else "application/cbor")


@pytest.mark.parametrize("file", GOLDEN)
def test_every_twin_fits_its_schema(file: str) -> None:
    schema, data = twin(file)
    validator(schema).validate(data)


@pytest.mark.parametrize("file", GOLDEN)
def test_a_twin_without_a_required_field_does_not_fit(file: str) -> None:
    schema, data = twin(file)
    for name in DOCUMENT["components"]["schemas"][schema]["required"]:
        changed = copy.copy(data)
        del changed[name]
        assert not validator(schema).is_valid(changed), name


def test_every_schema_names_its_cddl_rule() -> None:
    contract = (Path(schemas.__file__).parent / "contract.cddl").read_text(encoding="utf-8")
    rules = set(re.findall(r"^([a-z0-9-]+) =", contract, re.MULTILINE))
    named = [*DOCUMENT["components"]["messages"].values(), *DOCUMENT["components"]["schemas"].values()]
    assert {item["x-cddl-rule"] for item in named} <= rules


README = (Path(schemas.__file__).parent / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("entry", [*catalogue.UNSIGNED, *catalogue.SIGNED], ids=lambda entry: entry.name)
def test_the_readme_names_every_size_limit(entry: catalogue.Entry) -> None:
    rows = [cells for line in README.splitlines() if len(cells := line.split("|")) == 7]
    limits = {(cells[1 + shift].strip(), cells[2 + shift].strip()) for cells in rows for shift in (0, 3)}
    assert any(entry.name in re.split(r"[ ,]+", names) and size == f"{entry.size_limit:,}" for names, size in limits)


def test_the_readme_gives_refusals_the_words_of_the_contract() -> None:
    words = {word for words in re.findall(r"\[(`[^\]]+)\]", README) for word in re.findall(r"`(\w+)`", words)}
    assert words
    assert words - {"valid_from_ms", "valid_until_ms"} <= {reason.name.lower() for reason in RefusalReason}
