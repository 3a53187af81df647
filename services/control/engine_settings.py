"""Settings of the parts that plan, sign, deliver and prove; fields of control's `Settings`."""

from __future__ import annotations

import re
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from pydantic import Field, SecretStr, field_validator, model_validator

from schemas import limits
from services.control.relay_addresses import Rules
from services.shared.settings import Duration, SettingsGroup, readable_file, writable_directory

_RECEIVER = re.compile(r"(udp|tcp|tls)://([A-Za-z0-9.-]+|\[[0-9a-fA-F:.]+\]):[1-9][0-9]{0,4}", re.ASCII)


class SigningSettings(SettingsGroup):
    """What orders to devices are signed with."""

    key_file: Path = Field(description="PEM file with the platform's Ed25519 signing key")
    key_passphrase: SecretStr | None = Field(default=None, description="what that key is encrypted with")
    keys_file: Path = Field(
        description="the key set devices are given, signed beforehand by the root key, which is not kept here"
    )

    @field_validator("key_file", "keys_file")
    @classmethod
    def _is_readable(cls, value: Path) -> Path:
        return readable_file(value)


class AuditSettings(SettingsGroup):
    """The chain of the audit, and where its signed heads go."""

    head_every: Duration = Field(default=timedelta(days=1), description="how often the head of the chain is signed")
    head_directory: Path | None = Field(
        default=None,
        description="directory that signed heads are written to, one file each; it should lie on another machine",
    )

    @field_validator("head_directory")
    @classmethod
    def _is_directory(cls, value: Path | None) -> Path | None:
        return None if value is None else writable_directory(value)

    @model_validator(mode="after")
    def _is_not_hectic(self) -> AuditSettings:
        if self.head_every < timedelta(minutes=1):
            raise ValueError("head_every must be at least 1m")
        return self


class SecurityLogSettings(SettingsGroup):
    """Where security events go, beside the log of the process."""

    file: Path | None = Field(default=None, description="file that they are appended to, one line of JSON each")
    syslog: str = Field(
        default="",
        max_length=300,
        description="receiver of syslog (RFC 5424): udp://HOST:PORT, tcp://HOST:PORT or tls://HOST:PORT",
    )
    syslog_ca_file: Path | None = Field(
        default=None, description="PEM certificates the receiver's is checked against with tls; unset: the system's"
    )
    facility: int = Field(default=10, ge=0, le=23, description="facility of syslog messages; 10 is authpriv")
    queue: int = Field(
        default=1_000,
        ge=10,
        le=100_000,
        description="events kept for a receiver that is away; what is in the database waits there in any case",
    )

    @field_validator("syslog")
    @classmethod
    def _is_receiver(cls, value: str) -> str:
        if value and not _RECEIVER.fullmatch(value):
            raise ValueError("must be udp://HOST:PORT, tcp://HOST:PORT or tls://HOST:PORT")
        return value

    @field_validator("syslog_ca_file")
    @classmethod
    def _is_readable(cls, value: Path | None) -> Path | None:
        return None if value is None else readable_file(value)

    @field_validator("file")
    @classmethod
    def _lies_in_a_directory(cls, value: Path | None) -> Path | None:
        if value is not None:
            writable_directory(value.parent)
        return value


class EnrolmentSettings(SettingsGroup):
    """Devices that fetch their certificates themselves; without authority, root key and broker nobody can enrol here."""

    ca_file: Path | None = Field(
        default=None, description="PEM certificate of the authority that signs for devices which enrol"
    )
    ca_key_file: Path | None = Field(default=None, description="PEM private key of that authority")
    ca_key_passphrase: SecretStr | None = Field(default=None, description="what that key is encrypted with")
    root_key_file: Path | None = Field(
        default=None, description="PEM public half of the root signing key, which devices are given"
    )
    broker_host: str = Field(
        default="", max_length=253, description="name by which devices reach the broker, as in its certificate"
    )
    broker_port: int = Field(default=8883, ge=1, le=65535, description="port of the broker's listener for devices")
    probe_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="port of that listener as seen from here, where lists are tried; unset: the same",
    )
    list_file: Path | None = Field(
        default=None,
        description="file the list of revoked certificates is also written to, for a broker that takes it up there",
    )
    list_every: Duration = Field(default=timedelta(days=7), description="how often that list is signed anew")
    list_validity: Duration = Field(
        default=timedelta(days=30), description="after which the broker lets nobody in who has enrolled"
    )
    claim_validity: Duration = Field(default=timedelta(days=90), description="how long a claim code may be used")
    certificate_validity: Duration = Field(
        default=timedelta(days=397), description="how long a device's certificate holds"
    )
    overlap: Duration = Field(
        default=timedelta(days=7), description="how long a certificate still holds after it was renewed"
    )

    @field_validator("ca_file", "ca_key_file", "root_key_file")
    @classmethod
    def _is_readable(cls, value: Path | None) -> Path | None:
        return None if value is None else readable_file(value)

    @model_validator(mode="after")
    def _is_whole(self) -> EnrolmentSettings:
        needed = (self.ca_file, self.ca_key_file, self.root_key_file, self.broker_host or None)
        if any(each is not None for each in needed) and None in needed:
            raise ValueError("ca_file, ca_key_file, root_key_file and broker_host belong together")
        if 2 * self.list_every > self.list_validity:
            raise ValueError("list_every must be at most half of list_validity")
        return self


