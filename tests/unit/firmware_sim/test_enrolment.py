"""What a device asks for and what it makes of answers: held to the platform's own reading of both."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from firmware_sim import enrolment
from firmware_sim.enroller import Papers
from firmware_sim.errors import NotOurs
from schemas.identifiers import DeviceId
from services.control.trust import certificates, claims, renewals
from services.shared.clock import utc_now

DEVICE = "loa-0001"
CA = certificates.make_issuing_ca(now=utc_now())
ROOT = bytes(range(32))


def an_answer(ask: enrolment.Ask, *, device: str = DEVICE, **changes: Any) -> bytes:
    """What control answers to a request."""
    now = utc_now()
    request = certificates.proven_request(json.loads(ask.body)["csr"].encode())
    certificate = certificates.issue_device_certificate(CA, DeviceId.parse(device), request, now=now)
    data = {
        "device_id": device,
        "certificate": certificates.certificate_pem(certificate).decode(),
        "chain": certificates.certificate_pem(CA.certificate).decode(),
        "renew_after": (now + timedelta(days=264)).isoformat(),
        "root_public_key": ROOT.hex(),
        "keys": base64.b64encode(b"keys").decode(),
    }
    return json.dumps(data | changes).encode()


def an_identity() -> enrolment.Identity:
    key = enrolment.new_key()
    return enrolment.read(an_answer(enrolment.with_code("X", key)), device=DEVICE, key=key)


def test_what_is_asked_with_a_code_is_a_request_that_names_nobody() -> None:
    key = enrolment.new_key()
    ask = enrolment.with_code("ABCDE-12345-ABCDE-12345", key)
    body = json.loads(ask.body)
    assert (ask.path, body["claim_code"]) == ("/api/v1/enrolments", "ABCDE-12345-ABCDE-12345")
    request = certificates.proven_request(body["csr"].encode())
    assert list(request.subject) == []
    identity = enrolment.read(an_answer(ask), device=DEVICE, key=key)
    assert (identity.root_public_key, identity.key, identity.keys) == (ROOT, key, b"keys")
    assert identity.renew_after_ms > utc_now().timestamp() * 1_000


def test_a_renewal_is_proven_by_the_present_key_and_by_no_other() -> None:
    present, other = an_identity(), an_identity()
    ask = enrolment.with_present(present, enrolment.new_key())
    body = json.loads(ask.body)
    request, proof = certificates.proven_request(body["csr"].encode()), base64.b64decode(body["proof"])
    assert ask.path == "/api/v1/enrolments/renewals"
    assert renewals.is_proven(request, proof, x509.load_pem_x509_certificate(body["certificate"].encode()))
    assert not renewals.is_proven(request, proof, x509.load_pem_x509_certificate(other.certificate.encode()))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"device_id": "loa-0002"}, "certificate is for"),
        ({"root_public_key": "00"}, "root key"),
        ({"root_public_key": "zz"}, "no answer to an enrolment"),
        ({"certificate": "nonsense"}, "no answer to an enrolment"),
        ({"renew_after": "soon"}, "no answer to an enrolment"),
        ({"keys": "?"}, "no answer to an enrolment"),
    ],
)
def test_an_answer_for_somebody_else_is_not_taken(change: dict[str, str], complaint: str) -> None:
    key = enrolment.new_key()
    answer = an_answer(enrolment.with_code("X", key), **change)
    with pytest.raises(NotOurs, match=complaint):
        enrolment.read(answer, device=DEVICE, key=key)


def test_a_certificate_of_another_device_or_over_another_key_is_not_taken() -> None:
    key = enrolment.new_key()
    ask = enrolment.with_code("X", key)
    with pytest.raises(NotOurs, match="loa-0002"):
        enrolment.read(an_answer(ask, device="loa-0002"), device=DEVICE, key=key)
    with pytest.raises(NotOurs, match="another key"):
        enrolment.read(an_answer(ask), device=DEVICE, key=enrolment.new_key())


@given(st.binary(max_size=200))
def test_no_noise_is_an_answer(noise: bytes) -> None:
    with pytest.raises(NotOurs):
        enrolment.read(noise, device=DEVICE, key=KEY)


KEY = enrolment.new_key()


def test_a_code_is_the_same_however_it_is_typed() -> None:
    code = claims.new_code()
    typed = f" {code.lower().replace('-', ' ').replace('0', 'o').replace('1', 'l')} "
    assert claims.stored_form(code) == claims.stored_form(typed)
    assert enrolment.code_name(code) == enrolment.code_name(typed)


def test_an_identity_survives_the_flash_and_damage_counts_as_none() -> None:
    identity = an_identity()
    content = identity.dump()
    assert enrolment.load(content) == identity
    for damaged in (b"", content[:-9], b"{}", b"[]", b"\xff" * 9):
        assert enrolment.load(damaged) is None


class TestPapers:
    def test_the_key_is_kept_until_it_is_certified(self, tmp_path: Path) -> None:
        key = Papers(tmp_path).next_key()
        assert Papers(tmp_path).next_key() == key
        Papers(tmp_path).adopt(an_identity())
        assert Papers(tmp_path).next_key() != key

    def test_what_was_adopted_is_there_after_a_restart_also_for_tls(self, tmp_path: Path) -> None:
        identity = an_identity()
        Papers(tmp_path).adopt(identity)
        # The power goes between the two files: the second is made from the first.
        (tmp_path / "identity.pem").write_bytes(b"of before")
        assert Papers(tmp_path).identity() == identity
        assert (tmp_path / "identity.pem").read_bytes() == identity.for_tls

    def test_nobody_else_reads_any_of_it(self, tmp_path: Path) -> None:
        papers = Papers(tmp_path)
        papers.next_key()
        papers.spend("A")
        assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
        papers.adopt(an_identity())
        assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}

    def test_a_code_is_used_once_and_what_was_typed_comes_before_what_was_printed(self, tmp_path: Path) -> None:
        papers, typed = Papers(tmp_path), tmp_path / "claim-code"
        assert papers.code(None) is None
        assert papers.code("PRINTED") == "PRINTED"
        papers.spend("PRINTED")
        assert papers.code("PRINTED") is None
        typed.write_text("TYPED\n")
        assert papers.code("PRINTED") == "TYPED"
        papers.spend("TYPED")
        assert (papers.code("PRINTED"), typed.exists()) == (None, False)
