"""The audit as lines of JSON, which can be verified without the database. Pure.

JSON columns stay the text that was hashed. Instants are UTC with microseconds.
"""

from __future__ import annotations

import json
import uuid
from datetime import datetime
from typing import Any

from services.control.auditing.chain import Entry, Link
from services.control.errors import ControlError


class ExportError(ControlError):
    """A line is none of an export; the message says why."""


def line_of(link: Link) -> str:
    """One link and its entry as a line."""
    entry = link.entry
    return json.dumps(
        {
            "number": link.number,
            "audit_id": link.audit_id,
            "sealed_at": link.sealed_at.isoformat(),
            "digest": link.digest.hex(),
            "hash": link.hash.hex(),
            "entry": entry
            and {
                "at": entry.at.isoformat(),
                "account_id": _text(entry.account_id),
                "origin": entry.origin,
                "action": entry.action,
                "unit_id": _text(entry.unit_id),
                "subject": entry.subject,
                "before": entry.before,
                "after": entry.after,
            },
        },
        ensure_ascii=False,
    )


def link_in(line: str) -> Link:
    """The link in a line; raises `ExportError`."""
    try:
        said = json.loads(line)
        return Link(
            number=int(said["number"]),
            audit_id=int(said["audit_id"]),
            sealed_at=datetime.fromisoformat(said["sealed_at"]),
            digest=bytes.fromhex(said["digest"]),
            hash=bytes.fromhex(said["hash"]),
            entry=_entry(said["audit_id"], said["entry"]) if said["entry"] is not None else None,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ExportError(f"no line of an export: {line[:80]!r}") from error


def _entry(audit_id: int, said: dict[str, Any]) -> Entry:
    return Entry(
        audit_id=audit_id,
        at=datetime.fromisoformat(said["at"]),
        account_id=_uuid(said["account_id"]),
        origin=said["origin"],
        action=said["action"],
        unit_id=_uuid(said["unit_id"]),
        subject=said["subject"],
        before=said["before"],
        after=said["after"],
    )


def _text(value: uuid.UUID | None) -> str | None:
    return str(value) if value is not None else None


def _uuid(written: str | None) -> uuid.UUID | None:
    return uuid.UUID(written) if written is not None else None
