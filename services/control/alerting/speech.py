"""Words as sound: eSpeak NG through its C interface, with the library and the voices that the wheel brings.

C code fed by people, and a library that keeps its state to itself: it runs in a process of its own
(`services.control.alerting.rendering`), one text after another.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import espeakng_loader  # type: ignore[import-untyped]

# Where no voice speaks a language, its words are read by the voice of the country's own language.
FALLBACK_VOICE = "vi"
# Words a minute: slower than reading aloud, as horns echo from one house to the next.
WORDS_A_MINUTE = 140

_SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS: samples come by callback, nothing is played
_RATE, _VOLUME, _LOUDEST = 1, 2, 100  # espeak_PARAMETER
_UTF8 = 1
_OK = 0

_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


class SpeechFailed(Exception):
    """The library or its data could not be used."""


class Voice:
    """The library, ready to speak. One at a time in a process."""

    def __init__(self, library: Any, rate_hz: int) -> None:
        self._library = library
        self.rate_hz = rate_hz

    def say(self, text: str, language: str) -> bytes:
        """The text as mono samples, signed 16 bits, `rate_hz` a second."""
        heard = bytearray()

        def take(samples: int | None, count: int, _: int | None) -> int:
            if samples and count > 0:
                heard.extend(ctypes.string_at(samples, count * 2))
            return 0

        callback = _Callback(take)  # kept alive until the library is done with it
        self._library.espeak_SetSynthCallback(callback)
        self._choose(language)
        encoded = text.encode()
        status = self._library.espeak_Synth(encoded, ctypes.c_size_t(len(encoded) + 1), 0, 0, 0, _UTF8, None, None)
        if status != _OK or self._library.espeak_Synchronize() != _OK:
            raise SpeechFailed(f"espeak_Synth: {status}")
        return bytes(heard)

    def _choose(self, language: str) -> None:
        """The voice of a language: of its region, else of the language, else the country's own."""
        tag = language.lower()
        for name in (tag, tag.partition("-")[0], FALLBACK_VOICE):
            if self._library.espeak_SetVoiceByName(name.encode()) == _OK:
                self._library.espeak_SetParameter(_RATE, WORDS_A_MINUTE, 0)
                self._library.espeak_SetParameter(_VOLUME, _LOUDEST, 0)
                return
        raise SpeechFailed(f"no voice for {language}")


@contextmanager
def voice() -> Iterator[Voice]:
    """The library from the wheel, until the end of the block. Raises `SpeechFailed`.

    The library keeps the path of its data in 160 bytes and cuts off longer ones without a word, so it is given a
    relative one.
    """
    data = Path(espeakng_loader.get_data_path())
    before = Path.cwd()
    try:
        library = ctypes.CDLL(str(espeakng_loader.get_library_path()))
    except OSError as error:
        raise SpeechFailed(str(error)) from error
    os.chdir(data.parent)
    try:
        rate = library.espeak_Initialize(_SYNCHRONOUS, 0, data.name.encode(), 0)
        if rate <= 0:
            raise SpeechFailed(f"espeak_Initialize: {rate}")
        yield Voice(library, rate)
    finally:
        library.espeak_Terminate()
        os.chdir(before)
