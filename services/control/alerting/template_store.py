"""SQL of alerts prepared beforehand: templates, the bare tones, and how many devices hold their sound."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from asyncpg import Record

from schemas.alerts import Purpose
from schemas.fields import ResumePolicy
from schemas.identifiers import UnitId
from services.control import planning_queue
from services.control.alerting.model import Category, Certainty, Severity, Urgency
from services.control.alerting.template import Template, TemplateText
from services.control.alerting.tones import Tone
from services.control.errors import NotFound
from services.shared.database.pool import Connection

_TEMPLATES = """
SELECT t.template_id, t.unit_id, t.name, t.purpose, t.event, t.category, t.urgency, t.severity, t.certainty, t.tone,
       t.repeat_interval_s, t.validity_s, t.volume_percent, t.resume, t.place, t.version, t.created_at, t.created_by,
       t.changed_at, t.changed_by, t.retired_at
  FROM control.alert_templates t
"""

_TEXTS = """
SELECT template_id, language, headline, description, instruction, board_text, spoken, recording_sha256, media_sha256
  FROM control.alert_template_texts
 WHERE template_id = ANY ($1)
 ORDER BY template_id, position
"""

_ADD = """
INSERT INTO control.alert_templates
       (template_id, unit_id, name, purpose, event, category, urgency, severity, certainty, tone, repeat_interval_s,
        validity_s, volume_percent, resume, place, created_at, created_by, changed_at, changed_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $16, $17)
"""

_REPLACE = """
UPDATE control.alert_templates
   SET name = $3, purpose = $4, event = $5, category = $6, urgency = $7, severity = $8, certainty = $9, tone = $10,
       repeat_interval_s = $11, validity_s = $12, volume_percent = $13, resume = $14, place = $15, changed_at = $16,
       changed_by = $17, version = version + 1
 WHERE template_id = $1
   AND unit_id = $2
"""

_ADD_TEXTS = """
INSERT INTO control.alert_template_texts
       (template_id, position, language, headline, description, instruction, board_text, spoken, recording_sha256,
        media_sha256)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""

_HOLDERS = """
SELECT count(*) AS devices, count(*) FILTER (WHERE h.files >= cardinality($2::bytea[])) AS holding
  FROM control.devices d
  LEFT JOIN LATERAL (SELECT count(*) AS files
                       FROM control.device_media m
                      WHERE m.device_no = d.device_no AND m.sha256 = ANY ($2)) h ON true
 WHERE d.unit_id = ANY ($1)
   AND d.kind = 'cluster'
   AND d.retired_at IS NULL
"""

