"""`broker_config/follow-lists`: whole lists reach the broker within seconds, half ones never do."""

import functools
import http.server
import subprocess
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
    path.with_suffix(".new").write_bytes(content)
    path.with_suffix(".new").replace(path)


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
    subprocess.run(["/bin/sh", str(SCRIPT), address, str(site)], cwd=state, check=True)
    assert joined.read_bytes() == first
    assert (state / "certificates/broker.pem").read_bytes() == b"the certificate"

    revoking = a_list(enrolment, 1, now=now)
    place(given, revoking)
    subprocess.run(["/bin/sh", str(SCRIPT), address, str(site)], cwd=state, check=True)
    assert joined.read_bytes() == first + revoking

    place(given, revoking[: len(revoking) // 2])  # cut short on its way
    renewed = a_list(factory, 2, now=now)
    place(site / "device-ca.crl", renewed)
    subprocess.run(["/bin/sh", str(SCRIPT), address, str(site)], cwd=state, check=True)
    assert joined.read_bytes() == renewed + revoking

    # A start without control goes by what came last.
    given.unlink()
    joined.unlink()
    subprocess.run(["/bin/sh", str(SCRIPT), address, str(site)], cwd=state, check=True)
    assert joined.read_bytes() == renewed + revoking
