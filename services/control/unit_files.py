"""A tree of units read from a CSV file: `code,parent_code,level,name`, UTF-8, one root. Pure; all or nothing.

Every fault found is named with its line and column, so that an officer can mend the file in one go.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from services.control.errors import Fault, Invalid

COLUMNS = ("code", "parent_code", "level", "name")
MAX_BYTES = 4 * 1024 * 1024
MAX_UNITS = 20_000  # the country had 11,000 units
MAX_DEPTH = 15  # what the wire contract can say of an issuer's depth
MAX_FAULTS = 50

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


def parse(content: bytes) -> tuple[UnitRow, ...]:
    """The units of a file, parents before children. Raises `Invalid` naming lines and columns."""
    rows = tuple(_rows(_records(_decoded(content))))
    faults = [fault for row in rows for fault in _row_faults(row)]
    faults += _tree_faults(rows)
    _raise(faults)
    return _parents_first(rows)


def _raise(faults: list[Fault]) -> None:
    if not faults:
        return
    shown = faults[:MAX_FAULTS]
    if len(faults) > MAX_FAULTS:
        shown.append(Fault("file", "more_faults", {"count": len(faults) - MAX_FAULTS}))
    raise Invalid(*shown, code="unit_file_invalid")


def _decoded(content: bytes) -> str:
    if len(content) > MAX_BYTES:
        raise Invalid(Fault("file", "file_too_large", {"limit": MAX_BYTES}), code="unit_file_invalid")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Invalid(Fault("file", "not_utf8", {"line": 1}), code="unit_file_invalid")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Invalid(Fault("file", "not_utf8", {"line": line}), code="unit_file_invalid") from None
    if "\x00" in text:
        line = text.count("\n", 0, text.index("\x00")) + 1
        raise Invalid(Fault("file", "not_text", {"line": line}), code="unit_file_invalid")
    return text


def _records(text: str) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each record that is not empty. Raises `Invalid` for what is no CSV."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    begins = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield begins, cells
            begins = reader.line_num + 1
    except csv.Error:
        raise Invalid(Fault("file", "not_csv", {"line": reader.line_num}), code="unit_file_invalid") from None


def _rows(records: Iterator[tuple[int, list[str]]]) -> Iterator[UnitRow]:
    first = next(records, None)
    if first is None:
        raise Invalid(Fault("file", "file_is_empty"), code="unit_file_invalid")
    line, header = first
    names = [cell.strip() for cell in header]
    if sorted(names) != sorted(COLUMNS):
        facts = {"line": line, "expected": ",".join(COLUMNS), "found": ",".join(names)[:200]}
        raise Invalid(Fault("file", "bad_header", facts), code="unit_file_invalid")
    faults = []
    count = 0
    for line, cells in records:
        count += 1
        if count > MAX_UNITS:
            raise Invalid(Fault("file", "too_many_units", {"limit": MAX_UNITS}), code="unit_file_invalid")
        if len(cells) != len(names):
            faults.append(
                Fault(f"lines[{line}]", "wrong_cell_count", {"line": line, "expected": len(names), "found": len(cells)})
            )
            continue
        values = dict(zip(names, map(_clean, cells), strict=True))
        yield UnitRow(
            line=line,
            code=values["code"],
            parent_code=values["parent_code"] or None,
            level=values["level"],
            name=values["name"],
        )
    _raise(faults)
    if count == 0:
        raise Invalid(Fault("file", "file_is_empty"), code="unit_file_invalid")


def _clean(cell: str) -> str:
    """One form per text: composed characters, single blanks."""
    return " ".join(unicodedata.normalize("NFC", cell).split())


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