_ASK_TO_ISSUE = """
INSERT INTO control.issue_requests (device_no, requested_at)
SELECT device_no, $2
  FROM control.devices
 WHERE unit_id = ANY ($1)
   AND kind = 'cluster'
   AND retired_at IS NULL
 ORDER BY device_no
    ON CONFLICT (device_no) DO UPDATE SET requested_at = excluded.requested_at
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holders:
    """Of the clusters below a unit, how many hold every sound of a template, by their own word."""

    devices: int
    holding: int


async def template(connection: Connection, template_id: uuid.UUID) -> Template:
    """One template, retired or not. Raises `NotFound`."""
    return await _one(connection, _TEMPLATES + " WHERE t.template_id = $1", template_id)


async def template_for_update(connection: Connection, template_id: uuid.UUID) -> Template:
    """One template, locked until the transaction ends. Raises `NotFound`."""
    return await _one(connection, _TEMPLATES + " WHERE t.template_id = $1 FOR UPDATE OF t", template_id)


async def unit_of(connection: Connection, template_id: uuid.UUID) -> UnitId:
    """The unit that keeps a template. Raises `NotFound`."""
    found = await connection.fetchval("SELECT unit_id FROM control.alert_templates WHERE template_id = $1", template_id)
    if found is None:
        raise NotFound("alert_template_not_found", facts={"id": str(template_id)})
    return UnitId(found)


async def templates_of(connection: Connection, unit_ids: Iterable[UnitId]) -> tuple[Template, ...]:
    """The templates in use that the units keep, in order of their places and names."""
    rows = await connection.fetch(
        _TEMPLATES
        + """
         WHERE t.unit_id = ANY ($1)
           AND t.retired_at IS NULL
         ORDER BY t.place, t.name, t.template_id
        """,
        list(unit_ids),
    )
    return await _with_texts(connection, rows)


async def all_templates(connection: Connection) -> dict[UnitId, tuple[Template, ...]]:
    """Every template in use, by the unit that keeps it."""
    rows = await connection.fetch(_TEMPLATES + " WHERE t.retired_at IS NULL ORDER BY t.template_id")
    found: dict[UnitId, tuple[Template, ...]] = {}
    for each in await _with_texts(connection, rows):
        found[each.unit_id] = (*found.get(each.unit_id, ()), each)
    return found


async def add(connection: Connection, template: Template) -> None:
    """Store a new template."""
    await connection.execute(_ADD, *_values(template))
    await _add_texts(connection, template)


async def replace(connection: Connection, template: Template) -> None:
    """Store what a template is from now on, as the version after the stored one."""
    await connection.execute(_REPLACE, *_values(template))
    await connection.execute("DELETE FROM control.alert_template_texts WHERE template_id = $1", template.template_id)
    await _add_texts(connection, template)


async def retire(connection: Connection, template_id: uuid.UUID, *, by: uuid.UUID | None, at: datetime) -> None:
    """Take a template out of use."""
    await connection.execute(
        """
        UPDATE control.alert_templates
           SET retired_at = $2, changed_at = $2, changed_by = $3, version = version + 1
         WHERE template_id = $1
        """,
        template_id,
        at,
        by,
    )


async def holders(connection: Connection, unit_ids: Collection[UnitId], files: Collection[bytes]) -> Holders:
    """How many clusters there are in the units, and how many of them hold all the files."""
    row = await connection.fetchrow(_HOLDERS, list(unit_ids), list(files))
    assert row is not None
    return Holders(devices=row["devices"], holding=row["holding"])


async def has_any(connection: Connection) -> bool:
    """Whether there is a template anywhere, or ever was."""
    return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM control.alert_templates)"))


async def lock_all(connection: Connection) -> None:
    """Let nobody else add a template until the transaction ends."""
    await connection.execute("LOCK TABLE control.alert_templates IN SHARE ROW EXCLUSIVE MODE")


async def tones(connection: Connection) -> dict[Tone, bytes]:
    """The bare tones that were made."""
    rows = await connection.fetch("SELECT tone, media_sha256 FROM control.alert_tones ORDER BY tone")
    return {Tone(row["tone"]): row["media_sha256"] for row in rows}


async def put_tone(connection: Connection, tone: Tone, sha256: bytes) -> None:
    """From now on this file is the tone."""
    await connection.execute(
        """
        INSERT INTO control.alert_tones (tone, media_sha256)
        VALUES ($1, $2)
            ON CONFLICT (tone) DO UPDATE SET media_sha256 = excluded.media_sha256
        """,
        tone.value,
        sha256,
    )


async def ask_to_issue(connection: Connection, unit_ids: Iterable[UnitId], *, at: datetime) -> None:
    """Have the configurations of the clusters in the units made anew; where nothing changed, nothing is sent."""
    await connection.execute(_ASK_TO_ISSUE, list(unit_ids), at)
    await planning_queue.ring(connection)


async def _add_texts(connection: Connection, template: Template) -> None:
    await connection.executemany(
        _ADD_TEXTS,
        [
            (
                template.template_id,
                position,
                text.language,
                text.headline,
                text.description,
                text.instruction,
                text.board_text,
                text.spoken,
                text.recording_sha256,
                text.media_sha256,
            )
            for position, text in enumerate(template.texts)
        ],
    )


def _values(template: Template) -> tuple[object, ...]:
    return (
        template.template_id,
        template.unit_id,
        template.name,
        template.purpose.name.lower(),
        template.event,
        template.category,
        template.urgency,
        template.severity,
        template.certainty,
        template.tone,
        round(template.repeat_interval.total_seconds()) if template.repeat_interval is not None else None,
        round(template.validity.total_seconds()),
        template.volume_percent,
        template.resume.name.lower(),
        template.place,
        template.changed_at,
        template.changed_by,
    )


async def _one(connection: Connection, query: str, template_id: uuid.UUID) -> Template:
    rows = await connection.fetch(query, template_id)
    if not rows:
        raise NotFound("alert_template_not_found", facts={"id": str(template_id)})
    (found,) = await _with_texts(connection, rows)
    return found


async def _with_texts(connection: Connection, rows: Collection[Record]) -> tuple[Template, ...]:
    texts: dict[uuid.UUID, list[TemplateText]] = {row["template_id"]: [] for row in rows}
    for row in await connection.fetch(_TEXTS, list(texts)):
        values = dict(row)
        texts[values.pop("template_id")].append(TemplateText(**values))
    return tuple(_template(row, texts[row["template_id"]]) for row in rows)


def _template(row: Record, texts: Iterable[TemplateText]) -> Template:
    interval = row["repeat_interval_s"]
    return Template(
        template_id=row["template_id"],
        unit_id=UnitId(row["unit_id"]),
        name=row["name"],
        purpose=Purpose[row["purpose"].upper()],
        event=row["event"],
        category=Category(row["category"]),
        urgency=Urgency(row["urgency"]),
        severity=Severity(row["severity"]),
        certainty=Certainty(row["certainty"]),
        tone=Tone(row["tone"]),
        texts=tuple(texts),
        repeat_interval=timedelta(seconds=interval) if interval is not None else None,
        validity=timedelta(seconds=row["validity_s"]),
        volume_percent=row["volume_percent"],
        resume=ResumePolicy[row["resume"].upper()],
        place=row["place"],
        version=row["version"],
        created_at=row["created_at"],
        created_by=row["created_by"],
        changed_at=row["changed_at"],
        changed_by=row["changed_by"],
        retired_at=row["retired_at"],
    )
