"""Alerts in force as an Atom feed (RFC 4287), for programs that watch feeds of CAP. Pure.

An entry is an alert: its id stays through all its versions, `updated` is when the present one was issued, and the link
leads to it as a CAP document. What has ended is not in it any more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from xml.sax.saxutils import escape, quoteattr

from services.control.alerting.cap import MEDIA_TYPE as CAP
from services.control.alerting.cap_writing import clean
from services.control.alerting.model import Alert
from services.control.units import UnitTree

MEDIA_TYPE = "application/atom+xml"
# The feed itself, wherever it is read from.
_ID = "urn:uuid:1f9078eb-a258-5b06-bde2-fa0154177b3f"
_SUMMARY = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """What is in force, and from where it is read: the address of the feed, and that of the API without a slash."""

    title: str
    address: str
    api: str
    alerts: Sequence[Alert]
    tree: UnitTree
    now: datetime


def write(feed: Feed) -> bytes:
    """The document, UTF-8, the alert issued last first."""
    alerts = sorted(feed.alerts, key=lambda each: (each.issued_at, each.alert_id), reverse=True)
    updated = alerts[0].issued_at if alerts else feed.now
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<feed xmlns="http://www.w3.org/2005/Atom">',
        _element("id", _ID),
        _element("title", feed.title),
        _element("updated", _instant(updated)),
        f'<link rel="self" type="{MEDIA_TYPE}" href={quoteattr(feed.address)}/>',
        *(line for alert in alerts for line in _entry(alert, feed)),
        "</feed>",
        "",
    ]
    return "\n".join(lines).encode()


def _entry(alert: Alert, feed: Feed) -> Iterator[str]:
    draft = alert.draft
    unit = feed.tree.get(draft.unit_id)
    summary = "\n".join(
        part for text in draft.texts[:1] for part in (text.description, text.instruction) if part is not None
    )
    link = f"{feed.api}/alerts/{alert.alert_id}/cap"
    yield "<entry>"
    yield _element("id", f"urn:uuid:{alert.alert_id}")
    yield _element("title", draft.headline)
    yield _element("published", _instant(alert.first_issued_at))
    yield _element("updated", _instant(alert.issued_at))
    yield f"<author>{_element('name', unit.name if unit is not None else str(draft.unit_id))}</author>"
    yield f"<category term={quoteattr(draft.status.value)}/>"
    yield f"<category term={quoteattr(draft.category.value)}/>"
    if summary:
        yield _element("summary", summary[:_SUMMARY])
    yield f'<link rel="alternate" type="{CAP}" href={quoteattr(link)}/>'
    yield "</entry>"


def _element(name: str, text: str) -> str:
    return f"<{name}>{escape(clean(text))}</{name}>"


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
