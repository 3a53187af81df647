"""Looking texts up: by key and language, with facts filled in."""

from __future__ import annotations

import enum
from collections.abc import Mapping

from services.control.catalogue.alert_texts import ALERTS
from services.control.catalogue.fault_texts import FAULTS
from services.control.catalogue.page_texts import PAGES
from services.control.catalogue.problem_texts import PROBLEMS


class Language(enum.StrEnum):
    """Languages the catalogue is complete in; the first is what people get who do not ask."""

    VIETNAMESE = "vi"
    ENGLISH = "en"


# A key's texts, in the order of `Language`.
Texts = tuple[str, str]

TEXTS: dict[str, Texts] = {
    **PAGES,
    **ALERTS,
    **{f"problem.{code}.{part}": texts for code, parts in PROBLEMS.items() for part, texts in parts.items()},
    **{f"fault.{code}.{part}": texts for code, parts in FAULTS.items() for part, texts in parts.items()},
}


def text(key: str, language: Language, facts: Mapping[str, object] | None = None) -> str:
    """The text of `key`, facts filled in. Raises `KeyError` for a key or a fact that is missing: a bug."""
    vietnamese, english = TEXTS[key]
    template = vietnamese if language is Language.VIETNAMESE else english
    return template.format_map(facts or {})


def preferred(accept_language: str | None) -> Language:
    """The best language for an Accept-Language header (RFC 9110); Vietnamese for none and for unknown ones."""
    best, best_quality = Language.VIETNAMESE, 0.0
    for part in (accept_language or "")[:200].split(","):
        tag, _, parameters = part.strip().partition(";")
        quality = _quality(parameters)
        language = _KNOWN.get(tag.split("-")[0].strip().lower())
        if language is not None and quality > best_quality:
            best, best_quality = language, quality
    return best


_KNOWN = {language.value: language for language in Language}


def _quality(parameters: str) -> float:
    name, _, value = parameters.strip().partition("=")
    if name.strip() != "q":
        return 1.0
    return float(value) if value.replace(".", "", 1).isdecimal() else 0.0
