"""The verbs of control at the keyboard: what an operator types, rightly and wrongly, on a real database."""

import base64
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.control import commands
from services.control.passwords import Passwords
from services.control.settings import ControlSettings
from services.shared import settings
from services.shared.database.pool import open_database
from tests.support.database import TestDatabase
from tests.support.tls_files import tls_files

pytestmark = pytest.mark.integration

TREE = "code,parent_code,level,name\n24,,province,Tỉnh Thử Nghiệm\n1,24,district,Huyện Bắc\n11,1,commune,Xã Đại Sơn\n"
PASSWORD = "mot mat khau rat dai"


@dataclass(frozen=True, slots=True)
class Told:
    """What a verb answered."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Told]


@pytest.fixture
def control_settings(database: TestDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    """An environment whose settings hold, in force here and returned for processes."""
    file = tmp_path / "file.pem"  # has to be there; no verb opens it
    file.touch()
    certificate, key = tls_files(tmp_path)
    secret_keys = tmp_path / "secret_keys"
    secret_keys.write_bytes(base64.b64encode(bytes(32)))
    settings = {
        "DATABASE__URL": database.control.url.get_secret_value(),
        "BROKER__HOST": "localhost",
        "MEDIA__DIRECTORY": str(tmp_path),
        "MEDIA__BASE_URL": "http://loa.example",
        "BROKER__CA_FILE": str(certificate),
        "BROKER__CERT_FILE": str(certificate),
        "BROKER__KEY_FILE": str(key),
        "SIGNING__KEY_FILE": str(file),
        "SIGNING__KEYS_FILE": str(file),
        "SESSIONS__SECRET_KEYS_FILE": str(secret_keys),
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"CONTROL_{name}", value)
    return os.environ


@pytest.fixture
def control(
    control_settings: Mapping[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """`python -m services.control` with these arguments and this standard input."""

    def run(*arguments: str, entered: str = "") -> Told:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(entered.encode())))
        # In a thread, because a verb has an event loop of its own and the test may be in one.
        with ThreadPoolExecutor(1) as thread:
            status = thread.submit(_status_of, arguments).result()
        return Told(status, *capsys.readouterr())

    return run


def _status_of(arguments: Sequence[str]) -> int:
    try:
        return commands.main(arguments)
    except SystemExit as usage:
        return int(usage.code or 0)


def import_tree(control: Run, text: str = TREE, *extra: str) -> Told:
    return control("import-units", "-", "--valid-from", "2020-01-01", *extra, entered=text)


async def count(database: TestDatabase, table: str) -> int:
    async with open_database(database.control, application="test") as opened, opened.connection() as connection:
        return int(await connection.fetchval(f"SELECT count(*) FROM control.{table}"))


async def test_units_and_a_first_administrator_are_made_once(control: Run, database: TestDatabase) -> None:
    first, again = import_tree(control), import_tree(control)
    assert json.loads(first.stdout) | {"root_id": ""} == {
        "valid_from": "2020-01-01",
        "units": 3,
        "opened": 3,
        "closed": 0,
        "kept": 0,
        "root_id": "",
    }
    assert (json.loads(again.stdout)["opened"], json.loads(again.stdout)["kept"]) == (0, 3)

    create = ("create-administrator", "--login", "Quantri", "--name", "Quản trị", "--unit", "root")
    made = control(*create, entered=PASSWORD + "\n")
    assert json.loads(made.stdout) == {"login": "quantri", "created": True}
    assert json.loads(control(*create, "--if-missing", entered="another long password\n").stdout)["created"] is False
    twice = control(*create, entered=PASSWORD)
    assert (twice.returncode, twice.stdout) == (1, "")
    assert "login" in twice.stderr

    assert await count(database, "accounts") == 1
    async with open_database(database.control, application="test") as opened, opened.connection() as connection:
        (row,) = await connection.fetch(
            "SELECT password_hash, role FROM control.accounts JOIN control.role_grants USING (account_id)"
        )
    assert row["role"] == "administrator"
    assert await Passwords().matches(PASSWORD, row["password_hash"])
    assert PASSWORD not in made.stdout + made.stderr + twice.stderr


def test_a_generated_password_is_printed_once_and_is_long(control: Run) -> None:
    import_tree(control)
    made = json.loads(control("create-administrator", "--login", "quantri", "--generate").stdout)
    assert len(made["password"]) >= 16


@pytest.mark.parametrize(
    ("text", "named"),
    [
        pytest.param("", "file:", id="empty"),
        pytest.param("ma,cha,cap,ten\n1,,province,A\n", "file:", id="other_columns"),
        pytest.param(TREE + "11,1,commune,Xã Trùng\n", "lines[5].code:", id="code_twice"),
        pytest.param(TREE + "31,3,commune,Xã Mồ Côi\n", "lines[5].parent_code:", id="unknown_parent"),
        pytest.param(TREE + "31,1,commune,\n", "lines[5].name:", id="no_name"),
    ],
)
async def test_a_wrong_file_of_units_is_refused_whole_naming_line_and_field(
    control: Run, database: TestDatabase, text: str, named: str
) -> None:
    refused = import_tree(control, text)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert named in refused.stderr
    assert "Traceback" not in refused.stderr
    assert await count(database, "units") == 0


@pytest.mark.parametrize(
    ("arguments", "entered", "status", "message"),
    [
        pytest.param(
            ("import-units", "/nowhere.csv", "--valid-from", "2020-01-01"), "", 1, "/nowhere.csv", id="no_file"
        ),
        pytest.param(
            ("import-units", "-", "--valid-from", "01/07/2025"), TREE, 2, "write it as 2025-07-01", id="no_day"
        ),
        pytest.param(("import-units", "-"), TREE, 2, "--valid-from", id="day_missing"),
        pytest.param(
            ("create-administrator", "--login", "quantri"), PASSWORD, 1, "import-units comes first", id="no_units_yet"
        ),
        pytest.param(("--bogus",), "", 2, "unrecognized arguments: --bogus", id="unknown_option"),
        pytest.param(("bogus",), "", 2, "invalid choice: 'bogus'", id="unknown_verb"),
    ],
)
def test_a_mistake_is_told_in_words_and_changes_nothing(
    control: Run, arguments: tuple[str, ...], entered: str, status: int, message: str
) -> None:
    told = control(*arguments, entered=entered)
    assert (told.returncode, told.stdout) == (status, "")
    assert message in told.stderr
    assert "Traceback" not in told.stderr


@pytest.mark.parametrize(
    ("unit", "password", "message"),
    [
        pytest.param("999", PASSWORD, "--unit 999: 0 units match", id="unknown_unit"),
        pytest.param("root", "", "password", id="no_password"),
        pytest.param("root", "short", "password", id="short_password"),
    ],
)
async def test_an_administrator_who_cannot_be_is_not_made(
    control: Run, database: TestDatabase, unit: str, password: str, message: str
) -> None:
    import_tree(control)
    told = control("create-administrator", "--login", "quantri", "--unit", unit, entered=password)
    assert (told.returncode, told.stdout) == (1, "")
    assert message in told.stderr.lower()
    assert await count(database, "accounts") == 0


def test_a_database_that_is_away_is_one_line_without_the_password(
    control: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTROL_DATABASE__URL", "postgresql://loa_control:very-secret@127.0.0.1:1/loa")
    told = import_tree(control)
    assert (told.returncode, told.stdout, told.stderr.count("\n")) == (1, "", 1)
    assert "very-secret" not in told.stderr


def test_serving_with_a_file_that_is_no_key_is_one_line(tmp_path: Path, control_settings: Mapping[str, str]) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "services.control"], env=dict(control_settings), capture_output=True, text=True
    )
    assert (told.returncode, told.stdout) == (2, "")
    assert str(tmp_path / "file.pem") in told.stderr
    assert "Traceback" not in told.stderr


def test_without_keys_for_second_factors_nothing_starts_unless_none_is_asked_for(
    control: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CONTROL_SESSIONS__SECRET_KEYS_FILE")
    told = import_tree(control)
    assert (told.returncode, told.stdout, told.stderr.count("\n")) == (2, "", 1)
    assert "name the file, or set CONTROL_POLICY__SECOND_FACTOR_NEEDED to false" in told.stderr
    monkeypatch.setenv("CONTROL_POLICY__SECOND_FACTOR_NEEDED", "false")
    assert import_tree(control).returncode == 0


def test_help_lists_every_verb_and_setting(control: Run) -> None:
    told = control("--help")
    assert told.returncode == 0
    for word in ("create-administrator", "import-units", "openapi", "--check", "CONTROL_DATABASE__URL (required)"):
        assert word in told.stdout


def test_the_document_of_the_api_needs_no_settings(control: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONTROL_DATABASE__URL")
    assert "/api/v1/broadcasts" in json.loads(control("openapi").stdout)["paths"]


@pytest.mark.parametrize(
    ("address", "said", "is_https"),
    [
        ("https://loa.example", None, True),
        ("http://loa.example", None, False),
        ("https://loa.example", "false", False),
        ("http://loa.example", "true", True),
    ],
)
def test_people_are_held_to_https_where_the_site_s_address_says_so_unless_told_otherwise(
    control_settings: Mapping[str, str], address: str, said: str | None, is_https: bool
) -> None:
    environment = {**control_settings, "CONTROL_MEDIA__BASE_URL": address}
    if said is not None:
        environment["CONTROL_HTTP__IS_BEHIND_HTTPS"] = said
    assert settings.load(ControlSettings, environment).http_as_reached.is_https is is_https
