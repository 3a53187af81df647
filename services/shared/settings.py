"""Settings from the environment: reusable groups, one loader, and errors that say what to do.

A deployable has one frozen `Settings` class with a prefix (`INGEST_`, `CONTROL_`, …) made of groups; variables of a
group are joined with two underscores (`INGEST_DATABASE__URL`). It is read once at the start and handed down as the
narrowest group a component needs; there is no global getter.

A secret may come from a file instead, named by the variable with `_FILE` behind it (`INGEST_DATABASE__URL_FILE`):
that is how compose secrets and systemd credentials arrive, and it keeps them out of the process's environment, which
children inherit and `inspect` commands print.
"""

import difflib
import json
import os
import re
import ssl
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import SplitResult, urlsplit, urlunsplit

import pydantic_settings
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    TypeAdapter,
    ValidationError,
    field_serializer,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

MASK = "**********"

FILE_SUFFIX = "_FILE"

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>ms|s|m|h|d)")


def parse_duration(value: object) -> object:
    """Turn `250ms`, `5s`, `2m`, `1h` or `7d` into a span; ISO 8601 (`PT5S`) and anything else is left to pydantic.

    A bare number is refused, because nobody can see its unit.
    """
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value.strip())
    if match:
        return timedelta(seconds=float(match["number"]) * _UNITS[match["unit"]])
    if re.fullmatch(r"-?\d+(\.\d+)?", value.strip()):
        raise ValueError("a duration needs its unit, such as 250ms, 5s, 2m, 1h or 7d")
    return value


def format_duration(span: timedelta) -> str:
    """The span as it would be set: in the largest unit that leaves a whole number."""
    milliseconds = round(span / timedelta(milliseconds=1))
    for unit, seconds in sorted(_UNITS.items(), key=lambda each: -each[1]):
        number, rest = divmod(milliseconds, round(seconds * 1000))
        if rest == 0 and number:
            return f"{number}{unit}"
    return f"{milliseconds}ms"


Duration = Annotated[timedelta, BeforeValidator(parse_duration), Field(ge=timedelta(0))]


class SettingsGroup(BaseModel):
    """A group of settings that belong together: frozen, and strict about names."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class ServiceSettings(BaseSettings):
    """What every `Settings` class derives from; subclasses set `env_prefix` in their `model_config`."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_nested_delimiter="__",
        env_ignore_empty=True,  # compose files pass empty variables for what is not set
        hide_input_in_errors=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments only: the environment is read in one place, `load`, and nowhere behind anybody's back."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)


class DatabaseSettings(SettingsGroup):
    """How to reach PostgreSQL and how much of it to use."""

    url: SecretStr = Field(
        description="where the database is, with user and password: postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
    )
    pool_min_size: int = Field(default=1, ge=0, le=100, description="connections kept open")
    pool_max_size: int = Field(default=8, ge=1, le=100, description="connections at most")
    connect_timeout: Duration = Field(default=timedelta(seconds=10), description="how long connecting may take")
    statement_timeout: Duration = Field(default=timedelta(seconds=30), description="how long one statement may run")

    @field_validator("url")
    @classmethod
    def _is_postgresql_url(cls, value: SecretStr) -> SecretStr:
        parts = urlsplit(value.get_secret_value())
        if parts.scheme not in {"postgresql", "postgres"}:
            raise ValueError("must begin with postgresql://")
        if len(parts.path) < 2:
            raise ValueError("must end with /DATABASE, the name of a database")
        return value

    @model_validator(mode="after")
    def _sizes_are_in_order(self) -> "DatabaseSettings":
        if self.pool_min_size > self.pool_max_size:
            raise ValueError("pool_min_size must not be above pool_max_size")
        return self

    @field_serializer("url", when_used="json")
    def _mask_password(self, value: SecretStr) -> str:
        return masked_url(value.get_secret_value())


class BrokerSettings(SettingsGroup):
    """How to reach the MQTT broker: TLS with a client certificate, always."""

    host: str = Field(min_length=1, description="name or address of the broker, as in its certificate")
    port: int = Field(default=8883, ge=1, le=65535, description="port of the listener meant for this program")
    ca_file: Path = Field(description="PEM file with the certificates the broker's certificate is checked against")
    cert_file: Path = Field(description="PEM file with our client certificate")
    key_file: Path = Field(description="PEM file with the private key of our client certificate")
    keepalive: Duration = Field(default=timedelta(seconds=30), description="silence after which the broker is asked")
    connect_timeout: Duration = Field(default=timedelta(seconds=10), description="how long connecting may take")

    @field_validator("ca_file")
    @classmethod
    def _holds_certificates(cls, value: Path) -> Path:
        return certificates_file(value)

    @field_validator("cert_file", "key_file")
    @classmethod
    def _is_readable(cls, value: Path) -> Path:
        return readable_file(value)

    @model_validator(mode="after")
    def _certificate_has_its_key(self) -> "BrokerSettings":
        check_pair(self.cert_file, self.key_file)
        return self


