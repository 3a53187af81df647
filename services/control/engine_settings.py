"""Settings of the parts that plan, sign, deliver and prove; fields of control's `Settings`."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from pydantic import Field, field_validator, model_validator

from services.shared.settings import Duration, SettingsGroup, readable_file


class SigningSettings(SettingsGroup):
    """What orders to devices are signed with."""

    key_file: Path = Field(description="PEM file with the platform's Ed25519 signing key")
    keys_file: Path = Field(
        description="the key set devices are given, signed beforehand by the root key, which is not kept here"
    )

    @field_validator("key_file", "keys_file")
    @classmethod
    def _is_readable(cls, value: Path) -> Path:
        return readable_file(value)


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
