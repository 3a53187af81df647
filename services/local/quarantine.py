"""`./loa quarantine`: work off the quarantine inbox of a running control, as an operator at a terminal.

It talks to control's API and nothing else, with an API token (LOA_TOKEN, or LOA_TOKEN_FILE) or with a login (LOA_LOGIN
and LOA_PASSWORD; without a password it is asked for). Exit status: 0 done, 1 refused or not all replayed, 2 the command
line is wrong, 3 not logged in or not permitted, 4 control does not answer, 130 stopped with Ctrl-C.
"""

import argparse
import contextlib
import getpass
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

DEFAULT_URL = "http://127.0.0.1:8480"
TIMEOUT = timedelta(seconds=30)
POLL_EVERY = timedelta(seconds=0.5)
LONGEST_WAIT = timedelta(minutes=9)
PAGE = 500

REFUSED, WRONG_COMMAND, NOT_PERMITTED, NO_ANSWER, STOPPED = 1, 2, 3, 4, 130

_COLUMNS = ("quarantine_id", "standing", "reason", "principal", "device_id", "messages", "last_seen_at", "detail")
_HEADS = ("NUMBER", "STANDING", "REASON", "FROM", "ABOUT", "TIMES", "LAST SEEN", "DETAIL")
_DETAIL_SHOWN = 60


class QuarantineFailed(Exception):
    """What was asked for was not done; `status` is the exit status that says so."""

    def __init__(self, message: str, *, status: int = REFUSED) -> None:
        super().__init__(message)
        self.status = status


class Clerk:
    """The API of control, as one person uses it."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def get(self, path: str, **parameters: Any) -> Any:
        """The JSON at a path; raises `QuarantineFailed`."""
        return self._ask("GET", path, params={name: each for name, each in parameters.items() if each is not None})

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON answer to a body; raises `QuarantineFailed`."""
        return self._ask("POST", path, json=body)

    def _ask(self, method: str, path: str, **send: Any) -> Any:
        try:
            response = self._client.request(method, f"/api/v1{path}", **send)
        except httpx.HTTPError as error:
            where = self._client.base_url
            raise QuarantineFailed(
                f"{where} does not answer: {str(error) or type(error).__name__} (--url names another control)",
                status=NO_ANSWER,
            ) from None
        return _answer(response)


def _answer(response: httpx.Response) -> Any:
    try:
        document = response.json() if response.content else None
    except ValueError:
        raise QuarantineFailed(f"{response.url} is no control: its answer is no JSON", status=NO_ANSWER) from None
    if response.is_success:
        return document
    if not isinstance(document, dict) or "code" not in document:
        raise QuarantineFailed(f"{response.url} answers {response.status_code}", status=NO_ANSWER)
    lines = [f"{document['title']}: {document['detail']} ({document['code']})"]
    lines += [f"  {each['field'] or '-'}: {each['message']} {each['mend']}" for each in document["errors"]]
    is_about_rights = response.status_code in (401, 403)
    is_away = response.status_code == 503
    raise QuarantineFailed(
        "\n".join(lines), status=NOT_PERMITTED if is_about_rights else NO_ANSWER if is_away else REFUSED
    )


@contextlib.contextmanager
def at_the_desk(options: argparse.Namespace) -> Iterator[Clerk]:
    """The API with a token, or inside a session of its own."""
    with _client(options.url) as client:
        clerk = Clerk(client)
        token = _token(options)
        if token is not None:
            client.headers["Authorization"] = f"Bearer {token}"
            yield clerk
            return
        if options.login is None:
            raise QuarantineFailed(
                "who asks? set LOA_TOKEN or LOA_TOKEN_FILE, or name a login with --login or LOA_LOGIN",
                status=NOT_PERMITTED,
            )
        password = os.environ.get("LOA_PASSWORD") or getpass.getpass(f"password of {options.login}: ")
        session = clerk.post("/sessions", {"login": options.login, "password": password})
        client.headers["X-CSRF-Token"] = session["csrf_token"]
        try:
            yield clerk
        finally:
            with contextlib.suppress(httpx.HTTPError):
                client.delete("/api/v1/sessions/current")