class HealthSettings(SettingsGroup):
    """Where `/healthz`, `/readyz` and `/metrics` are served."""

    host: str = Field(default="127.0.0.1", min_length=1, description="address the health server listens on")
    port: int = Field(default=0, ge=0, le=65535, description="port of the health server; 0 takes a free one")


class LogSettings(SettingsGroup):
    """How loud and in which form the log is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="least severe level logged")
    format: Literal["json", "plain"] = Field(default="json", description="json for machines, plain for people")


class PlainLogSettings(LogSettings):
    """The same for programs a person runs and watches."""

    format: Literal["json", "plain"] = Field(default="plain", description="json for machines, plain for people")


def readable_file(path: Path) -> Path:
    """The path, or ValueError when it is no file that we may read."""
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    if not os.access(path, os.R_OK):
        raise ValueError(f"the file {path} may not be read by this user")
    return path


def certificates_file(path: Path) -> Path:
    """The path, or ValueError when it is no file with certificates that we may read."""
    readable_file(path)
    try:
        ssl.create_default_context(cafile=path)
    except (ssl.SSLError, OSError) as error:
        raise ValueError(f"the file {path} holds no certificate in PEM") from error
    return path


def check_pair(cert_file: Path, key_file: Path) -> None:
    """Raise ValueError when the two hold no certificate and the private key of it, which is not encrypted."""
    try:
        # Without a password of ours OpenSSL would ask for one at the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert_file, key_file, password="")
    except (ssl.SSLError, OSError) as error:
        raise ValueError(
            f"{cert_file} (cert_file) and {key_file} (key_file) are no certificate and its private key,"
            " both in PEM and the key not encrypted"
        ) from error


def writable_directory(path: Path) -> Path:
    """The path, or ValueError when it is no directory that we may write to."""
    if not path.is_dir():
        raise ValueError(f"there is no directory {path}")
    if not os.access(path, os.W_OK | os.X_OK):
        raise ValueError(f"the directory {path} may not be written to by this user")
    return path


def masked_url(url: str) -> str:
    """The URL with its password, wherever it stands, replaced by a mask."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    user, colon, _ = parts.netloc.rpartition("@")[0].partition(":")
    netloc = f"{user}{colon}{MASK if colon else ''}@{host}" if user or colon else host
    query = re.sub(r"(?i)(password=)[^&]*", rf"\1{MASK}", parts.query)
    return urlunsplit(SplitResult(parts.scheme, netloc, parts.path, query, parts.fragment))


# --- loading ---------------------------------------------------------------------------------------------------------


class SettingsError(Exception):
    """The environment does not make valid settings; each line names a variable and the mend, never a value."""

    def __init__(self, lines: tuple[str, ...]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingName:
    """One variable a deployable understands, for documentation and its test."""

    variable: str
    description: str
    default: str | None
    secret: bool

    @property
    def is_required(self) -> bool:
        """Whether there is no default."""
        return self.default is None


SettingsT = TypeVar("SettingsT", bound=BaseSettings)


def load(settings_class: type[SettingsT], environ: Mapping[str, str] | None = None) -> SettingsT:
    """Settings from `environ` (the process's own by default).

    Raises `SettingsError` for anything missing, malformed, out of bounds or misspelt, all problems at once.
    """
    environ = os.environ if environ is None else environ
    known = {setting.variable: setting for setting in setting_names(settings_class)}
    environ, problems = _secrets_from_files(environ, known)
    problems = [*_unknown_variables(settings_class, environ, known), *problems]
    source = EnvSettingsSource(settings_class)
    # The source reads the process's environment when it is made; it works on whatever mapping it is given.
    source.env_vars = {name.lower(): value for name, value in environ.items() if value != "" and name in known}
    try:
        settings = settings_class(**source())
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_input=False, include_context=False):
            variable = prefix(settings_class) + "__".join(_names_only(problem["loc"])).upper()
            problems.append(_line(variable, known, problem["type"], problem["msg"]))
    except pydantic_settings.SettingsError as error:
        # A list or table that is no JSON; the message names the field and holds no value.
        problems.append(f"{error}: lists and tables are written as JSON")
    else:
        if not problems:
            return settings
    raise SettingsError(tuple(problems))


