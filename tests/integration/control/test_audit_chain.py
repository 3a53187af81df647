"""The audit's chain in a real database: nobody changes it by the way, and who does it on purpose is found."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from services.control import audit
from services.control.audit import Entry
from services.control.auditing import chain_store, command, heads, sealer
from services.control.auditing.sealer import Sealer
from services.control.engine_settings import AuditSettings
from services.control.metrics import ControlMetrics
from services.control.trust.keyring import Keyring
from services.shared.clock import utc_now
from tests.support.control import Province, a_keyring, some_metrics
from tests.support.database import TestDatabase

pytestmark = pytest.mark.integration


class Desk:
    """The audit of a test, its sealer, and the verb at the keyboard."""

    def __init__(self, province: Province, database: TestDatabase, keyring: Keyring, folder: Path) -> None:
        self.province = province
        self.database = database
        self.keyring = keyring
        self.heads = folder / "heads"
        self.heads.mkdir()
        self.keys = folder / "keys.cbor"
        self.keys.write_bytes(keyring.announced.message)
        self.metrics = some_metrics()
        self.sealer = self.a_sealer(self.metrics)
        self.now = utc_now()

    def a_sealer(self, metrics: ControlMetrics | None = None) -> Sealer:
        return Sealer(
            self.province.control,
            settings=AuditSettings(head_directory=self.heads),
            keyring=self.keyring,
            metrics=metrics or some_metrics(),
        )

    async def record(self, *names: str) -> None:
        async with self.province.control.transaction() as connection:
            await audit.record_all(
                connection,
                [Entry(action="tried", subject=f"thing:{name}", after={"name": name, "share": 1.5}) for name in names],
                actor=None,
                origin="203.0.113.7",
                at=self.now,
            )

    async def sealed(self, *names: str) -> None:
        """Record entries and seal them, without signing."""
        await self.record(*names)
        async with self.province.control.transaction() as connection:
            await chain_store.lock(connection)
            await sealer.seal_waiting(connection, now=self.now)

    async def verify(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """`./loa audit verify` on this database: its status and what it printed."""
        url = self.database.control.url.get_secret_value()
        code, out, err = await self.run("verify", "--database", url, *arguments)
        return code, json.loads(out) if out else {"error": err}

    async def run(self, *arguments: str) -> tuple[int, str, str]:
        """The verb in a thread, because it has a loop of its own."""

        def called() -> int:
            try:
                return command.main(arguments)
            except SystemExit as error:  # argparse
                return int(error.code or 0)

        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = await asyncio.to_thread(called)
        return code, out.getvalue(), err.getvalue()

    async def saved_head(self) -> Path:
        """Have the head signed and sent away; the file that arrived."""
        await self.sealer.turn(now=self.now)
        return max(self.heads.iterdir())


@pytest_asyncio.fixture
async def desk(province: Province, database: TestDatabase, tmp_path: Path) -> Desk:
    return Desk(province, database, a_keyring(), tmp_path)


@asynccontextmanager
async def superuser(database: TestDatabase) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """Whoever holds the whole database, and has taken the triggers off."""
    connection = await asyncpg.connect(database.owner.url.get_secret_value())
    try:
        await connection.execute("SET session_replication_role = replica")
        yield connection
    finally:
        await connection.close()


# --- nobody by the way -----------------------------------------------------------------------------------------------

CHANGES = (
    "UPDATE control.audit SET action = 'nothing'",
    "DELETE FROM control.audit",
    "TRUNCATE control.audit",
    "UPDATE control.audit_chain SET hash = digest",
    "DELETE FROM control.audit_chain",
    "TRUNCATE control.audit_chain",
    "DELETE FROM control.audit_heads",
    "UPDATE control.audit_heads SET number = 1",
    "TRUNCATE control.audit_heads",
)


async def test_neither_control_nor_the_owner_changes_what_was_recorded(desk: Desk) -> None:
    await desk.sealed("a", "b")
    owner = await asyncpg.connect(desk.database.owner.url.get_secret_value())
    try:
        for change in CHANGES:
            async with desk.province.control.pool.acquire() as connection:
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(change)
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
                await owner.execute(change)
    finally:
        await owner.close()
    assert (await desk.verify())[0] == command.OK


# --- sealing ---------------------------------------------------------------------------------------------------------


async def test_every_entry_is_sealed_once_by_whichever_replica(desk: Desk) -> None:
    replicas = [desk.a_sealer() for _ in range(4)]
    for turn in range(5):
        await desk.record(*(f"{turn}-{number}" for number in range(20)))
        await asyncio.gather(*(each.turn(now=desk.now) for each in replicas))
    while await desk.sealer.turn(now=desk.now):
        pass
    await desk.sealer.turn(now=desk.now)
    code, report = await desk.verify()
    assert code == command.OK, report
    async with desk.province.control.connection() as connection:
        recorded = await connection.fetchval("SELECT count(*) FROM control.audit")
        assert report["links"] == recorded
        assert (await chain_store.count_waiting(connection)).entries == 0


async def test_an_entry_whose_transaction_ends_late_is_chained_when_it_is_there(desk: Desk) -> None:
    async with desk.province.control.transaction() as slow:
        await audit.record(slow, Entry(action="slow", subject="thing:slow"), actor=None, origin=None, at=desk.now)
        await desk.sealed("quick")
        assert (await desk.verify())[1]["links"] == 1
    await desk.sealed()
    code, report = await desk.verify()
    assert (code, report["links"], report["waiting"]) == (command.OK, 2, 0)


async def test_what_was_rolled_back_leaves_no_gap(desk: Desk) -> None:
    class _ChangedMind(Exception):
        pass

    await desk.sealed("a")
    with pytest.raises(_ChangedMind):
        async with desk.province.control.transaction() as connection:
            await audit.record(connection, Entry(action="x", subject="y"), actor=None, origin=None, at=desk.now)
            raise _ChangedMind
    await desk.sealed("b")
    code, report = await desk.verify()
    assert (code, report["links"]) == (command.OK, 2)


async def test_the_head_is_signed_once_a_day_sent_away_and_on_record(desk: Desk) -> None:
    await desk.record("a", "b")
    first = await desk.saved_head()
    head = heads.opened(heads.message_in(first.read_text()), desk.keyring.announced.content.keys)
    assert head.number == 2
    await desk.sealer.turn(now=desk.now + timedelta(hours=23))
    assert len(list(desk.heads.iterdir())) == 1
    await asyncio.gather(*(desk.a_sealer().turn(now=desk.now + timedelta(hours=25)) for _ in range(3)))
    await desk.sealer.turn(now=desk.now + timedelta(hours=25))
    async with desk.province.control.connection() as connection:
        signed = await connection.fetch("SELECT after FROM control.audit WHERE action = 'audit_head_signed'")
        assert [each["number"] for each in await connection.fetch("SELECT number FROM control.audit_heads")] == [2, 3]
    assert [each["after"]["head"] for each in signed] == [2, 3]
    assert len(list(desk.heads.iterdir())) == 2
    code, report = await desk.verify("--keys", str(desk.keys), "--head", str(first))
    assert (code, report["heads"]) == (command.OK, 2)


async def test_a_directory_that_is_gone_gets_its_heads_when_it_is_back(desk: Desk) -> None:
    desk.heads.rmdir()
    await desk.record("a")
    await desk.sealer.turn(now=desk.now)
    assert desk.metrics.audit_head_seconds._value.get() == 0
    desk.heads.mkdir()
    await desk.sealer.turn(now=desk.now + timedelta(minutes=1))
    assert len(list(desk.heads.iterdir())) == 1
    assert round(desk.metrics.audit_head_seconds._value.get()) == 60


# --- tampering -------------------------------------------------------------------------------------------------------


async def _rechain(database: TestDatabase, desk: Desk) -> None:
    """Seal everything anew, as an attacker with the database and our code would."""
    async with superuser(database) as attacker:
        await attacker.execute("DELETE FROM control.audit_chain")
        await attacker.execute("DELETE FROM control.audit_unsealed")
        await attacker.execute("INSERT INTO control.audit_unsealed SELECT audit_id FROM control.audit")
    async with desk.province.control.transaction() as connection:
        await sealer.seal_waiting(connection, now=desk.now)


TAMPERING = {
    "a row is changed": (
        "UPDATE control.audit SET origin = '198.51.100.1' WHERE subject = 'thing:b'",
        ("changed", 2),
    ),
    "a row is removed": ("DELETE FROM control.audit WHERE subject = 'thing:c'", ("removed", 3)),
    "a row and its link are removed": (
        "WITH gone AS (DELETE FROM control.audit WHERE subject = 'thing:c' RETURNING audit_id) "
        "DELETE FROM control.audit_chain USING gone WHERE audit_chain.audit_id = gone.audit_id",
        ("removed", 3),
    ),
    "two rows change places": (
        "UPDATE control.audit a SET subject = b.subject, after = b.after FROM control.audit b "
        "WHERE (a.subject, b.subject) IN (('thing:b', 'thing:d'), ('thing:d', 'thing:b'))",
        ("reordered", 2),
    ),
    "two links change places": (
        "UPDATE control.audit_chain a SET audit_id = -b.audit_id, digest = b.digest FROM control.audit_chain b "
        "WHERE (a.number, b.number) IN ((2, 4), (4, 2)); "
        "UPDATE control.audit_chain SET audit_id = -audit_id WHERE audit_id < 0",
        ("broken", 2),
    ),
    "a row is slipped in": (
        "INSERT INTO control.audit (audit_id, at, action, subject) OVERRIDING SYSTEM VALUE "
        "VALUES (0, now() - interval '1 day', 'approved', 'thing:a')",
        ("inserted", None),
    ),
    "the tail is removed": (
        "DELETE FROM control.audit WHERE audit_id IN (SELECT audit_id FROM control.audit_chain WHERE number > 3); "
        "DELETE FROM control.audit_chain WHERE number > 3",
        ("truncated", 4),
    ),
}


@pytest.mark.parametrize("what", TAMPERING)
async def test_what_somebody_with_the_whole_database_did_is_found(desk: Desk, what: str) -> None:
    await desk.record("a", "b", "c", "d", "e")
    head = await desk.saved_head()
    statements, expected = TAMPERING[what]
    async with superuser(desk.database) as attacker:
        for statement in statements.split("; "):
            await attacker.execute(statement)
    code, report = await desk.verify("--keys", str(desk.keys), "--head", str(head))
    assert code == command.TAMPERED
    assert (report["finding"]["wrong"], report["finding"]["number"]) == expected


async def test_a_chain_made_anew_after_a_change_is_found_by_the_head_that_left(desk: Desk) -> None:
    await desk.record("a", "b", "c")
    head = await desk.saved_head()
    async with superuser(desk.database) as attacker:
        await attacker.execute("UPDATE control.audit SET action = 'approved' WHERE subject = 'thing:b'")
        await attacker.execute("DELETE FROM control.audit WHERE action = 'audit_head_signed'")
        await attacker.execute("DELETE FROM control.audit_heads")
    await _rechain(desk.database, desk)
    assert (await desk.verify("--keys", str(desk.keys)))[0] == command.OK  # all that is left here fits together
    code, report = await desk.verify("--keys", str(desk.keys), "--head", str(head))
    assert code == command.TAMPERED
    assert (report["finding"]["wrong"], report["finding"]["number"]) == ("rewritten", 3)


async def test_an_entry_removed_before_its_seal_is_missed(desk: Desk) -> None:
    await desk.sealed("a")
    await desk.record("b")
    async with superuser(desk.database) as attacker:
        await attacker.execute("DELETE FROM control.audit WHERE subject = 'thing:b'")
    code, report = await desk.verify()
    assert code == command.TAMPERED
    assert report["finding"]["wrong"] == "removed"


async def test_the_sealer_itself_tells_of_a_tail_that_is_gone_and_signs_nothing_over_a_break(desk: Desk) -> None:
    await desk.record("a", "b", "c")
    await desk.sealer.turn(now=desk.now)
    await desk.sealer.turn(now=desk.now)
    async with superuser(desk.database) as attacker:
        await attacker.execute("DELETE FROM control.audit_chain WHERE number > 2")
    await desk.sealer.turn(now=desk.now)
    assert desk.metrics.audit_seal_broken._value.get() == 1
    await desk.sealer.turn(now=desk.now + timedelta(days=2))
    async with desk.province.control.connection() as connection:
        told = await connection.fetch("SELECT after FROM control.audit WHERE action = 'audit_seal_broken' ORDER BY 1")
        assert [each["after"]["wrong"] for each in told] == ["rewritten", "truncated"]
        assert await connection.fetchval("SELECT count(*) FROM control.audit_heads") == 1
    assert len(list(desk.heads.iterdir())) == 1
    assert desk.metrics.audit_seal_broken._value.get() == 1


# --- the verb --------------------------------------------------------------------------------------------------------


async def test_an_export_is_verified_without_the_database(desk: Desk, tmp_path: Path) -> None:
    await desk.record("a", "b", "c")
    head = await desk.saved_head()
    url = desk.database.control.url.get_secret_value()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "services.local", "audit", "export"),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "CONTROL_DATABASE__URL": url},
    )
    out = (await process.communicate())[0].decode()
    assert process.returncode == command.OK
    lines = out.splitlines()
    assert [json.loads(line)["entry"]["subject"] for line in lines] == ["thing:a", "thing:b", "thing:c"]
    whole, tampered, cut = tmp_path / "whole", tmp_path / "tampered", tmp_path / "cut"
    whole.write_text(out)
    tampered.write_text(out.replace("thing:b", "thing:B"))
    cut.write_text("\n".join(lines[:2]))
    with_head = ("--keys", str(desk.keys), "--head", str(head))
    for export, expected in ((whole, None), (tampered, ("changed", 2)), (cut, ("truncated", 3))):
        code, out, _ = await desk.run("verify", "--export", str(export), *with_head)
        finding = json.loads(out).get("finding")
        assert code == (command.OK if expected is None else command.TAMPERED)
        assert (finding and (finding["wrong"], finding["number"])) == expected
    code, out, _ = await desk.run("export", "--from", "3", "--database", url)
    (tmp_path / "part").write_text(out)
    code, out, _ = await desk.run("verify", "--export", str(tmp_path / "part"), "--from", "3", *with_head)
    assert (code, json.loads(out)["links"]) == (command.OK, 3)


async def test_a_walk_may_begin_later_and_then_sees_only_what_comes_after(desk: Desk) -> None:
    await desk.record("a", "b", "c")
    await desk.saved_head()
    async with superuser(desk.database) as attacker:
        await attacker.execute("UPDATE control.audit SET action = 'x' WHERE subject = 'thing:a'")
    assert (await desk.verify("--from", "2"))[0] == command.OK
    assert (await desk.verify())[0] == command.TAMPERED
    code, report = await desk.verify("--from", "99")
    assert code == command.WRONG_COMMAND
    assert "there is no link 98" in report["error"]


WRONG_COMMANDS: list[tuple[list[str], str]] = [
    ([], "which database?"),
    (["--database", "mysql://x/y"], "must begin with postgresql://"),
    (["--database", "postgresql://a:b@127.0.0.1:1/x"], "the database: ConnectionRefusedError"),
    (["--export", "/nowhere/at/all"], "No such file"),
    (["--from", "0"], "numbered from 1"),
    (["--head", "HEAD"], "believed by their signature"),
    (["--head", "HEAD", "--keys", "OTHER"], "not signed by a key of the key sets"),
    (["--head", "KEYS", "--keys", "KEYS"], "audit:"),
    (["--head", "HEAD", "--keys", "HEAD"], "HEAD"),
]


async def test_what_is_wrong_with_the_command_line_is_said(desk: Desk, tmp_path: Path) -> None:
    await desk.record("a")
    other = tmp_path / "other.cbor"
    other.write_bytes(a_keyring().announced.message)
    files = {"HEAD": str(await desk.saved_head()), "OTHER": str(other), "KEYS": str(desk.keys)}
    for arguments, said in WRONG_COMMANDS:
        code, _, err = await desk.run("verify", *(files.get(each, each) for each in arguments))
        assert code in (command.WRONG_COMMAND, command.NO_DATABASE), arguments
        assert files.get(said, said) in err
        assert "Traceback" not in err
