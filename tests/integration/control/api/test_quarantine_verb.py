"""`./loa quarantine` against a control that really listens: what it prints, and how it ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from services.control.app import serving
from services.control.permissions import Role
from services.control.settings import HttpSettings
from services.local import quarantine
from services.local.platform import free_port
from tests.support.control_api import PASSWORD, Api
from tests.support.quarantine import GATEWAY, STRANGER, add_inmate, heartbeat, settle

pytestmark = pytest.mark.integration


@pytest_asyncio.fixture
async def url(api: Api, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """Where control answers; nothing of the surroundings says who asks."""
    for name in ("LOA_URL", "LOA_TOKEN", "LOA_TOKEN_FILE", "LOA_LOGIN", "LOA_PASSWORD", "LANG"):
        monkeypatch.delenv(name, raising=False)
    app: Any = api.app
    async with serving(app, HttpSettings(hosts=("127.0.0.1",), port=0)) as (address,):
        monkeypatch.setenv("LOA_URL", f"http://{address}")
        yield f"http://{address}"


async def as_(api: Api, monkeypatch: pytest.MonkeyPatch, role: Role, unit: str = "24") -> None:
    headers = await api.person((role, unit))
    monkeypatch.setenv("LOA_TOKEN", headers["Authorization"].removeprefix("Bearer "))


async def loa(*arguments: str) -> int:
    try:
        return await asyncio.to_thread(quarantine.main, arguments)
    except SystemExit as end:
        return int(str(end.code))


async def said(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    ended = await loa(*arguments)
    shown = capsys.readouterr()
    assert ended == status, shown
    return shown.out if status == 0 else shown.out + shown.err


async def test_an_operator_works_the_inbox_off(
    api: Api, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    await as_(api, monkeypatch, Role.ADMINISTRATOR)
    number, other = await add_inmate(api), await add_inmate(api, reason="not_cbor", detail="\x1b[2J evil")

    table = await said(capsys, "list")
    assert "NUMBER" in table
    assert STRANGER in table
    assert "1  unknown_device: The device is not registered." in table
    assert "\x1b" not in table
    assert [each["quarantine_id"] for each in json.loads(await said(capsys, "list", "--json"))["inmates"]] == [
        other,
        number,
    ]
    filtered = (await said(capsys, "list", "--reason", "unknown_device")).splitlines()
    assert (filtered[1].split()[0], filtered[2]) == (str(number), "")
    shown = await said(capsys, "show", str(number))
    assert "to do      Register the device (POST /api/v1/devices)" in shown
    assert "if replayed now: The sender has a certificate but is not registered." in shown
    fixed = await said(capsys, "fix", str(number), "--device", "cum-dung-1", "--why", "typing error")
    assert f"loa/v1/{GATEWAY}/up/heartbeat/cum-dung-1" in fixed
    assert "request 1: 1 to be judged anew" in await said(capsys, "replay", str(number), "--why", "fixed")
    assert json.loads(await said(capsys, "discard", "--reason", "not_cbor", "--why", "x", "--json"))["inmates"] == 1
    assert "nothing is open" in await said(capsys, "list")
    assert "replay by" in await said(capsys, "show", str(number))


async def test_waiting_ends_with_what_became_of_it(
    api: Api, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    await as_(api, monkeypatch, Role.OPERATOR)
    good, bad, left = await add_inmate(api), await add_inmate(api), await add_inmate(api)

    async def ingest(number: int, result: str, reason: str | None = None) -> None:
        while (request := await api.fetchval("SELECT max(decision_id) FROM control.quarantine_decisions")) is None:
            await asyncio.sleep(0.02)
        await settle(api, request, number, result, reason=reason)

    async with asyncio.TaskGroup() as group:
        group.create_task(ingest(good, "stored"))
        text = await said(capsys, "replay", str(good), "--why", "x", "--wait")
    assert "1  stored: Stored." in text
    await settle(api, 2, bad, "refused", reason="wrong_kind")
    text = await said(capsys, "replay", str(bad), "--why", "x", "--wait", status=1)
    assert "1  refused: Still not admitted." in text
    text = await said(capsys, "replay", str(left), "--why", "x", "--wait", "--timeout", "1", status=1)
    assert "1 still wait; is ingest running?" in text


async def test_waiting_for_what_a_later_decision_took_over_says_so(
    api: Api, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    await as_(api, monkeypatch, Role.OPERATOR)
    first, second = await add_inmate(api), await add_inmate(api)
    headers = await api.person((Role.OPERATOR, "24"))
    real, loop, waits = quarantine.Clerk.get, asyncio.get_running_loop(), True

    async def overtake() -> None:
        nonlocal waits
        if not waits:
            return
        waits = False
        await settle(api, 1, first, "stored")
        response = await api.client.post(
            "/api/v1/quarantine/discards", json={"quarantine_ids": [second], "why": "x"}, headers=headers
        )
        assert response.status_code == 201

    def get(self: quarantine.Clerk, path: str, **parameters: Any) -> Any:
        if path == "/quarantine/requests/1":
            asyncio.run_coroutine_threadsafe(overtake(), loop).result()
        return real(self, path, **parameters)

    monkeypatch.setattr(quarantine.Clerk, "get", get)
    text = await said(capsys, "replay", str(first), str(second), "--why", "x", "--wait", status=1)

    assert "1  stored: Stored." in text
    assert "1  not judged: a later decision took them over" in text


@pytest.mark.parametrize("stage", ["asking", "waiting"])
async def test_stopping_it_is_no_accident(
    api: Api, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stage: str
) -> None:
    await as_(api, monkeypatch, Role.OPERATOR)
    number = await add_inmate(api)

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(quarantine.Clerk, "post" if stage == "asking" else "get", stop)
    text = await said(capsys, "replay", str(number), "--why", "x", "--wait", status=130)

    assert ("quarantine: stopped" if stage == "asking" else "request 1 goes on") in text


async def test_nothing_a_device_says_of_itself_moves_the_cursor(
    api: Api, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    await as_(api, monkeypatch, Role.OPERATOR)
    number = await add_inmate(api, reason="not_cbor", detail="\x1b[2J evil", device="\x1b[31m", principal="\x9b1A")
    await settle(api, 1, number, "refused", reason="\x1b[0m")
    waited = await said(capsys, "replay", str(number), "--why", "x", "--wait", status=1)

    shown = await said(capsys, "show", str(number))

    assert "detail     \ufffd[2J evil" in shown
    assert all(each.isprintable() for each in (shown + waited).splitlines())


async def test_a_login_does_as_well_as_a_token(
    api: Api, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    account = await api.account((Role.OPERATOR, "24"))
    number = await add_inmate(api)
    monkeypatch.setenv("LOA_PASSWORD", PASSWORD)
    await said(capsys, "--login", account.login, "discard", str(number), "--why", "x")
    assert await api.fetchval("SELECT count(*) FROM control.sessions WHERE ended_at IS NULL") == 0
    monkeypatch.setenv("LOA_PASSWORD", "wrong")
    assert "wrong_login_or_password" in await said(capsys, "--login", account.login, "list", status=3)
    file = tmp_path / "token"
    file.write_text((await api.token(account))["Authorization"].removeprefix("Bearer ") + "\n")
    await said(capsys, "--token-file", str(file), "list")
    # Behind the verb, too, where it counts more than what stands before it.
    monkeypatch.setenv("LOA_PASSWORD", PASSWORD)
    await said(capsys, "list", "--login", account.login)
    await said(capsys, "--token-file", "/nowhere", "list", "--token-file", str(file))
    missing = await said(capsys, "list", "--token-file", "/nowhere", status=3)
    assert missing == "quarantine: token file: /nowhere: No such file or directory\n"


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("show", "4711"), 1, "inmate_not_found"),
        (("show", "x"), 2, "is no number"),
        (("show", "0"), 2, "is no number"),
        (("replay", "4711", "--why", "x"), 1, "quarantine_ids[0]: There is no message 4711."),
        (("replay", "--why", "x"), 2, "name messages by their numbers"),
        (("replay", "1", "--reason", "not_cbor", "--why", "x"), 2, "name messages by their numbers"),
        (("discard", "1"), 2, "--why"),
        (("discard", "--reason", "because", "--why", "x"), 1, "matching.reason"),
        (("list", "--reason", "because"), 1, "reason: "),
        (("list", "--unit", "x"), 1, "unit_id: This is no UUID."),
        (("list", "--since", "yesterday"), 2, "is no instant"),
        (("list", "--since", "2026-03-01T05:00"), 2, "has no offset"),
        (("fix", "1", "--hex", "zz", "--why", "x"), 1, "payload_hex: This is no hexadecimal text."),
        (("fix", "1", "--diagnostic", "{0", "--why", "x"), 1, "payload_diagnostic: It cannot be read from character 3"),
        (("fix", "1", "--hex", "00", "--version", "1", "--why", "x"), 2, "not allowed with"),
        (("fix", "1", "--why", "x"), 1, "The copy is the same"),
        (("lost",), 2, "invalid choice"),
        ((), 2, "required"),
        (("--url", "ftp://x", "list"), 2, "is no address"),
        (("--token-file", "/nowhere", "list"), 3, "token file"),
    ],
)
async def test_what_cannot_be_is_said_with_its_status(
    api: Api,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    status: int,
    words: str,
) -> None:
    await as_(api, monkeypatch, Role.ADMINISTRATOR)
    assert await add_inmate(api, heartbeat(at=api.clock.now)) == 1
    assert words in await said(capsys, *arguments, status=status)


async def test_who_may_not_and_who_is_nobody(
    api: Api, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "LOA_TOKEN" in await said(capsys, "list", status=3)
    monkeypatch.setenv("LOA_TOKEN", "loa_nobody")
    assert "token_not_valid" in await said(capsys, "list", status=3)
    await as_(api, monkeypatch, Role.OPERATOR, "1")
    assert "not_permitted_in_root" in await said(capsys, "list", status=3)
    await as_(api, monkeypatch, Role.OPERATOR)
    number = await add_inmate(api)
    assert "correct_quarantine" in await said(
        capsys, "fix", str(number), "--device", "cum-dung-1", "--why", "x", status=3
    )


async def test_a_control_that_is_away_or_none(
    api: Api, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    await as_(api, monkeypatch, Role.OPERATOR)
    assert "does not answer" in await said(capsys, "--url", f"http://127.0.0.1:{free_port()}", "list", status=4)
    assert "is no control" in await said(capsys, "--url", f"{url}/healthz?x=", "list", status=4)
    assert "is no address" in await said(capsys, "--url", "http://[::1", "list", status=2)
    for nonsense in ("tökén", "a\nb"):
        monkeypatch.setenv("LOA_TOKEN", nonsense)
        assert "LOA_TOKEN holds no token" in await said(capsys, "list", status=3)


async def test_vietnamese_is_spoken_where_the_terminal_speaks_it(
    api: Api, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    await as_(api, monkeypatch, Role.OPERATOR)
    monkeypatch.setenv("LANG", "vi_VN.UTF-8")
    await add_inmate(api)
    assert "Thiết bị chưa được đăng ký." in await said(capsys, "list")
