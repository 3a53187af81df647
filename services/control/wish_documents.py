"""Wishes for broadcasts and live sources as JSON that can be kept and read again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from services.control.broadcast_requests import Wish
from services.control.relay_sources import Wish as SourceWish

_WISH = TypeAdapter(Wish)
_SOURCE_WISH = TypeAdapter(SourceWish)


def document_of(wish: Wish | SourceWish) -> dict[str, Any]:
    """All of the wish as JSON."""
    document: dict[str, Any] = (
        _WISH.dump_python(wish, mode="json") if isinstance(wish, Wish) else _SOURCE_WISH.dump_python(wish, mode="json")
    )
    return document


def wish_of(document: Mapping[str, Any]) -> Wish:
    """The wish for a broadcast again."""
    # As text: a moment at midnight would be taken for a day otherwise.
    return _WISH.validate_json(json.dumps(document), strict=True)


def source_wish_of(document: Mapping[str, Any]) -> SourceWish:
    """The wish for a live source again."""
    return _SOURCE_WISH.validate_json(json.dumps(document), strict=True)
