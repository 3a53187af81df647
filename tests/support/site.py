"""A folder as `./loa installation prepare` makes it for a server, and the files under deploy/ that rely on it."""

import importlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from firmware_sim import settings as fleet
from schemas.fields import DeviceKind
from schemas.identifiers import DeviceId
from services.local import installation
from services.local.describe.settings import settings_class
from services.shared import lifecycle, settings

TOP = Path(__file__).resolve().parents[2]
DEPLOY = TOP / "deploy"
NOW = datetime(2026, 5, 1, tzinfo=UTC)


def make_site(folder: Path) -> Path:
    """Everything the runbook has an operator make before the first start, owned by whoever runs the tests."""
    surroundings = installation.Surroundings(
        broker_aliases=installation.IN_CONTAINERS.broker_aliases,
        database=installation.IN_CONTAINERS.database,
        owners=installation.Owners(),
    )
    installation.prepare(
        installation.Request(
            site=folder / "site",
            authority=folder / "authority",
            broker_names=("mqtt.example.vn",),
            surroundings=surroundings,
            database=surroundings.database,
            device_connections=20_000,
            logs_refusals=False,
        ),
        now=NOW,
    )
    installation.issue_devices(
        folder / "authority", folder / "site" / "fleet", [(DeviceId.parse("loa-0001"), DeviceKind.CLUSTER)], now=NOW
    )
    return folder / "site"


def check_settings(module: str, environment: Mapping[str, str]) -> None:
    """What `python -m MODULE --check` does with this environment; raises with one line for each problem."""
    if module == "firmware_sim":
        fleet.load(environment)
    else:
        settings.load(settings_class(module), environment)


def stop_deadline_s(module: str) -> float:
    """How long a program gives itself, at most, to stop."""
    own = getattr(importlib.import_module(f"{module}.__main__"), "STOP_DEADLINE", lifecycle.STOP_DEADLINE)
    return float(own.total_seconds())