def _client(url: str) -> httpx.Client:
    language = "vi" if os.environ.get("LANG", "").startswith("vi") else "en"
    try:
        return httpx.Client(
            base_url=url, timeout=TIMEOUT.total_seconds(), trust_env=False, headers={"Accept-Language": language}
        )
    except httpx.InvalidURL as error:
        raise QuarantineFailed(f"{url} is no address: {error}", status=WRONG_COMMAND) from None


def _token(options: argparse.Namespace) -> str | None:
    # Never an argument of the command line: everybody on the machine can read those.
    source, text = "LOA_TOKEN", os.environ.get("LOA_TOKEN") or None
    if options.token_file is not None:
        source = options.token_file
        try:
            text = Path(source).read_text("utf-8").strip()
        except OSError as error:
            raise QuarantineFailed(f"token file: {source}: {error.strerror}", status=NOT_PERMITTED) from None
        except UnicodeDecodeError:
            raise QuarantineFailed(f"{source} holds no token", status=NOT_PERMITTED) from None
    if text is not None and (not text.isascii() or not text.isprintable() or not text):
        raise QuarantineFailed(f"{source} holds no token", status=NOT_PERMITTED)
    return text


# --- the verbs -------------------------------------------------------------------------------------------------------


def _list(clerk: Clerk, options: argparse.Namespace) -> int:
    found: list[dict[str, Any]] = []
    after = options.after
    while True:
        page = clerk.get(
            "/quarantine",
            standing=options.standing,
            reason=options.reason,
            principal=options.principal,
            device_id=options.device,
            unit_id=options.unit,
            since=options.since,
            after=after,
            limit=min(PAGE, options.limit - len(found)),
        )
        found += page["inmates"]
        after = page["more_after"]
        if after is None or len(found) >= options.limit:
            break
    counts = clerk.get("/quarantine/counts")
    if options.json:
        print(json.dumps({"inmates": found, "more_after": after, "counts": counts}, ensure_ascii=False))
        return 0
    _print_table(_HEADS, [[_cell(name, each[name]) for name in _COLUMNS] for each in found])
    if after is not None:
        print(f"and more: --after {after}")
    print()
    print("open, by reason:" if counts else "nothing is open")
    for each in counts:
        _print(f"  {each['inmates']:7d}  {each['reason']}: {each['explanation']}")
    return 0


def _show(clerk: Clerk, options: argparse.Namespace) -> int:
    inmate = clerk.get(f"/quarantine/{options.number}")
    if options.json:
        print(json.dumps(inmate, ensure_ascii=False))
        return 0
    _print(f"{inmate['quarantine_id']}  {inmate['standing']}  {inmate['reason']}: {inmate['explanation']}")
    _print(f"to do      {inmate['mend']}")
    _print(f"detail     {inmate['detail']}")
    _print(f"from       {inmate['principal']}, about {inmate['device_id'] or 'nobody'}")
    _print(f"seen       {inmate['messages']} times, {inmate['first_seen_at']} to {inmate['last_seen_at']}")
    _print_foreseen(inmate["forecast"])
    _print_bytes("received", inmate["original"], cut_from=inmate["size"] if inmate["is_cut"] else None)
    for each in inmate["corrections"]:
        _print_bytes(f"corrected by {each['corrected_by']}, {each['corrected_at']}: {each['why']}", each)
    if inmate["decision"] is not None:
        each = inmate["decision"]
        _print(f"{each['decision']} by {each['decided_by']}, {each['decided_at']}: {each['why']}")
    for each in inmate["outcomes"]:
        _print(f"request {each['request_id']}, {each['replayed_at']}: {each['explanation']} {each['detail'] or ''}")
    return 0


def _fix(clerk: Clerk, options: argparse.Namespace) -> int:
    changes = {
        "device_id": options.device,
        "topic": options.topic,
        "version": options.version,
        "payload_hex": options.hex,
        "payload_diagnostic": options.diagnostic,
    }
    body = {name: each for name, each in changes.items() if each is not None}
    made = clerk.post(f"/quarantine/{options.number}/corrections", {**body, "why": options.why})
    if options.json:
        print(json.dumps(made, ensure_ascii=False))
        return 0
    _print_bytes(f"corrected copy of {options.number}", made["correction"])
    _print_foreseen(made["forecast"])
    print(f"now ./loa quarantine replay {options.number} --why …")
    return 0


