"""The HTTP application: routers, error mapping, limits."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from services.control.alerting import cap_xml
from services.control.api import errors
from services.control.api.access import COOKIE, CSRF_HEADER
from services.control.api.context import Services
from services.control.api.middleware import BodyLimit, Door, Envelope
from services.control.api.openapi import document
from services.control.api.routes import (
    accounts,
    alert_reach,
    alert_templates,
    alert_tests,
    alerts,
    broadcasts,
    bulletins,
    calendars,
    cap_messages,
    cap_senders,
    devices,
    enrolments,
    exceptions,
    explain,
    groups,
    health,
    media,
    offers,
    operation_requests,
    overview,
    policies,
    priorities,
    proof_sheets,
    proposals,
    quarantine,
    relays,
    requisitions,
    second_factor,
    sensor_rules,
    sessions,
    units,
    volumes,
)
from services.control.metrics import ControlMetrics
from services.control.pages import (
    account_pages,
    alert_pages,
    alert_template_pages,
    alert_test_pages,
    approval_pages,
    broadcast_pages,
    cap_sender_pages,
    change_pages,
    making_pages,
    pages,
    proposal_pages,
    quarantine_pages,
    release_pages,
    second_person_pages,
    sensor_rule_pages,
    unit_pages,
    why_pages,
)
from services.control.settings import MIB, HttpSettings, MediaSettings

VERSION = "1"
_OPENAPI = "/api/v1/openapi.json"

_ROUTERS = (
    cap_messages.router,  # before one alert: its feed is no alert
    alerts.router,
    alert_reach.router,
    operation_requests.router,
    sessions.router,
    second_factor.router,
    accounts.router,
    units.router,
    proof_sheets.router,
    calendars.router,
    devices.router,
    volumes.router,
    enrolments.router,
    explain.router,
    media.router,
    bulletins.router,
    broadcasts.router,
    groups.router,
    relays.router,
    requisitions.router,
    offers.router,
    policies.router,
    priorities.router,
    exceptions.router,
    alert_templates.router,
    alert_tests.router,
    proposals.router,
    cap_senders.router,
    sensor_rules.router,
    overview.router,
    quarantine.router,
    health.router,
)

_PAGES = (
    pages.router,
    unit_pages.router,
    approval_pages.router,
    quarantine_pages.router,
    why_pages.router,
    broadcast_pages.router,
    making_pages.router,
    # Before the page of one alert: new, silence and proposals are no ids.
    release_pages.router,
    second_person_pages.router,
    proposal_pages.router,
    change_pages.router,
    alert_pages.router,
    sensor_rule_pages.router,
    alert_test_pages.router,
    alert_template_pages.router,
    cap_sender_pages.router,
    account_pages.router,
)

_ABOUT = f"""Programs log in with `Authorization: Bearer <API token>`. Browsers use the session cookie `{COOKIE}` (behind HTTPS
`__Host-{COOKIE}`); with it, POST, PUT, PATCH and DELETE need the header `{CSRF_HEADER}`.

Errors are problem documents (RFC 9457) with a stable `code`; `errors` names each field, what is wrong and how to mend
it. Texts are Vietnamese, or English with `Accept-Language: en`. Instants carry their offset; days and times of
broadcasts are local to the broadcast's `time_zone`; what policies say, sessions too, holds by the clock of the province,
whichever zone a broadcast names. Intervals are half-open: `ends_on`, `valid_until` and the like are
the first day that is no longer part.

What two people change at once is kept apart by ETags: a change names the version it means in `If-Match`. Without it the
answer is 428; with another version than the stored one it is 409, code `version_mismatch`, showing both as `present` and
`given`."""


def create_api(services: Services, metrics: ControlMetrics) -> FastAPI:
    """The application over the parts of the service."""
    app = routed()
    app.state.services = services
    app.state.metrics = metrics
    errors.install(app, pages.respond_to_error)
    app.add_middleware(
        BodyLimit,
        limit_of=body_limits(services.http, services.media),
        wait=services.http.body_wait,
        respond=pages.respond_to_error,
    )
    app.add_middleware(Door, settings=services.http, metrics=metrics, respond=pages.respond_to_error)
    app.add_middleware(Envelope, is_https=services.http.is_https, metrics=metrics, respond=pages.respond_to_error)
    return app


def routed() -> FastAPI:
    """The routes alone, for whoever asks what there is."""
    app = FastAPI(
        title="Loa",
        version=VERSION,
        description=_ABOUT,
        # The interactive pages load scripts from elsewhere, which our own content security policy refuses.
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    for router in (*_ROUTERS, *_PAGES):
        # Added as they are and not included behind a router of the framework's own, so that a walk over `app.routes`
        # meets every route there is (the test of default deny does) and metrics see each route's pattern.
        app.router.routes.extend(router.routes)

    @app.get(_OPENAPI, include_in_schema=False)
    async def openapi(request: Request) -> JSONResponse:
        return JSONResponse(document(request.app))

    return app


def body_limits(http: HttpSettings, media_settings: MediaSettings) -> Callable[[str], int]:
    """How large a body may be, by path."""
    exceptions = {
        "/api/v1/cap": max(http.max_body_mib * MIB, cap_xml.MAX_BYTES + MIB),
        "/api/v1/cap/deliveries": max(http.max_body_mib * MIB, cap_xml.MAX_BYTES + MIB),
        "/api/v1/media": (media_settings.max_file_mib + 1) * MIB,  # the form around the file
        "/api/v1/units/import": http.max_batch_body_mib * MIB,
        "/api/v1/units/reform": http.max_batch_body_mib * MIB,
        "/api/v1/devices/batch": http.max_batch_body_mib * MIB,
    }
    return lambda path: exceptions.get(path, http.max_body_mib * MIB)
