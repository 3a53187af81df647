"""When broadcasts begin, as people say it."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.identifiers import UnitId
from services.control.broadcast_requests import Wish
from services.control.catalogue.texts import Language
from services.control.pages import recurrence_words
from services.control.pages.wording import Wording

ZONE = ZoneInfo("Asia/Ho_Chi_Minh")
NOW = datetime(2026, 3, 10, 2, 0, tzinfo=UTC)
VI = Wording(language=Language.VIETNAMESE, zone=ZONE, now=NOW)
EN = Wording(language=Language.ENGLISH, zone=ZONE, now=NOW)


def wish(rrule: str | None = None, **changes: Any) -> Wish:
    values: dict[str, Any] = {
        "unit_id": UnitId(uuid.UUID(int=1)),
        "title": "",
        "level": "normal",
        "recurrence": "rule" if rrule is not None else "once",
        "rrule": rrule,
        "time_zone": "Asia/Ho_Chi_Minh",
        "starts_on": date(2026, 3, 11),  # a Wednesday
        "ends_on": None,
        "local_times": (time(5, 30),),
        "items": (),
        "targets": (),
        "volume_percent": None,
        "resume": "resume",
        **changes,
    }
    return Wish(**values)


@pytest.mark.parametrize(
    ("rrule", "vietnamese", "english"),
    [
        ("FREQ=DAILY", "Hằng ngày", "Daily"),
        ("FREQ=DAILY;INTERVAL=3", "Cứ 3 ngày một lần", "Every 3 days"),
        ("FREQ=DAILY;BYDAY=SA,SU", "Thứ Bảy và Chủ nhật hằng tuần", "Saturday and Sunday every week"),
        ("FREQ=DAILY;BYMONTH=6,7,8", "Hằng ngày, chỉ trong tháng 6, 7 và 8", "Daily, in June, July and August only"),
        ("FREQ=WEEKLY", "Thứ Tư hằng tuần", "Wednesday every week"),
        ("FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR", "Thứ Hai đến thứ Sáu hằng tuần", "Monday to Friday every week"),
        (
            "FREQ=WEEKLY;BYDAY=MO,WE,FR",
            "Thứ Hai, thứ Tư và thứ Sáu hằng tuần",
            "Monday, Wednesday and Friday every week",
        ),
        ("FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR,SA,SU", "Hằng ngày", "Daily"),
        ("FREQ=WEEKLY;INTERVAL=2;BYDAY=SU", "Chủ nhật, cứ 2 tuần một lần", "Sunday, every 2 weeks"),
        ("FREQ=MONTHLY", "Ngày 11 hằng tháng", "Day 11 of every month"),
        ("FREQ=MONTHLY;BYMONTHDAY=15,1", "Ngày 1 và ngày 15 hằng tháng", "Day 1 and day 15 of every month"),
        (
            "FREQ=MONTHLY;BYMONTHDAY=-1,1",
            "Ngày 1 và ngày cuối cùng hằng tháng",
            "Day 1 and the last day of every month",
        ),
        ("FREQ=MONTHLY;BYDAY=1MO", "Thứ Hai đầu tiên hằng tháng", "The first Monday of every month"),
        (
            "FREQ=MONTHLY;INTERVAL=2;BYDAY=-1FR",
            "Thứ Sáu cuối cùng, cứ 2 tháng một lần",
            "The last Friday, every 2 months",
        ),
        ("FREQ=YEARLY", "Ngày 11/3 hằng năm", "11 March every year"),
        ("FREQ=YEARLY;BYMONTH=9;BYMONTHDAY=2", "Ngày 2/9 hằng năm", "2 September every year"),
    ],
)
def test_common_rules_are_said_as_people_say_them(rrule: str, vietnamese: str, english: str) -> None:
    assert recurrence_words.schedule(wish(rrule), VI) == (f"{vietnamese}, từ 11/03/2026",)
    assert recurrence_words.schedule(wish(rrule), EN) == (f"{english}, from 2026-03-11",)


@pytest.mark.parametrize(
    "rrule",
    [
        "FREQ=HOURLY;INTERVAL=6",
        "FREQ=DAILY;BYHOUR=5,17",
        "FREQ=DAILY;BYMONTHDAY=13",
        "FREQ=DAILY;INTERVAL=2;BYDAY=MO",
        "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1",
        "FREQ=MONTHLY;BYDAY=MO",
        "FREQ=MONTHLY;BYDAY=5FR",
        "FREQ=MONTHLY;BYDAY=1MO;BYMONTHDAY=1",
        "FREQ=MONTHLY;BYMONTHDAY=-2",
        "FREQ=YEARLY;BYYEARDAY=100;COUNT=3",
        "FREQ=YEARLY;BYWEEKNO=20",
        "FREQ=YEARLY;BYMONTHDAY=1",
        "nonsense",
    ],
)
def test_any_other_rule_is_shown_as_it_is(rrule: str) -> None:
    assert recurrence_words.schedule(wish(rrule), VI) == (f"Theo quy tắc {rrule}, từ 11/03/2026",)


@pytest.mark.parametrize(
    ("broadcast", "expected"),
    [
        (wish(), "Một lần, 11/03/2026"),
        (wish(recurrence="daily", ends_on=date(2026, 4, 1)), "Hằng ngày, từ 11/03/2026 đến hết 31/03/2026"),
        (wish("FREQ=DAILY;COUNT=5"), "Hằng ngày, 5 lần, từ 11/03/2026"),
        (wish("FREQ=DAILY;COUNT=5", local_times=(time(5), time(17))), "Hằng ngày, mỗi giờ 5 lần, từ 11/03/2026"),
        (wish("FREQ=DAILY;UNTIL=20260320"), "Hằng ngày, từ 11/03/2026 đến hết 20/03/2026"),
        # An instant is another day here than in Greenwich.
        (wish("FREQ=DAILY;UNTIL=20260320T203000Z"), "Hằng ngày, từ 11/03/2026 đến hết 21/03/2026"),
        (
            wish("FREQ=DAILY;UNTIL=20260320T203000", ends_on=date(2026, 3, 19)),
            "Hằng ngày, từ 11/03/2026 đến hết 18/03/2026",
        ),
    ],
)
def test_the_end_is_the_last_day_on_which_it_begins(broadcast: Wish, expected: str) -> None:
    assert recurrence_words.schedule(broadcast, VI) == (expected,)


def test_what_was_added_and_left_out_is_named_as_far_as_it_can_be_read() -> None:
    added = (date(2026, 4, 30), datetime.fromisoformat("2026-05-01T19:00"))
    left_out = tuple(date(2026, 6, day) for day in range(1, 11))
    assert recurrence_words.schedule(wish("FREQ=DAILY", rdates=added, exdates=left_out), VI)[1:] == (
        "Thêm: 30/04/2026, 19:00 01/05/2026",
        "Trừ: 01/06/2026, 02/06/2026, 03/06/2026, 04/06/2026, 05/06/2026, 06/06/2026 và 4 lần khác",
    )


def test_times_and_sessions_stand_beside_each_other() -> None:
    both = wish(local_times=(time(5, 30), time(17, 0, 30)), sessions=("toi",))
    assert recurrence_words.times(both, VI) == "05:30, 17:00:30, khung giờ toi"


@given(
    st.sampled_from(["HOURLY", "DAILY", "WEEKLY", "MONTHLY", "YEARLY"]),
    st.lists(
        st.sampled_from(
            ["INTERVAL=2", "COUNT=3", "BYDAY=MO,-1FR", "BYDAY=TU", "BYMONTH=2", "BYMONTHDAY=29,-1", "BYSETPOS=1"]
        ),
        unique_by=lambda part: part.split("=")[0],
    ),
)
def test_whatever_the_rule_something_is_said(frequency: str, parts: list[str]) -> None:
    for w in (VI, EN):
        (line,) = recurrence_words.schedule(wish(";".join([f"FREQ={frequency}", *parts])), w)
        assert line