def _replay(clerk: Clerk, options: argparse.Namespace) -> int:
    made = clerk.post("/quarantine/replays", _which(options))
    if not options.wait:
        _say(options, made, f"request {made['request_id']}: {made['inmates']} to be judged anew")
        return 0
    try:
        return _wait(clerk, options, made)
    except KeyboardInterrupt:
        where = f"/api/v1/quarantine/requests/{made['request_id']}"
        raise QuarantineFailed(f"request {made['request_id']} goes on: GET {where}", status=STOPPED) from None


def _wait(clerk: Clerk, options: argparse.Namespace, made: Mapping[str, Any]) -> int:
    deadline = time.monotonic() + min(options.timeout, LONGEST_WAIT.total_seconds())
    while (progress := clerk.get(f"/quarantine/requests/{made['request_id']}"))["waiting"]:
        if time.monotonic() > deadline:
            _say(
                options, progress, f"request {made['request_id']}: {progress['waiting']} still wait; is ingest running?"
            )
            return REFUSED
        time.sleep(POLL_EVERY.total_seconds())
    lines = [f"{each['inmates']:7d}  {each['result']}: {each['explanation']}" for each in progress["results"]]
    # Of a request that was overtaken nothing waits, and nothing became of it.
    overtaken = made["inmates"] - sum(each["inmates"] for each in progress["results"])
    if overtaken:
        lines.append(f"{overtaken:7d}  not judged: a later decision took them over")
    _say(options, progress, "\n".join([f"request {made['request_id']}:", *lines]))
    is_all_stored = all(each["result"] in ("stored", "duplicate") for each in progress["results"])
    return 0 if is_all_stored and not overtaken else REFUSED


def _discard(clerk: Clerk, options: argparse.Namespace) -> int:
    made = clerk.post("/quarantine/discards", _which(options))
    _say(options, made, f"decision {made['request_id']}: {made['inmates']} discarded")
    return 0


def _which(options: argparse.Namespace) -> dict[str, Any]:
    """The body that names inmates by number or by what they have in common."""
    if options.numbers:
        return {"quarantine_ids": options.numbers, "why": options.why}
    given = {
        "reason": options.reason,
        "principal": options.principal,
        "device_id": options.device,
        "unit_id": options.unit,
        "since": options.since,
    }
    return {"matching": {name: each for name, each in given.items() if each is not None}, "why": options.why}


# --- printing --------------------------------------------------------------------------------------------------------


def _say(options: argparse.Namespace, document: Mapping[str, Any], text: str) -> None:
    print(json.dumps(document, ensure_ascii=False) if options.json else _lines(text))


def _cell(name: str, value: object) -> str:
    """A value of the table. What devices sent is shown, never obeyed: no character of it moves the cursor."""
    text = "-" if value is None else str(value)
    if name == "detail" and len(text) > _DETAIL_SHOWN:
        text = f"{text[:_DETAIL_SHOWN]}…"
    return _harmless(text)


def _print(line: str) -> None:
    print(_harmless(line))


def _harmless(text: str) -> str:
    return "".join(each if each.isprintable() else "\ufffd" for each in text)


