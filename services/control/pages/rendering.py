"""Templates: one environment, escaping always on, a missing name is an error and never an empty place."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from services.control.alerting import voicing
from services.control.catalogue.texts import Language
from services.control.pages import recurrence_words
from services.control.pages.wording import Wording

_HERE = Path(__file__).parent

STATIC_TYPES = {
    "loa.css": "text/css; charset=utf-8",
    "loa.js": "text/javascript; charset=utf-8",
    "sheet.css": "text/css; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file the pages need, held in memory."""

    content: bytes
    media_type: str
    version: str


def _static_file(name: str) -> StaticFile:
    content = (_HERE / "static" / name).read_bytes()
    return StaticFile(content, STATIC_TYPES[name], hashlib.sha256(content).hexdigest()[:16])


STATIC = {name: _static_file(name) for name in STATIC_TYPES}

_ENVIRONMENT = Environment(
    loader=FileSystemLoader(_HERE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(template: str, wording: Wording, **names: Any) -> str:
    """The page. `w` says everything, `say` when things begin, `folded` texts without those that only read others aloud; `static` gives the addresses of the files."""
    other = Language.ENGLISH if wording.language is Language.VIETNAMESE else Language.VIETNAMESE
    return _ENVIRONMENT.get_template(template).render(
        w=wording,
        t=wording.text,
        say=recurrence_words,
        folded=voicing.folded,
        language=wording.language.value,
        other_language=other.value,
        static={name.replace(".", "_"): f"/static/{name}?v={file.version}" for name, file in STATIC.items()},
        **{"account": None, "csrf_token": None, "trail": (), **names},
    )
