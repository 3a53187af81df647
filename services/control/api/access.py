"""Who may use which route: default deny, each route with one declared permission and where it must hold.

`requires(permission, scope)` is the only way to learn who is asking. Routes without it are public, and those stand in
`PUBLIC`; a test compares both with the routes there are.

A session cookie counts for unsafe methods only together with its CSRF token; a bearer token needs none, because no
browser sends it by itself. Where a route says so, an API token may also come as the password of HTTP Basic beside the
account's login: calendar programs can send nothing else. Such routes only read, so what is stored in a calendar program
in this form opens nothing more.
"""

from __future__ import annotations

import base64
import enum
import math
import time
import uuid
from datetime import datetime
from typing import Any

from fastapi import Depends, Request
from fastapi.routing import APIRoute

from schemas.errors import InvalidIdentifier
from schemas.identifiers import DeviceId, UnitId
from services.control import (
    account_store,
    broadcast_store,
    bulletin_store,
    credentials,
    device_store,
    group_store,
    relay_store,
)
from services.control.accounts import TOUCH_AFTER
from services.control.alerting import template_store as alert_template_store
from services.control.api.context import Caller, Services, metrics_of, origin_of, services_of
from services.control.errors import Forbidden, NotFound, TooManyAttempts, Unauthenticated
from services.control.permissions import Actor, Permission, Rights
from services.control.sensing import rule_store
from services.control.settings import HttpSettings
from services.shared.database.pool import Connection

COOKIE = "loa_session"
# Behind HTTPS, where browsers hold such a cookie to this very host, its whole path, and HTTPS (RFC 6265bis, 4.1.3.2).
_COOKIE_OF_HOST = f"__Host-{COOKIE}"
CSRF_HEADER = "X-CSRF-Token"
CSRF_FIELD = "csrf_token"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_KINDS = {"template_id": "alert_template"}  # what a path names more shortly than the words for it being unknown

PUBLIC = frozenset(
    {
        ("POST", "/api/v1/sessions"),
        # Devices have no account: a claim code, or the key of the present certificate, says who they are.
        ("POST", "/api/v1/enrolments"),
        ("POST", "/api/v1/enrolments/renewals"),
        ("GET", "/api/v1/revocation-list"),  # signed, and for everybody to go by
        ("GET", "/api/v1/openapi.json"),
        ("GET", "/healthz"),
        ("GET", "/readyz"),
        ("GET", "/metrics"),
        ("GET", "/media/{sha256}"),
        ("HEAD", "/media/{sha256}"),
        ("GET", "/relays/{source_id}"),
        ("GET", "/relays/{source_id}/{sha256}"),
        ("GET", "/login"),
        ("POST", "/login"),
        ("GET", "/static/{name}"),
    }
)


class Scope(enum.StrEnum):
    """Where the permission must hold."""

    ANYWHERE = "anywhere"  # in some unit; what is listed is limited to the units where it holds
    ROOT = "root"  # in the root: concerns the whole tree
    UNIT = "unit"  # in the unit of the path
    DEVICE = "device"  # in the unit of the device of the path
    BULLETIN = "bulletin"  # in the unit of the bulletin of the path
    BROADCAST = "broadcast"  # in the unit that issued the broadcast of the path
    GROUP = "group"  # in the unit that keeps the group of the path
    RELAY_SOURCE = "relay_source"  # in the unit that keeps the source of the path
    ALERT_TEMPLATE = "alert_template"  # in the unit that keeps the template of the path
    SENSOR_RULE = "sensor_rule"  # in the unit that keeps the rule of the path
    BODY = "body"  # in the unit that the body or query names: the route calls `Caller.demand`


