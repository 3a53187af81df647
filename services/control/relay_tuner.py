"""Connects to a live source over HTTP, and nowhere else: the one place that opens an address an officer has typed.

FFmpeg could do it, and would follow redirects, playlists and names to anywhere. Here a name is resolved once, every
address it has is judged, and the connection goes to one that was judged; each redirect begins anew. Runs in the process
of `relay_reader`; blocking, with a timeout on every wait.
"""

from __future__ import annotations

import http.client
import io
import ipaddress
import socket
import ssl
from dataclasses import dataclass
from urllib.parse import urljoin

from services.control.errors import Fault
from services.control.relay_addresses import IpAddress, Location, Rules, forbidden, location
from services.control.relay_troubles import Trouble, Troubled

MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """A source that answers: what it says it is, and its bytes as they come."""

    content_type: str
    _response: http.client.HTTPResponse

    def read(self, size: int) -> bytes:
        """At most `size` bytes, as soon as there are any; none when the source has ended. Raises TimeoutError."""
        try:
            return self._response.read1(size)
        except http.client.IncompleteRead:
            return b""  # in the middle of a chunk


def tune_in(url: str, rules: Rules, *, timeout_s: float) -> Stream:
    """Connect and ask for the sound. Raises `Troubled`; `timeout_s` bounds each wait, also later ones for bytes."""
    for _ in range(MAX_REDIRECTS + 1):
        place = location(url)
        if isinstance(place, Fault):
            raise Troubled(Trouble.FORBIDDEN, place.code)
        response = _ask(place, rules, timeout_s=timeout_s)
        if response.status in _REDIRECTS and (target := response.getheader("Location")):
            response.close()
            url = urljoin(url, target)
            continue
        if response.status != http.client.OK:
            raise Troubled(Trouble.REFUSED, f"status {response.status}")
        kind = response.getheader("Content-Type", "").partition(";")[0].strip().lower()
        return Stream(content_type=kind, _response=response)
    raise Troubled(Trouble.REFUSED, f"more than {MAX_REDIRECTS} redirects")


def _ask(place: Location, rules: Rules, *, timeout_s: float) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(place.host, place.port, timeout=timeout_s)
    connection.response_class = _Response
    connection.sock = _connected(place, rules, timeout_s=timeout_s)
    try:
        # HTTP/1.1 as http.client speaks it; no metadata inside the sound.
        connection.request("GET", place.target, headers={"User-Agent": "Loa", "Accept": "*/*", "Icy-MetaData": "0"})
        return connection.getresponse()
    except TimeoutError as error:
        raise Troubled(Trouble.NO_ANSWER, "no answer to the request") from error
    except (OSError, http.client.HTTPException) as error:
        raise Troubled(Trouble.NO_ANSWER, type(error).__name__) from error


def _connected(place: Location, rules: Rules, *, timeout_s: float) -> socket.socket:
    try:
        # Raises UnicodeError for a label that is too long once encoded.
        found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Troubled(Trouble.NO_ANSWER, "the name is not known") from error
    addresses = [_address(each[4][0]) for each in found]
    fault = forbidden(place, addresses, rules)
    if fault is not None:
        raise Troubled(Trouble.FORBIDDEN, fault.code)
    last: OSError | None = None
    for address in addresses:
        try:
            opened = socket.create_connection((str(address), place.port), timeout=timeout_s)
        except OSError as error:
            last = error
            continue
        try:
            return _secured(opened, place.host) if place.is_tls else opened
        except OSError as error:
            opened.close()
            raise Troubled(Trouble.NO_ANSWER, type(error).__name__) from error
    raise Troubled(Trouble.NO_ANSWER, type(last).__name__) from last


def _secured(opened: socket.socket, host: str) -> ssl.SSLSocket:
    return ssl.create_default_context().wrap_socket(opened, server_hostname=host)


def _address(text: str | int) -> IpAddress:
    return ipaddress.ip_address(str(text).partition("%")[0])  # without the zone of a link-local address


class _Response(http.client.HTTPResponse):
    """An answer that may begin with `ICY 200 OK`, as Shoutcast servers have it."""

    def __init__(self, sock: socket.socket, debuglevel: int = 0, method: str | None = None, url: str | None = None):
        super().__init__(sock, debuglevel, method, url)
        self.fp.close()
        self.fp = _Reader(sock.makefile("rb", buffering=0))


class _Reader(io.BufferedReader):
    _is_begun = False

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size)
        if not self._is_begun:
            self._is_begun = True
            if line.startswith(b"ICY "):
                return b"HTTP/1.0 " + line[4:]
        return line
