"""Certificates of devices: claim codes, enrolment and renewal by the devices themselves, revocation."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import Field

from services.control import device_store, enrolment_store, enrolments, operation_kinds, operations, revocation_store
from services.control.api import step_up
from services.control.api.access import Scope, requires
from services.control.api.context import Caller, Parts, Services, origin_of
from services.control.api.errors import documented
from services.control.api.fields import Answer, Body, DeviceIdText
from services.control.api.requests import RequestView, by, means, waiting
from services.control.api.step_up import BreakGlass, GivenCode, Operation
from services.control.enrolment_store import Issued
from services.control.enrolments import MAX_CODES_AT_ONCE, Enrolled
from services.control.errors import Busy, Fault, Invalid, NotFound
from services.control.operation_store import Request as Waiting
from services.control.permissions import Permission
from services.control.trust import certificates, claims
from services.control.trust.issuer import Issuer
from services.control.trust.keyring import Keyring

router = APIRouter(prefix="/api/v1", tags=["enrolment"])

Enroller = Annotated[Caller, requires(Permission.ENROL_DEVICES, Scope.DEVICE)]
BatchEnroller = Annotated[Caller, requires(Permission.ENROL_DEVICES, Scope.BODY)]
Watcher = Annotated[Caller, requires(Permission.SEE_DEVICES, Scope.DEVICE)]

_LIST_TYPE = "application/x-pem-file"

# A P-256 request has some 400 characters in PEM; ours takes no other key.
Csr = Annotated[str, Field(max_length=8_192, description="certificate signing request (PKCS 10), PEM, P-256")]


class ClaimView(Answer):
    """A claim code, shown this once."""

    device_id: str
    claim_code: str
    expires_at: datetime


class ClaimsBody(Body):
    """Devices that are to be given codes: all, or none."""

    device_ids: list[DeviceIdText] = Field(min_length=1, max_length=MAX_CODES_AT_ONCE)


class ClaimsView(Answer):
    """Claim codes, in the order asked for."""

    claims: list[ClaimView]


class ClaimsAskedView(ClaimsView):
    """Codes that are good for something only once another person has confirmed the request. They are shown this once."""

    request: RequestView


_MAY_WAIT: dict[int | str, dict[str, Any]] = {
    202: {"model": ClaimsAskedView, "description": "they wait for a second person"}
}


class Enrolment(Body):
    """A device asks for its first certificate."""

    claim_code: str = Field(max_length=64, description="as printed on the device; case and hyphens do not matter")
    csr: Csr


class Renewal(Body):
    """A device asks for the next certificate, with the key of the present one."""

    certificate: str = Field(max_length=8_192, description="the present certificate, PEM")
    csr: Csr
    proof: str = Field(
        max_length=256,
        description="Base64 of the present key's ECDSA-SHA256 signature (DER) over the bytes "
        "`loa certificate renewal v1`, a zero byte, and the request in DER",
    )


class BrokerView(Answer):
    """Where a device connects, and whom it trusts there."""

    host: str
    port: int
    ca: str


class EnrolledView(Answer):
    """A device's name, certificate and what it has to know."""

    device_id: str
    certificate: str
    chain: str
    not_after: datetime
    renew_after: datetime
    broker: BrokerView
    root_public_key: str
    keys: str = Field(
        description="Base64 of the key set that holds, as it stands retained for the device: whoever holds the broker "
        "gives a device that knows none yet no earlier one after this"
    )


class CertificateView(Answer):
    """A certificate on record."""

    serial: str
    origin: str
    issued_at: datetime
    not_after: datetime
    replaced_at: datetime | None
    revoked_at: datetime | None
    reason: str | None
    in_force_at: datetime | None
    thrown_out_at: datetime | None


class CertificatesView(Answer):
    """What was issued to a device, the newest first, and whether a claim code waits to be used."""

    certificates: list[CertificateView]
    claim_expires_at: datetime | None


class RevocationBody(Body):
    """Why the device is shut out."""

    reason: Literal["stolen", "lost", "replaced", "other"]


class RevokedView(Answer):
    """How many certificates were revoked; `GET …/certificates` tells when that is in force."""

    revoked: int


def _issuer(services: Services) -> Issuer:
    if services.issuer is None:
        raise Busy("enrolment_not_set_up")
    return services.issuer


@router.post("/devices/{device_id}/claim", status_code=201, responses=_MAY_WAIT)
async def make_claim(
    device_id: str,
    caller: Enroller,
    services: Parts,
    response: Response,
    second_factor: GivenCode = None,
    break_glass: BreakGlass = None,
) -> ClaimView | ClaimsAskedView:
    """A claim code for the device; one given earlier is void. Using it revokes what the device held before."""
    await step_up.demand(services, caller, Operation.MANAGE_KEYS, code=second_factor, alone=break_glass)
    given = await _claim([device_id], caller, services, response, alone=break_glass)
    return given if isinstance(given, ClaimsAskedView) else given.claims[0]


@router.post("/devices/claims", status_code=201, responses=_MAY_WAIT | documented([404]))
async def make_claims(
    body: ClaimsBody,
    caller: BatchEnroller,
    services: Parts,
    response: Response,
    second_factor: GivenCode = None,
    break_glass: BreakGlass = None,
) -> ClaimsView | ClaimsAskedView:
    """Claim codes for many devices, to be printed."""
    await step_up.demand(services, caller, Operation.MANAGE_KEYS, code=second_factor, alone=break_glass)
    return await _claim(body.device_ids, caller, services, response, alone=break_glass)


