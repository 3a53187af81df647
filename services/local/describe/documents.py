"""Which documents there are and where they stand."""

from __future__ import annotations

from pathlib import Path

import schemas
from services.local.describe import asyncapi, cddl

_SCHEMAS = Path(schemas.__file__).parent


def documents() -> dict[Path, str]:
    """Return the content of every generated document by its path."""
    return {
        _SCHEMAS / "contract.cddl": cddl.document(),
        _SCHEMAS / "asyncapi.yaml": asyncapi.document(),
    }