def _print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max([len(head), *(len(row[column]) for row in rows)]) for column, head in enumerate(heads)]
    for row in (heads, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _print_bytes(title: str, content: Mapping[str, Any], *, cut_from: int | None = None) -> None:
    _print(f"{title}{f' (the beginning of {cut_from} bytes)' if cut_from else ''}")
    _print(f"  topic    {content['topic']}")
    _print(f"  says     {content['diagnostic']}")
    _print(f"  bytes    {content['hex']}")


def _print_foreseen(forecast: Mapping[str, Any]) -> None:
    where = f" ({forecast['field']}: {forecast['detail']})" if forecast["field"] else f" {forecast['detail']}"
    _print(f"if replayed now: {forecast['explanation']}{where}".rstrip())


# --- the command line ------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str]) -> int:
    """Run `./loa quarantine …`; returns its exit status."""
    whole = parser()
    options = whole.parse_args(arguments)
    if options.needs_which and bool(options.numbers) == any(
        each is not None for each in (options.reason, options.principal, options.device, options.unit, options.since)
    ):
        whole.error("name messages by their numbers, or by --reason, --from, --device, --unit or --since; not by both")
    try:
        with at_the_desk(options) as clerk:
            return int(options.run(clerk, options))
    except QuarantineFailed as error:
        print(f"quarantine: {_lines(str(error))}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print("quarantine: stopped", file=sys.stderr)
        return STOPPED


def _lines(text: str) -> str:
    return "\n".join(_harmless(line) for line in text.splitlines())


def parser() -> argparse.ArgumentParser:
    """What the command line may say."""
    whole = argparse.ArgumentParser(
        prog="./loa quarantine",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _desk_options(
        whole,
        url=os.environ.get("LOA_URL", DEFAULT_URL),
        login=os.environ.get("LOA_LOGIN"),
        token_file=os.environ.get("LOA_TOKEN_FILE") or None,
    )
    verbs = whole.add_subparsers(required=True, metavar="VERB")

    verb = _verb(verbs, "list", _list, "what is in quarantine, newest first, and how much for which reason")
    verb.add_argument(
        "--standing", choices=("open", "waiting", "replayed", "discarded", "all"), default="open", help="default: open"
    )
    _filter_options(verb)
    verb.add_argument("--after", type=_number, help="go on after this number")
    verb.add_argument("--limit", type=_number, default=100, help="default 100")

    verb = _verb(verbs, "show", _show, "one message: why it is here, what it says, what would become of it now")
    verb.add_argument("number", type=_number)

    verb = _verb(
        verbs, "fix", _fix, "make a corrected copy (to register its device: POST /api/v1/devices); then replay"
    )
    verb.add_argument("number", type=_number)
    topic = verb.add_mutually_exclusive_group()
    topic.add_argument("--device", metavar="ID", help="the device it is about, behind the same sender")
    topic.add_argument("--topic", help="the whole topic, of the same sender")
    payload = verb.add_mutually_exclusive_group()
    payload.add_argument("--version", type=int, choices=(1,), help="set the major version")
    payload.add_argument("--hex", help="the whole payload in hexadecimal")
    payload.add_argument("--diagnostic", help="the whole payload in CBOR diagnostic notation")
    _why_option(verb)

    verb = _verb(verbs, "replay", _replay, "have messages judged anew, by the registry of now")
    _which_options(verb)
    verb.add_argument("--wait", action="store_true", help="until ingest has done it; status 1 unless all are stored")
    verb.add_argument("--timeout", type=_number, default=60, metavar="SECONDS", help="of --wait (default 60)")

    verb = _verb(verbs, "discard", _discard, "take messages out of the inbox; they are kept as long as all others")
    _which_options(verb)
    return whole


def _verb(verbs: Any, name: str, run: Any, text: str) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text)
    verb.add_argument("--json", action="store_true", help="one JSON document instead of a table")
    # Also behind the verb, where most people write them; what stands before it holds where nothing is said there.
    _desk_options(verb, url=argparse.SUPPRESS, login=argparse.SUPPRESS, token_file=argparse.SUPPRESS)
    verb.set_defaults(run=run, needs_which=False)
    return verb


def _desk_options(parser: argparse.ArgumentParser, *, url: str, login: str | None, token_file: str | None) -> None:
    parser.add_argument("--url", type=_url, default=url, help=f"control (default {DEFAULT_URL})")
    parser.add_argument("--login", default=login, help="log in as this person")
    parser.add_argument("--token-file", default=token_file, help="file that holds an API token")


def _which_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("numbers", nargs="*", type=_number, metavar="NUMBER")
    _filter_options(verb)
    _why_option(verb)
    verb.set_defaults(needs_which=True)


def _filter_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--reason", help="such as unknown_device")
    verb.add_argument("--from", dest="principal", metavar="ID", help="who sent it")
    verb.add_argument("--device", metavar="ID", help="whom it is about")
    verb.add_argument("--unit", metavar="UUID", help="of devices in this unit and below")
    verb.add_argument(
        "--since", type=_instant, help="seen last at this instant or later, such as 2026-03-01T05:00+07:00"
    )


def _why_option(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--why", required=True, help="for whoever reads the audit")


def _url(text: str) -> str:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme not in ("http", "https") or not url.host:
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is no address such as {DEFAULT_URL}")
    return text


def _number(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 0 < int(text[:20]) < 2**63:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no number of 1 or more")
    return int(text)


def _instant(text: str) -> str:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no instant such as 2026-03-01T05:00+07:00") from None
    if at.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} has no offset; write {text[:40]}+07:00 for Việt Nam")
    return at.isoformat()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
