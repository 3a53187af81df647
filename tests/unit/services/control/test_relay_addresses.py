"""Where a relay may be taken from: what an officer may type, and what our own network survives."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.control.errors import Fault
from services.control.relay_addresses import ENCODER, FM, STREAM, Location, Rules, fault_of, forbidden, location

PUBLIC = ipaddress.ip_address("203.162.0.181")
ENCODERS = ipaddress.ip_network("10.20.0.0/16")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://stream.vov.vn/vov1", Location(scheme="http", host="stream.vov.vn", port=80, target="/vov1")),
        ("https://STREAM.vov.vn", Location(scheme="https", host="stream.vov.vn", port=443, target="/")),
        (
            "http://10.20.1.7:8000/live.mp3?x=1",
            Location(scheme="http", host="10.20.1.7", port=8000, target="/live.mp3?x=1"),
        ),
        ("http://[2001:db8::7]:8000/a", Location(scheme="http", host="2001:db8::7", port=8000, target="/a")),
        ("HTTP://a.example/x#part", Location(scheme="http", host="a.example", port=80, target="/x")),
    ],
)
def test_an_address_is_taken_apart(url: str, expected: Location) -> None:
    assert location(url) == expected


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("", "relay_url_malformed"),
        ("http://", "relay_url_malformed"),
        ("http:///x", "relay_url_malformed"),
        ("http://a b/x", "relay_url_malformed"),
        ("http://a\r\nHost: b/x", "relay_url_malformed"),
        ("http://đài.vn/x", "relay_url_malformed"),
        ("http://a:0/", "relay_url_malformed"),
        ("http://a:99999/", "relay_url_malformed"),
        ("http://a:x/", "relay_url_malformed"),
        ("http://[::1/", "relay_url_malformed"),
        ("http://-a/", "relay_url_malformed"),
        ("http://a..b/", "relay_url_malformed"),
        ("http://a/" + "x" * 200, "relay_url_malformed"),
        ("file:///etc/passwd", "relay_url_scheme"),
        ("concat:http://a/x", "relay_url_scheme"),
        ("rtsp://a/x", "relay_url_scheme"),
        ("ftp://a/x", "relay_url_scheme"),
        ("//a/x", "relay_url_scheme"),
        ("http://me:secret@a/x", "relay_url_with_password"),
        ("http://me@a/x", "relay_url_with_password"),
    ],
)
def test_what_is_no_address_is_said_to_be_none(url: str, code: str) -> None:
    found = location(url)
    assert isinstance(found, Fault)
    assert (found.field, found.code) == ("url", code)


@given(st.text(max_size=250))
def test_any_text_is_an_address_or_a_fault(text: str) -> None:
    assert isinstance(location(text), Location | Fault)
    assert isinstance(location("http://" + text), Location | Fault)


# Addresses by which the inside of a network is reached, in every dress IPv6 has for them.
INSIDE = [
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "10.20.1.7",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fc00::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.20.1.7",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "2002:a14:107::1",
]


@pytest.mark.parametrize("address", INSIDE)
def test_the_inside_of_a_network_is_not_connected_to(address: str) -> None:
    assert not Rules().allow_address(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["203.162.0.181", "2405:4800::1", "8.8.8.8", "64:ff9b::cba2:b5"])
def test_the_internet_is(address: str) -> None:
    assert Rules().allow_address(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["10.20.1.7", "::ffff:10.20.1.7", "64:ff9b::a14:107"])
def test_a_network_that_was_named_is_connected_to_in_every_dress(address: str) -> None:
    rules = Rules(networks=(ENCODERS,))
    assert rules.allow_address(ipaddress.ip_address(address))
    assert not rules.allow_address(ipaddress.ip_address("10.21.1.7"))


@pytest.mark.parametrize(
    ("host", "is_allowed"),
    [
        ("vov.vn", True),
        ("VOV.vn.", True),
        ("stream.vov.vn", False),
        ("a.bacninh.gov.vn", True),
        ("bacninh.gov.vn", False),
        ("evilbacninh.gov.vn", False),
    ],
)
def test_names_may_be_limited(host: str, is_allowed: bool) -> None:
    assert Rules(hosts=("vov.vn", ".bacninh.gov.vn")).allow_host(host) == is_allowed


def test_one_forbidden_address_condemns_the_name() -> None:
    place = location("http://stream.vov.vn/vov1")
    assert isinstance(place, Location)
    assert forbidden(place, (PUBLIC,), Rules()) is None
    fault = forbidden(place, (PUBLIC, ipaddress.ip_address("10.0.0.1")), Rules())
    assert fault is not None
    assert (fault.code, fault.facts["address"]) == ("relay_address_not_allowed", "10.0.0.1")


@pytest.mark.parametrize(
    ("url", "kind", "is_direct", "code"),
    [
        ("http://stream.vov.vn/vov1", STREAM, False, None),
        ("http://10.20.1.7:8000/live", ENCODER, False, None),
        ("http://127.0.0.1:5432/", ENCODER, False, "relay_address_not_allowed"),
        ("http://[::1]:8480/metrics", STREAM, False, "relay_address_not_allowed"),
        ("http://10.30.0.1/live", ENCODER, True, None),  # in the devices' network, which is not ours
        ("http://other.example/x", STREAM, False, "relay_host_not_allowed"),
        ("fm://103.5", FM, True, None),
        ("fm://103.5", FM, False, "relay_fm_is_direct"),
        ("fm://103.5", STREAM, True, "relay_url_scheme"),
        ("fm://120", FM, True, "relay_frequency"),
        ("fm://9.5", FM, True, "relay_frequency"),
        ("http://stream.vov.vn/vov1", FM, True, "relay_frequency"),
    ],
)
def test_a_source_is_judged_by_what_it_is(url: str, kind: str, is_direct: bool, code: str | None) -> None:
    rules = Rules(hosts=("stream.vov.vn", "10.20.1.7", "127.0.0.1", "::1"), networks=(ENCODERS,))
    fault = fault_of(url, kind, is_direct=is_direct, rules=rules)
    assert (fault.code if fault else None) == code
