"""Commands: what cannot wait for a plan (R-25). One device, one id, an expiry; executed at most once per id."""

from __future__ import annotations

import enum
import uuid
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from schemas import limits
from schemas.fields import Body, Milliseconds, Percent, ResumePolicy
from schemas.orders import DeviceOrder, MediaReference, Rank
from schemas.shapes import Key


class Action(enum.IntEnum):
    """What a device shall do now."""

    PLAY = 0  # `media`, with `rank`; for boards `text` instead
    STOP = 1  # end what sounds now; later emissions stand
    SET_VOLUME = 2  # `volume_percent`, until the next configuration
    SILENCE = 3  # kill switch: no sound, blank screen, until RELEASE (S-04)
    RELEASE = 4
    REBOOT = 5
    ALERT = 6  # `alert`: a signed alert as if it had come by an area's topic; what came both ways is handled once


class Command(DeviceOrder):
    """One order for now. `valid_until_ms` is its expiry; a device that gets it later reports it expired."""

    SIZE_LIMIT: ClassVar[int] = limits.COMMAND_BYTES

    command_id: Annotated[uuid.UUID, Key(10)]
    action: Annotated[Action, Key(11)]
    media: Annotated[MediaReference | None, Key(12)] = None
    text: Annotated[Body | None, Key(13)] = None
    duration_ms: Annotated[Milliseconds | None, Key(14)] = None
    volume_percent: Annotated[Percent | None, Key(15)] = None
    rank: Annotated[Rank | None, Key(16)] = None
    resume: Annotated[ResumePolicy, Key(17)] = ResumePolicy.RESUME
    alert: Annotated[bytes | None, Key(18), Field(min_length=1, max_length=limits.COMMAND_BYTES)] = None

    @model_validator(mode="after")
    def _has_what_its_action_needs(self) -> Self:
        if self.action is Action.PLAY and (self.rank is None or (self.media is None) == (self.text is None)):
            raise ValueError("play needs a rank and either media or text")
        if self.action is Action.SET_VOLUME and self.volume_percent is None:
            raise ValueError("set_volume needs volume_percent")
        if (self.action is Action.ALERT) != (self.alert is not None):
            raise ValueError("alert stands in a command that passes one on, and nowhere else")
        return self