def setting_names(settings_class: type[BaseSettings]) -> tuple[SettingName, ...]:
    """Every variable the class reads, in the order of its fields."""
    return tuple(_names(settings_class, prefix(settings_class)))


def masked(settings: BaseModel) -> str:
    """The settings as indented JSON with every secret replaced."""
    return json.dumps(settings.model_dump(mode="json"), indent=2, ensure_ascii=False)


def prefix(settings_class: type[BaseSettings]) -> str:
    """What the names of all its variables begin with."""
    return str(settings_class.model_config.get("env_prefix", "")).upper()


def _names(model: type[BaseModel], prefix: str) -> Iterator[SettingName]:
    for name, field in model.model_fields.items():
        group = _group(field.annotation)
        if group is not None:
            yield from _names(group, f"{prefix}{name.upper()}__")
        else:
            yield SettingName(
                variable=prefix + name.upper(),
                description=field.description or "",
                default=_default(field),
                secret=_is_secret(field.annotation),
            )


def _group(annotation: Any) -> type[BaseModel] | None:
    """The group an annotation stands for, also where it may be None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        for member in typing.get_args(annotation):
            if isinstance(member, type) and issubclass(member, BaseModel):
                return member
    return None


def _is_secret(annotation: Any) -> bool:
    return annotation is SecretStr or SecretStr in typing.get_args(annotation)


def _default(field: FieldInfo) -> str | None:
    if field.is_required():
        return None
    if field.default is PydanticUndefined:
        value = field.get_default(call_default_factory=True, validated_data={})
    else:
        value = field.default
    return _written(value)


def _written(value: object) -> str:
    """A value as one would set it; empty for None, which is what an empty variable means."""
    if value is None:
        return ""
    if isinstance(value, timedelta):
        return format_duration(value)
    plain = json.loads(_ANYTHING.dump_json(value))
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


_ANYTHING: TypeAdapter[Any] = TypeAdapter(Any)


def _secrets_from_files(
    environ: Mapping[str, str], known: Mapping[str, SettingName]
) -> tuple[dict[str, str], list[str]]:
    """The environment with every `…_FILE` of a secret replaced by what that file holds, and what is wrong with them."""
    values, problems = dict(environ), []
    for name, setting in known.items():
        variable = name + FILE_SUFFIX
        if not setting.secret or variable in known:
            continue
        path = values.pop(variable, "")
        if not path:
            continue
        if values.get(name):
            problems.append(f"{variable}: {name} is set as well; keep one of the two")
            continue
        try:
            # An editor ends the file with a newline that is no part of the secret.
            values[name] = readable_file(Path(path)).read_text(encoding="utf-8").rstrip("\r\n")
        except (ValueError, OSError) as error:
            reason = "is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)
            problems.append(f"{variable}: {reason}")
            continue
        if not values[name]:
            problems.append(f"{variable}: the file {path} is empty")
    return values, problems


def _unknown_variables(
    settings_class: type[BaseSettings], environ: Mapping[str, str], known: Mapping[str, SettingName]
) -> Iterator[str]:
    """Misspelt variables would otherwise be ignored, and the default used in silence."""
    begins = prefix(settings_class)
    for name in sorted(environ):
        if begins and name.startswith(begins) and name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            yield f"{name}: there is no such setting{hint}"


def _names_only(location: tuple[int | str, ...]) -> list[str]:
    return [part for part in location if isinstance(part, str)]


def _line(variable: str, known: Mapping[str, SettingName], kind: str, message: str) -> str:
    setting = known.get(variable)
    meaning = f" ({setting.description})" if setting and setting.description else ""
    if kind == "missing":
        if setting is None:
            # A whole group is missing: name the variables that have no default.
            needed = ", ".join(name for name, each in known.items() if name.startswith(variable) and each.is_required)
            return f"{needed or variable}: must be set"
        return f"{variable}: must be set{meaning}"
    message = message.removeprefix("Value error, ")
    # What is said of several groups at once names them itself.
    return (
        message
        if variable.endswith("_") and not variable.endswith("__")
        else f"{variable.removesuffix('__')}: {message}{meaning}"
    )
