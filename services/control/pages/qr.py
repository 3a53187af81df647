"""QR codes as one path of SVG: no picture to fetch, and nothing a content security policy would have to allow. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import segno

QUIET = 4  # modules of white around it, as ISO/IEC 18004 asks for


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """The dark modules as a path in a square of `size` modules, the quiet zone included."""

    size: int
    path: str


def code_of(text: str) -> Code:
    """The QR code of a text."""
    rows = [list(row) for row in segno.make_qr(text, error="m").matrix]
    path = "".join(
        f"M{x + QUIET} {y + QUIET}h1v1h-1z" for y, row in enumerate(rows) for x, is_dark in enumerate(row) if is_dark
    )
    return Code(size=len(rows) + 2 * QUIET, path=path)
