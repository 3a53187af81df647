"""Migrations that rewrite what is there already: a province that was in use is brought up to date."""

from __future__ import annotations

import shutil
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.shared.database.migrate import MIGRATIONS, migrate
from services.shared.database.pool import Connection, connect
from tests.support.database import TestDatabase

pytestmark = pytest.mark.integration

T = datetime(2026, 3, 10, 2, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
UNIT, ALERT = uuid.UUID(int=1), uuid.UUID(int=2)


async def up_to(database: TestDatabase, folder: Path, number: int) -> None:
    """Bring it as far as the migration with this number."""
    for each in MIGRATIONS.glob("*.sql"):
        if int(each.name[:4]) <= number:
            shutil.copy(each, folder)
    await migrate(database.migrate_settings(), folder)


async def an_alert(connection: Connection) -> None:
    """An alert in its third version, said a quarter of an hour after the first."""
    await connection.execute("INSERT INTO control.units (unit_id) VALUES ($1)", UNIT)
    await connection.execute(
        """
        INSERT INTO control.alerts
               (alert_id, unit_id, purpose, status, state, version, event, headline, severity, origin, draft, unit_ids,
                first_issued_at, issued_at, valid_until, holds_until)
        VALUES ($1, $2, 'alert', 'actual', 'in_force', 3, 'x', 'x', 'extreme', 'console', '{}', ARRAY[$2::uuid], $3, $4, $5, $5)
        """,
        ALERT,
        UNIT,
        T,
        T + 15 * MINUTE,
        T + 60 * MINUTE,
    )


HEARD = {"first_start_at": T + MINUTE, "last_outcome": "completed", "start_told_by": "device"}
UNHEARD = dict.fromkeys(HEARD)


@pytest.mark.parametrize(
    ("had", "has"),
    [
        pytest.param({}, {"given_version": None, "given_at": None}, id="of_whom_nothing_was_heard"),
        pytest.param(
            {"told": "started", "told_version": 1, "told_at": T + MINUTE, **HEARD},
            {"given_version": 1, "given_at": None, **HEARD},
            id="who_has_the_first_version",
        ),
        pytest.param(
            {"told": "accepted", "told_version": 3, "told_at": T + 16 * MINUTE, **HEARD},
            {"given_version": 3, "given_at": T + 16 * MINUTE, **UNHEARD},
            id="who_began_the_first_before_it_had_the_third",
        ),
        pytest.param(
            {"told": "accepted", "told_version": 3, "told_at": T, **HEARD},
            {"given_version": 3, "given_at": T, **HEARD},
            id="who_began_after_it_had_the_third",
        ),
        pytest.param(
            {"told": "cancelled", "told_version": 2, "told_at": T + 16 * MINUTE, **HEARD},
            {"given_version": None, "given_at": None, **HEARD},
            id="who_has_an_end",
        ),
    ],
)
async def test_reach_is_told_by_version(
    empty_database: TestDatabase, tmp_path: Path, had: dict[str, Any], has: dict[str, Any]
) -> None:
    """0145: when the first version began says nothing of the one that holds."""
    await up_to(empty_database, tmp_path, 144)
    row = dict.fromkeys(("told", "told_version", "told_at", *HEARD)) | had
    async with connect(empty_database.owner, application="test") as connection:
        await an_alert(connection)
        device_no = await connection.fetchval(
            """
            INSERT INTO control.devices (device_id, kind, unit_id, name, registered_at)
            VALUES ('cum-1', 'cluster', $1, 'x', $2) RETURNING device_no
            """,
            UNIT,
            T,
        )
        await connection.execute(
            """
            INSERT INTO control.alert_reach
                   (alert_id, device_no, unit_id, addressed_since, told, told_version, told_at, first_start_at, last_outcome,
                    start_told_by)
            VALUES ($1, $2, $3, 1, $4, $5, $6, $7, $8, $9)
            """,
            ALERT,
            device_no,
            UNIT,
            *row.values(),
        )

    await up_to(empty_database, tmp_path, 145)

    async with connect(empty_database.owner, application="test") as connection:
        found = dict(await connection.fetchrow("SELECT * FROM control.alert_reach") or {})
    assert {name: found[name] for name in has} == has
    assert found["addressed_at"] == T + 15 * MINUTE


async def test_cap_messages_keep_the_alert_that_they_became(empty_database: TestDatabase, tmp_path: Path) -> None:
    """0140 and 0141: what was one alert is a list of one, and replaces nothing that is known."""
    await up_to(empty_database, tmp_path, 139)
    async with connect(empty_database.owner, application="test") as connection:
        await an_alert(connection)
        await connection.execute(
            """
            INSERT INTO control.cap_messages
                   (sender, identifier, sent, alert_id, message_type, unit_id, received_at, document)
            VALUES ('s', 'A-1', $3, $1, 'Alert', $2, $3, 'x')
            """,
            ALERT,
            UNIT,
            T,
        )

    await migrate(empty_database.migrate_settings())

    async with connect(empty_database.owner, application="test") as connection:
        row = await connection.fetchrow(
            "SELECT alert_ids, replaced_identifiers, replaced_sent FROM control.cap_messages WHERE identifier = 'A-1'"
        )
    assert row is not None
    assert tuple(row) == ([ALERT], [], [])
