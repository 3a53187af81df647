"""Instants, spans and numbers in words, for a language and a zone. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from services.control.catalogue.texts import TEXTS, Language, text

_VIETNAMESE_NUMBERS = str.maketrans(",.", ".,")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """Says things in one language, as seen from one place at one instant."""

    language: Language
    zone: ZoneInfo
    now: datetime

    def text(self, key: str, **facts: object) -> str:
        """A text of the catalogue."""
        return text(key, self.language, facts)

    def word(self, group: str, value: str | None) -> str:
        """The word for a value of an enumeration; a value the catalogue does not know is shown as it is."""
        if value is None:
            return self.text("value.none")
        key = f"{group}.{value}"
        return self.text(key) if key in TEXTS else value

    def ago(self, then: datetime | None) -> str:
        """How long ago an instant was, roughly."""
        if then is None:
            return self.text("ago.never")
        seconds = int((self.now - then).total_seconds())
        if seconds < 5:
            return self.text("ago.now")
        if seconds < 60:
            return self.text("ago.seconds", count=seconds)
        if seconds < 3_600:
            return self.text("ago.minutes", count=seconds // 60)
        if seconds < 86_400:
            return self.text("ago.hours", count=seconds // 3_600)
        return self.text("ago.days", count=seconds // 86_400)

    def instant(self, at: datetime | None) -> str:
        """Local time of an instant, with the day unless it is today."""
        if at is None:
            return self.text("value.none")
        local = at.astimezone(self.zone)
        time = local.strftime("%H:%M:%S" if local.second else "%H:%M")
        if local.date() == self.now.astimezone(self.zone).date():
            return self.text("instant.today", time=time)
        return self.text("instant.other", time=time, day=self.day(local.date()))

    def month(self, offset: int) -> str:
        """The month of now, or one so many months away, as the API writes it."""
        local = self.now.astimezone(self.zone)
        months = local.year * 12 + local.month - 1 + offset
        return f"{months // 12:04}-{months % 12 + 1:02}"

    def stamp(self, at: datetime) -> str:
        """A moment in full, for paper: the day and the second with its offset."""
        local = at.astimezone(self.zone)
        return f"{local:%H:%M:%S} {self.day(local.date())} (UTC{local:%z})"

    def clock(self) -> str:
        """Local time of now, to the second."""
        return self.now.astimezone(self.zone).strftime("%H:%M:%S")

    def day(self, day: date) -> str:
        """A day as it is written here."""
        return day.strftime("%d/%m/%Y" if self.language is Language.VIETNAMESE else "%Y-%m-%d")

    def last_day(self, end: date) -> str:
        """The last day before `end`."""
        return self.day(end - timedelta(days=1))

    def span(self, length: timedelta | None) -> str:
        """A length of time."""
        if length is None:
            return self.text("value.none")
        seconds = round(length.total_seconds())
        if seconds < 60:
            return self.text("span.seconds", seconds=seconds)
        if seconds < 3_600:
            minutes, rest = divmod(seconds, 60)
            return (
                self.text("span.minutes", minutes=minutes, seconds=rest)
                if rest
                else self.text("span.whole_minutes", minutes=minutes)
            )
        if not seconds % 3_600 // 60:
            return self.text("span.whole_hours", hours=seconds // 3_600)
        return self.text("span.hours", hours=seconds // 3_600, minutes=seconds % 3_600 // 60)

    def milliseconds(self, length_ms: int | None) -> str:
        """A length of time given in milliseconds."""
        return self.span(timedelta(milliseconds=length_ms) if length_ms is not None else None)

    def minutes(self, length_ms: int) -> str:
        """A length of time in minutes, to a tenth; nothing at all as nothing."""
        return self.decimal(length_ms / 60_000) if length_ms else ""

    def share(self, value: float | None) -> str:
        """A part of a whole as a percentage, to a tenth."""
        return self.text("value.none") if value is None else f"{self.decimal(100 * value)}%"

    def decimal(self, value: float) -> str:
        """A number to a tenth, with the separators that are used here."""
        text = f"{value:,.1f}"
        return text.translate(_VIETNAMESE_NUMBERS) if self.language is Language.VIETNAMESE else text

    def percent(self, value: int | None) -> str:
        """A percentage."""
        return self.text("value.none") if value is None else self.text("value.percent", value=value)

    def number(self, value: float, digits: int = 4) -> str:
        """A number with as many digits as are worth saying; Vietnamese writes a decimal comma."""
        written = f"{value:.{digits}g}"
        return written.replace(".", ",") if self.language is Language.VIETNAMESE else written

    def iso(self, at: datetime | None) -> str:
        """An instant for machines, as `datetime` attributes want it."""
        return at.isoformat(timespec="seconds") if at is not None else ""
