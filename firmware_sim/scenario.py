"""Scenarios: what goes wrong in a simulated province, read from TOML.

A scenario is data; `runner` draws from a seed and carries it out. The named ones lie in `scenarios/`.
"""

from __future__ import annotations

import tomllib
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from firmware_sim.errors import InvalidInput
from firmware_sim.faults import Episodes, LineFaults
from firmware_sim.physics import Flood

Probability = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(gt=0, le=30 * 86_400)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Line(_Table):
    """What happens to single messages on their way; probabilities per message."""

    drop: Probability = 0.0
    duplicate: Probability = 0.0
    delay: Probability = 0.0
    delay_max_ms: int = Field(default=0, ge=0, le=600_000)
    disconnect: Probability = 0.0

    def faults(self) -> LineFaults:
        """The same as a value of the core."""
        return LineFaults(
            drop=self.drop,
            duplicate=self.duplicate,
            delay=self.delay,
            delay_max_ms=self.delay_max_ms,
            disconnect=self.disconnect,
        )


class Spells(_Table):
    """Something that comes and goes on each device by itself, at random."""

    mean_gap_s: Seconds
    mean_length_s: Seconds

    def episodes(self) -> Episodes:
        """The same as a value of the core."""
        return Episodes(mean_gap_s=self.mean_gap_s, mean_length_s=self.mean_length_s)


class Storm(_Table):
    """The links of many devices break at the same instant, again and again, and stay down for `length_s`."""

    first_after_s: Seconds
    every_s: Seconds
    share: Probability = 1.0
    length_s: float = Field(default=0.0, ge=0, le=30 * 86_400)


class Cuts(Spells):
    """Devices go dark without a word and come back; of `dead_clocks` the clock has then lost the time."""

    dead_clocks: Probability = 0.0


class Jumps(_Table):
    """Clocks that are moved by up to ± `max_ms`, and believe in themselves as before."""

    mean_gap_s: Seconds
    max_ms: int = Field(ge=1, le=7 * 86_400_000)


class Clocks(_Table):
    """How wrong clocks are.

    They drift by up to ± `ppm`, are set every so often, up to ± `error_ms` off (the jitter of the network they are set
    over), and a share never is. From the start on they lie `behind_ms` behind, as somebody has set them back.
    """

    ppm: float = Field(default=0.0, ge=0, le=1_000)
    synchronised_every_s: Seconds = 3_600.0
    error_ms: int = Field(default=0, ge=0, le=60_000)
    unsynchronised_share: Probability = 0.0
    behind_ms: int = Field(default=0, ge=0, le=30 * 86_400_000)
    jumps: Jumps | None = None


class Downloads(_Table):
    """Media that does not come: the share of downloads that bring nothing."""

    spoilt: Probability = 0.0


class Enrolment(_Table):
    """Answers of the platform that get lost after it has issued a certificate: the share of them."""

    lost_answers: Probability = 0.0


class FloodTable(_Table):
    """Rivers rise by `rise_m` metres within `rising_s`, from `after_s` after the start on, and stay there."""

    after_s: float = Field(ge=0, le=30 * 86_400)
    rising_s: Seconds
    rise_m: float = Field(gt=0, le=50)

    def flood(self, *, started_at_ms: int) -> Flood:
        """The same as a value of the core."""
        return Flood(
            begins_at_ms=started_at_ms + round(self.after_s * 1_000),
            rising_ms=round(self.rising_s * 1_000),
            rise_m=self.rise_m,
        )


class Scenario(_Table):
    """One named scenario."""

    description: str = Field(min_length=1)
    uplink: Line = Line()
    downlink: Line = Line()
    downloads: Downloads = Downloads()
    enrolment: Enrolment = Enrolment()
    outages: Spells | None = None  # the uplink of a device is down
    mains: Spells | None = None  # mains are lost, the device runs on battery
    cuts: Cuts | None = None
    storm: Storm | None = None
    clocks: Clocks = Clocks()
    flood: FloodTable | None = None  # what water-level sensors show beside the usual


def parse(text: str) -> Scenario:
    """Return the scenario written in `text`; raises `InvalidInput` naming every field that is wrong."""
    try:
        return Scenario.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput((f"not TOML: {error}",)) from None
    except ValidationError as error:
        raise InvalidInput(
            tuple(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors(include_url=False))
        ) from None
