"""Settings of ingest: `INGEST_…` in the environment."""

from datetime import timedelta
from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from services.shared.settings import (
    BrokerSettings,
    DatabaseSettings,
    Duration,
    HealthSettings,
    LogSettings,
    ServiceSettings,
    SettingsGroup,
)

# A client id is one name in the whole broker. With a character no device id can hold, no device can take ours.
REPLICA_PATTERN = r"^ingest:[a-z0-9-]{1,32}$"


class BatchSettings(SettingsGroup):
    """When a batch is written."""

    size: int = Field(default=5_000, ge=1, le=50_000, description="messages at which a batch is written")
    age: Duration = Field(default=timedelta(milliseconds=100), description="how long the first of a batch may wait")
    writers: int = Field(
        default=2,
        ge=1,
        le=4,
        description="batches of heartbeats and readings in the making: one is copied, one commits",
    )
    commit_timeout: Duration = Field(
        default=timedelta(seconds=60), description="after which a commit without an answer is tried on a new connection"
    )


class TimeSettings(SettingsGroup):
    """How far a device's clock is believed."""

    ahead: Duration = Field(default=timedelta(minutes=5), description="a device time later than this is not believed")
    behind: Duration = Field(default=timedelta(days=31), description="a device time older than this is not believed")


class QuarantineSettings(SettingsGroup):
    """What is kept of uplinks that are not admitted; beyond the quotas they are only counted."""

    per_principal: int = Field(default=100, ge=0, description="payloads kept a day of one principal")
    in_all: int = Field(default=10_000, ge=0, description="payloads kept a day of all together")
    keep_for: Duration = Field(default=timedelta(days=90), description="how long after they were last seen")


class LedgerSettings(SettingsGroup):
    """How much one device may make the receipt ledger remember."""

    journals_a_day: int = Field(default=16, ge=1, description="new journals of one device a day")
    ranges: int = Field(default=256, ge=1, le=10_000, description="separate ranges of received numbers in one journal")


class RetentionSettings(SettingsGroup):
    """How long rows are kept, by class of device; hourly roll-ups of all but sensors stay."""

    heartbeats: Duration = Field(default=timedelta(days=90), description="heartbeats of clusters, boards and gateways")
    # Longer than the three days a device may be away and come back with what it kept.
    sensor_heartbeats: Duration = Field(
        default=timedelta(days=4),
        ge=timedelta(days=1),
        description="heartbeats of sensors, at least a day: an hour is rolled up before it goes",
    )
    sensor_hours: Duration = Field(
        default=timedelta(days=1827), ge=timedelta(days=32), description="hourly roll-ups of sensors' heartbeats"
    )
    readings: Duration = Field(default=timedelta(days=90), description="readings")
    events: Duration = Field(default=timedelta(days=731), description="events, and journals nobody has used since")


class Settings(ServiceSettings):
    """Everything ingest needs to know before it starts."""

    model_config = SettingsConfigDict(env_prefix="INGEST_")

    database: DatabaseSettings = Field(description="the database, as the role loa_ingest")
    broker: BrokerSettings = Field(description="the broker's listener for services; certificate with the name ingest")
    replica: str = Field(
        default="ingest:1",
        pattern=REPLICA_PATTERN,
        description="MQTT client id of this replica, ingest:NAME; fixed, and different for each replica",
    )
    shared_group: SecretStr = Field(
        min_length=16,
        max_length=128,
        description="secret name of the shared subscription, the same for all replicas: who knows it can take messages",
    )
    receive_maximum: int = Field(
        default=20_000,
        ge=1,
        le=65_535,
        description="unacknowledged messages the broker may send to one session: the back-pressure",
    )
    sensor_states_per_s: int = Field(
        default=3_000,
        ge=1,
        description="states of sensors written in a second, at most about; with more sensors each is written less often",
    )
    bytes_in_hand: int = Field(
        default=64 * 1024 * 1024, ge=1024 * 1024, description="payload bytes in hand at which reading pauses"
    )
    batch: BatchSettings = Field(default_factory=BatchSettings, description="batches")
    time: TimeSettings = Field(default_factory=TimeSettings, description="device clocks")
    quarantine: QuarantineSettings = Field(default_factory=QuarantineSettings, description="quarantine")
    ledger: LedgerSettings = Field(default_factory=LedgerSettings, description="the receipt ledger")
    retention: RetentionSettings = Field(default_factory=RetentionSettings, description="retention")
    receipt_interval: Duration = Field(
        default=timedelta(milliseconds=200), description="receipts of one journal are sent at most this often"
    )
    receipt_expiry: Duration = Field(
        default=timedelta(minutes=10), description="after which the broker drops a receipt it could not deliver"
    )
    registry_refresh: Duration = Field(
        default=timedelta(minutes=1), description="how often changes of the registry are looked for untold"
    )
    maintenance_interval: Duration = Field(
        default=timedelta(minutes=5), description="how often partitions, roll-ups and retention are looked after"
    )
    roll_up_timeout: Duration = Field(
        default=timedelta(minutes=30), description="how long rolling up one hour of all sensors may take"
    )
    stop_deadline: Duration = Field(
        default=timedelta(seconds=10),
        le=timedelta(seconds=60),
        description="how long a stop waits for the database to take what is in hand, at most 60s",
    )
    leave_on_stop: bool = Field(
        default=False,
        description="give up the share of the subscription when stopping: for a replica that does not come back",
    )
    replica_silence: Duration = Field(
        default=timedelta(minutes=2),
        ge=timedelta(seconds=1),
        description="after which a replica without a sign of life, which has not left, counts as stranded",
    )
    broker_log: Path | None = Field(
        default=None, description="the broker's log file, read for refusals that never reach ingest; unset: not read"
    )
    health: HealthSettings = Field(default_factory=HealthSettings, description="health and metrics")
    log: LogSettings = Field(default_factory=LogSettings, description="the log")

    @field_validator("shared_group")
    @classmethod
    def _fits_into_a_topic_filter(cls, value: SecretStr) -> SecretStr:
        text = value.get_secret_value()
        if not all(each.isascii() and (each.isalnum() or each in "-_") for each in text):
            raise ValueError("may hold letters, digits, - and _ only: it is one level of a topic filter")
        return value

    @model_validator(mode="after")
    def _raw_rows_outlive_late_ones(self) -> Self:
        # Not those of sensors: theirs are rolled up in whatever order they come, from a place that takes any age (0013).
        for name in ("heartbeats", "readings", "events"):
            if getattr(self.retention, name) <= self.time.behind:
                raise ValueError(
                    f"retention of {name} must be longer than the oldest device time believed (time.behind)"
                )
        return self
