"""Tables read from CSV files that people made: UTF-8, a header line, known columns in any order. Pure; all or nothing.

Every fault found is named with its line and column, so that an officer can mend the file in one go. `field` is where the
file stands in the request, and what its faults begin with; a file that is the request needs none.
"""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from services.control.errors import Fault, Invalid

MAX_BYTES = 4 * 1024 * 1024
MAX_FAULTS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What is expected of a file, and what its faults are filed under."""

    columns: tuple[str, ...]
    optional: tuple[str, ...] = ()
    max_rows: int
    code: str
    field: str = ""

    def place(self, line: int, column: str = "") -> str:
        """Where a cell or a line stands."""
        return ".".join(part for part in (self.field, f"lines[{line}]", column) if part)

    def raise_for(self, faults: Sequence[Fault]) -> None:
        """Raise `Invalid` if there are faults; those beyond `MAX_FAULTS` are counted."""
        if not faults:
            return
        shown = list(faults[:MAX_FAULTS])
        if len(faults) > MAX_FAULTS:
            shown.append(Fault(self.field or "file", "more_faults", {"count": len(faults) - MAX_FAULTS}))
        raise Invalid(*shown, code=self.code)


def rows(content: bytes, table: Table) -> tuple[tuple[int, dict[str, str]], ...]:
    """Line number and cells by column of every record that is not empty. Raises `Invalid`; an empty file is a fault."""
    records = _records(_decoded(content, table), table)
    first = next(records, None)
    if first is None:
        raise _refusal(table, "file_is_empty")
    line, header = first
    names = [cell.strip() for cell in header]
    if len(set(names)) != len(names) or not set(table.columns) <= set(names) <= {*table.columns, *table.optional}:
        expected = ",".join(table.columns) + "".join(f"[,{name}]" for name in table.optional)
        raise _refusal(table, "bad_header", line=line, expected=expected, found=",".join(names)[:200])
    found: list[tuple[int, dict[str, str]]] = []
    faults: list[Fault] = []
    for count, (line, cells) in enumerate(records, start=1):
        if count > table.max_rows:
            raise _refusal(table, "too_many_rows", limit=table.max_rows)
        if len(cells) != len(names):
            facts = {"line": line, "expected": len(names), "found": len(cells)}
            faults.append(Fault(table.place(line), "wrong_cell_count", facts))
            continue
        found.append((line, dict(zip(names, map(_clean, cells), strict=True))))
    table.raise_for(faults)
    if not found:
        raise _refusal(table, "file_is_empty")
    return tuple(found)


def _refusal(table: Table, code: str, **facts: object) -> Invalid:
    """The whole file is not taken."""
    return Invalid(Fault(table.field or "file", code, facts), code=table.code)


def _decoded(content: bytes, table: Table) -> str:
    if len(content) > MAX_BYTES:
        raise _refusal(table, "file_too_large", limit=MAX_BYTES)
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _refusal(table, "not_utf8", line=1)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _refusal(table, "not_utf8", line=content.count(b"\n", 0, error.start) + 1) from None
    if "\x00" in text:
        raise _refusal(table, "not_text", line=text.count("\n", 0, text.index("\x00")) + 1)
    return text


def _records(text: str, table: Table) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each record that is not empty. Raises `Invalid` for what is no CSV."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    begins = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield begins, cells
            begins = reader.line_num + 1
    except csv.Error:
        raise _refusal(table, "not_csv", line=reader.line_num) from None


def _clean(cell: str) -> str:
    """One form per text: composed characters, single blanks."""
    return " ".join(unicodedata.normalize("NFC", cell).split())
