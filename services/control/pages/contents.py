"""What a broadcast holds, item by item, made ready to be listened to and looked at on a page. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import assert_never

from services.control.broadcast_requests import BulletinWish, PauseWish, RelayWish, Source, Wish
from services.control.bulletin_store import Bulletin

BULLETIN, JINGLE, PAUSE, RELAY, LIVE, MISSING = "bulletin", "jingle", "pause", "relay", "live", "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One item. `sound`, `picture` and `film` are addresses on this site; `text` is what boards show."""

    kind: str
    title: str = ""
    length: timedelta | None = None
    starts_after: timedelta | None = None
    sound: str | None = None
    text: str | None = None
    is_running: bool = False
    picture: str | None = None
    film: str | None = None


def parts_of(
    wish: Wish, bulletins: Mapping[uuid.UUID, Bulletin], sources: Mapping[uuid.UUID, Source]
) -> tuple[Part, ...]:
    """The items of a broadcast in order."""
    return tuple(_parts(wish, bulletins, sources))


def _parts(wish: Wish, bulletins: Mapping[uuid.UUID, Bulletin], sources: Mapping[uuid.UUID, Source]) -> Iterator[Part]:
    for item in wish.items:
        match item:
            case BulletinWish(bulletin_id=bulletin_id):
                found = bulletins.get(bulletin_id)
                yield Part(kind=MISSING) if found is None else bulletin_part(found)
            case PauseWish(length=length):
                yield Part(kind=PAUSE, length=length)
            case RelayWish(source_id=source_id, length=length, starts_after=starts_after, is_live=is_live):
                source = sources.get(source_id)
                name = source.name if source is not None else str(source_id)
                yield Part(kind=LIVE if is_live else RELAY, title=name, length=length, starts_after=starts_after)
            case _:
                assert_never(item)


def bulletin_part(bulletin: Bulletin) -> Part:
    """A bulletin, or a jingle, as an item."""
    board = _address(bulletin.board_media_sha256)
    is_film = (bulletin.board_mime or "").startswith("video/")
    # As planning takes it: the sound gives the length, else the film, else what is asked for on boards.
    length_ms = bulletin.duration_ms or bulletin.board_duration_ms or bulletin.board_length_ms
    return Part(
        kind=JINGLE if bulletin.kind == JINGLE else BULLETIN,
        title=bulletin.title,
        length=timedelta(milliseconds=length_ms) if length_ms is not None else None,
        sound=_address(bulletin.media_sha256),
        text=bulletin.board_text,
        is_running=bulletin.board_style == "ticker",
        picture=None if is_film else board,
        film=board if is_film else None,
    )


def _address(sha256: bytes | None) -> str | None:
    return f"/media/{sha256.hex()}" if sha256 is not None else None
