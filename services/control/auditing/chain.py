"""The chain of the audit: what is hashed, and what is wrong with a chain that was tampered with. Pure.

Each link holds the SHA-256 of its entry (*digest*) and the SHA-256 of the link before it, its own number, the instant
of sealing, the entry's number and that digest (*hash*). Both are taken over deterministic CBOR, JSON columns as the text PostgreSQL prints.
"""

from __future__ import annotations

import enum
import hashlib
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from schemas import codec

BEGINNING = bytes(32)  # what stands before the first link

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ENTRY, _LINK = "loa-audit-entry-1", "loa-audit-link-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry with all its columns, JSON as text."""

    audit_id: int
    at: datetime
    account_id: uuid.UUID | None
    origin: str | None
    action: str
    unit_id: uuid.UUID | None
    subject: str
    before: str | None
    after: str | None

    @property
    def digest(self) -> bytes:
        """SHA-256 over every column but the number, which the link holds: so it shows when two changed places."""
        return _sha256(
            _ENTRY,
            _micros(self.at),
            self.account_id.bytes if self.account_id else None,
            self.origin,
            self.action,
            self.unit_id.bytes if self.unit_id else None,
            self.subject,
            self.before,
            self.after,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One link as it is stored; `entry` is what stands in the audit under its id now, None where nothing does."""

    number: int
    audit_id: int
    sealed_at: datetime
    digest: bytes
    hash: bytes
    entry: Entry | None

    def follows(self, previous: bytes) -> bool:
        """Whether the link was made after the one with this hash."""
        return self.hash == _link_hash(previous, self.number, self.audit_id, self.sealed_at, self.digest)


def sealed(entries: Iterable[Entry], *, after: tuple[int, bytes], at: datetime) -> tuple[Link, ...]:
    """Links for entries, in their order, behind the link with this number and hash."""
    links: list[Link] = []
    number, previous = after
    for entry in entries:
        number += 1
        digest = entry.digest
        previous = _link_hash(previous, number, entry.audit_id, at, digest)
        links.append(
            Link(number=number, audit_id=entry.audit_id, sealed_at=at, digest=digest, hash=previous, entry=entry)
        )
    return tuple(links)


class Wrong(enum.StrEnum):
    """What was done to a chain."""

    CHANGED = "changed"
    REMOVED = "removed"
    INSERTED = "inserted"
    REORDERED = "reordered"
    BROKEN = "broken"  # links were removed, inserted or reordered together with their entries
    REWRITTEN = "rewritten"  # everything fits together, and not with a signed head
    TRUNCATED = "truncated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The first thing that is wrong; `number` is the link's, None for an entry that has none."""

    wrong: Wrong
    number: int | None
    audit_id: int | None
    detail: str


@dataclass(slots=True)
class Walk:
    """Goes along a chain, link by link, and keeps the first thing that is wrong.

    `heads` are hashes that signed heads tell, by number.
    """

    number: int
    hash: bytes
    heads: Mapping[int, bytes]
    finding: Finding | None = None
    _displaced: bytes | None = None

    def take(self, link: Link) -> None:
        """The next link, as it is stored."""
        if self.finding is None:
            self._judge(link)
        elif self._displaced is not None and link.digest == self._displaced:
            # What stands at the bad place belongs here: two entries changed places.
            self._displaced = None
            self.finding = Finding(
                wrong=Wrong.REORDERED,
                number=self.finding.number,
                audit_id=self.finding.audit_id,
                detail=f"what stands here was sealed as number {link.number}",
            )
        self.number, self.hash = link.number, link.hash

    def end(self) -> None:
        """There are no more links: what heads tell beyond the last one is gone."""
        if self.finding is None and (beyond := [number for number in self.heads if number > self.number]):
            self._found(
                Wrong.TRUNCATED,
                self.number + 1,
                None,
                f"the chain ends at {self.number}, and a signed head tells of number {max(beyond)}",
            )

    def stray(self, audit_id: int, *, is_gone: bool) -> None:
        """An entry that no link is about and that does not wait for one, or one that waits and is gone."""
        if self.finding is not None:
            return
        if is_gone:
            self._found(Wrong.REMOVED, None, audit_id, "it was removed before it was sealed")
        else:
            self._found(Wrong.INSERTED, None, audit_id, "it was never recorded: it has no link and waits for none")

    def _judge(self, link: Link) -> None:
        if link.number != self.number + 1:
            missing = f"links {self.number + 1} to {link.number - 1} are missing"
            self._found(Wrong.REMOVED, self.number + 1, None, missing)
        elif link.entry is None:
            self._found(Wrong.REMOVED, link.number, link.audit_id, "the link is there and its entry is not")
        elif (digest := link.entry.digest) != link.digest:
            self._found(Wrong.CHANGED, link.number, link.audit_id, "the entry is not the one that was sealed")
            self._displaced = digest
        elif not link.follows(self.hash):
            detail = "it does not follow the one before it: links were removed, inserted, changed or reordered"
            self._found(Wrong.BROKEN, link.number, link.audit_id, detail)
        elif self.heads.get(link.number, link.hash) != link.hash:
            known = max((number for number in self.heads if number < link.number), default=0)
            detail = f"a signed head has another hash: something after number {known} was rewritten up to here"
            self._found(Wrong.REWRITTEN, link.number, link.audit_id, detail)

    def _found(self, wrong: Wrong, number: int | None, audit_id: int | None, detail: str) -> None:
        self.finding = Finding(wrong=wrong, number=number, audit_id=audit_id, detail=detail)


def _link_hash(previous: bytes, number: int, audit_id: int, sealed_at: datetime, digest: bytes) -> bytes:
    return _sha256(_LINK, previous, number, audit_id, _micros(sealed_at), digest)


def _sha256(*parts: object) -> bytes:
    return hashlib.sha256(codec.dumps(list(parts))).digest()


def _micros(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)
