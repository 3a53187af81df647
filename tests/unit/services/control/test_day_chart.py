"""What may sound through the day, as bars and in words."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, time
from zoneinfo import ZoneInfo

from schemas.identifiers import UnitId
from services.control.catalogue.texts import Language
from services.control.pages import day_chart
from services.control.pages.day_chart import Bar
from services.control.pages.wording import Wording
from services.control.planning.policies import NOTHING_LIMITED, Policy, Quiet, Session, VolumeCap, effective

VI = Wording(
    language=Language.VIETNAMESE, zone=ZoneInfo("Asia/Ho_Chi_Minh"), now=datetime(2026, 3, 10, 2, 0, tzinfo=UTC)
)
PROVINCE, COMMUNE = UnitId(uuid.UUID(int=1)), UnitId(uuid.UUID(int=2))


def test_where_nothing_is_limited_the_day_is_one_bar() -> None:
    (row,) = day_chart.rows(NOTHING_LIMITED, VI)
    assert (row.kind, row.label, row.bars, row.words) == ("may", "Được phát", (Bar(0, 1_440),), "cả ngày")


def test_a_night_is_two_bars_and_one_span_in_words() -> None:
    night = Policy(unit_id=PROVINCE, quiet=(Quiet(begin=time(22), end=time(5)),))
    noon = Policy(unit_id=COMMUNE, quiet=(Quiet(begin=time(11, 30), end=time(13)), Quiet(begin=time(4), end=time(6))))
    may, hush = day_chart.rows(effective([night, noon]), VI)
    assert hush.bars == (Bar(0, 360), Bar(690, 90), Bar(1_320, 120))
    assert hush.words == "11:30–13:00, 22:00–06:00"
    assert may.words == "06:00–11:30, 13:00–22:00"


def test_weekdays_that_are_alike_share_a_row() -> None:
    weekdays = frozenset({1, 2, 3, 4, 5})
    session = Session(code="toi", name="Tối", begin=time(18), end=time(0), weekdays=weekdays)
    working, free = day_chart.rows(effective([Policy(unit_id=COMMUNE, sessions=(session,))]), VI)
    assert (working.label, working.bars) == ("Được phát: thứ Hai đến thứ Sáu", (Bar(1_080, 360),))
    assert working.words == "18:00–24:00"
    assert (free.label, free.bars, free.words) == ("Được phát: thứ Bảy và Chủ nhật", (), "không được phát")


def test_the_loudest_is_that_of_the_strictest() -> None:
    province = Policy(unit_id=PROVINCE, volume_caps=(VolumeCap(begin=time(20), end=time(6), percent=60),))
    commune = Policy(unit_id=COMMUNE, volume_caps=(VolumeCap(begin=time(21), end=time(22), percent=30),))
    _, volume = day_chart.rows(effective([province, commune]), VI)
    assert volume.bars == (
        Bar(0, 360, 60),
        Bar(360, 840),
        Bar(1_200, 60, 60),
        Bar(1_260, 60, 30),
        Bar(1_320, 120, 60),
    )
    assert volume.words == "30 %: 21:00–22:00; 60 %: 20:00–21:00, 22:00–06:00"
