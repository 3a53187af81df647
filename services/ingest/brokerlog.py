"""What the broker refused, read from a line of its log.

Oversized packets and publishes on foreign topics never reach ingest: the broker turns them away, and its log is where
that shows. The wording is Mosquitto's (2.0, checked against a running one by a test, and 2.1); a line this module does not
know is simply not a refusal, so a newer Mosquitto can cost us counts but nothing else.

Total over arbitrary text: a client chooses parts of what is logged.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass


class RefusalKind(enum.StrEnum):
    """Why the broker did not take something. Stable words: they are values of a metric's label."""

    OVERSIZED_PACKET = "oversized_packet"
    """Larger than `max_packet_size`; the connection was ended before the payload was read."""
    FOREIGN_TOPIC = "foreign_topic"
    """A publish that the access rules do not allow. Logged at level "debug" only."""
    MALFORMED = "malformed"
    """Not MQTT, or MQTT that breaks its own rules."""
    UNTRUSTED_CERTIFICATE = "untrusted_certificate"
    """No certificate, or one that is expired, revoked or signed by somebody else."""
    FAILED_HANDSHAKE = "failed_handshake"
    """Not TLS, TLS too old, or a client that does not trust the broker's own certificate."""
    CONNECTION_LIMIT = "connection_limit"
    """Too many connections at once."""
    FULL_QUEUE = "full_queue"
    """The first of a run of messages dropped because a client (that is: ingest) has not taken what waits for it."""
    TAKEN_OVER = "taken_over"
    """A client came under a name that was connected, and the older connection was ended: it had lost it, or there are two."""
    UNDELIVERABLE = "undeliverable"
    """A message for a client was larger than the client accepts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One thing the broker refused, and of or for whom (a client id; None when it never got as far as having one)."""

    kind: RefusalKind
    client: str | None


LONGEST_LINE = 4_096
"""Characters of a line that are looked at; a topic may be 65,535 bytes long, a fact about it stands in front."""

# The timestamp's form is a setting of the broker. Nothing a client chooses comes before the text looked for here: client
# ids of devices are certificate names, and a topic, which is the sender's choice, stands behind them.
_TIMESTAMP = r"(?:[0-9T:+-]{1,40}: )?"
_CLIENT = r"(?P<client>\S{1,64})"
_ENDED = r"(?: disconnected due to | \[\S{1,80}\] disconnected: )"  # 2.0 and 2.1
_HANDSHAKE = r"(?:OpenSSL Error(?: while trying to get the error)?\[0\]|Client connection from \S{1,64} failed): error:[0-9A-F]{1,16}:SSL routines:[^:]{0,64}:"
_PATTERNS: tuple[tuple[RefusalKind, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(_TIMESTAMP + text, re.ASCII))
    for kind, text in (
        (RefusalKind.FOREIGN_TOPIC, rf"Denied PUBLISH from {_CLIENT} \("),
        (RefusalKind.OVERSIZED_PACKET, rf"Client {_CLIENT}{_ENDED}oversize (?:packet|payload)\.$"),
        (RefusalKind.OVERSIZED_PACKET, rf"Dropped too large PUBLISH from {_CLIENT} \("),
        (RefusalKind.OVERSIZED_PACKET, rf"Client {_CLIENT} connected with too large Will payload$"),
        (RefusalKind.MALFORMED, rf"Client {_CLIENT}{_ENDED}(?:malformed packet|protocol error)\.$"),
        (
            RefusalKind.UNTRUSTED_CERTIFICATE,
            rf"{_HANDSHAKE}(?:certificate verify failed|peer did not return a certificate)",
        ),
        # A connection that breaks in the middle is the weather of mobile networks and refuses nothing.
        (RefusalKind.FAILED_HANDSHAKE, rf"{_HANDSHAKE}(?!unexpected eof)"),
        (RefusalKind.CONNECTION_LIMIT, r"Client connection from \S{1,64} denied: max_connections exceeded\.$"),
        (RefusalKind.CONNECTION_LIMIT, r"Unable to accept new connection, system socket count has been exceeded\."),
        (RefusalKind.FULL_QUEUE, rf"Outgoing messages are being dropped for client {_CLIENT}\.$"),
        (RefusalKind.TAKEN_OVER, rf"Client {_CLIENT} already connected, closing old connection\.$"),
        (RefusalKind.UNDELIVERABLE, rf"Dropping too large outgoing PUBLISH for {_CLIENT} \("),
    )
)


def parse_line(line: str) -> Refusal | None:
    """Return what `line` says was refused, or None when it says nothing of the kind."""
    line = line[:LONGEST_LINE]
    for kind, pattern in _PATTERNS:
        match = pattern.match(line)
        if match is not None:
            client = match.groupdict().get("client")
            return Refusal(kind=kind, client=None if client == "<unknown>" else client)
    return None
