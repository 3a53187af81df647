"""Attention tones, made of arithmetic: signed 16 bits, mono. Pure.

Our own patterns: none of them is a signal that some country's rules reserve. They stay below 2 kHz, where horns are loud.
"""

from __future__ import annotations

import array
import enum
import math
from collections.abc import Iterator

_LEVEL = 0.6  # of full scale; loudness is set for the whole afterwards
_FADE_S = 0.01  # at both ends of a note: without it horns click


class Tone(enum.StrEnum):
    """What sounds before words."""

    NONE = "none"
    NOTICE = "notice"  # two falling notes, once: something will be said
    WARNING = "warning"  # two notes in turn, four seconds
    EVACUATE = "evacuate"  # three rising calls and a pause, twice (the rhythm of ISO 8201)
    TEST = "test"  # three rising notes


def samples(tone: Tone, *, rate_hz: int) -> bytes:
    """The tone, with half a second of silence after it; nothing for `NONE`."""
    wave = array.array("h")
    for begin_hz, end_hz, seconds in _notes(tone):
        wave.extend(_note(begin_hz, end_hz, seconds, rate_hz))
    return wave.tobytes()


def silence(seconds: float, *, rate_hz: int) -> bytes:
    """Samples of nothing."""
    return bytes(2 * round(seconds * rate_hz))


def _notes(tone: Tone) -> Iterator[tuple[float, float, float]]:
    """Notes as (hertz at the beginning, at the end, seconds); 0 Hz is a pause."""
    match tone:
        case Tone.NONE:
            return
        case Tone.NOTICE:
            yield from ((880, 880, 0.35), (0, 0, 0.05), (660, 660, 0.6))
        case Tone.WARNING:
            for _ in range(4):
                yield from ((740, 740, 0.5), (988, 988, 0.5))
        case Tone.EVACUATE:
            for _ in range(2):
                for _ in range(3):
                    yield from ((500, 1_200, 0.5), (0, 0, 0.5))
                yield (0, 0, 0.5)
        case Tone.TEST:
            yield from ((523, 523, 0.25), (659, 659, 0.25), (784, 784, 0.5))
    yield (0, 0, 0.5)


def _note(begin_hz: float, end_hz: float, seconds: float, rate_hz: int) -> Iterator[int]:
    count = round(seconds * rate_hz)
    if not begin_hz:
        yield from (0 for _ in range(count))
        return
    fade = _FADE_S * rate_hz
    for each in range(count):
        at = each / rate_hz
        # The phase of a tone that glides evenly from the one to the other.
        turns = begin_hz * at + (end_hz - begin_hz) * at * at / (2 * seconds)
        strength = min(1.0, each / fade, (count - each) / fade)
        yield round(32_767 * _LEVEL * strength * math.sin(2 * math.pi * turns))
