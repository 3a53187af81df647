"""The registry in memory: entries, lookups, and that changes add up to the whole."""

import gc
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.fields import DeviceKind
from services.ingest.registry import Registered, Registry, Row, kind_of, number_of, pack, speaker_of

LARGEST = 2**31 - 1  # PostgreSQL's integer, of which numbers are made

numbers = st.integers(1, LARGEST)
kinds = st.sampled_from(DeviceKind)


def everything(registry: Registry) -> tuple[dict[bytes, int], dict[bytes, set[int]], list[int]]:
    """All that is held, who may speak as a set: with several, any may stand in the entry."""
    speakers = {name: {speaker_of(entry), *registry._further.get(name, ())} for name, entry in registry.entries.items()}
    own = {name: pack(entry & 3, number_of(entry), 0) for name, entry in registry.entries.items()}
    return own, speakers, [registry.count(kind) for kind in DeviceKind]


# --- entries ---------------------------------------------------------------------------------------------------------


@given(kind=kinds, device_no=numbers, speaker_no=numbers)
def test_an_entry_gives_back_what_was_packed(kind: DeviceKind, device_no: int, speaker_no: int) -> None:
    entry = pack(kind, device_no, speaker_no)
    assert (kind_of(entry), number_of(entry), speaker_of(entry)) == (kind, device_no, speaker_no)
    assert entry == kind | device_no << 2 | speaker_no << 34


def test_a_device_costs_as_little_as_is_said_and_the_collector_looks_at_none() -> None:
    names = [b"sensor-%07d" % number for number in range(100_000)]
    registry = Registry((name, pack(DeviceKind.SENSOR, number, 1)) for number, name in enumerate(names, start=1))
    objects = sum(sys.getsizeof(part) + 15 & ~15 for pair in registry.entries.items() for part in pair)
    assert objects / len(names) == 80
    assert 30 <= sys.getsizeof(registry.entries) / len(names) <= 61
    assert not gc.is_tracked(registry.entries)


# --- lookups ---------------------------------------------------------------------------------------------------------

GATEWAY = (b"gateway-1", pack(DeviceKind.GATEWAY, 1, 1))
OTHER = (b"gateway-2", pack(DeviceKind.GATEWAY, 2, 2))
BEHIND = (b"sensor-1", pack(DeviceKind.SENSOR, 3, 1))
ALONE = (b"cluster-1", pack(DeviceKind.CLUSTER, 4, 4))
HANDED_OVER = (b"sensor-1", pack(DeviceKind.SENSOR, 3, 2))


@pytest.mark.parametrize(
    ("rows", "principal", "device_id", "principal_no"),
    [
        ([ALONE], "cluster-1", "cluster-1", None),
        ([GATEWAY, BEHIND], "gateway-1", "sensor-1", 1),
        ([GATEWAY, OTHER, BEHIND, HANDED_OVER], "gateway-1", "sensor-1", 1),
        ([GATEWAY, OTHER, BEHIND, HANDED_OVER], "gateway-2", "sensor-1", 2),
        ([OTHER, BEHIND, HANDED_OVER], "gateway-2", "sensor-1", 2),
    ],
)
def test_whoever_may_speak_is_found(rows: list[Row], principal: str, device_id: str, principal_no: int | None) -> None:
    found = Registry(rows).find(principal, device_id)
    entry = dict(rows)[device_id.encode()]
    assert found == Registered(
        device_id=device_id,
        device_no=number_of(entry),
        kind=kind_of(entry),
        principal=principal,
        principal_no=principal_no,
    )


@pytest.mark.parametrize(
    ("rows", "principal", "device_id"),
    [
        ([], "cluster-1", "cluster-1"),
        ([ALONE], "cluster-1", "cluster-2"),
        ([ALONE], "cluster-2", "cluster-1"),
        ([BEHIND], "gateway-1", "sensor-1"),  # the gateway is retired
        ([BEHIND], "sensor-1", "sensor-1"),
        ([GATEWAY, BEHIND], "sensor-1", "sensor-1"),  # heard through its gateway alone
        ([GATEWAY, OTHER, BEHIND], "gateway-2", "sensor-1"),
        ([GATEWAY, BEHIND, HANDED_OVER], "gateway-2", "sensor-1"),
        ([GATEWAY, OTHER, BEHIND, HANDED_OVER, ALONE], "cluster-1", "sensor-1"),
        ([ALONE], "", ""),
        ([ALONE], "thiết bị", "thiết bị"),
    ],
)
def test_nobody_else_is(rows: list[Row], principal: str, device_id: str) -> None:
    registry = Registry(rows)
    assert registry.find(principal, device_id) is None
    assert registry.knows(device_id) == (device_id.encode() in dict(rows))


# --- changes ---------------------------------------------------------------------------------------------------------