class PlanningSettings(SettingsGroup):
    """How far ahead is planned and when orders to devices are renewed."""

    horizon_days: int = Field(default=7, ge=1, le=31, description="whole local days after today that are planned")
    renew_left: Duration = Field(
        default=timedelta(days=3), description="a plan is signed again when it is valid for less than this"
    )
    configuration_validity: Duration = Field(
        default=timedelta(days=365), description="how long a device may go by a configuration"
    )
    turn_every: Duration = Field(
        default=timedelta(seconds=20), description="how often work is looked for when nothing announces it"
    )
    batch: int = Field(default=200, ge=1, le=5000, description="devices whose orders are signed in one transaction")

    @model_validator(mode="after")
    def _renews_within_the_horizon(self) -> PlanningSettings:
        if self.renew_left >= timedelta(days=self.horizon_days):
            raise ValueError("renew_left must be shorter than the horizon")
        return self


class DeliverySettings(SettingsGroup):
    """How publishes leave the outbox."""

    batch: int = Field(default=200, ge=1, le=10_000, description="messages claimed at a time")
    inflight: int = Field(default=64, ge=1, le=1000, description="messages the broker has not confirmed yet, at most")
    lease: Duration = Field(
        default=timedelta(seconds=60),
        description="how long a claimed message is nobody else's; longer than publishing takes",
    )
    publish_timeout: Duration = Field(
        default=timedelta(seconds=15), description="how long the broker may take to confirm"
    )
    turn_every: Duration = Field(
        default=timedelta(seconds=5), description="how often the outbox is looked at when nothing announces work"
    )
    compare_every: Duration = Field(
        default=timedelta(seconds=30), description="how often what devices hold is compared with what was issued"
    )
    republish_after: Duration = Field(
        default=timedelta(minutes=2), description="how long a device may take to show what was published"
    )
    republish_alerts_every: Duration = Field(
        default=timedelta(minutes=3), description="how often alerts that hold are given to the broker once more"
    )


class ProofSettings(SettingsGroup):
    """How reports are followed and weighed."""

    batch: int = Field(default=500, ge=1, le=10_000, description="events read, or emissions weighed, at a time")
    turn_every: Duration = Field(
        default=timedelta(seconds=5),
        description="how often committed events are looked for when nothing announces them",
    )
    classify_every: Duration = Field(
        default=timedelta(seconds=30), description="how often emissions without a report are classified"
    )


class SensingSettings(SettingsGroup):
    """Rules on readings of sensors, and the alerts they propose."""

    watch_every: Duration = Field(
        default=timedelta(seconds=5),
        description="how often rules are held against readings when no commit of ingest announces any",
    )
    proposal_patience: Duration = Field(
        default=timedelta(minutes=2), description="how long a proposed alert may wait for a person before it is alarmed"
    )


class RelaySettings(SettingsGroup):
    """The relay point: live sources cut into signed segments (R-21)."""

    segment: Duration = Field(default=timedelta(seconds=2), description="length of one segment of a relay")
    delay: Duration = Field(
        default=timedelta(seconds=10),
        description="how far behind the source all devices sound a relay: the time they have for fetching",
    )
    stall_after: Duration = Field(
        default=timedelta(seconds=10), description="silence on the line after which a source is connected to anew"
    )
    hosts: tuple[str, ...] = Field(
        default=(),
        description="names that sources may have, as JSON; a leading dot stands for everything below; empty: any",
    )
    networks: tuple[IPv4Network | IPv6Network, ...] = Field(
        default=(),
        description='private networks that sources may stand in, as JSON such as ["10.20.0.0/16"]; '
        "without them only public addresses are connected to",
    )
    at_once: int = Field(default=8, ge=0, le=100, description="sources one process relays at a time; 0: none")
    memory_mib: int = Field(
        default=512, ge=256, le=4_096, description="memory that reading one source may take, in MiB"
    )
    turn_every: Duration = Field(
        default=timedelta(seconds=3), description="how often sources that are due are looked for"
    )

    @model_validator(mode="after")
    def _devices_have_time_to_fetch(self) -> RelaySettings:
        if not timedelta(milliseconds=500) <= self.segment <= timedelta(milliseconds=limits.SEGMENT_MS):
            raise ValueError(f"segment must lie between 500ms and {limits.SEGMENT_MS}ms")
        if self.segment % timedelta(milliseconds=100):
            raise ValueError("segment must be a multiple of 100ms")
        if not 2 * self.segment <= self.delay <= 24 * self.segment:
            raise ValueError("delay must be 2 to 24 segments long")
        return self

    @property
    def rules(self) -> Rules:
        """Where sources may be."""
        return Rules(hosts=self.hosts, networks=self.networks)
