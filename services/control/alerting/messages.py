"""From drafts to what devices read: one signed message per version of an alert, the same bytes on every topic. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from schemas import alerts as wire
from schemas.alerts import Purpose
from schemas.configuration import Ownership, Position
from schemas.fields import DeviceKind, Level
from schemas.identifiers import AlertId, UnitId
from schemas.orders import Rank
from services.control.alerting.model import AlertDraft, AlertText, AudienceWish, Point
from services.control.orders import BACKDATE, TITLE_LENGTH, media_reference
from services.control.planning.model import Media, to_ms

TEXT_LENGTH = 2_000
_MICRO = 1_000_000
# As many as a message holds (schemas.alerts). Devices end these where they hear it; all of them get a word of their own.
_MOST_REFERENCES = 16

# A test that sounds ranks below every alert and above what is planned; one that does not sound ranks nowhere.
LEVELS = {Purpose.AUDIBLE_TEST: Level.PRIORITY, Purpose.SILENT_TEST: Level.PRIORITY}


def alert_message(
    draft: AlertDraft,
    *,
    alert_id: AlertId,
    version: int,
    purpose: Purpose,
    audience: AudienceWish,
    issuer_depth: int,
    first_issued_at: datetime,
    issued_at: datetime,
    valid_until: datetime,
    media: Mapping[bytes, Media],
    references: Iterable[AlertId] = (),
) -> wire.Alert:
    """What devices are told. Its rank is that of the first version, so that a correction does not lose its place.

    What ends something (cancel, release) carries no contents.
    """
    is_said = purpose in (Purpose.ALERT, Purpose.AUDIBLE_TEST)
    interval = draft.repeat_interval if purpose is Purpose.ALERT else None
    return wire.Alert(
        issued_at_ms=to_ms(issued_at),
        valid_from_ms=to_ms(issued_at - BACKDATE),
        valid_until_ms=to_ms(valid_until),
        alert_id=alert_id,
        alert_version=version,
        purpose=purpose,
        audience=wire_audience(audience),
        rank=Rank(
            level=LEVELS.get(purpose, Level.EMERGENCY),
            severity=draft.severity.number,
            issuer_depth=min(issuer_depth, 15),
            issued_at_ms=to_ms(first_issued_at),
        ),
        contents=tuple(_content(text, media) for text in draft.texts) if is_said else (),
        references=tuple(itertools.islice(references, _MOST_REFERENCES)),
        repeat_interval_s=max(1, round(interval / timedelta(seconds=1))) if interval is not None else None,
        resume=draft.resume,
        volume_percent=draft.volume_percent if is_said else None,
    )


def wire_audience(wish: AudienceWish) -> wire.Audience:
    """The audience as devices judge it."""
    return wire.Audience(
        areas=tuple(
            wire.Area(
                units=area.units,
                polygons=tuple(tuple(map(_position, polygon)) for polygon in area.polygons),
                circles=tuple(
                    wire.Circle(centre=_position(circle.centre), radius_m=circle.radius_m) for circle in area.circles
                ),
            )
            for area in wish.areas
        ),
        devices=wish.devices,
        except_units=wish.except_units,
        except_devices=wish.except_devices,
        kinds=tuple(DeviceKind[kind.upper()] for kind in wish.kinds),
        ownerships=tuple(Ownership[each.upper()] for each in wish.ownerships),
    )


def board_text(text: AlertText) -> str:
    """What stands on a board: what was written for boards, or the headline and what to do."""
    shown = text.board_text or "\n".join(part for part in (text.headline, text.instruction) if part)
    return shown[:TEXT_LENGTH]


def units_of(wish: AudienceWish, device_units: Iterable[UnitId]) -> tuple[UnitId, ...]:
    """The topics a message goes to: the units of its areas, and those of the devices it names."""
    return tuple(dict.fromkeys((*wish.units, *device_units)))


def _content(text: AlertText, media: Mapping[bytes, Media]) -> wire.AlertContent:
    return wire.AlertContent(
        language=text.language,
        headline=text.headline[:TITLE_LENGTH],
        text=board_text(text),
        media=media_reference(media[text.media_sha256]) if text.media_sha256 is not None else None,
    )


def _position(point: Point) -> Position:
    return Position(latitude_e6=round(point.latitude * _MICRO), longitude_e6=round(point.longitude * _MICRO))
