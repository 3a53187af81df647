"""Whether a database is as new as the program that opens it."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from services.shared.database.errors import DatabaseOutdated

if TYPE_CHECKING:
    from services.shared.database.pool import Connection

MIGRATIONS = Path(__file__).parent / "migrations"

# Before the migration that lets services look, the answer is the same: it is missing.
_APPLIED = """
SELECT CASE WHEN to_regclass('public.loa_migrations') IS NOT NULL
            THEN has_table_privilege(to_regclass('public.loa_migrations'), 'SELECT') END
"""


async def demand_current(connection: "Connection", folder: Path = MIGRATIONS) -> None:
    """Raise `DatabaseOutdated` where migrations of this release are missing; a newer database will do."""
    applied: set[int] = set()
    if await connection.fetchval(_APPLIED):
        applied = {row["number"] for row in await connection.fetch("SELECT number FROM public.loa_migrations")}
    if _numbers(folder) - applied:
        raise DatabaseOutdated("it is older than this release: run `migrate` first (deploy/README.md, Upgrade)")


def _numbers(folder: Path) -> set[int]:
    return {int(found[1]) for path in folder.glob("*.sql") if (found := re.match(r"(\d{4})_", path.name))}
