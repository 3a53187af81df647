"""What a reform of units does: a new tree from a day on, and who follows whom, by a mapping from old to new. Pure.

Nothing is carried over on the day itself. A reform says, as dated data, for which heir each closed unit is taken from the
day on (`units.UnitHeir`); every question about a day is answered by the tree of that day, for plans of next week as well
as for proof of last year. So nothing has to run at midnight, nothing can be half done, and what is planned for the days
behind the reform is planned for the new units already.

One old unit can be split: single devices go elsewhere than the rest. They are then gathered in *parts*, units of their own
below the old one until the day, which have their own heirs. A device thus needs no dates; its unit has them.

What a person must know before saying yes is in the result: whose rights end because no unit of their level follows.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date, timedelta

from schemas.identifiers import UnitId
from services.control import unit_changes, vietnamese
from services.control.errors import Fault
from services.control.planning.model import DeviceNo
from services.control.unit_changes import UnitChanges
from services.control.unit_files import UnitRow
from services.control.unit_mappings import TABLE, MappingRow, row_fault
from services.control.units import UnitHeir, UnitHistory, UnitTree, UnitVersion

PART = "part"  # the level of units that hold what of an old unit goes elsewhere
_NAME_LENGTH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """What is filed under a unit and would be lost with it."""

    devices: int = 0
    accounts: int = 0
    grants: int = 0
    bulletins: int = 0
    broadcasts: int = 0
    groups: int = 0
    relay_sources: int = 0
    policies: int = 0

    def __add__(self, other: Holdings) -> Holdings:
        return Holdings(**{each.name: getattr(self, each.name) + getattr(other, each.name) for each in fields(self)})

    @property
    def are_none(self) -> bool:
        """Whether nothing is filed there."""
        return self == Holdings()


@dataclass(frozen=True, slots=True, kw_only=True)
class Housed:
    """A device that a mapping names, and the unit it is in on the eve of the reform."""

    device_no: DeviceNo
    unit_id: UnitId


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Devices that leave an old unit another way than the rest of it."""

    version: UnitVersion  # a unit of their own below the old one, until the day
    of: UnitId
    heir_id: UnitId
    device_nos: tuple[DeviceNo, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Succession:
    """An old unit, and the new one it is taken for; `holdings` are what goes over."""

    old: UnitVersion
    new: UnitVersion
    keeps_rights: bool
    holdings: Holdings


@dataclass(frozen=True, slots=True, kw_only=True)
class Reform:
    """What to do: versions, heirs that begin and end, parts to make; and what it means for each old unit."""

    changes: UnitChanges
    heirs: tuple[UnitHeir, ...]
    ended_heirs: tuple[UnitHeir, ...]
    parts: tuple[Part, ...]
    successions: tuple[Succession, ...]
    root_id: UnitId


@dataclass(frozen=True, slots=True, kw_only=True)
class Inheritance:
    """A unit that opens on a day to come, and the units that stand until then and have rights in it afterwards."""

    heir_id: UnitId
    old_ids: tuple[UnitId, ...]


def inheritances(history: UnitHistory, unit_id: UnitId) -> tuple[Inheritance, ...]:
    """The units that what `unit_id` decides is still to be carried to, one after the other; none where none will follow it.

    A unit that is there already goes on with its own word, whoever goes over into it. `unit_id` must stand today.
    """
    found: list[Inheritance] = []
    next_id: UnitId | None = unit_id
    while next_id is not None:
        heir = next((each for each in history.heirs if each.unit_id == next_id and _hands_over(each, history)), None)
        if heir is None or history.on(heir.valid_from - timedelta(days=1)).stands(heir.heir_id):
            break
        old = tuple(
            each.unit_id
            for each in history.heirs
            if (each.heir_id, each.valid_from) == (heir.heir_id, heir.valid_from) and _hands_over(each, history)
        )
        found.append(Inheritance(heir_id=heir.heir_id, old_ids=old))
        next_id = heir.heir_id
    return tuple(found)


def _hands_over(heir: UnitHeir, history: UnitHistory) -> bool:
    """Whether the old unit has a word of its own until that day; who was closed before has none any more."""
    return heir.keeps_rights and history.on(heir.valid_from - timedelta(days=1)).stands(heir.unit_id)


def undone(history: UnitHistory, valid_from: date, parts: Iterable[UnitId]) -> UnitHistory:
    """The history as if nobody had said yet who follows whom on a day: for saying it anew. `parts` are those of then."""
    gone = set(parts)
    return UnitHistory(
        (version for version in history.versions if version.unit_id not in gone),
        (
            replace(heir, valid_until=None) if heir.valid_until == valid_from else heir
            for heir in history.heirs
            if heir.valid_from < valid_from
        ),
    )


def decide(
    history: UnitHistory,
    rows: Sequence[UnitRow],
    mapping: Sequence[MappingRow],
    *,
    valid_from: date,
    holdings: Mapping[UnitId, Holdings],
    housed: Mapping[str, Housed],
    new_id: Callable[[], uuid.UUID],
) -> Reform:
    """The reform that makes `rows` the tree from `valid_from` on, old units followed as `mapping` says.

    `holdings` are by the id that things are filed under, `housed` are the devices that the mapping names. Raises
    `Invalid` that names every line that cannot be. `valid_from` must not lie before `unit_changes.newest_day(history)`.
    """
    eve = history.on(valid_from - timedelta(days=1))
    old = {unit.code: unit for unit in eve}
    held = _gathered(holdings, eve)
    faults = list(_row_faults(mapping, old, {row.code for row in rows}, eve, housed))
    ways = {row.old_code: row for row in mapping if row.device_id is None and row.old_code in old}
    apart = _apart(ways, old, rows)
    faults += _circles(apart, ways)
    changes = unit_changes.changes(
        history, rows, valid_from=valid_from, new_id=new_id, apart={unit.unit_id for unit in apart}
    )
    tree = unit_changes.applied(history, changes).on(valid_from)
    faults += _left_behind(mapping, ways, old, tree, held)
    TABLE.raise_for(faults)
    new = {unit.code: unit for unit in tree}
    successions = tuple(
        Succession(
            old=unit,
            new=new[ways[unit.code].new_code],
            keeps_rights=unit.level == new[ways[unit.code].new_code].level,
            holdings=held.get(unit.unit_id, Holdings()),
        )
        for unit in eve
        if unit.code in ways and not tree.stands(unit.unit_id)
    )
    parts = tuple(_parts(mapping, old, new, successions, housed, valid_from=valid_from, new_id=new_id))
    heirs = [
        UnitHeir(
            unit_id=each.old.unit_id, heir_id=each.new.unit_id, valid_from=valid_from, keeps_rights=each.keeps_rights
        )
        for each in successions
    ]
    followed, ended = _followed(history, heirs, tree, valid_from)
    return Reform(
        changes=changes,
        heirs=(
            *heirs,
            *followed,
            # Rights and targets stay with the rest of the old unit: a part takes its devices along, nothing else.
            *(
                UnitHeir(unit_id=part.version.unit_id, heir_id=part.heir_id, valid_from=valid_from, keeps_rights=False)
                for part in parts
            ),
        ),
        ended_heirs=ended,
        parts=parts,
        successions=successions,
        root_id=tree.roots[0].unit_id,
    )


def _gathered(holdings: Mapping[UnitId, Holdings], eve: UnitTree) -> dict[UnitId, Holdings]:
    """Holdings by the units of the eve: what is filed under a unit closed long ago counts for its heir."""
    held: dict[UnitId, Holdings] = defaultdict(Holdings)
    for unit_id, each in holdings.items():
        standing = eve.standing(unit_id)
        if standing is not None:
            held[standing] += each
    return held


def _row_faults(
    mapping: Iterable[MappingRow],
    old: Mapping[str, UnitVersion],
    new_codes: set[str],
    eve: UnitTree,
    housed: Mapping[str, Housed],
) -> Iterator[Fault]:
    """What is wrong with each line by itself, and with a line beside those above it."""
    first: dict[tuple[str, str | None], int] = {}
    for row in mapping:
        if row.old_code not in old:
            yield row_fault(row, "old_code", "unknown_old_code", value=row.old_code[:64])
        if row.new_code not in new_codes:
            yield row_fault(row, "new_code", "unknown_new_code", value=row.new_code[:64])
        key = ("", row.device_id) if row.device_id is not None else (row.old_code, None)
        if key in first:
            if row.device_id is None:
                yield row_fault(row, "old_code", "old_unit_twice", value=row.old_code[:64], first=first[key])
            else:
                yield row_fault(row, "device_id", "device_twice", value=row.device_id[:64], first=first[key])
            continue
        first[key] = row.line
        if row.device_id is None or row.old_code not in old:
            continue
        device = housed.get(row.device_id)
        if device is None:
            yield row_fault(row, "device_id", "unknown_mapped_device", value=row.device_id[:64])
        elif eve.standing(device.unit_id) != old[row.old_code].unit_id:
            unit = eve.get(device.unit_id)
            yield row_fault(
                row,
                "device_id",
                "device_in_other_unit",
                value=row.device_id,
                unit=unit.code if unit is not None else "?",
            )


def _apart(
    ways: Mapping[str, MappingRow], old: Mapping[str, UnitVersion], rows: Iterable[UnitRow]
) -> tuple[UnitVersion, ...]:
    """Units that the file alone would take to go on, but that go over into another unit."""
    same = {row.code for row in rows if row.code in old and (old[row.code].level, old[row.code].name) == _words(row)}
    return tuple(old[code] for code, row in ways.items() if code in same and row.new_code != code)


def _words(row: UnitRow) -> tuple[str, str]:
    return (row.level, row.name)


def _circles(apart: Sequence[UnitVersion], ways: Mapping[str, MappingRow]) -> Iterator[Fault]:
    """Lines by which units that both trees call alike would go over into one another."""
    going = {unit.code for unit in apart}
    for unit in apart:
        code, seen = ways[unit.code].new_code, {unit.code}
        while code in going and code not in seen:
            seen.add(code)
            code = ways[code].new_code
        if code == unit.code:
            yield row_fault(ways[unit.code], "new_code", "mapping_circle", value=unit.code)


def _left_behind(
    mapping: Iterable[MappingRow],
    ways: Mapping[str, MappingRow],
    old: Mapping[str, UnitVersion],
    tree: UnitTree,
    held: Mapping[UnitId, Holdings],
) -> Iterator[Fault]:
    """Old units that nobody follows although something is filed under them."""
    split: dict[str, MappingRow] = {}
    for row in mapping:
        if row.device_id is not None:
            split.setdefault(row.old_code, row)
    for code, unit in old.items():
        if code in ways or tree.stands(unit.unit_id):
            continue
        if code in split:
            yield row_fault(split[code], "old_code", "split_without_heir", value=code)
            continue
        here = held.get(unit.unit_id, Holdings())
        if not here.are_none:
            others = sum(getattr(here, each.name) for each in fields(here)) - here.devices - here.accounts
            yield Fault(
                TABLE.field,
                "old_unit_unmapped",
                {
                    "unit": unit.name,
                    "value": code,
                    "devices": here.devices,
                    "accounts": here.accounts,
                    "others": others,
                },
            )


def _parts(
    mapping: Iterable[MappingRow],
    old: Mapping[str, UnitVersion],
    new: Mapping[str, UnitVersion],
    successions: Iterable[Succession],
    housed: Mapping[str, Housed],
    *,
    valid_from: date,
    new_id: Callable[[], uuid.UUID],
) -> Iterator[Part]:
    """What leaves an old unit another way than the rest, gathered by where it goes."""
    heirs = {each.old.unit_id: each.new.unit_id for each in successions}
    leaving: dict[tuple[str, str], list[DeviceNo]] = defaultdict(list)
    for row in mapping:
        if row.device_id is not None:
            unit = old[row.old_code]
            if heirs.get(unit.unit_id, unit.unit_id) != new[row.new_code].unit_id:
                leaving[row.old_code, row.new_code].append(housed[row.device_id].device_no)
    for (old_code, new_code), device_nos in leaving.items():
        unit, heir = old[old_code], new[new_code]
        name = f"{unit.name} → {heir.name}"[:_NAME_LENGTH]
        yield Part(
            # It has been there as long as the old unit in its last form: what is planned looks back over midnight.
            version=UnitVersion(
                unit_id=UnitId(new_id()),
                valid_from=unit.valid_from,
                valid_until=valid_from,
                parent_id=unit.unit_id,
                code=f"{unit.code}-{heir.code}",
                level=PART,
                name=name,
                sort_key=vietnamese.sort_key(name),
            ),
            of=unit.unit_id,
            heir_id=heir.unit_id,
            device_nos=tuple(device_nos),
        )


def _followed(
    history: UnitHistory, heirs: Iterable[UnitHeir], tree: UnitTree, valid_from: date
) -> tuple[tuple[UnitHeir, ...], tuple[UnitHeir, ...]]:
    """What begins and ends for units that were closed before, when their heir is closed in its turn."""
    by_old = {heir.unit_id: heir for heir in heirs}
    ended = tuple(
        heir
        for heir in history.heirs
        if heir.is_valid_on(valid_from - timedelta(days=1)) and not tree.stands(heir.heir_id)
    )
    begun = tuple(
        UnitHeir(
            unit_id=heir.unit_id,
            heir_id=by_old[heir.heir_id].heir_id,
            valid_from=valid_from,
            keeps_rights=heir.keeps_rights and by_old[heir.heir_id].keeps_rights,
        )
        for heir in ended
        if heir.heir_id in by_old
    )
    return begun, tuple(replace(heir, valid_until=valid_from) for heir in ended)