class Requirement:
    """The declared permission of a route; as a dependency it gives the caller or raises."""

    def __init__(self, permission: Permission, scope: Scope, *, takes_basic: bool = False) -> None:
        self.permission = permission
        self.scope = scope
        self.takes_basic = takes_basic

    async def __call__(self, request: Request) -> Caller:
        """Who asks. Raises `Unauthenticated`, `Forbidden`, or `NotFound` for what the path names."""
        services = services_of(request)
        now = services.clock()
        async with services.database.connection() as connection:
            actor, csrf_token = await self._authenticated(request, connection, services, now)
            request.state.actor = actor  # for who tells of a refusal
            wait = services.account_rates.wait(str(actor.account_id), now=time.monotonic())
            if wait:
                metrics_of(request).http_limited.labels("account").inc()
                raise TooManyAttempts("too_many_requests", retry_after_s=math.ceil(wait))
            tree = await services.directory.tree(connection, now=now)
            rights = Rights(actor.grants, tree, now=now, narrowing=actor.narrowing)
            caller = Caller(actor=actor, rights=rights, origin=origin_of(request), now=now, csrf_token=csrf_token)
            if not rights.may_anywhere(self.permission):
                raise Forbidden("not_permitted", facts={"permission": self.permission.value})
            await self._check(request.path_params, connection, caller, services)
        return caller

    async def _authenticated(
        self, request: Request, connection: Connection, services: Services, now: datetime
    ) -> tuple[Actor, str | None]:
        if not self.takes_basic:
            return await _authenticated(request, connection, services, now)
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        try:
            if scheme.lower() == "basic":
                return await _actor_of_basic(connection, given, origin_of(request), now), None
            return await _authenticated(request, connection, services, now)
        except Unauthenticated as error:
            raise Unauthenticated(error.code, takes_basic=True) from None

    async def _check(self, path: dict[str, Any], connection: Connection, caller: Caller, services: Services) -> None:
        match self.scope:
            case Scope.ANYWHERE | Scope.BODY:
                return
            case Scope.ROOT:
                if not caller.rights.may_in_root(self.permission):
                    raise Forbidden("not_permitted_in_root")
                return
            case Scope.UNIT:
                unit_id, field = _unit_in(path), "unit_id"
                await _check_unit_exists(connection, services, unit_id)
            case Scope.DEVICE:
                unit_id, field = await device_store.unit_of(connection, _device_id_in(path)), "device_id"
            case Scope.BULLETIN:
                found = await bulletin_store.bulletin(connection, _uuid_in(path, "bulletin_id"))
                unit_id, field = found.unit_id, "bulletin_id"
            case Scope.GROUP:
                unit_id, field = await group_store.unit_of(connection, _uuid_in(path, "group_id")), "group_id"
            case Scope.RELAY_SOURCE:
                unit_id = await relay_store.unit_of(connection, _uuid_in(path, "relay_source_id"))
                field = "relay_source_id"
            case Scope.ALERT_TEMPLATE:
                unit_id = await alert_template_store.unit_of(connection, _uuid_in(path, "template_id"))
                field = "template_id"
            case Scope.SENSOR_RULE:
                unit_id = await rule_store.unit_of(connection, _uuid_in(path, "sensor_rule_id"))
                field = "sensor_rule_id"
            case _:
                unit_id = await broadcast_store.unit_of(connection, _uuid_in(path, "broadcast_id"))
                field = "broadcast_id"
        caller.demand(self.permission, unit_id, field=field)


def cookie_name(http: HttpSettings) -> str:
    """What the session's cookie is called."""
    return _COOKIE_OF_HOST if http.is_https else COOKIE


def requirement_of(route: APIRoute) -> Requirement | None:
    """What a route declares; None for a public one."""
    waiting = [route.dependant]
    while waiting:
        for dependency in waiting.pop().dependencies:
            if isinstance(dependency.call, Requirement):
                return dependency.call
            waiting.append(dependency)
    return None


def check_same_site(request: Request) -> None:
    """Raise `Forbidden` for a login sent by another site's page: it would log people into somebody else's account."""
    origin = request.headers.get("origin")
    host = origin.rpartition("://")[2] if origin else None
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none") or (
        host is not None and host != request.headers.get("host")
    ):
        raise Forbidden("cross_site")


