"""What became of an alert, a test or a silence on a device, in words of its own."""

from __future__ import annotations

from services.control.catalogue.texts import TEXTS, Language, text

_OF = {"silence": "silence", "silent_test": "test", "audible_test": "test"}


def meaning(reason: str, purpose: str, language: Language) -> str:
    """What a reason of `alerting.reach` means of something with this purpose, as it stands in `control.alerts`."""
    return _words(reason, "meaning", purpose, language)


def what_to_do(reason: str, purpose: str, language: Language) -> str:
    """What a person does about it."""
    return _words(reason, "what_to_do", purpose, language)


def _words(reason: str, part: str, purpose: str, language: Language) -> str:
    own = f"reach.{_OF.get(purpose, purpose)}.{reason}.{part}"
    return text(own if own in TEXTS else f"reach.{reason}.{part}", language)
