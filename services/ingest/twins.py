"""Two devices with one certificate (a copied key), told from one device on a bad line by what they say. Pure.

The broker ends the older of two connections of one name, so both come back again and again; but so does an honest device
whose line breaks. What an honest device cannot do is go back: its boot is never earlier than it was, however often it
boots; a journal once given up (wiped flash) is never written again; and one number in one journal is one event. Judged
both in the order of the devices' own clocks and in that of receipt, and what counts is the lesser: messages may come
late and out of order, and a clock may be put back, but one device does not do both over and over. Where the clock is not
believed, nothing is concluded.
"""

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TypeVar

# A boot is reckoned from a clock that is put right now and then, and from whole seconds.
SAME_BOOT = timedelta(seconds=10)
# Once may be a clock put back, twice a clock that hesitates between two sources.
BOOTS_PROVEN_BY = 3
JOURNALS_PROVEN_BY = 2


class Proof(enum.StrEnum):
    """What proves it. Stable words: they are stored."""

    BOOTS = "boots"
    JOURNALS = "journals"
    CLASHES = "clashes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """A heartbeat by the device's own clock."""

    at: datetime
    received_at: datetime
    uptime_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """An event by the device's own clock, and the journal it stands in."""

    at: datetime
    received_at: datetime
    journal: int


SaidT = TypeVar("SaidT", Beat, Note)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """That there are two, by what, and in words for whoever looks into it."""

    proof: Proof
    detail: str


def judge(beats: Iterable[Beat], notes: Iterable[Note], clashes: int) -> Verdict | None:
    """Return what proves that two devices speak with this one's certificate, None where nothing does."""
    if clashes:
        return Verdict(
            proof=Proof.CLASHES, detail=f"{clashes} events came twice under one number with different bodies"
        )
    returns = journal_returns(notes)
    if returns >= JOURNALS_PROVEN_BY:
        return Verdict(proof=Proof.JOURNALS, detail=f"went back {returns} times to a journal it had given up")
    returns = boot_returns(beats)
    if returns >= BOOTS_PROVEN_BY:
        return Verdict(proof=Proof.BOOTS, detail=f"went back {returns} times to an uptime of before its last boot")
    return None


def boot_returns(beats: Iterable[Beat]) -> int:
    """Return how often a heartbeat speaks of an earlier boot than the heartbeat before it."""
    return _lesser(beats, _boots_gone_back)


def journal_returns(notes: Iterable[Note]) -> int:
    """Return how often an event stands in a journal that had been given up for another."""
    return _lesser(notes, _journals_gone_back)


def _boots_gone_back(beats: Iterable[Beat]) -> int:
    boots = [beat.at - timedelta(seconds=beat.uptime_s) for beat in beats]
    return sum(later < earlier - SAME_BOOT for earlier, later in pairwise(boots))


def _journals_gone_back(notes: Iterable[Note]) -> int:
    given_up: set[int] = set()
    current: int | None = None
    returns = 0
    for note in notes:
        if note.journal == current:
            continue
        returns += note.journal in given_up
        if current is not None:
            given_up.add(current)
        current = note.journal
    return returns


def _lesser(said: Iterable[SaidT], count: Callable[[Iterable[SaidT]], int]) -> int:
    told = list(said)
    return min(
        count(sorted(told, key=lambda each: (each.at, each.received_at))),
        count(sorted(told, key=lambda each: (each.received_at, each.at))),
    )
