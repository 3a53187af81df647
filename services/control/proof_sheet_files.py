"""Proof sheets as files: CSV for programs and XLSX for people who go on counting.

Titles and names are typed by people, and a cell that begins like a formula would be one to a spreadsheet. In CSV such a
cell gets an apostrophe before it; in XLSX every text is written as a text, which no spreadsheet calculates.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

import xlsxwriter  # type: ignore[import-untyped]  # it has annotations, but no py.typed

from services.control.proof_sheets import FIGURES, Figures, Sheet

CSV_TYPE = "text/csv; charset=utf-8"
XLSX_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"

# What a spreadsheet takes for the beginning of a formula, or skips before looking for one.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")

Words = Callable[[str], str]
Cell = str | int | float | None
Rows = Sequence[Sequence[Cell]]


def as_csv(sheet: Sheet, *, made_at: datetime, words: Words) -> bytes:
    """One table: what a line is about stands in its first column. Spans in milliseconds. UTF-8 with a byte order mark."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(["part", "id", "name", "about", *FIGURES, "sounded_ms", "share"])
    for part, rows in _parts(sheet, made_at=made_at, words=words):
        for row in rows:
            writer.writerow([part, *(neutral(cell) for cell in row)])
    # Spreadsheets take UTF-8 for something else without the mark.
    return out.getvalue().encode("utf-8-sig")


