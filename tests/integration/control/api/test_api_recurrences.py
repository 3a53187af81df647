"""Recurrences over HTTP, planned, and held against python-dateutil and the time-zone database themselves."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from itertools import takewhile
from zoneinfo import ZoneInfo

import pytest
from dateutil import rrule as dateutil_rrule

from services.control.permissions import Role
from tests.support.control import a_keyring, a_planner
from tests.support.control_api import Api, add_bulletin, add_device, broadcast_body

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

PLANNED = timedelta(days=7)  # from the present day on everything is on record

# (RRULE, begins so many days from today, local times, added, taken out); "+3" is a day, "+3 05:30" a moment.
CASES: list[tuple[str | None, int, list[str], list[str], list[str]]] = [
    (None, 0, ["23:59:30"], ["+2", "+3 04:44"], []),
    ("FREQ=DAILY", -400, ["00:00", "01:30", "02:15", "23:59:30"], [], ["+1", "+2 01:30", "+3 09:00"]),
    ("FREQ=DAILY;INTERVAL=3;COUNT=7", -12, ["05:30", "17:00"], [], []),
    ("FREQ=DAILY;UNTIL={+3}T053000Z", -3, ["01:30", "05:30", "12:30"], [], []),
    ("FREQ=DAILY;UNTIL={+3}T053000", -3, ["05:30", "05:30:01"], [], []),
    ("FREQ=DAILY;UNTIL={+2}", -3, ["02:30"], ["+5"], ["+0"]),
    ("FREQ=DAILY;BYHOUR=1,2,3;BYMINUTE=15,45", -1, ["00:00"], [], ["+4 02:15"]),
    ("FREQ=HOURLY;INTERVAL=5", -9, ["01:30"], [], []),
    ("FREQ=HOURLY;INTERVAL=7;BYDAY=SU,MO;COUNT=40", -9, ["00:30"], [], []),
    ("FREQ=WEEKLY;INTERVAL=2;BYDAY=TU,SU,WE;WKST=SU", -20, ["02:30"], [], []),
    ("FREQ=WEEKLY;INTERVAL=2;BYDAY=TU,SU,WE;WKST=MO", -20, ["03:30"], [], []),
    ("FREQ=MONTHLY;BYMONTHDAY=-1,-31,1,4,-27", -40, ["02:00"], [], []),
    ("FREQ=MONTHLY;BYDAY=1SU,-1SU,2WE,1TH", -40, ["02:30"], [], []),
    ("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR,SA,SU;BYSETPOS=1,2,3,-1", -40, ["06:00"], [], []),
    ("FREQ=YEARLY;BYYEARDAY=60,61,92,95,-62,-61,-90,275,306,-308", -800, ["07:00"], [], []),
    ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29", -3000, ["08:00"], [], []),
    ("FREQ=YEARLY;BYWEEKNO=9,10,14,40,44;BYDAY=SU,WE,FR;WKST=SU", -800, ["09:00"], [], []),
    ("FREQ=YEARLY;BYDAY=10SU,-9SU,14SU,45SU,1SU,40SU", -800, ["02:45"], [], []),
]


def day_of(text: str, today: date) -> date | datetime:
    offset, _, at = text.partition(" ")
    day = today + timedelta(days=int(offset))
    return datetime.combine(day, time.fromisoformat(at)) if at else day


def by_dateutil(
    rule: str | None, starts_on: date, times: list[time], added: list[date | datetime], zone: ZoneInfo, end: date
) -> Iterator[datetime]:
    """Local moments before a day; UNTIL of an instant is held against instants."""
    if rule is None:
        yield from (datetime.combine(starts_on, each) for each in times)
    else:
        text, _, until = rule.partition(";UNTIL=")
        for each in times:
            moments = dateutil_rrule.rrulestr(
                text + ";WKST=MO" * ("WKST" not in text), dtstart=datetime.combine(starts_on, each)
            )
            for moment in takewhile(lambda found: found.date() < end, moments):
                if until.endswith("Z"):
                    last = datetime.strptime(until, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
                    is_by = moment.replace(tzinfo=zone).astimezone(UTC) <= last
                else:
                    is_by = not until or f"{moment:%Y%m%dT%H%M%S}" <= until.ljust(15, "~")
                if is_by:
                    yield moment
    for day in added:
        yield from [day] if isinstance(day, datetime) else (datetime.combine(day, each) for each in times)


@pytest.mark.parametrize(
    ("zone", "now"),
    [
        pytest.param("Asia/Ho_Chi_Minh", datetime(2028, 2, 26, 2, 7, tzinfo=UTC), id="leap_day"),
        pytest.param("America/New_York", datetime(2027, 3, 10, 2, 7, tzinfo=UTC), id="an_hour_is_left_out"),
        pytest.param("America/New_York", datetime(2026, 10, 28, 2, 7, tzinfo=UTC), id="an_hour_comes_twice"),
        pytest.param("Australia/Lord_Howe", datetime(2026, 9, 30, 2, 7, tzinfo=UTC), id="half_an_hour_is_left_out"),
        pytest.param("Australia/Lord_Howe", datetime(2026, 4, 1, 2, 7, tzinfo=UTC), id="half_an_hour_comes_twice"),
    ],
)
async def test_what_is_planned_is_what_dateutil_says(api: Api, zone: str, now: datetime) -> None:
    """Every rule begins when the clocks of the zone say so; a time that they jump over begins as much later."""
    api.clock.now = now
    officer = await api.person((Role.OFFICER, "11"))
    await add_device(api, "11")
    items = [{"bulletin_id": await add_bulletin(api, "11", duration_ms=500)}]
    info = ZoneInfo(zone)
    today = now.astimezone(info).date()
    expected: dict[str, set[datetime]] = {}
    for text, offset, local_times, rdates, exdates in CASES:
        starts_on = today + timedelta(days=offset)
        rule = text and text.format_map({f"+{n}": f"{today + timedelta(days=n):%Y%m%d}" for n in range(9)})
        times = [time.fromisoformat(each) for each in local_times]
        added, taken_out = ([day_of(each, today) for each in dates] for dates in (rdates, exdates))
        body = await broadcast_body(
            api,
            "11",
            items=items,
            targets=[{"unit_id": str(api.units["11"])}],
            time_zone=zone,
            starts_on=starts_on.isoformat(),
            local_times=local_times,
            recurrence="once" if rule is None else "rule",
            rdates=[each.isoformat() for each in added],
            exdates=[each.isoformat() for each in taken_out],
            **({"rrule": rule} if rule else {}),
        )
        found = {
            moment.replace(tzinfo=info).astimezone(UTC)
            for moment in by_dateutil(rule, starts_on, times, added, info, today + timedelta(days=1_600))
            if moment not in taken_out and moment.date() not in taken_out
        }
        coming = sorted(each for each in found if each > now)
        answer = await api.client.post("/api/v1/broadcasts", json=body, headers=officer)
        assert answer.status_code == 201, (rule, answer.text)
        assert datetime.fromisoformat(answer.json()["starts_at"]) == coming[0], rule
        expected[answer.json()["broadcast_id"]] = {each for each in coming if each < now + PLANNED}

    await a_planner(api.database, a_keyring()).plan_once(now=now)

    async with api.database.connection() as connection:
        rows = await connection.fetch(
            "SELECT broadcast_id::text, occurrence_at FROM control.emissions WHERE occurrence_at < $1", now + PLANNED
        )
    planned: dict[str, set[datetime]] = {each: set() for each in expected}
    for row in rows:
        planned[row["broadcast_id"]].add(row["occurrence_at"])
    assert planned == expected
    assert sum(map(len, expected.values())) > 60
