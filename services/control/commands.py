"""What can be done at the keyboard of the machine, beside serving: the first administrator, units from a file, the API.

These verbs need no account, because whoever may run them holds the database's password; the audit says that nobody was
logged in.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import uuid
from collections.abc import Awaitable, Callable, Sequence
from datetime import date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import uvloop

from schemas.identifiers import UnitId
from services.control import account_store, accounts, app, passwords, unit_directory
from services.control.account_store import Account
from services.control.api.app import routed
from services.control.api.openapi import document
from services.control.catalogue.texts import Language, text
from services.control.errors import Refusal
from services.control.passwords import Passwords
from services.control.permissions import Grant, Role
from services.control.settings import ControlSettings
from services.control.trust.issuer import IssuerError
from services.control.trust.keyring import KeyringError
from services.control.unit_directory import UnitDirectory
from services.control.units import UnitTree
from services.shared import lifecycle, settings
from services.shared.clock import utc_now
from services.shared.database.errors import DatabaseError
from services.shared.database.pool import Connection, Database, open_database
from services.shared.database.schema_version import demand_current

_NAME = "python -m services.control"


def main(arguments: Sequence[str]) -> int:
    """Run a verb, or serve without one; returns the exit status."""
    if not arguments or arguments[0] == "--check":
        try:
            return lifecycle.run_program(
                "services.control", ControlSettings, app.run, arguments, loop_factory=uvloop.new_event_loop
            )
        except (KeyringError, IssuerError) as error:
            _complain(str(error))
            return lifecycle.EXIT_BAD_SETTINGS
    parser = _parser()
    options = parser.parse_args(list(arguments))
    verb: Callable[[argparse.Namespace], int] | None = getattr(options, "verb", None)
    if verb is None:
        parser.error("name a verb, or give no arguments to serve")
    return verb(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_NAME,
        description="Without a verb: serve. Settings come from the environment:",
        epilog=lifecycle.describe(ControlSettings),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--check", action="store_true", help="validate the settings, print them masked, and exit")
    # Not required, or argparse complains of the missing verb where the argument it does not know is what is wrong.
    verbs = parser.add_subparsers(metavar="VERB")
    create = verbs.add_parser("create-administrator", help="make an account that administers a unit and all below it")
    create.add_argument("--login", required=True, help="name to log in with")
    create.add_argument("--name", help="name shown to people; default: the login")
    create.add_argument("--unit", default="root", help="root, a unit's id, or a unit's code; default: root")
    create.add_argument("--generate", action="store_true", help="make up a password and print it")
    create.add_argument("--if-missing", action="store_true", help="do nothing when the login exists already")
    create.set_defaults(verb=_create_administrator)
    units = verbs.add_parser("import-units", help="make a CSV file the tree of units from a day on")
    units.add_argument("file", type=Path, help="code,parent_code,level,name in UTF-8; - for standard input")
    units.add_argument("--valid-from", type=_day, required=True, help="first day of this tree, YYYY-MM-DD")
    units.add_argument("--may-strand", action="store_true", help="close units that still have devices or accounts")
    units.set_defaults(verb=_import_units)
    openapi = verbs.add_parser("openapi", help="print the OpenAPI document")
    openapi.set_defaults(verb=_openapi)
    return parser


def _day(written: str) -> date:
    try:
        return date.fromisoformat(written)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{written!r} is no day; write it as 2025-07-01") from None


# --- the first administrator -----------------------------------------------------------------------------------------


def _create_administrator(options: argparse.Namespace) -> int:
    is_typed = sys.stdin.isatty()
    is_generated = bool(options.generate) or is_typed
    password = passwords.generated() if is_generated else sys.stdin.readline().rstrip("\n")
    login = options.login.strip().lower()

    async def run(database: Database, zone: ZoneInfo, now: datetime) -> int:
        async with database.transaction() as connection:
            if options.if_missing and await account_store.login_exists(connection, login):
                _print({"login": login, "created": False})
                return lifecycle.EXIT_OK
            unit_id = await _unit(connection, zone, options.unit, now=now)
        faults = passwords.faults_of(password, login=login)
        if faults:
            facts = {"minimum": passwords.MIN_LENGTH, "maximum": passwords.MAX_LENGTH}
            return _complain(text(f"fault.{faults[0]}.message", Language.ENGLISH, facts))
        account = Account(
            account_id=uuid.uuid4(),
            unit_id=unit_id,
            login=login,
            display_name=options.name or login,
            created_at=now,
            disabled_at=None,
            grants=(Grant(unit_id=unit_id, role=Role.ADMINISTRATOR),),
        )
        password_hash = await Passwords().hash(password)
        async with database.transaction() as connection:
            await accounts.create_account(
                connection, account=account, password_hash=password_hash, rights=None, actor=None, origin=None, now=now
            )
        _print({"login": login, "created": True, **({"password": password} if is_generated else {})})
        return lifecycle.EXIT_OK

    return _with_database(run)


async def _unit(connection: Connection, zone: ZoneInfo, wanted: str, *, now: datetime) -> UnitId:
    directory = UnitDirectory(zone)
    tree = await directory.tree(connection, now=now)
    found = _units_named(tree, wanted)
    if len(found) != 1:
        problem = (
            "there is no unit yet: import-units comes first"
            if not len(tree)
            else (f"{len(found)} units match; give root, or the code or id of a unit of today")
        )
        raise _Mistake(f"--unit {wanted}: {problem}")
    return found[0]


def _units_named(tree: UnitTree, wanted: str) -> list[UnitId]:
    if wanted == "root":
        return [root.unit_id for root in tree.roots]
    return [unit.unit_id for unit in tree if wanted in (unit.code, str(unit.unit_id))]


# --- units -----------------------------------------------------------------------------------------------------------


def _import_units(options: argparse.Namespace) -> int:
    try:
        # A container may not open /dev/stdin again when somebody else made the pipe.
        content = sys.stdin.buffer.read() if options.file == Path("-") else options.file.read_bytes()
    except OSError as error:
        return _complain(f"{options.file}: {error.strerror}")

    async def run(database: Database, zone: ZoneInfo, now: datetime) -> int:
        async with database.transaction() as connection:
            imported = await unit_directory.import_units(
                connection,
                content,
                valid_from=options.valid_from,
                zone=zone,
                may_strand=options.may_strand,
                actor=None,
                origin=None,
                now=now,
            )
        _print(
            {
                "valid_from": imported.valid_from.isoformat(),
                "units": imported.units,
                "opened": imported.opened,
                "closed": imported.closed,
                "kept": imported.kept,
                "root_id": str(imported.root_id),
            }
        )
        return lifecycle.EXIT_OK

    return _with_database(run)


# --- the API ---------------------------------------------------------------------------------------------------------


def _openapi(options: argparse.Namespace) -> int:
    del options
    _print(document(routed()))
    return lifecycle.EXIT_OK


# --- plumbing --------------------------------------------------------------------------------------------------------


class _Mistake(Exception):
    """What was asked for cannot be; the message says why."""


def _with_database(run: Callable[[Database, ZoneInfo, datetime], Awaitable[int]]) -> int:
    """Run with the database of the settings; expected errors are one line each on standard error."""
    try:
        loaded = settings.load(ControlSettings)
    except settings.SettingsError as error:
        for line in error.lines:
            _complain(line)
        return lifecycle.EXIT_BAD_SETTINGS

    async def opened() -> int:
        async with open_database(loaded.database, application="control-command") as database:
            async with database.connection() as connection:
                await demand_current(connection)
            return await run(database, ZoneInfo(loaded.policy.time_zone), utc_now())

    try:
        return asyncio.run(opened())
    except _Mistake as mistake:
        return _complain(str(mistake))
    except Refusal as refusal:
        _complain(text(f"problem.{refusal.code}.detail", Language.ENGLISH, refusal.facts))
        for fault in refusal.faults:
            message = text(f"fault.{fault.code}.message", Language.ENGLISH, fault.facts)
            mend = text(f"fault.{fault.code}.mend", Language.ENGLISH, fault.facts)
            _complain(f"{fault.field}: {message} {mend}")
        return lifecycle.EXIT_FAILED
    except DatabaseError as error:
        return _complain(f"CONTROL_DATABASE__URL: {error}")


def _print(value: object) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def _complain(line: str) -> int:
    sys.stderr.write(f"{_NAME}: {line}\n")
    return lifecycle.EXIT_FAILED
