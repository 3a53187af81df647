"""`./loa cap`: documents are checked without anything running, and handed in to a control that really listens."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from services.control.app import serving
from services.control.permissions import Role
from services.control.settings import HttpSettings
from services.local import cap
from tests.integration.control.api.test_api_second_person import policy
from tests.support.control_api import PASSWORD, Api, add_device, add_media
from tests.support.people import somebody

pytestmark = pytest.mark.integration


@pytest_asyncio.fixture
async def url(api: Api, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """Where control answers, which holds the tone of warnings."""
    for name in ("LOA_URL", "LOA_TOKEN", "LOA_TOKEN_FILE", "LANG"):
        monkeypatch.delenv(name, raising=False)
    sound = bytes.fromhex(await add_media(api))
    for tone in ("notice", "warning", "evacuate", "test"):
        await api.execute("INSERT INTO control.alert_tones (tone, media_sha256) VALUES ($1, $2)", tone, sound)
    app: Any = api.app
    async with serving(app, HttpSettings(hosts=("127.0.0.1",), port=0)) as (address,):
        yield f"http://{address}"


def a_document(api: Api, folder: Path, **changes: str) -> str:
    sent = api.clock.now.isoformat(timespec="seconds")
    expires = (api.clock.now + timedelta(hours=2)).isoformat(timespec="seconds")
    severity = changes.get("severity", "Severe")
    path = folder / "tin.xml"
    path.write_text(
        f"""<alert xmlns="urn:oasis:names:tc:emergency:cap:1.2"><identifier>A-1</identifier>
        <sender>kttv@example.org</sender><sent>{sent}</sent><status>{changes.get("status", "Actual")}</status>
        <msgType>Alert</msgType><scope>Public</scope><info><language>vi-VN</language><category>Met</category>
        <event>Lũ \x9b2J</event><urgency>Immediate</urgency><severity>{severity}</severity>
        <certainty>Likely</certainty><expires>{expires}</expires><area><areaDesc>X</areaDesc>
        <geocode><valueName>loa:unit-code</valueName><value>11</value></geocode></area></info></alert>""",
        "utf-8",
    )
    return str(path)


async def loa(*arguments: str) -> int:
    return await asyncio.to_thread(cap.main, arguments)


async def test_a_document_is_checked_without_anything_running(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("LANG", raising=False)

    assert await loa(a_document(api, tmp_path)) == 0
    good = capsys.readouterr().out
    assert await loa(a_document(api, tmp_path, status="Test")) == 0
    test = capsys.readouterr().out
    assert await loa(a_document(api, tmp_path, severity="Terrible")) == 1
    bad = capsys.readouterr().out
    assert await loa(str(tmp_path / "khong-co.xml")) == 1

    assert "Actual Alert A-1 of kttv@example.org would go on air: vi-VN: Lũ" in good
    assert "\x9b" not in good
    assert "is read and left" in test
    assert "wrong: alert.info[0].severity:" in bad


async def test_a_document_is_handed_in_as_the_word_of_a_unit(
    api: Api, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    document, unit = a_document(api, tmp_path), str(api.units["24"])
    assert await loa(document, "--unit", unit, "--url", url) == 3  # nobody said who
    headers = await api.person((Role.OPERATOR, "24"))
    token = tmp_path / "token"
    token.write_text(headers["Authorization"].removeprefix("Bearer "))
    options = ("--unit", unit, "--url", url, "--token-file", str(token))

    assert await loa(document, *options) == 0
    assert "taken: alert " in capsys.readouterr().out
    assert await api.fetchval("SELECT count(*) FROM control.alerts WHERE origin = 'cap'") == 1
    assert await loa(document, *options) == 1
    assert "alert.identifier" in capsys.readouterr().out
    viewer = await api.person((Role.VIEWER, "24"))
    monkeypatch.setenv("LOA_TOKEN", viewer["Authorization"].removeprefix("Bearer "))
    assert await loa(document, "--unit", unit, "--url", url) == 3
    assert await loa(document, "--unit", unit, "--url", "http://127.0.0.1:1", "--token-file", str(token)) == 4


async def test_what_waits_for_a_second_person_and_what_was_left_out_is_told(
    api: Api, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    operator = await api.person((Role.OPERATOR, "24"))
    monkeypatch.setenv("LOA_TOKEN", operator["Authorization"].removeprefix("Bearer "))
    await add_device(api, "11")
    await policy(api, "24", alerts=1)
    document = Path(a_document(api, tmp_path))
    elsewhere = "<geocode><valueName>loa:unit-code</valueName><value>99</value></geocode></area>"
    document.write_text(document.read_text("utf-8").replace("</area>", elsewhere), "utf-8")
    assert await loa(str(document), "--unit", str(api.units["24"]), "--url", url) == 0
    said = capsys.readouterr().out
    assert "waits for a second person: " in said
    assert "alert.info[0].area[0].geocode: Unknown area: 99." in said


@pytest.mark.parametrize(
    ("url", "token", "status"),
    [
        ("http://[::1", "x", 2),
        ("http://127.0.0.1:port", "x", 2),
        ("nonsense", "x", 4),
        ("http://127.0.0.1:1", "tökén", 3),
        ("http://127.0.0.1:1", "a\nb", 3),
        ("http://127.0.0.1:1", "  ", 3),
    ],
)
async def test_what_cannot_be_meant_is_told_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    url: str,
    token: str,
    status: int,
) -> None:
    monkeypatch.setenv("LOA_TOKEN", token)
    monkeypatch.delenv("LOA_TOKEN_FILE", raising=False)
    document = tmp_path / "tin.xml"
    document.write_text("<alert/>")
    assert await loa(str(document), "--unit", "1", "--url", url) == status
    assert len(capsys.readouterr().err.splitlines()) == 1


async def test_token_file_that_is_none_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document, empty = tmp_path / "tin.xml", tmp_path / "empty"
    document.write_text("<alert/>")
    empty.touch()
    for file, said in ((tmp_path / "nowhere", "No such file"), (empty, "holds no token"), (tmp_path, "directory")):
        assert await loa(str(document), "--unit", "1", "--url", "http://127.0.0.1:1", "--token-file", str(file)) == 3
        (line,) = capsys.readouterr().err.splitlines()
        assert str(file) in line
        assert said in line


@pytest.mark.parametrize("body", ["[1]", '"taken"', "null", "<html>", ""])
async def test_who_answers_as_no_control_does_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], body: str
) -> None:
    monkeypatch.setenv("LOA_TOKEN", "x")
    document = tmp_path / "tin.xml"
    document.write_text("<alert/>")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await loa(str(document), "--unit", "1", "--url", f"http://127.0.0.1:{port}") == 4
    assert "is no control" in capsys.readouterr().err


async def test_files_that_are_no_documents_are_told_so_and_read_no_further_than_control_would(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packed = tmp_path / "tin.xml.gz"
    packed.write_bytes(gzip.compress(b"<alert/>" * 100_000))
    bomb = tmp_path / "bomb.xml"
    bomb.write_bytes(b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bb">]><alert>&b;</alert>')
    deep = tmp_path / "deep.xml"
    deep.write_bytes(b"<alert>" * 300_000)
    for file, words in (
        ("/dev/zero", "too large"),
        (str(tmp_path), "directory"),
        (str(packed), "no well-formed XML"),
        (str(bomb), "DOCTYPE"),
        (str(deep), "wrong"),
    ):
        assert await loa(file) == 1, file
        told = capsys.readouterr()
        assert words in told.out + told.err, file


async def test_who_has_a_second_factor_gives_a_code_of_it(
    api: Api, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    person = await somebody(api, unit="24")
    await person.enrol()
    made = await person.post("/api/v1/tokens", {"name": "CAP", "password": PASSWORD})
    token = tmp_path / "token"
    token.write_text(made.json()["token"])
    api.clock.forward(minutes=11)
    document = a_document(api, tmp_path)
    options = ("--unit", str(api.units["24"]), "--url", url, "--token-file", str(token))

    assert await loa(document, *options) == 3
    assert "second_factor_needed" in capsys.readouterr().out
    assert await loa(document, *options, "--code", "số sai") == 1
    assert await loa(document, *options, "--code", person.code()) == 0
