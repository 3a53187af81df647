"""The fleet manifest: which devices there are and what a factory put into each of them.

Written by whoever provisions, read here once. Everything a device is told later (volume, membership, where media is)
comes signed over MQTT and is not in it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from firmware_sim.errors import InvalidInput
from firmware_sim.profile import FIRMWARE, Profile
from schemas.fields import DeviceKind
from schemas.identifiers import DeviceId
from schemas.readings import UNITS

DEFAULT_QUANTITIES = ("air_temperature", "relative_humidity")


def _known(quantity: str) -> str:
    if quantity not in UNITS:
        raise ValueError(f"unknown quantity; known are {', '.join(UNITS)}")
    return quantity


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Place(_Table):
    """WGS 84, in degrees."""

    latitude: float = Field(ge=-90, le=90)
    longitude: float = Field(ge=-180, le=180)


class _Device(_Table):
    id: Annotated[str, AfterValidator(DeviceId.parse)]
    position: Place | None = None
    firmware: str = Field(default=FIRMWARE, min_length=1, max_length=48)
    quantities: tuple[Annotated[str, AfterValidator(_known)], ...] = Field(default=DEFAULT_QUANTITIES, max_length=32)


class Child(_Device):
    """A device behind a gateway: it has no certificate, its gateway speaks for it."""

    kind: Literal["cluster", "board", "sensor"]


class Principal(_Device):
    """A device with a session of its own."""

    kind: Literal["cluster", "board", "sensor", "gateway"]
    certificate: Path | None = None
    key: Path | None = None
    claim_code: str | None = Field(default=None, min_length=1, max_length=64)
    children: tuple[Child, ...] = ()

    @model_validator(mode="after")
    def _has_a_certificate_or_a_claim_code(self) -> Self:
        if (self.certificate is None) is not (self.key is None):
            raise ValueError("certificate and key belong together")
        if (self.certificate is None) is (self.claim_code is None):
            raise ValueError("needs either certificate and key, or a claim_code to fetch them with")
        return self

    @model_validator(mode="after")
    def _only_gateways_have_children(self) -> Self:
        if self.children and self.kind != "gateway":
            raise ValueError("only a gateway has children")
        return self


class Manifest(_Table):
    """A whole fleet."""

    version: Literal[1]
    root_public_key: str = Field(pattern=r"^[0-9a-f]{64}$")
    devices: tuple[Principal, ...] = Field(min_length=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Station:
    """One MQTT session to be: its profile, its identity on disk, and the devices it speaks for.

    Where there is a claim code, the device fetches its certificate with it and keeps both on its own flash.
    """

    profile: Profile
    certificate: Path | None = None
    key: Path | None = None
    claim_code: str | None = None
    children: tuple[Profile, ...] = ()


def parse(text: str, *, folder: Path) -> tuple[Station, ...]:
    """Return the stations written in a manifest; raises `InvalidInput` naming everything that is wrong with it.

    Relative paths are taken from `folder`. Whether the files exist is for the caller to find out.
    """
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        raise InvalidInput(
            tuple(
                f"{'.'.join(map(str, each['loc'])) or 'manifest'}: {each['msg']}"
                for each in error.errors(include_url=False)
            )
        ) from None
    root = bytes.fromhex(manifest.root_public_key)
    stations = tuple(_station(principal, root, folder) for principal in manifest.devices)
    counts = Counter(profile.id for station in stations for profile in (station.profile, *station.children))
    repeated = tuple(f"{device}: named more than once" for device, count in counts.items() if count > 1)
    if repeated:
        raise InvalidInput(repeated)
    return stations


def _station(principal: Principal, root: bytes, folder: Path) -> Station:
    own = DeviceId(principal.id)
    return Station(
        profile=_profile(principal, own, root, children=len(principal.children)),
        certificate=None if principal.certificate is None else folder / principal.certificate,
        key=None if principal.key is None else folder / principal.key,
        claim_code=principal.claim_code,
        children=tuple(_profile(child, own, root) for child in principal.children),
    )


def _profile(device: Principal | Child, principal: DeviceId, root: bytes, *, children: int = 0) -> Profile:
    kind = DeviceKind[device.kind.upper()]
    return Profile(
        id=DeviceId(device.id),
        kind=kind,
        principal=principal,
        root_public_key=root,
        firmware=device.firmware,
        quantities=device.quantities if kind is DeviceKind.SENSOR else (),
        children=children,
    )
