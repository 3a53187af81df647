"""What a CAP message has to say, apart for each ground it says it to. Pure.

An info block stands for a language, or for a part of the ground, or for both, and the standard does not say which. Blocks
that say the same words to several grounds are one; blocks of several languages for the same ground are translations; and
several of one language for the same ground are told together if they are equally urgent and hold equally long. All else
is said apart: "leave at once" must not sound where the same message says that all is over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from services.control.alerting import cap_areas
from services.control.alerting.cap import CapInfo, ResponseType
from services.control.alerting.model import MAX_TEXTS, AlertText, AreaWish, Certainty, Severity, Urgency

_TITLE, _BODY, _NAME = 200, 2_000, 120
_TAG = re.compile(r"[a-z]{2,3}")
_NO_TAG = "und"  # ISO 639-2: undetermined

Told = tuple[CapInfo, tuple[AreaWish, ...]]
_Judgement = tuple[Urgency, Severity, Certainty, datetime | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Saying:
    """One thing to be said, in several languages perhaps, and to whom."""

    infos: tuple[CapInfo, ...]
    areas: tuple[AreaWish, ...]

    @property
    def main(self) -> CapInfo:
        """The one in the country's language, or the first."""
        return next((info for info in self.infos if language_of(info) == "vi"), self.infos[0])

    @property
    def expires(self) -> datetime | None:
        """When it ends by its main words, or by any translation that says so."""
        ends = [each.expires for each in self.infos if each.expires is not None]
        return self.main.expires or (max(ends) if ends else None)

    def texts(self, sound: bytes) -> tuple[AlertText, ...]:
        """As alerts of ours say it; `sound` goes with the first."""
        by_language: dict[str, list[CapInfo]] = {language_of(self.main): []}
        for info in self.infos:
            by_language.setdefault(language_of(info), []).append(info)
        several = list(by_language.items())[:MAX_TEXTS]
        return tuple(
            _text(language, infos, sound if place == 0 else None) for place, (language, infos) in enumerate(several)
        )


def is_all_clear(info: CapInfo) -> bool:
    """Whether it says that something is over: nobody need do anything any more (3.2.2)."""
    return info.urgency is Urgency.PAST or set(info.response_types) == {ResponseType.ALL_CLEAR}


def sayings(told: Iterable[Told]) -> list[Saying]:
    """What is said to each ground, in the order of the message."""
    by_ground: dict[frozenset[AreaWish], tuple[tuple[AreaWish, ...], list[CapInfo]]] = {}
    for info, areas in _same_words_together(told):
        by_ground.setdefault(frozenset(areas), (areas, []))[1].append(info)
    return [
        Saying(infos=tuple(infos), areas=areas)
        for areas, together in by_ground.values()
        for infos in _as_one_or_apart(together)
    ]


def language_of(info: CapInfo) -> str:
    """The language without region and script."""
    language = info.language.partition("-")[0].lower()
    return language if _TAG.fullmatch(language) else _NO_TAG


def short_event(info: CapInfo) -> str:
    """The event as alerts of ours hold it."""
    return _short(info.event, _NAME)


def _same_words_together(told: Iterable[Told]) -> Iterator[Told]:
    found: dict[object, Told] = {}
    for info, areas in told:
        key = (
            info.language,
            _judgement(info),
            info.event,
            info.headline,
            info.description,
            info.instruction,
        )
        if key in found:
            first, others = found[key]
            found[key] = replace(first, areas=first.areas + info.areas), cap_areas.united((*others, *areas))
        else:
            found[key] = info, areas
    return iter(found.values())


def _as_one_or_apart(infos: Sequence[CapInfo]) -> Iterable[Sequence[CapInfo]]:
    if len({language_of(info) for info in infos}) == len(infos):
        return [infos]
    apart: dict[_Judgement, list[CapInfo]] = {}
    for info in infos:
        apart.setdefault(_judgement(info), []).append(info)
    return apart.values()


def _judgement(info: CapInfo) -> _Judgement:
    return info.urgency, info.severity, info.certainty, info.expires


def _text(language: str, infos: Sequence[CapInfo], sound: bytes | None) -> AlertText:
    return AlertText(
        language=language,
        headline=_joined("; ", (each.headline or each.event for each in infos), _TITLE) or "",
        description=_joined("\n\n", (each.description for each in infos), _BODY),
        instruction=_joined("\n\n", (each.instruction for each in infos), _BODY),
        media_sha256=sound,
        event=_joined("; ", (each.event for each in infos), _TITLE),
        sender_name=_joined("; ", (each.sender_name for each in infos), _TITLE),
        area_description=_joined("; ", (area.description for each in infos for area in each.areas), _BODY),
    )


def _joined(between: str, texts: Iterable[str | None], longest: int) -> str | None:
    return _short(between.join(dict.fromkeys(each for each in texts if each)), longest) or None


def _short(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