def requires(permission: Permission, scope: Scope) -> Any:
    """The dependency that lets only those in who hold `permission` where `scope` says."""
    return Depends(Requirement(permission, scope))


def requires_of_calendars(permission: Permission, scope: Scope) -> Any:
    """The same for routes that only read, and are read by programs that know nothing but HTTP Basic."""
    return Depends(Requirement(permission, scope, takes_basic=True))


async def _actor_of_basic(connection: Connection, given: str, origin: str, now: datetime) -> Actor:
    """Who login and API token stand for (RFC 7617); the login must be the account's own."""
    try:
        login, _, token = base64.b64decode(given.strip(), validate=True).decode("utf-8").partition(":")
    except ValueError:
        raise Unauthenticated("token_not_valid") from None
    actor = await _actor_of_token(connection, token, origin, now)
    if actor is None or actor.login != login.strip().lower():
        raise Unauthenticated("token_not_valid")
    return actor


async def _actor_of_token(connection: Connection, token: str, origin: str, now: datetime) -> Actor | None:
    found = await account_store.actor_of_token(connection, credentials.stored_form(token), now=now)
    if found is None:
        return None
    actor, last_used_at = found
    if actor.token_id is not None and (last_used_at is None or now - last_used_at > TOUCH_AFTER):
        await account_store.touch_token(connection, actor.token_id, origin=origin, at=now)
    return actor


async def _authenticated(
    request: Request, connection: Connection, services: Services, now: datetime
) -> tuple[Actor, str | None]:
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    if scheme:
        actor = None
        if scheme.lower() == "bearer":
            actor = await _actor_of_token(connection, bearer.strip(), origin_of(request), now)
        if actor is None:
            raise Unauthenticated("token_not_valid")
        return actor, None
    cookie = request.cookies.get(cookie_name(services.http))
    if cookie is None:
        raise Unauthenticated("login_needed")
    found = await account_store.actor_of_session(
        connection, credentials.stored_form(cookie), now=now, seen_after=now - services.sessions.idle
    )
    if found is None:
        raise Unauthenticated("session_over")
    actor, last_seen_at = found
    if request.method not in _SAFE and not credentials.is_csrf_token(await _given_csrf_token(request), cookie):
        raise Forbidden("csrf_token_missing")
    if now - last_seen_at > TOUCH_AFTER and actor.session_id is not None:
        await account_store.touch_session(connection, actor.session_id, at=now)
    return actor, credentials.csrf_token(cookie)


async def _given_csrf_token(request: Request) -> str | None:
    """From the header; a form of a page sends it as a field."""
    header = request.headers.get(CSRF_HEADER)
    if header is not None or request.url.path.startswith("/api/"):
        return header
    field = (await request.form()).get(CSRF_FIELD)
    return field if isinstance(field, str) else None


def _uuid_in(path: dict[str, Any], name: str) -> uuid.UUID:
    """The id of the path; what is no UUID names nothing."""
    value = path[name]
    if isinstance(value, uuid.UUID):
        return value
    kind = _KINDS.get(name, name.removesuffix("_id"))
    try:
        return uuid.UUID(value)
    except ValueError:
        raise NotFound(f"{kind}_not_found", facts={"id": str(value)[:64]}) from None


def _device_id_in(path: dict[str, Any]) -> DeviceId:
    """The device id of the path; what cannot be one names nothing."""
    value = str(path["device_id"])
    try:
        return DeviceId.parse(value)
    except InvalidIdentifier:
        raise NotFound("device_not_found", facts={"id": value[:64]}) from None


def _unit_in(path: dict[str, Any]) -> UnitId:
    return UnitId(_uuid_in(path, "unit_id"))


async def _check_unit_exists(connection: Connection, services: Services, unit_id: UnitId) -> None:
    history = await services.directory.history(connection)
    if all(version.unit_id != unit_id for version in history.versions):
        raise NotFound("unit_not_found", facts={"id": str(unit_id)})
