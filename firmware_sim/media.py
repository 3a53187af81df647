"""The media shelf: which files are on the device, which are wanted, and when the next attempt to fetch one is due.

Pure. Files are named by their SHA-256; "stored" means that the hash of what is on flash was checked while it came in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from firmware_sim import backoff
from schemas.orders import MediaReference

FETCHES_AT_ONCE = 2  # per device: a second download hides the latency of the first, more only split a thin uplink
UNUSED_KEPT = 32  # files of past emissions kept because a daily broadcast brings them back
RETRY_BASE_MS = 5_000
RETRY_CAP_MS = 600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Attempts that failed so far, and the uptime before which there is no other."""

    attempts: int
    retry_at_ms: int

    @property
    def is_told(self) -> bool:
        """Whether this attempt is worth an event: the first, then ever more rarely (4th, 16th, 64th …)."""
        return self.attempts & (self.attempts - 1) == 0 and self.attempts.bit_length() % 2 == 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """Files on flash with their sizes, files the decoder cannot read, and what is on its way."""

    stored: Mapping[bytes, int] = field(default_factory=dict)
    corrupt: frozenset[bytes] = frozenset()
    fetching: frozenset[bytes] = frozenset()
    failures: Mapping[bytes, Failure] = field(default_factory=dict)
    unused: tuple[bytes, ...] = ()


def to_fetch(
    shelf: Shelf, wanted: Iterable[MediaReference], *, uptime_ms: int, at_once: int = FETCHES_AT_ONCE
) -> tuple[Shelf, tuple[MediaReference, ...]]:
    """The downloads to begin now, in the order of `wanted`, while fewer than `at_once` are on their way."""
    room = at_once - len(shelf.fetching)
    begun: list[MediaReference] = []
    for reference in wanted:
        if len(begun) >= room:
            break
        is_waiting = (failure := shelf.failures.get(reference.sha256)) is not None and failure.retry_at_ms > uptime_ms
        if reference.sha256 in shelf.stored or reference.sha256 in shelf.fetching or is_waiting:
            continue
        if all(reference.sha256 != other.sha256 for other in begun):
            begun.append(reference)
    if not begun:
        return shelf, ()
    return replace(shelf, fetching=shelf.fetching | {each.sha256 for each in begun}), tuple(begun)


def fetched(shelf: Shelf, sha256: bytes, size: int) -> Shelf:
    """The shelf with a file whose hash was found right."""
    return replace(
        shelf,
        stored={**shelf.stored, sha256: size},
        fetching=shelf.fetching - {sha256},
        failures=_without(shelf.failures, sha256),
    )


def failed(shelf: Shelf, sha256: bytes, *, uptime_ms: int, draw: float) -> tuple[Shelf, Failure]:
    """The shelf after an attempt that brought nothing, and when to try again."""
    attempts = (shelf.failures[sha256].attempts if sha256 in shelf.failures else 0) + 1
    wait_ms = backoff.delay_ms(attempts, base_ms=RETRY_BASE_MS, cap_ms=RETRY_CAP_MS, draw=draw)
    failure = Failure(attempts=attempts, retry_at_ms=uptime_ms + wait_ms)
    return replace(shelf, fetching=shelf.fetching - {sha256}, failures={**shelf.failures, sha256: failure}), failure


def retry_at_once(shelf: Shelf) -> Shelf:
    """The shelf when something changed that may mend every failure: a connection, another media address."""
    if not shelf.failures:
        return shelf
    failures = {sha: replace(failure, retry_at_ms=0) for sha, failure in shelf.failures.items()}
    return replace(shelf, failures=failures)


def unreadable(shelf: Shelf, sha256: bytes) -> Shelf:
    """The shelf with a file that has the right hash and that the decoder cannot read: fetching it again is no use."""
    return replace(shelf, corrupt=shelf.corrupt | {sha256})


def keep(shelf: Shelf, used: frozenset[bytes]) -> tuple[Shelf, tuple[bytes, ...]]:
    """The shelf when only `used` is needed from now on, and the files to delete.

    Unneeded files stay, the latest `UNUSED_KEPT` of them; failures of files nobody wants any more are forgotten.
    """
    idle = [sha for sha in shelf.unused if sha in shelf.stored and sha not in used]
    idle += sorted(sha for sha in shelf.stored if sha not in used and sha not in idle)
    surplus = max(0, len(idle) - UNUSED_KEPT)
    dropped, kept = idle[:surplus], idle[surplus:]
    stored = {sha: size for sha, size in shelf.stored.items() if sha not in dropped}
    failures = {sha: failure for sha, failure in shelf.failures.items() if sha in used}
    return replace(shelf, stored=stored, failures=failures, unused=tuple(kept)), tuple(dropped)


def next_retry_ms(shelf: Shelf, wanted: Iterable[MediaReference], *, uptime_ms: int) -> int | None:
    """Milliseconds until the next attempt is due; None when none is waiting or no download may begin.

    What is being fetched again, and what nobody wants any more, waits for nothing, however often it failed.
    """
    if not shelf.failures or len(shelf.fetching) >= FETCHES_AT_ONCE:
        return None
    waiting = {each.sha256 for each in wanted} - shelf.fetching
    due = [failure.retry_at_ms for sha256, failure in shelf.failures.items() if sha256 in waiting]
    return max(0, min(due) - uptime_ms) if due else None


def _without(failures: Mapping[bytes, Failure], sha256: bytes) -> Mapping[bytes, Failure]:
    return {sha: failure for sha, failure in failures.items() if sha != sha256}
