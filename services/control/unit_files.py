"""A tree of units read from a CSV file: `code,parent_code,level,name`, UTF-8, one root. Pure; all or nothing.

Every fault found is named with its line and column, so that an officer can mend the file in one go.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from services.control import csv_tables
from services.control.csv_tables import Table
from services.control.errors import Fault

MAX_UNITS = 20_000  # the country had 11,000 units
MAX_DEPTH = 15  # what the wire contract can say of an issuer's depth
TABLE = Table(columns=("code", "parent_code", "level", "name"), max_rows=MAX_UNITS, code="unit_file_invalid")

_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
_LEVEL = re.compile(r"[a-z][a-z0-9_]{0,31}")
_NAME_LENGTH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitRow:
    """One unit of a file; `line` is where it stands, counted from 1."""

    line: int
    code: str
    parent_code: str | None
    level: str
    name: str


def parse(content: bytes, *, field: str = "") -> tuple[UnitRow, ...]:
    """The units of a file, parents before children. Raises `Invalid` naming lines and columns.

    `field` is where the file stands in a request that holds more than the file.
    """
    table = replace(TABLE, field=field)
    rows = tuple(
        UnitRow(
            line=line,
            code=cells["code"],
            parent_code=cells["parent_code"] or None,
            level=cells["level"],
            name=cells["name"],
        )
        for line, cells in csv_tables.rows(content, table)
    )
    faults = [fault for row in rows for fault in _row_faults(row)]
    faults += _tree_faults(rows)
    table.raise_for([replace(fault, field=f"{field}.{fault.field}") for fault in faults] if field else faults)
    return _parents_first(rows)


def _row_faults(row: UnitRow) -> Iterator[Fault]:
    if not row.code:
        yield _fault(row, "code", "cell_is_empty")
    elif not _CODE.fullmatch(row.code):
        yield _fault(row, "code", "bad_unit_code", value=row.code[:64])
    if not row.level:
        yield _fault(row, "level", "cell_is_empty")
    elif not _LEVEL.fullmatch(row.level):
        yield _fault(row, "level", "bad_unit_level", value=row.level[:64])
    if not row.name:
        yield _fault(row, "name", "cell_is_empty")
    elif len(row.name) > _NAME_LENGTH:
        yield _fault(row, "name", "text_too_long", limit=_NAME_LENGTH)
    elif not row.name.isprintable():
        yield _fault(row, "name", "text_has_control_characters")


def _tree_faults(rows: tuple[UnitRow, ...]) -> list[Fault]:
    by_code: dict[str, UnitRow] = {}
    faults = []
    for row in rows:
        if row.code in by_code:
            faults.append(_fault(row, "code", "duplicate_unit_code", value=row.code, first=by_code[row.code].line))
        elif row.code:
            by_code[row.code] = row
    faults += [
        _fault(row, "parent_code", "unknown_parent_code", value=row.parent_code)
        for row in rows
        if row.parent_code is not None and row.parent_code not in by_code
    ]
    roots = [row for row in rows if row.parent_code is None]
    faults += [_fault(row, "parent_code", "second_root", first=roots[0].line) for row in roots[1:]]
    if faults:
        return faults  # a circle is looked for in what is otherwise a tree
    if not roots:
        faults.append(Fault("file", "no_root"))
    depths: dict[str, int] = {}
    for row in by_code.values():
        if _depth(row, by_code, depths) is None:
            faults.append(_fault(row, "parent_code", "unit_circle", value=row.code))
        elif depths[row.code] > MAX_DEPTH:
            faults.append(_fault(row, "parent_code", "unit_too_deep", limit=MAX_DEPTH))
    return faults


def _depth(row: UnitRow, by_code: dict[str, UnitRow], depths: dict[str, int]) -> int | None:
    """Levels below the root, noted in `depths` for the whole way up; None in a circle."""
    way: list[str] = []
    seen: set[str] = set()
    code: str | None = row.code
    while code is not None and code not in depths:
        if code in seen:
            return None
        way.append(code)
        seen.add(code)
        code = by_code[code].parent_code
    depth = -1 if code is None else depths[code]
    for each in reversed(way):
        depth += 1
        depths[each] = depth
    return depths[row.code]


def _parents_first(rows: tuple[UnitRow, ...]) -> tuple[UnitRow, ...]:
    by_code = {row.code: row for row in rows}
    depths: dict[str, int] = {}
    for row in rows:
        _depth(row, by_code, depths)
    return tuple(sorted(rows, key=lambda row: (depths[row.code], row.line)))


def _fault(row: UnitRow, column: str, code: str, **facts: object) -> Fault:
    return Fault(f"lines[{row.line}].{column}", code, {"line": row.line, "column": column, **facts})
