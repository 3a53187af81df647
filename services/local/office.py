"""The public HTTP API as the people of the demonstration use it: each with a login, a session and an authenticator app."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

from services.control.trust import totp
from services.shared.clock import utc_now

TIMEOUT = timedelta(seconds=60)
_FACTOR = "/api/v1/account/second-factor"


class OfficeFailed(Exception):
    """Control refused or could not do what was asked; the message is its problem document."""


class Authenticator:
    """An authenticator app (RFC 6238). With a file it is kept there, which only its owner can read."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._address = ""
        self._last_step = 0

    @property
    def address(self) -> str:
        """The `otpauth` address it was set up with; "": it was not."""
        self._look()
        return self._address

    def set_up(self, address: str) -> None:
        """Take in an address, as from a QR code."""
        self._address, self._last_step = address, 0
        self._keep()

    async def code(self) -> str:
        """A code that was not given before. The second within half a minute is that of the next one; a third waits."""
        self._look()
        step = max(totp.step_at(utc_now()), self._last_step + 1)
        taken_from = datetime.fromtimestamp((step - totp.STEPS_ASIDE) * totp.PERIOD_S, UTC)
        await asyncio.sleep(max(0.0, (taken_from - utc_now()).total_seconds()))
        self._last_step = step
        self._keep()
        (text,) = parse_qs(urlsplit(self._address).query)["secret"]
        return totp.code_at(base64.b32decode(text + "=" * (-len(text) % 8)), step)

    def _look(self) -> None:
        if self._file is not None and self._file.exists():
            kept = json.loads(self._file.read_text())
            self._address, self._last_step = kept["address"], kept["last_step"]

    def _keep(self) -> None:
        if self._file is None:
            return
        draft = self._file.with_suffix(".new")
        draft.touch(mode=0o600)
        draft.write_text(json.dumps({"address": self._address, "last_step": self._last_step}) + "\n")
        draft.replace(self._file)


class Desk:
    """One person's session. Where control asks for a second factor they set one up, or show a code, and ask again."""

    def __init__(self, client: httpx.AsyncClient, password: str, app: Authenticator) -> None:
        self._client = client
        self._password = password
        self._app = app

    async def get(self, path: str, **parameters: Any) -> Any:
        """The JSON at `path`; raises `OfficeFailed`."""
        return _answer(await self._client.get(f"/api/v1{path}", params=parameters))

    async def post(
        self, path: str, body: Mapping[str, Any] | None = None, *, headers: Mapping[str, str] | None = None
    ) -> Any:
        """The JSON answer to `body`; raises `OfficeFailed`."""
        response = await self._client.post(f"/api/v1{path}", json=body, headers=headers)
        if response.status_code == httpx.codes.FORBIDDEN and await self._could_show(response.json()["code"]):
            response = await self._client.post(f"/api/v1{path}", json=body, headers=headers)
        return _answer(response)

    async def upload(self, sound: bytes, *, unit_id: str) -> Any:
        """What control measured of a sound file; raises `OfficeFailed`."""
        files = {"file": ("ban-tin.ogg", sound, "audio/ogg")}
        return _answer(await self._client.post("/api/v1/media", files=files, data={"unit_id": unit_id}))

    async def enrol(self) -> None:
        """Set up the app, unless the account has one; raises `OfficeFailed`."""
        if _answer(await self._client.get(_FACTOR))["is_in_force"]:
            return
        begun = _answer(await self._client.post(_FACTOR, json={"password": self._password}))
        self._app.set_up(begun["address"])
        _answer(await self._client.post(f"{_FACTOR}/confirm", json={"code": await self._app.code()}))

    async def _could_show(self, refusal: str) -> bool:
        """Do what a refusal asks for, where it asks for a second factor."""
        if refusal == "second_factor_not_enrolled":
            await self.enrol()
        elif refusal == "second_factor_needed" and self._app.address:
            shown = {"code": await self._app.code()}
            _answer(await self._client.post("/api/v1/sessions/current/second-factor", json=shown))
        else:
            return False
        return True


@asynccontextmanager
async def desk(url: str, login: str, password: str, *, app: Authenticator | None = None) -> AsyncIterator[Desk]:
    """A session of `login` at the control that answers at `url`; raises `OfficeFailed`.

    Without an app that is kept, one set up in this session is lost with it.
    """
    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT.total_seconds(), trust_env=False) as client:
        session = _answer(await client.post("/api/v1/sessions", json={"login": login, "password": password}))
        client.headers["X-CSRF-Token"] = session["csrf_token"]
        yield Desk(client, password, app or Authenticator())
        _answer(await client.delete("/api/v1/sessions/current"))


def _answer(response: httpx.Response) -> Any:
    if response.is_error:
        raise OfficeFailed(f"{response.request.method} {response.request.url.path}: {response.text}")
    return response.json() if response.content else None