def neutral(cell: Cell) -> Cell:
    """The cell, so that no spreadsheet calculates it."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA_STARTS) else cell


def _parts(sheet: Sheet, *, made_at: datetime, words: Words) -> Iterator[tuple[str, Rows]]:
    yield (
        "sheet",
        [
            [sheet.code, sheet.name, " / ".join(sheet.path)],
            ["month", str(sheet.month), sheet.time_zone],
            ["held", sheet.days_held[0].isoformat(), sheet.days_held[1].isoformat()],
            ["made_at", made_at.isoformat(), ""],
            ["sha256", sheet.digest, ""],
        ],
    )
    yield "total", [["", "", "", *_figures(sheet.total)]]
    yield "day", [[row.day.isoformat(), "", "", *_figures(row.figures)] for row in sheet.days]
    yield (
        "broadcast",
        [
            [
                str(row.broadcast_id),
                row.title,
                f"{row.issuer} ({words(f'level_of.{row.level}')})",
                *_figures(row.figures),
            ]
            for row in sheet.broadcasts
        ],
    )
    yield (
        "device",
        [
            [row.device_id, row.name, f"{row.unit} ({words(f'kind.{row.kind}')})", *_figures(row.figures)]
            for row in sheet.devices
        ],
    )
    yield (
        "reason",
        [
            [
                f"{row.outcome}.{row.reason}",
                f"{words(f'outcome.{row.outcome}')}: {words(f'reason.{row.reason}')}{f' – {row.alert}' if row.alert else ''}",
                words(f"evidence.{row.evidence}") if row.evidence else "",
                row.emissions,
            ]
            for row in sheet.reasons
        ],
    )
    yield (
        "problem",
        [[str(row.broadcast_id), row.title, words(f"problem_of.{row.kind}"), row.times] for row in sheet.problems],
    )


def _figures(figures: Figures) -> list[Cell]:
    share = None if figures.share is None else round(figures.share, 4)
    return [*(getattr(figures, name) for name in FIGURES), figures.sounded_ms, share]


# --- workbook --------------------------------------------------------------------------------------------------------

# Counts beside minutes, as on paper.
_COLUMNS = ("planned", "played", "late", "cut", "missed", "refused", "unknown", "by_gateway", "open")


def as_xlsx(sheet: Sheet, *, made_at: datetime, words: Words) -> bytes:
    """A workbook: a page of totals, and one each for days, broadcasts, devices, reasons and what was not planned."""
    out = io.BytesIO()
    options = {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}
    with xlsxwriter.Workbook(out, options) as book:
        book.set_properties({"title": f"{sheet.name} {sheet.month}", "created": made_at.replace(tzinfo=None)})
        page = _Page(book, words)
        page.write(
            words("sheet.summary"),
            [],
            [
                [words("sheet.unit"), sheet.name],
                [words("sheet.code"), sheet.code],
                [words("sheet.above"), " / ".join(sheet.path)],
                [words("sheet.month"), str(sheet.month)],
                [words("sheet.held"), f"{sheet.days_held[0].isoformat()} – {sheet.days_held[1].isoformat()}"],
                [words("sheet.clusters"), sheet.devices_of("cluster")],
                [words("sheet.boards"), sheet.devices_of("board")],
                [words("sheet.bulletins"), sheet.bulletins],
                [words("sheet.emergencies"), sheet.emergencies.planned],
                [words("sheet.planned_minutes"), _minutes(sheet.total.planned_ms)],
                [words("sheet.sounded_minutes"), _minutes(sheet.total.sounded_ms)],
                [words("sheet.share"), sheet.total.share],
                [words("sheet.offered"), sheet.uptake.offered],
                [words("sheet.accepted"), sheet.uptake.accepted],
                [words("sheet.declined"), sheet.uptake.declined],
                [words("sheet.scheduled"), sheet.uptake.scheduled],
                [words("sheet.made_at"), made_at.isoformat(timespec="seconds")],
                [words("sheet.digest"), sheet.digest],
            ],
        )
        page.write_figures(
            words("sheet.by_day"), ["sheet.day"], [([row.day.isoformat()], row.figures) for row in sheet.days]
        )
        page.write_figures(
            words("sheet.by_broadcast"),
            ["sheet.broadcast", "sheet.issuer", "sheet.level"],
            [([row.title, row.issuer, words(f"level_of.{row.level}")], row.figures) for row in sheet.broadcasts],
        )
        page.write_figures(
            words("sheet.by_device"),
            ["sheet.device", "sheet.device_id", "sheet.kind", "sheet.unit", "sheet.latitude", "sheet.longitude"],
            [
                (
                    [row.name, row.device_id, words(f"kind.{row.kind}"), row.unit, *row.place],
                    row.figures,
                )
                for row in sheet.devices
            ],
        )
        page.write(
            words("sheet.reasons"),
            [
                words(f"sheet.{name}")
                for name in ("verdict", "why", "evidence", "emissions_counted", "devices_counted", "alert")
            ],
            [
                [
                    words(f"outcome.{row.outcome}"),
                    words(f"reason.{row.reason}"),
                    words(f"evidence.{row.evidence}") if row.evidence else "",
                    row.emissions,
                    row.devices,
                    row.alert,
                ]
                for row in sheet.reasons
            ],
        )
        page.write(
            words("sheet.not_planned"),
            [words(f"sheet.{name}") for name in ("broadcast", "why", "times", "first", "last")],
            [
                [row.title, words(f"problem_of.{row.kind}"), row.times, row.first.isoformat(), row.last.isoformat()]
                for row in sheet.problems
            ],
        )
    return out.getvalue()


def _minutes(length_ms: int) -> float:
    return round(length_ms / 60_000, 2)


class _Page:
    """Writes pages of one workbook."""

    def __init__(self, book: Any, words: Words) -> None:
        self._book = book
        self._words = words
        self._bold = book.add_format({"bold": True, "text_wrap": True, "valign": "top", "bottom": 1})
        self._share = book.add_format({"num_format": "0.0%"})

    def write(self, name: str, header: Sequence[str], rows: Rows, *, shares: Sequence[int] = ()) -> None:
        page = self._book.add_worksheet(name[:31])
        page.set_landscape()
        page.set_paper(9)  # A4
        page.fit_to_pages(1, 0)
        widths = [len(text) for text in header]
        for column, text in enumerate(header):
            page.write_string(0, column, text, self._bold)
        if header:
            page.repeat_rows(0)
            page.freeze_panes(1, 1)
        for line, row in enumerate(rows, start=1 if header else 0):
            for column, cell in enumerate(row):
                if isinstance(cell, str):
                    page.write_string(line, column, cell)
                elif cell is not None:
                    page.write_number(line, column, cell, self._share if column in shares else None)
                widths += [0] * (column + 1 - len(widths))
                widths[column] = max(widths[column], len(str(cell if cell is not None else "")))
        for column, width in enumerate(widths):
            page.set_column(column, column, min(max(width + 1, 8), 40))

    def write_figures(self, name: str, keys: Sequence[str], rows: Sequence[tuple[Sequence[Cell], Figures]]) -> None:
        words = self._words
        header = [words(key) for key in keys]
        for each in _COLUMNS:
            header += [words(f"sheet.count_of.{each}"), words(f"sheet.minutes_of.{each}")]
        header += [words("sheet.late_by_minutes"), words("sheet.sounded_minutes"), words("sheet.share")]
        body = [
            [
                *first,
                *(
                    cell
                    for each in _COLUMNS
                    for cell in (getattr(figures, each), _minutes(getattr(figures, f"{each}_ms")))
                ),
                _minutes(figures.late_by_ms),
                _minutes(figures.sounded_ms),
                figures.share,
            ]
            for first, figures in rows
        ]
        self.write(name, header, body, shares=[len(header) - 1])