async def _claim(
    device_ids: Sequence[str], caller: Caller, services: Services, response: Response, *, alone: str | None
) -> ClaimsView | ClaimsAskedView:
    """Draw the codes. Only their hashes are kept, also of those that wait for a second person and are void until then."""
    _issuer(services)
    expires_at = caller.now + services.enrolment.claim_validity
    drawn = [(device_id, claims.new_code()) for device_id in device_ids]
    async with services.database.transaction() as connection:
        units = []
        for position, device_id in enumerate(device_ids):
            units.append(await device_store.unit_of(connection, device_id))
            caller.demand(Permission.ENROL_DEVICES, units[-1], field=f"device_ids[{position}]")
        operation = operation_kinds.claiming(
            caller.rights.tree.common(units) or caller.actor.unit_id,
            [(device_id, claims.hash_of(code)) for device_id, code in drawn],
            expires_at=expires_at,
        )
        outcome = await operations.settle(
            connection, operation, by=by(caller), means=means(services, alone), now=caller.now
        )
    views = [ClaimView(device_id=device_id, claim_code=code, expires_at=expires_at) for device_id, code in drawn]
    if isinstance(outcome, Waiting):
        return ClaimsAskedView(claims=views, request=await waiting(services, response, outcome))
    return ClaimsView(claims=views)


@router.delete("/devices/{device_id}/claim", status_code=204)
async def withdraw_claim(device_id: str, caller: Enroller, services: Parts) -> None:
    """Make the device's unused claim code void."""
    async with services.database.transaction() as connection:
        device = await device_store.device_for_update(connection, device_id, now=caller.now)
        await enrolments.withdraw_claim(connection, device, actor=caller.actor, origin=caller.origin, now=caller.now)


@router.get("/devices/{device_id}/certificates")
async def get_certificates(device_id: str, caller: Watcher, services: Parts) -> CertificatesView:
    """What was issued to the device, and how far revocations have come."""
    async with services.database.connection() as connection:
        device = await device_store.device(connection, device_id, now=caller.now)
        found = await enrolment_store.certificates_of(connection, device.device_no)
        claim = await enrolment_store.claim_of(connection, device.device_no)
    waits = claim is not None and claim.used_at is None
    return CertificatesView(
        certificates=[_certificate_view(each) for each in found],
        claim_expires_at=claim.expires_at if claim is not None and waits else None,
    )


@router.post("/devices/{device_id}/certificate/revoke")
async def revoke_certificate(
    device_id: str, body: RevocationBody, caller: Enroller, services: Parts, second_factor: GivenCode = None
) -> RevokedView:
    """Shut the device out: its certificates are put on the list, its session is ended, its unused code is void."""
    await step_up.demand(services, caller, Operation.MANAGE_KEYS, code=second_factor)
    _issuer(services)
    async with services.database.transaction() as connection:
        device = await device_store.device_for_update(connection, device_id, now=caller.now)
        revoked = await enrolments.revoke(
            connection, device, reason=body.reason, actor=caller.actor, origin=caller.origin, now=caller.now
        )
    return RevokedView(revoked=revoked)


@router.get(
    "/revocation-list",
    response_class=Response,
    responses={200: {"content": {_LIST_TYPE: {}}}, **documented([404])},
)
async def get_revocation_list(services: Parts) -> Response:
    """The newest list of revoked certificates, PEM (RFC 5280): what the broker beside `follow-lists` goes by."""
    issuer = _issuer(services)
    async with services.database.connection() as connection:
        newest = await revocation_store.newest(connection, issuer.key_id)
    if newest is None:
        raise NotFound("no_revocation_list")
    return Response(newest.list, media_type=_LIST_TYPE)


@router.post("/enrolments", status_code=201, responses=documented([401]))
async def enrol(body: Enrolment, request: Request, services: Parts) -> EnrolledView:
    """The first certificate of a device, for its claim code and a request signed by its own key. The request's name is
    ignored: the code says which device it is.
    """
    issuer = _issuer(services)
    enrolled = await enrolments.enrol(
        services.database,
        issuer,
        code=body.claim_code,
        request=body.csr,
        origin=origin_of(request),
        now=services.clock(),
    )
    return _enrolled_view(enrolled, issuer, services.keyring)


@router.post("/enrolments/renewals", status_code=201, responses=documented([401]))
async def renew(body: Renewal, request: Request, services: Parts) -> EnrolledView:
    """The next certificate of a device, for its present one, a request and a proof by the present key."""
    issuer = _issuer(services)
    try:
        proof = base64.b64decode(body.proof, validate=True)
    except (binascii.Error, ValueError):
        raise Invalid(Fault("proof", "not_base64")) from None
    enrolled = await enrolments.renew(
        services.database,
        issuer,
        present=body.certificate,
        request=body.csr,
        proof=proof,
        origin=origin_of(request),
        now=services.clock(),
    )
    return _enrolled_view(enrolled, issuer, services.keyring)


def _enrolled_view(enrolled: Enrolled, issuer: Issuer, keyring: Keyring) -> EnrolledView:
    return EnrolledView(
        device_id=enrolled.device_id,
        certificate=certificates.certificate_pem(enrolled.certificate).decode("ascii"),
        chain=issuer.chain,
        not_after=enrolled.certificate.not_valid_after_utc,
        renew_after=enrolled.renew_after,
        broker=BrokerView(host=issuer.broker_host, port=issuer.broker_port, ca=issuer.broker_ca),
        root_public_key=issuer.root_public_key.hex(),
        keys=base64.b64encode(keyring.announced.message).decode("ascii"),
    )


def _certificate_view(issued: Issued) -> CertificateView:
    return CertificateView(
        serial=issued.serial.hex(),
        origin=issued.origin,
        issued_at=issued.issued_at,
        not_after=issued.not_after,
        replaced_at=issued.replaced_at,
        revoked_at=issued.revoked_at,
        reason=issued.reason,
        in_force_at=issued.in_force_at,
        thrown_out_at=issued.thrown_out_at,
    )
