"""Policies of units as they are written: one document for the API and the database, and the value planning reads of it.

What a policy means stands in `services.control.planning.policies`; here is only how it is spelled. Pure.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import time, timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.fields import Level
from schemas.identifiers import BulletinId, UnitId
from services.control.planning.policies import WEEKDAYS, Fallback, Policy, Quiet, Session, VolumeCap

Weekday = Annotated[int, Field(ge=1, le=7, description="1: Monday, 7: Sunday")]
DAY_S = 86_400


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SessionDocument(_Part):
    """A slot of the day in which the unit broadcasts; `end` 00:00 is the midnight at the end of the day."""

    code: str = Field(min_length=1, max_length=40, pattern="^[a-z0-9][a-z0-9_-]*$")
    name: str = Field(default="", max_length=120)
    begin: time
    end: time
    weekdays: tuple[Weekday, ...] = tuple(sorted(WEEKDAYS))


class QuietDocument(_Part):
    """Hours in which nothing sounds; over midnight when `end` does not lie after `begin`."""

    begin: time
    end: time


class VolumeCapDocument(_Part):
    """The loudest that anything is in these hours; over midnight when `end` does not lie after `begin`."""

    begin: time
    end: time
    percent: int = Field(ge=0, le=100)


class FallbackDocument(_Part):
    """What devices sound at these local times when their plan has run out."""

    bulletin_id: uuid.UUID
    times: tuple[time, ...] = Field(max_length=24)


class PolicyDocument(_Part):
    """What a unit says for its ground; what it leaves out it says nothing about, and what holds above holds."""

    sessions: tuple[SessionDocument, ...] = Field(default=(), max_length=24)
    quiet: tuple[QuietDocument, ...] = Field(default=(), max_length=24)
    weekdays: tuple[Weekday, ...] | None = None
    max_session_s: int | None = Field(default=None, gt=0, le=DAY_S)
    max_day_s: int | None = Field(default=None, gt=0, le=DAY_S)
    volume_caps: tuple[VolumeCapDocument, ...] = Field(default=(), max_length=24)
    forbids_self_approval: bool | None = None
    approved_levels: tuple[Literal["normal", "priority"], ...] | None = None
    allows_direct_relays: bool | None = None
    exceptions_by_approver: bool = False
    accepts_normal: bool = False
    fallback: FallbackDocument | None = None

    def policy(self, unit_id: UnitId) -> Policy:
        """The document as planning reads it, of this unit."""
        return Policy(
            unit_id=unit_id,
            sessions=tuple(
                Session(
                    code=each.code,
                    name=each.name,
                    begin=each.begin,
                    end=each.end,
                    weekdays=frozenset(each.weekdays),
                )
                for each in self.sessions
            ),
            quiet=tuple(Quiet(begin=each.begin, end=each.end) for each in self.quiet),
            weekdays=None if self.weekdays is None else frozenset(self.weekdays),
            max_session=_span(self.max_session_s),
            max_day=_span(self.max_day_s),
            volume_caps=tuple(
                VolumeCap(begin=each.begin, end=each.end, percent=each.percent) for each in self.volume_caps
            ),
            forbids_self_approval=self.forbids_self_approval,
            approved_levels=None
            if self.approved_levels is None
            else frozenset(Level[each.upper()] for each in self.approved_levels),
            allows_direct_relays=self.allows_direct_relays,
            exceptions_by_approver=self.exceptions_by_approver,
            accepts_normal=self.accepts_normal,
            fallback=None
            if self.fallback is None
            else Fallback(bulletin_id=BulletinId(self.fallback.bulletin_id), times=self.fallback.times),
        )


def planning_policy(unit_id: UnitId, body: Mapping[str, Any]) -> Policy:
    """The policy in a row of the database."""
    return PolicyDocument.model_validate(body).policy(unit_id)


def _span(seconds: int | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)
