"""The public HTTP API as the people of the demonstration use it: each with their own login and session."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx

TIMEOUT = timedelta(seconds=60)


class OfficeFailed(Exception):
    """Control refused or could not do what was asked; the message is its problem document."""


class Desk:
    """One person's session."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def get(self, path: str, **parameters: Any) -> Any:
        """The JSON at `path`; raises `OfficeFailed`."""
        return _answer(await self._client.get(f"/api/v1{path}", params=parameters))

    async def post(
        self, path: str, body: Mapping[str, Any] | None = None, *, headers: Mapping[str, str] | None = None
    ) -> Any:
        """The JSON answer to `body`; raises `OfficeFailed`."""
        return _answer(await self._client.post(f"/api/v1{path}", json=body, headers=headers))

    async def upload(self, sound: bytes, *, unit_id: str) -> Any:
        """What control measured of a sound file; raises `OfficeFailed`."""
        files = {"file": ("ban-tin.ogg", sound, "audio/ogg")}
        return _answer(await self._client.post("/api/v1/media", files=files, data={"unit_id": unit_id}))


@asynccontextmanager
async def desk(url: str, login: str, password: str) -> AsyncIterator[Desk]:
    """A session of `login` at the control that answers at `url`; raises `OfficeFailed`."""
    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT.total_seconds(), trust_env=False) as client:
        session = _answer(await client.post("/api/v1/sessions", json={"login": login, "password": password}))
        client.headers["X-CSRF-Token"] = session["csrf_token"]
        yield Desk(client)
        _answer(await client.delete("/api/v1/sessions/current"))


def _answer(response: httpx.Response) -> Any:
    if response.is_error:
        raise OfficeFailed(f"{response.request.method} {response.request.url.path}: {response.text}")
    return response.json() if response.content else None
