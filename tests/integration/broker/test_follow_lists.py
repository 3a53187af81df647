"""`broker_config/follow-lists`: whole lists reach the broker within seconds, half ones never do."""

import functools
import http.server
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from services.control.trust.certificates import Authority, crl_pem, make_crl, make_device_ca, make_issuing_ca
from services.shared.clock import utc_now

pytestmark = pytest.mark.integration

SCRIPT = Path(__file__).resolve().parents[3] / "broker_config" / "follow-lists"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """A test has nothing to tell."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the address under which a web server gives what is in it."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder / "list", f"http://127.0.0.1:{server.server_address[1]}/list"
        server.shutdown()


def a_list(ca: Authority, number: int, *, now: datetime) -> bytes:
    return crl_pem(make_crl(ca, [], now=now, next_update=now + timedelta(days=30), number=number))


def place(path: Path, content: bytes) -> None:
    draft = path.with_suffix(".new")
    draft.write_bytes(content)
    draft.chmod(0o400)  # as `./loa installation prepare` leaves them
    draft.replace(path)


def run(site: Path, state: Path, address: str, *, path: str | None = None) -> "subprocess.CompletedProcess[str]":
    """The script as the broker's user runs it: without root's right to write what is not to be written."""
    as_user = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    shell = ["/bin/sh", "-c", 'PATH=$1 exec /bin/sh "$2" "$3" "$4"', "sh", path or os.environ["PATH"]]
    return subprocess.run(
        [*as_user, *shell, SCRIPT, address, site], cwd=state, check=True, capture_output=True, text=True
    )


def path_with(folder: Path, *programs: str) -> str:
    """A PATH with what the script is written with, and these programs."""
    folder.mkdir()
    for name in ("cat", "cmp", "head", "ln", "mkdir", "mv", "rm", "sleep", "tail", *programs):
        found = os.path.realpath(sys.executable) if name == "python3" else shutil.which(name)
        if found is None:
            pytest.skip(f"no {name} on this machine")
        (folder / name).symlink_to(found)
    return str(folder)


@pytest.mark.parametrize("program", ["curl", "wget", "python3"])
def test_any_of_these_programs_fetches_the_list(tmp_path: Path, served: tuple[Path, str], program: str) -> None:
    now = utc_now()
    given, address = served
    site, state = tmp_path / "site", tmp_path / "state"
    site.mkdir()
    state.mkdir()
    factory, enrolled = a_list(make_device_ca(now=now), 1, now=now), a_list(make_issuing_ca(now=now), 1, now=now)
    place(site / "device-ca.crl", factory)
    place(given, enrolled)

    ran = run(site, state, address, path=path_with(tmp_path / "programs", program))

    assert (state / "certificates/device-ca.crl").read_bytes() == factory + enrolled
    assert ran.stderr == ""


def test_without_any_it_says_so_and_goes_by_what_it_has(tmp_path: Path, served: tuple[Path, str]) -> None:
    _, address = served
    site, state = tmp_path / "site", tmp_path / "state"
    site.mkdir()
    state.mkdir()
    factory = a_list(make_device_ca(now=utc_now()), 1, now=utc_now())
    place(site / "device-ca.crl", factory)

    ran = run(site, state, address, path=path_with(tmp_path / "programs"))

    assert "install curl, wget or python3" in ran.stderr
    assert (state / "certificates/device-ca.crl").read_bytes() == factory


def test_lists_are_followed_and_half_ones_left_alone(tmp_path: Path, served: tuple[Path, str]) -> None:
    now = utc_now()
    factory, enrolment = make_device_ca(now=now), make_issuing_ca(now=now)
    given, address = served
    site, state = tmp_path / "site", tmp_path / "state"
    site.mkdir()
    state.mkdir()
    first = a_list(factory, 1, now=now)
    place(site / "device-ca.crl", first)
    (site / "broker.pem").write_bytes(b"the certificate")
    joined = state / "certificates/device-ca.crl"

    # Before control has ever been there.
    run(site, state, address)
    assert joined.read_bytes() == first
    assert (state / "certificates/broker.pem").read_bytes() == b"the certificate"

    revoking = a_list(enrolment, 1, now=now)
    place(given, revoking)
    run(site, state, address)
    assert joined.read_bytes() == first + revoking

    place(given, revoking[: len(revoking) // 2])  # cut short on its way
    renewed = a_list(factory, 2, now=now)
    place(site / "device-ca.crl", renewed)
    run(site, state, address)
    assert joined.read_bytes() == renewed + revoking

    # A start without control goes by what came last.
    given.unlink()
    joined.unlink()
    run(site, state, address)
    assert joined.read_bytes() == renewed + revoking
