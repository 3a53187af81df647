"""What can be wrong with a live source. Stable words: they stand in the health of a source and in the catalogue."""

from __future__ import annotations

import enum


class Trouble(enum.StrEnum):
    """Why nothing comes from a source."""

    FORBIDDEN = "forbidden"  # its address, or one it redirects to, is none the relay point may connect to
    NO_ANSWER = "no_answer"  # unknown name, nobody there, no TLS, no HTTP
    REFUSED = "refused"  # it answers, with something else than a stream
    NOT_SOUND = "not_sound"  # what comes is no sound in a form that is read
    DAMAGED = "damaged"  # it was sound, and cannot be decoded any more
    STALLED = "stalled"  # connected, and nothing comes
    ENDED = "ended"  # the source has closed the connection
    CRASHED = "crashed"  # the decoder did, or took too much memory
    NOT_STORED = "not_stored"  # it comes, and our own disk does not take it


class Troubled(Exception):
    """Nothing comes from the source. `detail` is for the log."""

    def __init__(self, trouble: Trouble, detail: str = "") -> None:
        super().__init__(f"{trouble.value} {detail}".strip())
        self.trouble = trouble
        self.detail = detail
