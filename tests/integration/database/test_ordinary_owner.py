"""Migrating as an owner who is no superuser, as on a managed server."""

import asyncpg
import pytest

from services.local.directories import temporary_directory
from services.local.postgres import FAST_AND_FORGETFUL, embedded_postgres
from services.shared.database.migrate import MigrateSettings, load_migrations, migrate

pytestmark = pytest.mark.integration


async def test_owner_with_createrole_migrates_everything() -> None:
    """On a server of its own: where the roles exist already, only who made them may set their passwords."""
    with temporary_directory("loa-test-") as folder:
        async with embedded_postgres(folder / "database", overrides=FAST_AND_FORGETFUL) as server:
            superuser = await asyncpg.connect(server.dsn())
            await superuser.execute("CREATE ROLE ordinary LOGIN CREATEROLE PASSWORD 'ordinary-password'")
            await superuser.execute("CREATE DATABASE loa OWNER ordinary")
            await superuser.close()
            settings = MigrateSettings.model_validate(
                {
                    "database": {"url": server.dsn("loa", user="ordinary", password="ordinary-password")},
                    "ingest_password": "ingest-password",
                    "control_password": "control-password",
                }
            )

            report = await migrate(settings)

            assert len(report.applied) == len(load_migrations(report.mode))
            for role in ("ingest", "control"):
                service = await asyncpg.connect(server.dsn("loa", user=f"loa_{role}", password=f"{role}-password"))
                assert await service.fetchval("SELECT telemetry.storage_mode()") == "partitioned"
                await service.close()
