"""What of an alert's words is spoken, and where the voice goes. Pure.

An alert that came as words only sounds a bare tone, which lies on every device. The voice becomes a content beside it and
does not take its place: a device begins with the tone, and adds the words once it has fetched them.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import replace
from typing import TypeVar

from services.control.alerting.model import MAX_TEXTS, AlertDraft, AlertText
from services.control.alerting.rendering import Job
from services.control.alerting.template import TemplateText
from services.control.alerting.tones import Tone

_Text = TypeVar("_Text", AlertText, TemplateText)

MOST_SPOKEN = 1_200  # characters: a minute and a half; who listens longer has missed the beginning
# The voice's tag has to differ from all others: the world as a region (UN M.49), then such as are nobody's (BCP 47, 2.2.4).
_REGIONS = ("001", *(f"X{letter}" for letter in "ABCDEFGH"))


def wants_a_voice(draft: AlertDraft, tones: Container[bytes]) -> bool:
    """Whether all there is to hear is a bare tone, the words are the sender's own, and there is room for a voice.

    Words that a person put in their place are heard as that person has seen and heard them.
    """
    sounds = [text.media_sha256 for text in draft.texts if text.media_sha256 is not None]
    return (
        len(sounds) == 1
        and draft.texts[0].media_sha256 == sounds[0]
        and sounds[0] in tones
        and draft.texts[0].event is not None  # CAP demands it of its senders; people name one for all languages
        and len(draft.texts) < MAX_TEXTS
    )


def job_of(draft: AlertDraft) -> Job:
    """What is to be spoken: what is the matter, what to do, and what else there is room for."""
    text = draft.texts[0]
    said, left = [], MOST_SPOKEN
    for part in (text.headline, text.instruction, text.description):
        spoken = _cut(part, left) if part else ""
        if spoken:
            said.append(spoken)
            left -= len(spoken)
    return Job(tone=Tone.NONE, language=text.language, words="\n".join(said))


def with_voice(draft: AlertDraft, sound: bytes) -> AlertDraft:
    """The draft with the voice as its second content, under a tag that no other one has."""
    first, *others = draft.texts
    taken = {each.language.lower() for each in draft.texts}
    language = first.language.partition("-")[0]
    tags = (language, *(f"{language}-{region}" for region in _REGIONS))
    free = next(tag for tag in tags if tag.lower() not in taken)
    return replace(draft, texts=(first, replace(first, language=free, media_sha256=sound), *others))


def originals(texts: Sequence[_Text]) -> tuple[int, ...]:
    """Of each text the place of the one whose words it says: an earlier one that it only reads aloud, or itself."""
    words = [
        (each.language.partition("-")[0], each.headline, each.description, each.instruction, each.board_text)
        for each in texts
    ]
    return tuple(map(words.index, words))


def folded(texts: Sequence[_Text]) -> tuple[tuple[_Text, tuple[bytes, ...]], ...]:
    """What people are shown: each text that says something, with its files and those that only read it aloud."""
    places = originals(texts)
    return tuple(
        (
            text,
            tuple(
                each.media_sha256
                for each, of in zip(texts, places, strict=True)
                if of == place and each.media_sha256 is not None
            ),
        )
        for place, text in enumerate(texts)
        if places[place] == place
    )


def _cut(words: str, most: int) -> str:
    """The words, or as many whole sentences of them as there is room for; each paragraph is one for the engine."""
    words = " ".join(words.split())
    if len(words) <= most:
        return words
    end = max(words.rfind(mark, 0, max(most, 0)) for mark in (". ", "! ", "? "))
    return words[: end + 1]
