"""`./loa cap`: check CAP 1.2 documents, or hand one to a running control as the word of a unit.

Checking needs nothing but the file. Handing in goes by control's API with a token (LOA_TOKEN, or LOA_TOKEN_FILE). Exit
status: 0 all read or taken, 1 something is wrong with a document, 2 the command line is wrong, 3 not permitted, 4 control
does not answer.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from services.control.alerting import cap_intake, cap_reading, cap_xml
from services.control.alerting.cap import MEDIA_TYPE, CapAlert
from services.control.catalogue.texts import Language, text
from services.control.errors import Fault

DEFAULT_URL = "http://127.0.0.1:8480"
_TIMEOUT_S = 60.0  # a control that has no tones yet makes them first
WRONG, WRONG_COMMAND, NOT_PERMITTED, NO_ANSWER = 1, 2, 3, 4


def main(arguments: Sequence[str]) -> int:
    """Check, or hand in; returns the exit status."""
    options = _parser().parse_args(list(arguments))
    language = Language.VIETNAMESE if os.environ.get("LANG", "").startswith("vi") else Language.ENGLISH
    if options.unit is None:
        return max(_check(each, language) for each in options.files)
    try:
        token = _token(options.token_file)
    except _NoToken as error:
        return _complain(str(error), NOT_PERMITTED)
    headers = {"Authorization": f"Bearer {token}", "Accept-Language": language.value, "Content-Type": MEDIA_TYPE}
    if options.code is not None:
        headers["Loa-Second-Factor"] = quote(options.code)
    try:
        client = httpx.Client(base_url=options.url, timeout=_TIMEOUT_S, trust_env=False, headers=headers)
    except httpx.InvalidURL as error:
        return _complain(f"{options.url} is no address: {error}", WRONG_COMMAND)
    with client:
        for each in options.files:
            status = _hand_in(client, each, options.unit)
            if status:
                return status
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./loa cap", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="a CAP document; - is standard input")
    parser.add_argument("--unit", metavar="ID", help="hand it in as the word of this unit; without it only check")
    parser.add_argument("--url", default=os.environ.get("LOA_URL", DEFAULT_URL), help="where control answers (LOA_URL)")
    parser.add_argument("--code", help="code of your authenticator app, which is good for one document")
    parser.add_argument("--token-file", default=os.environ.get("LOA_TOKEN_FILE") or None, help="file with an API token")
    return parser


def _check(name: str, language: Language) -> int:
    document = _read(name)
    if document is None:
        return WRONG
    reading = cap_reading.parse(document)
    for kind, notes in (("wrong", reading.faults), ("odd", reading.remarks)):
        for each in notes:
            _print(f"{name}: {kind}: {_said(each, language)}")
    if reading.alert is None:
        return WRONG
    _print(f"{name}: {_summary(reading.alert)}")
    return 0


def _summary(alert: CapAlert) -> str:
    on_air = "would go on air" if cap_intake.is_for_the_air(alert) else "is read and left"
    said = "; ".join(f"{info.language}: {info.headline or info.event}" for info in alert.infos) or "says nothing"
    areas = sum(len(info.areas) for info in alert.infos)
    what = f"{alert.status.value} {alert.message_type.value} {alert.identifier} of {alert.sender}"
    return f"{what} {on_air}: {said} ({areas} {'area' if areas == 1 else 'areas'})"


def _said(fault: Fault, language: Language) -> str:
    words = (text(f"fault.{fault.code}.{part}", language, fault.facts) for part in ("message", "mend"))
    return f"{fault.field}: {' '.join(words)}"


def _hand_in(client: httpx.Client, name: str, unit: str) -> int:
    document = _read(name)
    if document is None:
        return WRONG
    try:
        response = client.post("/api/v1/cap", params={"unit_id": unit}, content=document)
    except httpx.HTTPError as error:
        return _complain(f"{client.base_url} does not answer: {error}", NO_ANSWER)
    answer = _document(response)
    if not isinstance(answer, dict):
        return _complain(f"{client.base_url} is no control: its answer is no document of one", NO_ANSWER)
    if response.is_success:
        for each in answer["notes"]:
            _print(f"{name}: odd: {each['field']}: {each['message']}")
        _print(f"{name}: {_became(answer)}")
        return 0
    _print(f"{name}: {answer.get('title')}: {answer.get('detail')} ({answer.get('code')})")
    if answer.get("code") == "second_factor_needed":
        _print(f"{name}: give it with --code")
    for each in answer.get("errors", ()):
        _print(f"{name}: {each['field']}: {each['message']} {each['mend']}")
    return NOT_PERMITTED if response.status_code in (401, 403) else WRONG


def _document(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None


def _became(answer: dict[str, Any]) -> str:
    if answer["alerts"]:
        return "taken: " + ", ".join(f"alert {each['alert_id']}" for each in answer["alerts"])
    request = answer["request"]
    return f"waits for a second person: {request['request_id']}" if request is not None else "read and left"


def _read(name: str) -> bytes | None:
    """The document; never much more of it than control would take."""
    try:
        if name == "-":
            return sys.stdin.buffer.read(cap_xml.MAX_BYTES + 1)
        with Path(name).open("rb") as file:
            return file.read(cap_xml.MAX_BYTES + 1)
    except OSError as error:
        _complain(f"{name}: {error.strerror}", WRONG)
        return None


class _NoToken(Exception):
    """There is no token to hand in with; the message says what to do."""


def _token(file: str | None) -> str:
    # Never an argument of the command line: everybody on the machine can read those.
    source, token = "LOA_TOKEN", os.environ.get("LOA_TOKEN", "")
    if file is not None:
        try:
            source, token = file, Path(file).read_text("ascii")
        except OSError as error:
            raise _NoToken(f"token file: {file}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise _NoToken(f"{file} holds no token") from None
    token = token.strip()
    if not token and file is None:
        raise _NoToken("who hands it in? set LOA_TOKEN, or name a file with --token-file or LOA_TOKEN_FILE")
    if not (token.isascii() and token.isprintable() and token):
        raise _NoToken(f"{source} holds no token")
    return token


def _print(line: str) -> None:
    # What a stranger wrote must not move the terminal's cursor.
    print("".join(each if each.isprintable() else "·" for each in line))


def _complain(line: str, status: int) -> int:
    print(line, file=sys.stderr)
    return status
