"""Devices come by their certificates: claim codes, requests of every bad kind, renewal, replacement, revocation."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from schemas.identifiers import DeviceId
from services.control.permissions import Role
from services.control.trust import renewals
from services.control.trust.certificates import common_name, issue_device_certificate, make_issuing_ca, new_key
from tests.support.control_api import NOW, Api, add_device

pytestmark = pytest.mark.integration


def request_of(key: Any, name: str = "anything") -> x509.CertificateSigningRequest:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, algorithm)


def pem(signed: Any) -> str:
    text: str = signed.public_bytes(serialization.Encoding.PEM).decode()
    return text


async def a_claim(api: Api, device_id: str) -> str:
    who = await api.person((Role.ADMINISTRATOR, "24"))
    response = await api.client.post(f"/api/v1/devices/{device_id}/claim", headers=who)
    assert response.status_code == 201, response.text
    code: str = response.json()["claim_code"]
    return code


async def enrol(api: Api, code: str, csr: str) -> Any:
    return await api.client.post("/api/v1/enrolments", json={"claim_code": code, "csr": csr})


async def enrolled(api: Api, device_id: str, key: Any) -> x509.Certificate:
    response = await enrol(api, await a_claim(api, device_id), pem(request_of(key)))
    assert response.status_code == 201, response.text
    return x509.load_pem_x509_certificate(response.json()["certificate"].encode())


async def renew(api: Api, present: x509.Certificate, csr: x509.CertificateSigningRequest, key: Any) -> Any:
    body = {
        "certificate": pem(present),
        "csr": pem(csr),
        "proof": base64.b64encode(renewals.proof(csr, key)).decode(),
    }
    return await api.client.post("/api/v1/enrolments/renewals", json=body)


async def certificates(api: Api, device_id: str) -> Any:
    who = await api.person((Role.VIEWER, "24"))
    return (await api.client.get(f"/api/v1/devices/{device_id}/certificates", headers=who)).json()


async def test_a_code_and_a_request_make_a_device_whatever_name_the_request_has(api: Api) -> None:
    device_id, key = await add_device(api, "11"), new_key()
    code = await a_claim(api, device_id)
    assert re.fullmatch(r"([0-9A-HJKMNP-TV-Z]{5}-){3}[0-9A-HJKMNP-TV-Z]{5}", code)

    response = await enrol(api, code.lower().replace("-", " "), pem(request_of(key, "ingest:1")))

    assert response.status_code == 201, response.text
    told = response.json()
    certificate = x509.load_pem_x509_certificate(told["certificate"].encode())
    assert certificate.subject == x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device_id)])
    assert certificate.public_key() == key.public_key()
    assert api.services.issuer is not None
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(told["chain"].encode()))
    assert told["device_id"] == device_id
    assert told["broker"]["host"] == "mqtt.loa.test"
    assert told["root_public_key"] == api.services.issuer.root_public_key.hex()
    assert base64.b64decode(told["keys"]) == api.services.keyring.announced.message
    assert told["not_after"] > told["renew_after"] > api.clock.now.isoformat()
    action = await api.fetchval("SELECT action FROM control.audit ORDER BY audit_id DESC LIMIT 1")
    assert action == "device_enrolled"


@pytest.mark.parametrize("name", ["cluster-of-another", "a/b", "+", "#", "area", "ingest", "control:1", "", "\u202e"])
async def test_no_name_in_a_request_is_ever_certified(api: Api, name: str) -> None:
    device_id, key = await add_device(api, "11"), new_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("broker")]), critical=False)

    response = await enrol(api, await a_claim(api, device_id), pem(builder.sign(key, hashes.SHA256())))

    certificate = x509.load_pem_x509_certificate(response.json()["certificate"].encode())
    assert common_name(certificate) == device_id
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    with pytest.raises(x509.ExtensionNotFound):
        certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)


def tampered() -> str:
    der = bytearray(request_of(new_key()).public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    return (
        "-----BEGIN CERTIFICATE REQUEST-----\n"
        + base64.encodebytes(der).decode()
        + "-----END CERTIFICATE REQUEST-----\n"
    )


BAD_REQUESTS: dict[str, tuple[Callable[[], str], str]] = {
    "rsa": (lambda: pem(request_of(rsa.generate_private_key(65537, 2048))), "csr_key_not_p256"),
    "p384": (lambda: pem(request_of(ec.generate_private_key(ec.SECP384R1()))), "csr_key_not_p256"),
    "ed25519": (lambda: pem(request_of(ed25519.Ed25519PrivateKey.generate())), "csr_key_not_p256"),
    "unsigned": (tampered, "csr_not_signed_by_its_key"),
    "nothing": (lambda: "", "csr_malformed"),
    "garbage": (
        lambda: "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----",
        "csr_malformed",
    ),
    "a certificate": (lambda: pem(make_issuing_ca(now=NOW).certificate), "csr_malformed"),
    "huge": (lambda: "A" * 9_000, "text_too_long"),
}


@pytest.mark.parametrize("kind", BAD_REQUESTS)
async def test_a_bad_request_is_refused_by_name_and_costs_no_code(api: Api, kind: str) -> None:
    make, fault = BAD_REQUESTS[kind]
    code = await a_claim(api, await add_device(api, "11"))

    response = await enrol(api, code, make())

    assert response.status_code == 422, response.text
    assert [(each["field"], each["code"]) for each in response.json()["errors"]] == [("csr", fault)]
    assert (await enrol(api, code, pem(request_of(new_key())))).status_code == 201


async def test_a_key_belongs_to_one_device(api: Api) -> None:
    one, two, key, own = await add_device(api, "11"), await add_device(api, "11"), new_key(), new_key()
    await enrolled(api, one, key)
    code = await a_claim(api, two)

    def refused(response: Any) -> bool:
        assert response.status_code == 422, response.text
        return [each["code"] for each in response.json()["errors"]] == ["csr_key_of_another_device"]

    assert refused(await enrol(api, code, pem(request_of(key))))
    answer = await enrol(api, code, pem(request_of(own)))
    assert answer.status_code == 201, answer.text  # it has cost no code
    present = x509.load_pem_x509_certificate(answer.json()["certificate"].encode())
    api.clock.forward(hours=2)
    assert refused(await renew(api, present, request_of(key), own))
    # A device that is registered anew, under another name, keeps its key.
    who = await api.person((Role.ADMINISTRATOR, "24"))
    assert (await api.client.post(f"/api/v1/devices/{one}/retire", headers=who)).status_code == 200
    assert (await renew(api, present, request_of(key), own)).status_code == 201


async def test_a_code_works_once_for_one_key_and_a_lost_answer_is_given_again(api: Api) -> None:
    device_id, key = await add_device(api, "11"), new_key()
    code = await a_claim(api, device_id)
    first = await enrol(api, code, pem(request_of(key)))

    again = await enrol(api, code, pem(request_of(key)))
    thief = await enrol(api, code, pem(request_of(new_key())))

    assert again.json() == first.json()
    assert (thief.status_code, thief.json()["code"]) == (401, "claim_code_not_valid")
    assert len((await certificates(api, device_id))["certificates"]) == 1
    noted = await api.fetchval("SELECT after->>'reason' FROM control.audit WHERE action = 'enrolment_refused'")
    assert noted == "code_used"


async def test_a_code_ends_is_replaced_and_withdrawn(api: Api) -> None:
    device_id, who = await add_device(api, "11"), await api.person((Role.ADMINISTRATOR, "24"))
    csr = pem(request_of(new_key()))
    earlier = await a_claim(api, device_id)
    later = await a_claim(api, device_id)
    assert (await enrol(api, earlier, csr)).status_code == 401
    assert (await api.client.delete(f"/api/v1/devices/{device_id}/claim", headers=who)).status_code == 204
    assert (await enrol(api, later, csr)).status_code == 401
    last = await a_claim(api, device_id)
    api.clock.forward(days=90)
    assert (await enrol(api, last, csr)).status_code == 401


async def test_whoever_guesses_codes_waits(api: Api) -> None:
    csr = pem(request_of(new_key()))
    for _ in range(21):
        assert (await enrol(api, "00000-00000-00000-00000", csr)).status_code == 401
    refused = await enrol(api, "00000-00000-00000-00000", csr)
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_enrolments")
    api.clock.forward(seconds=int(refused.headers["retry-after"]))
    device_id = await add_device(api, "11")
    assert (await enrol(api, await a_claim(api, device_id), csr)).status_code == 201


async def test_nothing_readable_of_a_code_is_stored(api: Api) -> None:
    code = (await a_claim(api, await add_device(api, "11"))).replace("-", "")
    stored = await api.fetchval("SELECT string_agg(c::text, ' ') FROM control.device_claims c")
    recorded = await api.fetchval("SELECT string_agg(a::text, ' ') FROM control.audit a")
    assert code not in stored + recorded.replace("-", "")


async def test_a_certificate_is_renewed_by_the_key_it_is_for(api: Api) -> None:
    device_id, key, following = await add_device(api, "11"), new_key(), new_key()
    present = await enrolled(api, device_id, key)
    api.clock.forward(days=200)
    csr = request_of(following)

    response = await renew(api, present, csr, key)

    assert response.status_code == 201, response.text
    renewed = x509.load_pem_x509_certificate(response.json()["certificate"].encode())
    assert common_name(renewed) == device_id
    assert renewed.public_key() == following.public_key()
    assert renewed.not_valid_after_utc > present.not_valid_after_utc
    assert (await renew(api, present, csr, key)).json() == response.json()  # a lost answer
    newest, oldest = (await certificates(api, device_id))["certificates"]
    assert (newest["origin"], oldest["origin"]) == ("renewal", "claim")
    assert oldest["replaced_at"] is not None
    assert oldest["revoked_at"] is None


async def test_nobody_else_renews_a_certificate(api: Api) -> None:
    device_id, key = await add_device(api, "11"), new_key()
    present = await enrolled(api, device_id, key)
    api.clock.forward(days=200)
    csr, thief = request_of(new_key()), new_key()
    foreign = make_issuing_ca(now=api.clock.now)
    forged = issue_device_certificate(foreign, DeviceId(device_id), thief.public_key(), now=api.clock.now)
    assert api.services.issuer is not None
    unknown = issue_device_certificate(
        api.services.issuer.authority, DeviceId(device_id), thief.public_key(), now=api.clock.now
    )

    for certificate, signer in ((present, thief), (forged, thief), (unknown, thief)):
        response = await renew(api, certificate, csr, signer)
        assert response.status_code == 401, response.text
    replayed = {"certificate": pem(present), "csr": pem(request_of(thief))}
    replayed["proof"] = base64.b64encode(renewals.proof(csr, key)).decode()  # made for another request
    assert (await api.client.post("/api/v1/enrolments/renewals", json=replayed)).status_code == 401
    assert len((await certificates(api, device_id))["certificates"]) == 1


async def test_a_certificate_is_renewed_once_and_not_at_once(api: Api) -> None:
    key = new_key()
    present = await enrolled(api, await add_device(api, "11"), key)
    assert (await renew(api, present, request_of(new_key()), key)).status_code == 429
    api.clock.forward(hours=1)
    assert (await renew(api, present, request_of(new_key()), key)).status_code == 201
    second = await renew(api, present, request_of(new_key()), key)
    assert (second.status_code, second.json()["code"]) == (409, "certificate_renewed_already")


async def test_what_is_over_or_revoked_is_not_renewed(api: Api) -> None:
    who = await api.person((Role.ADMINISTRATOR, "24"))
    over, revoked, retired = [await add_device(api, "11") for _ in range(3)]
    keys = {device_id: new_key() for device_id in (over, revoked, retired)}
    held = {device_id: await enrolled(api, device_id, key) for device_id, key in keys.items()}
    path = f"/api/v1/devices/{revoked}/certificate/revoke"
    assert (await api.client.post(path, json={"reason": "stolen"}, headers=who)).json() == {"revoked": 1}
    assert (await api.client.post(f"/api/v1/devices/{retired}/retire", headers=who)).status_code == 200
    api.clock.forward(days=10)
    for device_id in (revoked, retired):
        response = await renew(api, held[device_id], request_of(new_key()), keys[device_id])
        assert (response.status_code, response.json()["code"]) == (401, "certificate_not_good")
    assert [each["reason"] for each in (await certificates(api, retired))["certificates"]] == ["retired"]
    api.clock.now = held[over].not_valid_after_utc
    assert (await renew(api, held[over], request_of(new_key()), keys[over])).status_code == 401


async def test_a_replaced_device_keeps_its_id_and_its_history_and_the_old_one_is_shut_out(api: Api) -> None:
    device_id = await add_device(api, "11")
    number = await api.fetchval("SELECT device_no FROM control.devices WHERE device_id = $1", device_id)
    await enrolled(api, device_id, new_key())
    api.clock.forward(days=3)

    await enrolled(api, device_id, new_key())

    newest, oldest = (await certificates(api, device_id))["certificates"]
    assert newest["revoked_at"] is None
    assert oldest["reason"] == "replaced"
    assert await api.fetchval("SELECT device_no FROM control.devices WHERE device_id = $1", device_id) == number
    assert await api.fetchval("SELECT count(DISTINCT device_no) FROM control.device_certificates") == 1


async def test_what_speaks_through_a_gateway_needs_no_certificate(api: Api) -> None:
    who = await api.person((Role.ADMINISTRATOR, "24"))
    gateway, child = await add_device(api, "11", "gateway"), await add_device(api, "11")
    await api.client.put(f"/api/v1/devices/{child}/gateway", json={"gateway_id": gateway}, headers=who)
    response = await api.client.post(f"/api/v1/devices/{child}/claim", headers=who)
    assert (response.status_code, response.json()["code"]) == (409, "device_has_no_session")


async def test_without_an_issuing_key_every_way_in_says_what_to_do(api: Api) -> None:
    who, device_id = await api.person((Role.ADMINISTRATOR, "24")), await add_device(api, "11")
    object.__setattr__(api.services, "issuer", None)
    for path, body in (
        (f"/api/v1/devices/{device_id}/claim", None),
        ("/api/v1/enrolments", {"claim_code": "00000-00000-00000-00000", "csr": "x"}),
    ):
        response = await api.client.post(path, json=body, headers=who)
        assert response.status_code == 503
        assert "./loa installation devices" in response.json()["detail"]


async def test_a_batch_of_codes_is_all_or_nothing(api: Api) -> None:
    mine, other = await add_device(api, "11"), await add_device(api, "2")
    who = await api.person((Role.ADMINISTRATOR, "1"))
    refused = await api.client.post("/api/v1/devices/claims", json={"device_ids": [mine, other]}, headers=who)
    assert refused.status_code == 403
    assert await api.fetchval("SELECT count(*) FROM control.device_claims") == 0
    made = await api.client.post("/api/v1/devices/claims", json={"device_ids": [mine]}, headers=who)
    assert [each["device_id"] for each in made.json()["claims"]] == [mine]