def test_one_entry_is_all_there_is_to_a_gateway_going_and_coming() -> None:
    registry = Registry([GATEWAY, *((b"sensor-%d" % no, pack(DeviceKind.SENSOR, no, 1)) for no in range(2, 1_000))])
    assert registry.merge(["gateway-1"], []) == 1
    assert registry.find("gateway-1", "sensor-7") is None
    assert registry.knows("sensor-7")
    assert registry.hold([GATEWAY]) == 1
    found = registry.find("gateway-1", "sensor-7")
    assert found is not None
    assert found.principal_no == 1


def test_a_second_speaker_goes_when_it_is_no_longer_named() -> None:
    registry = Registry([GATEWAY, OTHER, BEHIND, HANDED_OVER])
    registry.hold([HANDED_OVER])
    assert registry.find("gateway-1", "sensor-1") is None
    assert registry.find("gateway-2", "sensor-1") is not None
    registry.merge(["sensor-1"], [])
    registry.hold([BEHIND])
    assert registry.find("gateway-2", "sensor-1") is None


def test_counts_follow_a_change_of_kind() -> None:
    registry = Registry([GATEWAY, BEHIND, ALONE])
    assert [registry.count(kind) for kind in DeviceKind] == [1, 0, 1, 1]
    assert registry.hold([(b"sensor-1", pack(DeviceKind.BOARD, 3, 1)), ALONE]) == 1
    assert [registry.count(kind) for kind in DeviceKind] == [1, 1, 0, 1]


@dataclass
class World:
    """Devices and assignments as control's tables hold them, and what its triggers note of a change."""

    devices: dict[int, tuple[str, DeviceKind]] = field(default_factory=dict)
    retired: set[int] = field(default_factory=set)
    gateways: dict[int, set[int]] = field(default_factory=dict)
    names_gone: set[str] = field(default_factory=set)
    numbers_changed: set[int] = field(default_factory=set)

    def rows(self) -> list[Row]:
        """The view."""
        return [
            (name.encode(), pack(kind, number, speaker))
            for number, (name, kind) in sorted(self.devices.items())
            if number not in self.retired
            for speaker in sorted(self.gateways.get(number) or {number})
        ]

    def change(self, number: int, name: str, kind: DeviceKind, is_retired: bool, gateways: Iterable[int]) -> None:
        """Make the device so; refused where the name is another's."""
        if any(taken == name for other, (taken, _) in self.devices.items() if other != number):
            return
        if number in self.devices and number not in self.retired:
            self.names_gone.add(self.devices[number][0])
        self.devices[number] = (name, kind)
        (self.retired.add if is_retired else self.retired.discard)(number)
        self.gateways[number] = set(gateways) - {number}
        self.numbers_changed.add(number)

    def delete(self, number: int) -> None:
        """Remove the device."""
        if number in self.devices:
            self.names_gone.add(self.devices.pop(number)[0])
            self.retired.discard(number)

    def bring_up_to_date(self, registry: Registry) -> None:
        """Do with the registry what its loader does with what was noted."""
        rows = self.rows()
        registry.merge(self.names_gone, [row for row in rows if row[0].decode() in self.names_gone])
        registry.hold(row for row in rows if number_of(row[1]) in self.numbers_changed)
        self.names_gone, self.numbers_changed = set(), set()


few = st.integers(1, 6)
a_name = st.sampled_from([f"device-{number}" for number in range(8)])
a_change = st.tuples(few, a_name, kinds, st.booleans(), st.sets(few, max_size=3))
a_removal = few
an_update = st.none()


@given(steps=st.lists(st.one_of(a_change, a_change, a_removal, an_update), max_size=30))
def test_changes_one_after_the_other_add_up_to_the_whole(
    steps: list[tuple[int, str, DeviceKind, bool, set[int]] | int | None],
) -> None:
    world, registry = World(), Registry()
    entries = registry.entries
    for step in [*steps, None]:
        if step is None:
            world.bring_up_to_date(registry)
            assert everything(registry) == everything(Registry(world.rows()))
        elif isinstance(step, int):
            world.delete(step)
        else:
            world.change(*step)
    assert registry.entries is entries


@given(
    first=st.lists(a_change, max_size=10),
    then=st.lists(a_change, max_size=10),
)
def test_reading_the_whole_again_puts_right_whatever_is_held(
    first: list[tuple[int, str, DeviceKind, bool, set[int]]], then: list[tuple[int, str, DeviceKind, bool, set[int]]]
) -> None:
    before, after = World(), World()
    for each in first:
        before.change(*each)
    for each in then:
        after.change(*each)
    registry = Registry(before.rows())
    names = {name for name, _ in after.rows()}
    registry.hold(after.rows())
    assert (len(registry) == len(names)) == (registry.entries.keys() == names)
    registry.merge([name.decode() for name in registry.entries if name not in names], [])
    assert everything(registry) == everything(Registry(after.rows()))
