"""Builders of what a device is told: slots in seconds after six in the morning, and programmes of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from schemas.fields import Level, ResumePolicy
from schemas.orders import Rank
from schemas.plans import ContentKind
from services.control.planning.model import Media, Slot
from tests.support.planning import a_media, broadcast_id, bulletin_id

SIX = datetime(2026, 9, 6, 23, tzinfo=UTC)  # in Việt Nam, on 2026-09-07


def second(n: float) -> datetime:
    return SIX + timedelta(seconds=n)


def a_slot(
    n: int,
    begins: float,
    ends: float,
    *,
    latest: float | None = None,
    level: Level = Level.NORMAL,
    resume: ResumePolicy = ResumePolicy.RESUME,
    item: int = 0,
    media: Media | None = None,
    rank: Rank | None = None,
) -> Slot:
    """The slot of broadcast `n` in these seconds after six; who is late joins until half of it is over."""
    return Slot(
        broadcast_id=broadcast_id(n),
        occurrence_at=second(begins),
        item=item,
        starts_at=second(begins),
        ends_at=second(ends),
        latest_start_at=second((begins + ends) / 2 if latest is None else latest),
        rank=rank or Rank(level=level, issuer_depth=2, issued_at_ms=0),
        content=ContentKind.AUDIO,
        bulletin_id=bulletin_id(n),
        title=f"Bản tin {n}",
        media=media or a_media(3600, n % 256),
        resume=resume,
    )


def programme(*slots: Slot) -> tuple[Slot, ...]:
    return tuple(sorted(slots, key=lambda slot: slot.order))
