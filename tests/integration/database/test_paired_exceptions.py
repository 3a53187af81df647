"""What was let pass before rules and units were paired stays let pass."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

import pytest

from services.shared.database import migrate as migrations
from services.shared.database.migrate import migrate
from services.shared.database.pool import connect
from tests.support.database import TestDatabase

pytestmark = pytest.mark.integration


async def test_rules_let_pass_before_hold_for_every_unit_that_was_asked(
    empty_database: TestDatabase, tmp_path: Path
) -> None:
    for file in migrations.MIGRATIONS.glob("*.sql"):
        if file.name < "0120":
            shutil.copy(file, tmp_path)
    await migrate(empty_database.migrate_settings(), tmp_path)
    one, other = sorted(uuid.uuid4() for _ in range(2))
    async with connect(empty_database.owner, application="test") as connection:
        await connection.execute(
            """
            ALTER TABLE control.policy_exceptions
                DROP CONSTRAINT policy_exceptions_broadcast_id_fkey,
                DROP CONSTRAINT policy_exceptions_asked_by_fkey
            """
        )
        await connection.executemany(
            """
            INSERT INTO control.policy_exceptions (broadcast_id, version, rules, unit_ids, asked_at, asked_by)
            VALUES ($1, 1, $2, $3, now(), $1)
            """,
            [(one, ["day_full", "quiet_hours"], [one, other]), (other, [], [])],
        )

    await migrate(empty_database.migrate_settings())

    async with connect(empty_database.owner, application="test") as connection:
        rows = await connection.fetch("SELECT rules, unit_ids FROM control.policy_exceptions ORDER BY broadcast_id")
    assert [list(zip(row["rules"], row["unit_ids"], strict=True)) for row in rows] == [
        [("day_full", one), ("day_full", other), ("quiet_hours", one), ("quiet_hours", other)],
        [],
    ]
