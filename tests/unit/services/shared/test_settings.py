"""Settings: what is wrong is named, with its mend, and secrets stay secret."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from services.shared.settings import (
    BrokerSettings,
    DatabaseSettings,
    Duration,
    ServiceSettings,
    SettingsError,
    SettingsGroup,
    format_duration,
    load,
    masked,
    masked_url,
    setting_names,
)
from tests.support.tls_files import tls_files

URL = "postgresql://loa:swordfish@db.example:5432/loa"


class Pace(SettingsGroup):
    every: Duration = Field(default=timedelta(seconds=5), description="how often")


class Settings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="TEST_")

    database: DatabaseSettings = Field(description="the database")
    pace: Pace = Field(default_factory=Pace, description="the pace")
    token: SecretStr | None = Field(default=None, description="a token")
    names: tuple[str, ...] = Field(default=(), description="names, as JSON")


def problems(**environ: str) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load(Settings, environ)
    return caught.value.lines


def test_variables_fill_nested_groups_and_the_rest_has_defaults() -> None:
    settings = load(Settings, {"TEST_DATABASE__URL": URL, "TEST_PACE__EVERY": "250ms", "TEST_NAMES": '["a","b"]'})

    assert settings.database.url.get_secret_value() == URL
    assert settings.pace.every == timedelta(milliseconds=250)
    assert settings.names == ("a", "b")
    assert settings.database.pool_max_size == 8


def test_empty_variable_is_an_unset_one() -> None:
    assert load(Settings, {"TEST_DATABASE__URL": URL, "TEST_TOKEN": ""}).token is None


def test_environment_is_read_by_load_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_PACE__EVERY", "9s")
    monkeypatch.setenv("TEST_DATABASE__URL", URL)

    assert Settings.model_validate({"database": {"url": URL}}).pace.every == timedelta(seconds=5)
    assert load(Settings).pace.every == timedelta(seconds=9)


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        pytest.param({}, "TEST_DATABASE__URL: must be set", id="missing_group"),
        pytest.param(
            {"TEST_DATABASE__POOL_MAX_SIZE": "3"},
            "TEST_DATABASE__URL: must be set (where the database is, with user and password:"
            " postgresql://USER:PASSWORD@HOST:PORT/DATABASE)",
            id="missing_in_group",
        ),
        pytest.param(
            {"TEST_DATABASE__URL": "mysql://a:swordfish@b/c"},
            "TEST_DATABASE__URL: must begin with postgresql:// (where the database is, with user and password:"
            " postgresql://USER:PASSWORD@HOST:PORT/DATABASE)",
            id="scheme",
        ),
        pytest.param(
            {"TEST_DATABASE__URL": URL, "TEST_DATABASE__POOL_MAX_SIZE": "lots"},
            "TEST_DATABASE__POOL_MAX_SIZE: Input should be a valid integer, unable to parse string as an integer"
            " (connections at most)",
            id="no_number",
        ),
        pytest.param(
            {"TEST_DATABASE__URL": URL, "TEST_PACE__EVERY": "5"},
            "TEST_PACE__EVERY: a duration needs its unit, such as 250ms, 5s, 2m, 1h or 7d (how often)",
            id="duration_without_unit",
        ),
        pytest.param(
            {"TEST_DATABASE__URL": URL, "TEST_PACE__EVRY": "5s"},
            "TEST_PACE__EVRY: there is no such setting; did you mean TEST_PACE__EVERY?",
            id="misspelt",
        ),
        pytest.param(
            {"TEST_DATABASE__URL": URL, "TEST_DATABASE__POOL_MIN_SIZE": "9"},
            "TEST_DATABASE: pool_min_size must not be above pool_max_size",
            id="two_fields_together",
        ),
    ],
)
def test_each_problem_is_one_line_with_variable_and_mend(environ: dict[str, str], line: str) -> None:
    assert problems(**environ) == (line,)


def test_all_problems_are_told_at_once() -> None:
    lines = problems(TEST_PACE__EVERY="soon", TEST_TYPO="1")

    assert [line.partition(":")[0] for line in lines] == ["TEST_TYPO", "TEST_DATABASE__URL", "TEST_PACE__EVERY"]


def test_list_that_is_no_json_is_named() -> None:
    (line,) = problems(TEST_DATABASE__URL=URL, TEST_NAMES="a,b")

    assert "names" in line
    assert "JSON" in line


@pytest.mark.parametrize(
    "environ",
    [
        {"TEST_DATABASE__URL": "swordfish"},
        {"TEST_DATABASE__URL": "postgresql://a:swordfish@b"},
        {"TEST_DATABASE__URL": "swordfish://a", "TEST_TOKEN": "swordfish", "TEST_PACE__EVERY": "x"},
    ],
)
def test_values_never_show_in_complaints(environ: dict[str, str]) -> None:
    assert "swordfish" not in "".join(problems(**environ))


def test_secrets_are_masked_where_settings_are_shown() -> None:
    settings = load(Settings, {"TEST_DATABASE__URL": URL, "TEST_TOKEN": "swordfish"})

    assert "swordfish" not in masked(settings) + repr(settings) + str(settings)
    assert json.loads(masked(settings))["database"]["url"] == "postgresql://loa:**********@db.example:5432/loa"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://db/loa", "postgresql://db/loa"),
        ("postgresql://me@db/loa", "postgresql://me@db/loa"),
        ("postgresql://me:p@ss:w@db/loa", "postgresql://me:**********@db/loa"),
        (
            "postgresql://db/loa?user=me&password=x&sslmode=require",
            "postgresql://db/loa?user=me&password=**********&sslmode=require",
        ),
    ],
)
def test_password_is_masked_wherever_a_url_holds_it(url: str, shown: str) -> None:
    assert masked_url(url) == shown


class WithBroker(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="TEST_")
    broker: BrokerSettings = Field(description="the broker")


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("KEY_FILE", "absent.pem", "TEST_BROKER__KEY_FILE: there is no file {folder}/absent.pem"),
        ("CA_FILE", "nonsense.pem", "TEST_BROKER__CA_FILE: the file {folder}/nonsense.pem holds no certificate in PEM"),
        ("CA_FILE", "some.key", "TEST_BROKER__CA_FILE: the file {folder}/some.key holds no certificate in PEM"),
        (
            "CERT_FILE",
            "nonsense.pem",
            "TEST_BROKER: {folder}/nonsense.pem (cert_file) and {folder}/some.key (key_file)",
        ),
        (
            "KEY_FILE",
            "other/some.key",
            "TEST_BROKER: {folder}/some.pem (cert_file) and {folder}/other/some.key (key_file)",
        ),
    ],
)
def test_broker_files_must_hold_what_they_should(tmp_path: Path, variable: str, value: str, line: str) -> None:
    certificate, key = tls_files(tmp_path)
    (tmp_path / "other").mkdir()
    tls_files(tmp_path / "other")
    (tmp_path / "nonsense.pem").write_text("nonsense")
    environment = {
        "TEST_BROKER__HOST": "localhost",
        "TEST_BROKER__CA_FILE": str(certificate),
        "TEST_BROKER__CERT_FILE": str(certificate),
        "TEST_BROKER__KEY_FILE": str(key),
    }
    assert load(WithBroker, environment).broker.key_file == key

    with pytest.raises(SettingsError) as caught:
        load(WithBroker, {**environment, f"TEST_BROKER__{variable}": str(tmp_path / value)})

    (said,) = caught.value.lines
    assert said.startswith(line.format(folder=tmp_path))


def test_names_list_every_variable_for_documentation() -> None:
    names = {each.variable: each for each in setting_names(Settings)}

    assert list(names)[:2] == ["TEST_DATABASE__URL", "TEST_DATABASE__POOL_MIN_SIZE"]
    assert names["TEST_DATABASE__URL"].is_required
    assert names["TEST_DATABASE__URL"].secret
    assert names["TEST_PACE__EVERY"].default == "5s"
    assert names["TEST_NAMES"].default == "[]"
    assert names["TEST_DATABASE__POOL_MIN_SIZE"].default == "1"
    assert names["TEST_TOKEN"].secret
    assert names["TEST_TOKEN"].default == ""
    assert all(each.description for each in names.values())


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("0ms", timedelta(0)),
        ("250ms", timedelta(milliseconds=250)),
        ("1.5s", timedelta(seconds=1.5)),
        ("2 m", timedelta(minutes=2)),
        ("1h", timedelta(hours=1)),
        ("7d", timedelta(days=7)),
        ("PT1M", timedelta(minutes=1)),
        ("00:00:05", timedelta(seconds=5)),
    ],
)
def test_durations_are_written_with_their_unit(text: str, span: timedelta) -> None:
    assert Pace.model_validate({"every": text}).every == span


def test_negative_duration_is_refused() -> None:
    (line,) = problems(TEST_DATABASE__URL=URL, TEST_PACE__EVERY="-PT5S")

    assert line.startswith("TEST_PACE__EVERY: Input should be greater than or equal to")


@pytest.mark.parametrize("text", ["0ms", "250ms", "1500ms", "5s", "90s", "2m", "36h", "7d"])
def test_durations_are_shown_as_they_would_be_set(text: str) -> None:
    assert format_duration(Pace.model_validate({"every": text}).every) == text


def test_secret_may_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text(URL + "\n")

    settings = load(Settings, {"TEST_DATABASE__URL_FILE": str(file), "TEST_TOKEN_FILE": ""})

    assert settings.database.url.get_secret_value() == URL
    assert settings.token is None


def test_faults_of_secret_files_are_named_without_their_content(tmp_path: Path) -> None:
    empty, binary, both = tmp_path / "empty", tmp_path / "binary", tmp_path / "both"
    empty.write_text("\n")
    binary.write_bytes(b"swordfish\xff")
    both.write_text("swordfish")

    def token(**environ: str) -> tuple[str, ...]:
        return problems(TEST_DATABASE__URL=URL, **environ)

    assert token(TEST_TOKEN_FILE=str(empty)) == (f"TEST_TOKEN_FILE: the file {empty} is empty",)
    assert token(TEST_TOKEN_FILE=str(binary)) == ("TEST_TOKEN_FILE: is not UTF-8 text",)
    assert token(TEST_TOKEN_FILE="/nowhere") == ("TEST_TOKEN_FILE: there is no file /nowhere",)
    assert token(TEST_TOKEN_FILE=str(both), TEST_TOKEN="x") == (
        "TEST_TOKEN_FILE: TEST_TOKEN is set as well; keep one of the two",
    )


def test_what_is_no_secret_does_not_come_from_a_file(tmp_path: Path) -> None:
    (line,) = problems(TEST_DATABASE__URL=URL, TEST_PACE__EVERY_FILE=str(tmp_path / "every"))

    assert line.startswith("TEST_PACE__EVERY_FILE: there is no such setting")
