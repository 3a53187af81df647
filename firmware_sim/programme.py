"""What a device has to sound, sounds and has settled, as values; and what it takes, as directives.

`playback` computes with these; nothing here decides.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from schemas.arbitration import Contender
from schemas.configuration import Fallback
from schemas.events import MissReason, PlayOutcome
from schemas.fields import DeviceKind, PlayReference, ResumePolicy
from schemas.orders import Rank
from schemas.plans import ContentKind, Emission, RelayReference


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What the player really put out of one part: its length, and for audio the decoded samples it rests on."""

    sounded_ms: int
    samples: int | None = None
    sample_rate_hz: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """One play, over all its parts. `token` names the part the player holds; None while there is none.

    The play of a relay has a `source_id` and no `media`; `filled_by` is the fallback that the part puts out instead of
    the source, and `is_silent` says that it is paused because the source gave nothing and nothing could fill in.
    """

    reference: PlayReference
    token: int | None
    media: bytes | None
    volume_percent: int | None
    source_id: uuid.UUID | None = None
    started_at_ms: int | None = None  # None until the first sample has left the decoder
    sounded_ms: int = 0
    samples: int | None = None
    sample_rate_hz: int | None = None
    interruptions: int = 0
    cut_by: PlayReference | None = None
    paused_at_ms: int | None = None
    shifted_ms: int = 0  # how much later than planned it restarted
    filled_by: bytes | None = None
    fallback_ms: int = 0
    is_silent: bool = False

    @property
    def put_out(self) -> bytes | None:
        """The file the part is read from; None for text and for the source of a relay."""
        return self.media if self.filled_by is None else self.filled_by

    def plus(self, figures: Figures) -> Play:
        """The play with one more finished part. Samples of a part with another rate count as that much sound."""
        rate_hz = self.sample_rate_hz or figures.sample_rate_hz
        samples = self.samples
        if figures.samples is not None:
            scaled = figures.samples
            if rate_hz != figures.sample_rate_hz and rate_hz and figures.sample_rate_hz:
                scaled = figures.samples * rate_hz // figures.sample_rate_hz
            samples = (self.samples or 0) + scaled
        return replace(
            self,
            token=None,
            sounded_ms=self.sounded_ms + figures.sounded_ms,
            samples=samples,
            sample_rate_hz=rate_hz,
            fallback_ms=self.fallback_ms + (0 if self.filled_by is None else figures.sounded_ms),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """A play that is over and waits for the player's figures."""

    play: Play
    outcome: PlayOutcome
    ended_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """Why an emission could not sound when the device last looked."""

    reason: MissReason
    by: PlayReference | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A play ordered by a command or an alert: from now on, for `duration_ms` or until its media ends.

    The volume of an emergency `passes_cap`: it is its own, whatever the configuration allows.
    """

    reference: PlayReference
    rank: Rank
    content: ContentKind
    media: bytes | None
    text: str | None
    volume_percent: int | None
    duration_ms: int | None
    resume: ResumePolicy
    begin_by_uptime_ms: int
    began_uptime_ms: int | None = None
    passes_cap: bool = False


@dataclass(frozen=True, slots=True)
class Planned:
    """An emission, with what every look at it needs: made once for a plan, because making it takes longer than looking."""

    emission: Emission
    contender: Contender

    @property
    def reference(self) -> PlayReference:
        """The identity of the emission."""
        return self.contender.reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Programme:
    """Everything a device has to sound, sounds and has settled.

    `planned` is the plan as it was adopted, sorted by start; from `ahead` on its emissions have not come up yet. Those
    that have come up and are not settled are in `due`, in the same order.
    """

    planned: tuple[Planned, ...] = ()
    ahead: int = 0
    due: tuple[Planned, ...] = ()
    relays_at_ms: tuple[int, ...] = ()  # starts of the relays in `planned`, sorted
    lengths_ms: Mapping[bytes, int] = field(default_factory=dict)  # of media, as far as the plan knows
    plan_accepted_at_ms: int = 0
    plan_valid_until_ms: int = 0  # 0 without a plan
    fallback_at_ms: int = 0  # the last of its times for which the configuration's fallback began
    orders: tuple[Order, ...] = ()
    sounding: Play | None = None
    suspended: tuple[Play, ...] = ()
    closing: tuple[Closing, ...] = ()
    settled: Mapping[PlayReference, int] = field(default_factory=dict)  # → when it may be forgotten, device time
    obstacles: Mapping[PlayReference, Obstacle] = field(default_factory=dict)
    next_token: int = 1

    @property
    def pending(self) -> Iterator[Emission]:
        """The emissions of the plan that are not settled, by start."""
        yield from (each.emission for each in self.due)
        yield from (self.planned[index].emission for index in range(self.ahead, len(self.planned)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What besides the programme decides what may sound. `heard` are the relay sources that have sound right now."""

    kind: DeviceKind
    is_clock_trusted: bool
    trusted_since_ms: int | None
    is_silenced: bool
    volume_percent: int
    volume_cap_percent: int
    stored: Mapping[bytes, int]
    corrupt: frozenset[bytes]
    heard: frozenset[uuid.UUID] = frozenset()
    fallback: Fallback | None = None

    def volume_of(self, wanted: int | None, *, passes_cap: bool = False) -> int | None:
        """The volume a content sounds at: its own or the configured one, below the cap if that binds; None on boards."""
        if self.kind is not DeviceKind.CLUSTER:
            return None
        return min(100 if passes_cap else self.volume_cap_percent, self.volume_percent if wanted is None else wanted)


# --- what a device shall do and tell ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Begin a part of `play`, `position_ms` into its content."""

    play: Play
    content: ContentKind
    text: str | None
    position_ms: int
    relay: RelayReference | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """End the part with this token and tell its figures."""

    token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """The first sample of a play was put out."""

    play: Play


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A play is over, with all its parts."""

    play: Play
    outcome: PlayOutcome
    ended_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """A planned emission did not sound."""

    reference: PlayReference
    reason: MissReason
    by: PlayReference | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lapsed:
    """A play ordered by a command or an alert could not begin in time."""

    reference: PlayReference
    obstacle: Obstacle | None


Directive = Start | Stop | Begun | Ended | Missed | Lapsed
