"""`./loa audit`: verify the chain of the audit, export it, sign its head now.

`verify` and `export` need nothing but a database (--database, or CONTROL_DATABASE__URL or …_FILE) that may be a copy,
and a role that reads it; `verify --export FILE` needs no database at all. Heads (--head FILE, lines of JSON as they were
sent away) are believed under the platform's keys of the key sets given (--keys FILE, or CONTROL_SIGNING__KEYS_FILE; give
older ones too). `head` runs with the settings of control. Exit status: 0 all is well, 1 something was tampered with, 2
the command line, a file or a setting is wrong, 3 the database does not answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from pydantic import ValidationError

from schemas.keys import SigningKey
from services.control.auditing import chain_store, exports, heads, sealer, sending
from services.control.auditing.chain import BEGINNING, Finding, Walk
from services.control.auditing.exports import ExportError
from services.control.auditing.heads import Head, HeadError
from services.control.settings import ControlSettings
from services.control.trust.keyring import KeyringError, load_keyring, parse_key_set
from services.shared import settings
from services.shared.clock import utc_now
from services.shared.database.errors import DatabaseError
from services.shared.database.pool import open_database
from services.shared.settings import DatabaseSettings, SettingsError

OK, TAMPERED, WRONG_COMMAND, NO_DATABASE = 0, 1, 2, 3

_DATABASE, _KEYS = "CONTROL_DATABASE__URL", "CONTROL_SIGNING__KEYS_FILE"


class AuditRefused(Exception):
    """What was asked for cannot be done; the message says what to change."""


def main(arguments: Sequence[str]) -> int:
    """Run `./loa audit …`; returns its exit status."""
    options = _parser().parse_args(arguments)
    verb: Callable[[argparse.Namespace], int] = options.verb
    try:
        return verb(options)
    except (AuditRefused, ExportError, HeadError, KeyringError, SettingsError, OSError, UnicodeDecodeError) as error:
        print(f"audit: {_said(error)}", file=sys.stderr)  # noqa: T201 - a verb for people
        return WRONG_COMMAND
    except DatabaseError as error:
        print(f"audit: the database: {error}", file=sys.stderr)  # noqa: T201 - a verb for people
        return NO_DATABASE


def _said(error: Exception) -> str:
    """The error as a person reads it: of a file which one, and what about it."""
    return f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./loa audit", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    verify = verbs.add_parser("verify", help="walk along the chain and name the first thing that is wrong")
    verify.add_argument("--from", dest="start", type=_number, default=1, metavar="N", help="begin with this link")
    verify.add_argument("--head", type=Path, action="append", default=[], metavar="FILE", help="signed heads, as sent")
    verify.add_argument("--keys", type=Path, action="append", default=[], metavar="FILE", help="a signed key set")
    source = verify.add_mutually_exclusive_group()
    source.add_argument("--database", metavar="URL", help=f"default: {_DATABASE}")
    source.add_argument("--export", type=Path, metavar="FILE", help="an export instead of a database")
    verify.set_defaults(verb=_verify)
    export = verbs.add_parser("export", help="write the chain with its entries as lines of JSON")
    export.add_argument("--from", dest="start", type=_number, default=1, metavar="N", help="begin with this link")
    export.add_argument("--database", metavar="URL", help=f"default: {_DATABASE}")
    export.set_defaults(verb=_export)
    head = verbs.add_parser("head", help="seal what waits, sign the head now, print it and send it away")
    head.set_defaults(verb=_head)
    return parser


# --- verify ----------------------------------------------------------------------------------------------------------


def _verify(options: argparse.Namespace) -> int:
    files = options.keys or ([Path(os.environ[_KEYS])] if os.environ.get(_KEYS) else [])
    keys = [key for path in files for key in parse_key_set(path.read_bytes(), source=str(path)).content.keys]
    given = [heads.message_in(line) for path in options.head for line in _lines(path)]
    if given and not keys:
        raise AuditRefused(f"heads are believed by their signature: give --keys, or set {_KEYS}")
    known = _known(given, keys)
    if options.export is not None:
        walk = _walk_export(options.export, start=options.start, known=known)
        return _report(walk, heads_checked=len(known), waiting=None)
    return asyncio.run(_verify_database(_database(options.database), start=options.start, known=known, keys=keys))


def _known(messages: Sequence[bytes], keys: Sequence[SigningKey]) -> dict[int, bytes]:
    """What heads tell, by number; raises `HeadError` for one that is not signed by these keys."""
    found: dict[int, bytes] = {}
    for head in (heads.opened(message, keys) for message in messages):
        if found.setdefault(head.number, head.hash) != head.hash:
            raise HeadError(f"two signed heads of number {head.number} have different hashes")
    return found


async def _verify_database(
    database: DatabaseSettings, *, start: int, known: dict[int, bytes], keys: Sequence[SigningKey]
) -> int:
    async with (
        open_database(database, application="audit") as opened,
        opened.transaction(isolation="repeatable_read", readonly=True) as connection,
    ):
        kept = await chain_store.heads(connection, after=0)
        if keys:
            known |= _known([head.message for head in kept if head.number not in known], keys)
        previous = await chain_store.hash_of(connection, start - 1)
        if previous is None:
            raise AuditRefused(f"--from {start}: there is no link {start - 1} to begin behind")
        expected = {number: each for number, each in known.items() if number >= start - 1}
        if expected.get(start - 1, previous) != previous:
            raise AuditRefused(f"--from {start}: link {start - 1} is not the one a signed head tells of; begin earlier")
        walk = await sealer.verify(connection, after=start - 1, previous=previous, known=expected)
        waiting = await chain_store.count_waiting(connection)
    return _report(walk, heads_checked=len(expected), waiting=waiting.entries)


def _walk_export(path: Path, *, start: int, known: Mapping[int, bytes]) -> Walk:
    walk: Walk | None = None
    previous = BEGINNING if start == 1 else None
    for line in _lines(path):
        link = exports.link_in(line)
        if link.number < start - 1:
            continue
        if previous is None:  # the link before the first one that is looked at
            previous = link.hash
            continue
        walk = walk or Walk(number=start - 1, hash=previous, heads=known)
        walk.take(link)
    if walk is None:
        raise AuditRefused(f"{path} holds no link from number {start} on")
    walk.end()
    return walk


def _report(walk: Walk, *, heads_checked: int, waiting: int | None) -> int:
    found: Finding | None = walk.finding
    report: dict[str, Any] = {
        "verified": found is None,
        "links": walk.number,
        "hash": walk.hash.hex(),
        "heads": heads_checked,
        "waiting": waiting,
    }
    if found is not None:
        report["finding"] = {
            "wrong": found.wrong.value,
            "number": found.number,
            "audit_id": found.audit_id,
            "detail": found.detail,
        }
    _print(report)
    return OK if found is None else TAMPERED


# --- export and head -------------------------------------------------------------------------------------------------


def _export(options: argparse.Namespace) -> int:
    return asyncio.run(_write_export(_database(options.database), options.start, sys.stdout))


async def _write_export(database: DatabaseSettings, start: int, out: TextIO) -> int:
    # From the link before, so that the first one can be verified.
    after = max(0, start - 2)
    async with (
        open_database(database, application="audit") as opened,
        opened.transaction(isolation="repeatable_read", readonly=True) as connection,
    ):
        while links := await chain_store.links(connection, after=after, limit=sealer.BATCH):
            for link in links:
                out.write(exports.line_of(link) + "\n")
            after = links[-1].number
    return OK


def _head(options: argparse.Namespace) -> int:
    del options
    loaded = settings.load(ControlSettings)
    keyring = load_keyring(loaded.signing.key_file, loaded.signing.keys_file)
    now = utc_now()

    async def sign() -> Head | Finding | None:
        async with (
            open_database(loaded.database, application="audit") as database,
            database.transaction() as connection,
        ):
            await chain_store.lock(connection)
            await sealer.seal_waiting(connection, now=now)
            return await sealer.sign_head(connection, keyring, now=now)

    signed = asyncio.run(sign())
    match signed:
        case Head():
            if loaded.audit.head_directory is not None:
                sending.write(loaded.audit.head_directory, signed)
            sys.stdout.write(signed.as_line() + "\n")
            return OK
        case Finding():
            print(f"audit: {signed.wrong} at {signed.number}: {signed.detail}", file=sys.stderr)  # noqa: T201
            return TAMPERED
        case _:
            raise AuditRefused("nothing has been recorded yet")


# --- plumbing --------------------------------------------------------------------------------------------------------


def _database(given: str | None) -> DatabaseSettings:
    url = given or os.environ.get(_DATABASE)
    if not url and (path := os.environ.get(_DATABASE + settings.FILE_SUFFIX)):
        url = Path(path).read_text("utf-8").strip()
    if not url:
        raise AuditRefused(f"which database? give --database, or set {_DATABASE}")
    try:
        return DatabaseSettings.model_validate({"url": url, "pool_max_size": 1})
    except ValidationError as error:
        where = "--database" if given else _DATABASE
        raise AuditRefused(f"{where}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as file:
        yield from (line for line in file if line.strip())


def _number(written: str) -> int:
    number = int(written)
    if number < 1:
        raise argparse.ArgumentTypeError("links are numbered from 1")
    return number


def _print(value: object) -> None:
    sys.stdout.write(json.dumps(value, indent=1) + "\n")
