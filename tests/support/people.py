"""People of the API with a session, a password and an authenticator app."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import httpx

from services.control.permissions import Role
from services.control.trust import totp
from tests.support.control_api import PASSWORD, Api

FACTOR = "/api/v1/account/second-factor"


@dataclass(slots=True)
class Person:
    """Somebody logged in, with an app."""

    api: Api
    account_id: str
    login: str
    csrf: dict[str, str]
    secret: bytes = b""
    recovery: tuple[str, ...] = ()

    def code(self) -> str:
        """What the app shows now."""
        return totp.code_at(self.secret, totp.step_at(self.api.clock.now))

    async def post(self, path: str, json: Any = None, *, alone: str | None = None, **headers: str) -> httpx.Response:
        """Send something in the session; `alone` is the reason of who breaks the glass."""
        params = {"break_glass": alone} if alone is not None else None
        return await self.api.client.post(path, json=json, params=params, headers={**self.csrf, **headers})

    async def enrol(self) -> None:
        """Set up the app."""
        begun = await self.post(FACTOR, {"password": PASSWORD})
        assert begun.status_code == 201, begun.text
        text = begun.json()["secret"]
        self.secret = base64.b32decode(text + "=" * (-len(text) % 8))
        confirmed = await self.post(f"{FACTOR}/confirm", {"code": self.code()})
        assert confirmed.status_code == 200, confirmed.text
        self.recovery = tuple(confirmed.json()["recovery_codes"])

    async def again(self) -> Person:
        """The same person in another session; the client's cookie is that of this one from now on."""
        csrf = await _log_in(self.api, self.login)
        return Person(self.api, self.account_id, self.login, csrf, self.secret, self.recovery)


async def somebody(api: Api, role: Role = Role.OPERATOR, unit: str = "1") -> Person:
    """A new person, logged in; the client's cookie is theirs from now on."""
    account = await api.account((role, unit))
    return Person(api, str(account.account_id), account.login, await _log_in(api, account.login))


async def _log_in(api: Api, login: str) -> dict[str, str]:
    response = await api.client.post("/api/v1/sessions", json={"login": login, "password": PASSWORD})
    assert response.status_code == 201, response.text
    return {"X-CSRF-Token": response.json()["csrf_token"]}
