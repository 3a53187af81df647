"""Which old unit goes over into which new one, read from a CSV file: `old_code,new_code[,device_id]`, UTF-8. Pure.

A line without a device says where a unit goes: several old units may go over into one new one. A line with a device says
that this one device of the old unit goes elsewhere, which is how one old unit is split over several new ones.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.control import csv_tables
from services.control.csv_tables import Table
from services.control.errors import Fault

MAX_ROWS = 50_000  # every unit the country had, and every device of a province
TABLE = Table(
    columns=("old_code", "new_code"),
    optional=("device_id",),
    max_rows=MAX_ROWS,
    code="unit_mapping_invalid",
    field="mapping",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MappingRow:
    """One line of a file; `line` is where it stands, counted from 1. Without a device: the unit itself."""

    line: int
    old_code: str
    new_code: str
    device_id: str | None = None


def parse(content: bytes) -> tuple[MappingRow, ...]:
    """The lines of a file in order. Raises `Invalid` naming lines and columns."""
    rows = tuple(
        MappingRow(
            line=line,
            old_code=cells["old_code"],
            new_code=cells["new_code"],
            device_id=cells.get("device_id") or None,
        )
        for line, cells in csv_tables.rows(content, TABLE)
    )
    TABLE.raise_for(
        [
            row_fault(row, column, "cell_is_empty")
            for row in rows
            for column, cell in (("old_code", row.old_code), ("new_code", row.new_code))
            if not cell
        ]
    )
    return rows


def row_fault(row: MappingRow, column: str, code: str, **facts: object) -> Fault:
    """What is wrong with a cell of a line."""
    return Fault(TABLE.place(row.line, column), code, {"line": row.line, "column": column, **facts})
