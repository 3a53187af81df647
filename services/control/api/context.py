"""What every request works with: the service's parts, and the caller once known."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends, Request
from prometheus_client import CollectorRegistry

from schemas.identifiers import UnitId
from services.control.alerting.sounds import Workshop
from services.control.api.rates import RateLimit
from services.control.engine_settings import EnrolmentSettings, RelaySettings, SensingSettings
from services.control.errors import Fault, Forbidden
from services.control.measurer import Measurer
from services.control.media_files import MediaFiles
from services.control.metrics import ControlMetrics
from services.control.passwords import Passwords
from services.control.permissions import Actor, Permission, Rights
from services.control.relay_files import RelayFiles
from services.control.security.reporter import SecurityLog
from services.control.settings import HttpSettings, MediaSettings, PolicySettings, SessionSettings
from services.control.trust.issuer import Issuer
from services.control.trust.keyring import Keyring
from services.control.trust.secret_box import SecretBox
from services.control.unit_directory import UnitDirectory
from services.shared.database.pool import Database

Clock = Callable[[], datetime]
Facts = Callable[[], Awaitable[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything routes stand on; made once by the composition."""

    database: Database
    directory: UnitDirectory
    passwords: Passwords
    files: MediaFiles
    relay_files: RelayFiles
    measurer: Measurer
    workshop: Workshop
    http: HttpSettings
    media: MediaSettings
    relays: RelaySettings
    enrolment: EnrolmentSettings
    issuer: Issuer | None  # None: nobody can enrol here
    sessions: SessionSettings
    policy: PolicySettings
    sensing: SensingSettings
    secret_box: SecretBox | None
    horizon_days: int
    registry: CollectorRegistry
    broker_is_connected: Callable[[], bool]
    clock: Clock
    keyring: Keyring  # signs what cannot wait for the planner: alerts
    account_rates: RateLimit = field(default_factory=lambda: RateLimit(0))
    security: SecurityLog = field(default_factory=SecurityLog)
    wake_alerts: Callable[[], None]  # of the lane of this process; the others are woken by the database


def services_of(request: Request) -> Services:
    """The parts of this service."""
    services: Services = request.app.state.services
    return services


def metrics_of(request: Request) -> ControlMetrics:
    """The metrics of this service."""
    metrics: ControlMetrics = request.app.state.metrics
    return metrics


Metered = Annotated[ControlMetrics, Depends(metrics_of)]
Parts = Annotated[Services, Depends(services_of)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks, what they may do today, from where, and the instant the request is judged by."""

    actor: Actor
    rights: Rights
    origin: str | None
    now: datetime
    csrf_token: str | None = None

    def demand(self, permission: Permission, unit_id: UnitId, *, field: str) -> None:
        """Raise `Forbidden` unless the permission holds in the unit that `field` names."""
        if not self.rights.may(permission, unit_id):
            unit = self.rights.tree.get(unit_id)
            facts = {"unit": unit.name if unit else str(unit_id)}
            raise Forbidden("not_permitted_here", faults=[Fault(field, "unit_outside_own_subtree", facts)], facts=facts)


def origin_of(request: Request) -> str:
    """The network address the request came from."""
    return request.client.host if request.client else ""
