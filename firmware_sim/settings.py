"""Settings of the simulator, from the environment with the prefix `SIM_`.

Its own small loader: the simulator shares no code with the services. The conventions are the same (groups joined with
two underscores, durations with their unit, every problem named at once).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from firmware_sim.errors import InvalidInput

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")


def _parse_duration(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value.strip())
    if match is not None:
        return timedelta(seconds=float(match[1]) * _SECONDS[match[2]])
    if re.fullmatch(r"-?\d+(\.\d+)?", value.strip()):
        raise ValueError("a duration needs its unit, such as 250ms, 5s, 2m, 1h or 7d")
    return value


Duration = Annotated[timedelta, BeforeValidator(_parse_duration), Field(gt=timedelta(0))]


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class BrokerSettings(_Group):
    """How devices reach the broker; each has a certificate of its own, named in the manifest."""

    host: str = Field(min_length=1, description="name or address of the broker, as in its certificate")
    port: int = Field(default=8883, ge=1, le=65535, description="port of the broker's listener for devices")
    ca_file: Path = Field(description="PEM file with the certificates the broker's certificate is checked against")
    keepalive: Duration = Field(default=timedelta(seconds=60), description="silence after which a device pings")
    connect_timeout: Duration = Field(default=timedelta(seconds=20), description="how long connecting may take")
    backoff_base: Duration = Field(default=timedelta(seconds=1), description="wait before the first reconnection")
    backoff_cap: Duration = Field(default=timedelta(seconds=60), description="longest wait before a reconnection")
    handshakes: int = Field(default=32, ge=1, le=10_000, description="connections being established at once")


class EnrolmentSettings(_Group):
    """Where devices that have a claim code in the manifest fetch their certificates."""

    url: str | None = Field(
        default=None,
        pattern=r"^https://[!-~]{1,192}[^/]$",
        description="address of control, by HTTPS, without a slash at its end",
    )
    ca_file: Path | None = Field(
        default=None, description="PEM file with the only certificates that its certificate is checked against"
    )
    look_every: Duration = Field(
        default=timedelta(seconds=5), description="time between looks for a new claim code or a due certificate"
    )


class StatusSettings(_Group):
    """Where the simulator tells how it is doing."""

    host: str = Field(default="127.0.0.1", min_length=1, description="address of /healthz and /status")
    port: int = Field(default=0, ge=0, le=65535, description="port of /healthz and /status; 0 takes a free one")


class LogSettings(_Group):
    """How loud and in which form the log is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="least severe level logged")
    format: Literal["json", "plain"] = Field(default="json", description="json for machines, plain for people")


class Settings(BaseSettings):
    """Everything `python -m firmware_sim` can be told."""

    model_config = SettingsConfigDict(
        env_prefix="SIM_",
        env_nested_delimiter="__",
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
    )

    manifest: Path = Field(description="the fleet manifest, a JSON file")
    data: Path = Field(description="folder for the memory of the devices; made when it is missing")
    broker: BrokerSettings = Field(description="how devices reach the broker")
    scenario: str = Field(
        default="quiet_day",
        min_length=1,
        description="the name of a scenario, such as quiet_day or power_cuts, or a path to a TOML file",
    )
    seed: int = Field(default=0, ge=0, description="seed of every random draw of the scenario")
    ramp: Duration = Field(default=timedelta(seconds=2), description="time over which the first connections are spread")
    heartbeat_interval: Duration | None = Field(
        default=None, description="overrides the heartbeat interval of the signed configuration"
    )
    reading_interval: Duration = Field(default=timedelta(seconds=60), description="time between readings of a sensor")
    fetches: int = Field(default=8, ge=1, le=1_000, description="media downloads at once, over the whole fleet")
    fsync: bool = Field(
        default=False, description="wait for the disk at every write, to survive a power cut of this machine as well"
    )
    trace: Path | None = Field(
        default=None, description="file to which it is written when alerts came and sounded; for measurements"
    )
    enrolment: EnrolmentSettings = Field(
        default=EnrolmentSettings(), description="where devices with a claim code fetch their certificates"
    )
    status: StatusSettings = Field(default=StatusSettings(), description="where the simulator tells how it is doing")
    log: LogSettings = Field(default=LogSettings(), description="how the log is written")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments only: the environment is read in `load` and nowhere else."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from the environment; raises `InvalidInput` with one line per variable that is wrong or unknown."""
    environ = os.environ if environ is None else environ
    known = frozenset(name for name, _ in descriptions(Settings, "SIM_"))
    required = tuple(_required(Settings, "SIM_"))
    problems = [f"{name}: there is no such setting" for name in sorted(environ) if _is_stray(name, known)]
    source = EnvSettingsSource(Settings)
    source.env_vars = {name.lower(): value for name, value in environ.items() if value != "" and name in known}
    try:
        settings = Settings(**source())
    except ValidationError as error:
        for each in error.errors(include_url=False, include_input=False, include_context=False):
            name = "SIM_" + "__".join(str(part).upper() for part in each["loc"])
            if each["type"] == "missing":
                # A group is missing as a whole: its variables without a default are what must be set.
                problems += [f"{needed}: must be set" for needed in required if needed.startswith(name)]
            else:
                problems.append(f"{name}: {each['msg'].removeprefix('Value error, ')}")
    else:
        problems += _unusable_files(settings)
        if not problems:
            return settings
    raise InvalidInput(tuple(problems))


def printable(settings: Settings) -> str:
    """The settings as JSON for people. There is no secret among them: keys are files, named in the manifest."""
    return json.dumps(settings.model_dump(mode="json"), indent=2, ensure_ascii=False)


def _is_stray(name: str, known: frozenset[str]) -> bool:
    return name.startswith("SIM_") and name not in known


def descriptions(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str]]:
    """Every variable of a settings class with what it means, in the order of its fields."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from descriptions(field.annotation, f"{prefix}{name.upper()}__")
        else:
            yield prefix + name.upper(), field.description or ""


def _required(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _required(field.annotation, f"{prefix}{name.upper()}__")
        elif field.is_required():
            yield prefix + name.upper()


def _unusable_files(settings: Settings) -> list[str]:
    files = {"SIM_MANIFEST": settings.manifest, "SIM_BROKER__CA_FILE": settings.broker.ca_file}
    if settings.enrolment.url is not None:
        if settings.enrolment.ca_file is None:
            return ["SIM_ENROLMENT__CA_FILE: must be set where SIM_ENROLMENT__URL is"]
        files["SIM_ENROLMENT__CA_FILE"] = settings.enrolment.ca_file
    return [f"{name}: the file {path} cannot be read" for name, path in files.items() if not os.access(path, os.R_OK)]
