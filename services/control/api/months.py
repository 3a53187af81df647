"""Local months in queries."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from services.control.errors import Fault, Invalid
from services.control.planning import recurrence

_MONTH = re.compile(r"(2\d{3})-(0[1-9]|1[0-2])", re.ASCII)


@dataclass(frozen=True, slots=True)
class Month:
    """A month of local days, from the first until the first of the next."""

    first: date
    end: date
    zone: ZoneInfo

    @property
    def name(self) -> str:
        """As it is written in a query."""
        return f"{self.first:%Y-%m}"

    @property
    def since(self) -> datetime:
        """The instant it begins at."""
        return recurrence.start_of(self.first, self.zone)

    @property
    def until(self) -> datetime:
        """The instant the next one begins at."""
        return recurrence.start_of(self.end, self.zone)

    def days(self) -> tuple[date, ...]:
        """Its days in order."""
        return tuple(self.first + timedelta(days=offset) for offset in range((self.end - self.first).days))


def month_of(text: str | None, zone: ZoneInfo, *, now: datetime) -> Month:
    """The month written as YEAR-MONTH; None: the one that `now` lies in. Raises `Invalid`."""
    if text is None:
        first = now.astimezone(zone).date().replace(day=1)
    else:
        match = _MONTH.fullmatch(text)
        if match is None:
            raise Invalid(Fault("month", "not_a_month"))
        first = date(int(match.group(1)), int(match.group(2)), 1)
    return Month(first, date(first.year + first.month // 12, first.month % 12 + 1, 1), zone)
