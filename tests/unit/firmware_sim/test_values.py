"""Changed copies are what `dataclasses.replace` makes, for every class that devices change in a step."""

import dataclasses
import uuid

import pytest

from firmware_sim import programme, standing, state, trust
from firmware_sim.standing import Handled
from firmware_sim.values import replace
from tests.unit.firmware_sim.builders import Bench


def test_a_copy_differs_in_what_was_changed_and_in_nothing_else() -> None:
    before = Bench().state

    after = replace(before, volume_override=7, last_error="x")

    assert after == dataclasses.replace(before, volume_override=7, last_error="x")
    assert (before.volume_override, before.last_error) == (None, None)
    assert after.programme is before.programme
    assert dataclasses.replace(after, volume_override=None, last_error=None) == before


def test_a_copy_is_as_frozen_as_the_original() -> None:
    copy = replace(Handled(version=1, until_ms=2), version=3)

    assert copy == Handled(version=3, until_ms=2)
    assert hash(copy) == hash(Handled(version=3, until_ms=2))
    with pytest.raises(dataclasses.FrozenInstanceError):
        copy.version = 4  # type: ignore[misc]


def test_a_field_that_does_not_exist_is_a_mistake() -> None:
    with pytest.raises(KeyError, match="verison"):
        replace(Handled(version=1, until_ms=2), verison=3)


@pytest.mark.parametrize("module", [programme, standing, state, trust])
def test_values_of_devices_can_be_copied_this_way(module: object) -> None:
    """No field is set by anything but its slot."""
    classes = [each for each in vars(module).values() if isinstance(each, type) and dataclasses.is_dataclass(each)]
    assert classes
    for each in classes:
        assert "__slots__" in vars(each), each
        assert not hasattr(each, "__post_init__"), each


def test_mappings_are_shared_not_copied() -> None:
    known = {uuid.uuid4(): Handled(version=1, until_ms=2)}
    before = standing.Alerts(handled=known)

    assert replace(before, standing={}).handled is known
