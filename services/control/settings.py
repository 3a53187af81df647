"""Settings of control: `CONTROL_…` in the environment."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from services.control.engine_settings import (
    AuditSettings,
    DeliverySettings,
    EnrolmentSettings,
    PlanningSettings,
    ProofSettings,
    RelaySettings,
    SecurityLogSettings,
    SensingSettings,
    SigningSettings,
)
from services.control.trust.secret_box import load_box
from services.shared.settings import (
    BrokerSettings,
    DatabaseSettings,
    Duration,
    LogSettings,
    ServiceSettings,
    SettingsGroup,
    check_pair,
    readable_file,
)

MIB = 1024 * 1024


def _time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (OSError, ValueError, LookupError):
        raise ValueError(f"{name[:64]!r} is no time zone; expected a name such as Asia/Ho_Chi_Minh") from None
    return name


TimeZone = Annotated[str, AfterValidator(_time_zone)]


class HttpSettings(SettingsGroup):
    """Where and how the API and the pages are served."""

    hosts: tuple[str, ...] = Field(
        default=("127.0.0.1", "::1"), min_length=1, description="addresses to listen on, IPv4 and IPv6, as JSON"
    )
    port: int = Field(default=8480, ge=0, le=65535, description="port on each of the addresses; 0 takes a free one")
    cert_file: Path | None = Field(default=None, description="PEM certificate chain; with it the server speaks HTTPS")
    key_file: Path | None = Field(default=None, description="PEM private key of the certificate")
    is_behind_https: bool | None = Field(
        default=None,
        description="whether a proxy in front speaks HTTPS to people: cookies then travel on HTTPS only, and browsers are "
        "held to it; default: where CONTROL_MEDIA__BASE_URL is https",
    )
    trusted_proxies: tuple[str, ...] = Field(
        default=(), description="addresses of proxies whose X-Forwarded headers are believed, as JSON"
    )
    names: tuple[str, ...] = Field(
        default=(), description="host names people reach this by, as JSON; others are refused (421); empty: any"
    )
    requests_per_minute: int = Field(
        default=6_000,
        ge=0,
        le=1_000_000,
        description="requests of one address, devices' media and monitoring left out; 0: any number",
    )
    account_requests_per_minute: int = Field(
        default=1_800, ge=0, le=1_000_000, description="requests of one account; 0: any number"
    )
    head_wait: Duration = Field(
        default=timedelta(seconds=15), description="how long the head of a request may take to come"
    )
    body_wait: Duration = Field(
        default=timedelta(seconds=30), description="how long the next piece of a body may take to come"
    )
    stop_timeout: Duration = Field(
        default=timedelta(seconds=8), description="how long requests under way may take once a stop was asked for"
    )
    max_body_mib: int = Field(default=1, ge=1, le=64, description="largest request body, in MiB")
    max_batch_body_mib: int = Field(
        default=8, ge=1, le=64, description="largest body of a request that registers many devices, in MiB"
    )

    @field_validator("cert_file", "key_file")
    @classmethod
    def _is_readable(cls, value: Path | None) -> Path | None:
        return readable_file(value) if value is not None else None

    @field_validator("names")
    @classmethod
    def _are_lower_case(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name.lower() for name in value)

    @model_validator(mode="after")
    def _certificate_has_key(self) -> "HttpSettings":
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file belong together")
        if self.cert_file is not None and self.key_file is not None:
            check_pair(self.cert_file, self.key_file)
        return self

    @property
    def is_https(self) -> bool:
        """Whether people reach us by HTTPS."""
        return self.cert_file is not None or bool(self.is_behind_https)


class MediaSettings(SettingsGroup):
    """Sounds, pictures and films: where they lie, how devices reach them, and what is taken."""

    directory: Path = Field(description="directory the files are kept in")
    base_url: str = Field(
        pattern=r"^https?://[^\s?#]+$", max_length=200, description="address under which devices reach this service"
    )
    max_file_mib: int = Field(default=200, ge=1, le=2_000, description="largest file, in MiB")
    max_duration: Duration = Field(default=timedelta(minutes=60), description="longest sound")
    max_film: Duration = Field(default=timedelta(minutes=10), description="longest film for boards")
    measuring_cpu: Duration = Field(
        default=timedelta(minutes=2), description="processor time that measuring one file may take"
    )
    measuring_memory_mib: int = Field(
        default=1024, ge=256, le=16_384, description="memory that measuring one file may take, in MiB"
    )

    @field_validator("base_url")
    @classmethod
    def _has_no_trailing_slash(cls, value: str) -> str:
        return value.rstrip("/")


class SessionSettings(SettingsGroup):
    """How long a login lasts."""

    lifetime: Duration = Field(default=timedelta(hours=12), description="how long after the login a session ends")
    idle: Duration = Field(default=timedelta(hours=2), description="how long after the last request a session ends")
    token_lifetime: Duration = Field(default=timedelta(days=366), description="longest lifetime of an API token")
    secret_keys_file: Path | None = Field(
        default=None,
        description="keys that seal secrets of authenticator apps: 32 bytes as base64 on each line, newest first; "
        "without it nobody can enrol one",
    )

    @field_validator("secret_keys_file")
    @classmethod
    def _holds_keys(cls, value: Path | None) -> Path | None:
        if value is not None:
            load_box(readable_file(value))
        return value


GeocodeName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]


class PolicySettings(SettingsGroup):
    """What the province has decided."""

    time_zone: TimeZone = Field(
        default="Asia/Ho_Chi_Minh",
        description="zone of local days: of units' validity, of all that policies say, of pages and of new broadcasts",
    )
    may_approve_own: bool = Field(
        default=False,
        description="whether an approver may approve a bulletin of their own (R-12); policies of units may forbid it",
    )
    second_person_waits: Duration = Field(
        default=timedelta(minutes=15),
        description="how long an operation waits for the second person that a policy of units asks for",
    )
    second_factor_needed: bool = Field(
        default=True,
        description="whether operations that ask for a second factor are refused to accounts that have none",
    )
    prepares_alerts: bool = Field(
        default=True,
        description="whether an installation without any alert template is given a few (flood, storm, fire, test …)",
    )
    speaks_cap: bool = Field(
        default=True,
        description="whether words of alerts that came as CAP are spoken after the tone, in their first language",
    )
    cap_unit_codes: tuple[GeocodeName, ...] = Field(
        default=("loa:unit-code",),
        min_length=1,
        description="names of CAP geocodes (valueName) that hold codes of our units, in any case, as JSON; the first is "
        "what our own messages write",
    )


class ControlSettings(ServiceSettings):
    """Settings of `./loa control`."""

    model_config = SettingsConfigDict(env_prefix="CONTROL_")

    database: DatabaseSettings = Field(description="the database, as role loa_control")
    broker: BrokerSettings = Field(description="the broker's listener for services")
    http: HttpSettings = Field(default_factory=HttpSettings, description="the API and the pages")
    media: MediaSettings = Field(description="sounds, pictures and films")
    sessions: SessionSettings = Field(default_factory=SessionSettings, description="logins")
    policy: PolicySettings = Field(default_factory=PolicySettings, description="decisions of the province")
    signing: SigningSettings = Field(description="keys that sign what devices are told")
    enrolment: EnrolmentSettings = Field(
        default_factory=EnrolmentSettings, description="devices that fetch their certificates themselves"
    )
    planning: PlanningSettings = Field(default_factory=PlanningSettings, description="planning")
    delivery: DeliverySettings = Field(default_factory=DeliverySettings, description="publishing to devices")
    proof: ProofSettings = Field(default_factory=ProofSettings, description="proof of play")
    sensing: SensingSettings = Field(default_factory=SensingSettings, description="rules on readings of sensors")
    relays: RelaySettings = Field(default_factory=RelaySettings, description="live sources that are passed on")
    audit: AuditSettings = Field(default_factory=AuditSettings, description="the record of who did what")
    security_log: SecurityLogSettings = Field(
        default_factory=SecurityLogSettings, description="security events for others to watch"
    )
    log: LogSettings = Field(default_factory=LogSettings, description="the log")

    @property
    def http_as_reached(self) -> HttpSettings:
        """`http`, where nothing is said of HTTPS with what the address of this service says."""
        if self.http.is_behind_https is not None:
            return self.http
        return self.http.model_copy(update={"is_behind_https": self.media.base_url.startswith("https://")})

    @model_validator(mode="after")
    def _factors_can_be_enrolled(self) -> "ControlSettings":
        if self.policy.second_factor_needed and self.sessions.secret_keys_file is None:
            raise ValueError(
                "without CONTROL_SESSIONS__SECRET_KEYS_FILE nobody can enrol a second factor, and every alert would be"
                " refused; name the file, or set CONTROL_POLICY__SECOND_FACTOR_NEEDED to false"
            )
        return self
