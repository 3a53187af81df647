"""Where a relay's sound may be taken from: addresses that officers type and that our own network must survive. Pure.

The relay point connects wherever it is told, from inside the province's data centre: without rules it would read the
database's port, a cloud's metadata or a printer for whoever may enter an address. So only HTTP is spoken, a name is
resolved once and what it resolves to is judged, and every redirect is judged like the first address.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from services.control.errors import Fault

MAX_LENGTH = 200
STREAM, ENCODER, FM = "stream", "encoder", "fm"
KINDS = (STREAM, ENCODER, FM)

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_SCHEMES = {"http": 80, "https": 443}
_PRINTABLE = re.compile(r"[!-~]+")
_NAME = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))*\.?")
_FREQUENCY = re.compile(r"fm://(\d{2,3}(?:\.\d{1,2})?)")
_LOWEST_MHZ, _HIGHEST_MHZ = 64.0, 108.0  # VHF band II with the OIRT band below it
# An IPv4 address inside an IPv6 one leads to the same machine.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """An HTTP address, taken apart."""

    scheme: str
    host: str
    port: int
    target: str  # path and query, as the request line wants them

    @property
    def is_tls(self) -> bool:
        """Whether it is HTTPS."""
        return self.scheme == "https"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the province has set: names (a leading dot: everything below; empty: any) and networks of its own."""

    hosts: tuple[str, ...] = ()
    networks: tuple[IpNetwork, ...] = ()

    def allow_host(self, host: str) -> bool:
        """Whether a source may be called so."""
        if not self.hosts:
            return True
        name = host.lower().rstrip(".")
        return any(
            name == allowed.lower() or (allowed.startswith(".") and name.endswith(allowed.lower()))
            for allowed in self.hosts
        )

    def allow_address(self, address: IpAddress) -> bool:
        """Whether the relay point may connect there: the public Internet, and networks that were named."""
        plain = _unwrapped(address)
        if any(plain in network for network in self.networks if network.version == plain.version):
            return True
        return plain.is_global and not (plain.is_multicast or plain.is_reserved or plain.is_unspecified)


def _unwrapped(address: IpAddress) -> IpAddress:
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        return address.ipv4_mapped or address.sixtofour or address
    return address


def location(url: str) -> Location | Fault:
    """An `http` or `https` address taken apart, or what is wrong with it (a fault of field `url`)."""
    if not _PRINTABLE.fullmatch(url) or len(url) > MAX_LENGTH:
        return Fault("url", "relay_url_malformed", {"limit": MAX_LENGTH})
    try:
        parts = urlsplit(url)
        port, host = parts.port, (parts.hostname or "").lower()
    except ValueError:
        return Fault("url", "relay_url_malformed", {"limit": MAX_LENGTH})
    if parts.scheme.lower() not in _SCHEMES:
        return Fault("url", "relay_url_scheme", {"allowed": ", ".join(_SCHEMES)})
    if parts.username is not None or parts.password is not None:
        return Fault("url", "relay_url_with_password")
    if port == 0 or (_literal(host) is None and not _NAME.fullmatch(host)):
        return Fault("url", "relay_url_malformed", {"limit": MAX_LENGTH})
    scheme = parts.scheme.lower()
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Location(scheme=scheme, host=host, port=port or _SCHEMES[scheme], target=target)


def fault_of(url: str, kind: str, *, is_direct: bool, rules: Rules) -> Fault | None:
    """What stands against a source at this address, as far as can be told without the network.

    What devices take directly concerns their network, not ours. A name is judged again each time it is resolved.
    """
    if kind == FM:
        match = _FREQUENCY.fullmatch(url)
        if match is None or not _LOWEST_MHZ <= float(match[1]) <= _HIGHEST_MHZ:
            return Fault("url", "relay_frequency", {"lowest": _LOWEST_MHZ, "highest": _HIGHEST_MHZ})
        return None if is_direct else Fault("direct", "relay_fm_is_direct")
    found = location(url)
    if isinstance(found, Fault) or is_direct:
        return found if isinstance(found, Fault) else None
    return forbidden(found, (), rules)


def forbidden(found: Location, resolved: Sequence[IpAddress], rules: Rules) -> Fault | None:
    """What the rules have against connecting to this host at one of these addresses (none: not resolved yet).

    One address that is not allowed among several condemns the name: which of them is used would be up to its owner.
    """
    if not rules.allow_host(found.host):
        return Fault("url", "relay_host_not_allowed", {"host": found.host})
    literal = _literal(found.host)
    for address in resolved if literal is None else (literal, *resolved):
        if not rules.allow_address(address):
            return Fault("url", "relay_address_not_allowed", {"host": found.host, "address": str(address)})
    return None


def _literal(host: str) -> IpAddress | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        # Forms that resolvers take for addresses and this module does not ("127.1", "0x7f000001") are names to us, are
        # resolved, and what comes out is judged.
        return None
