"""Policies of units as they are written: one document for the API and the database, and the value planning reads of it.

What a policy means stands in `services.control.planning.policies`; here is only how it is spelled. Pure.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import time, timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from schemas.fields import Level
from schemas.identifiers import BulletinId, UnitId
from services.control.planning.policies import (
    LONGEST_WITHIN,
    WEEKDAYS,
    Fallback,
    Policies,
    Policy,
    Quiet,
    Reserved,
    SecondPerson,
    Session,
    VolumeCap,
)
from services.control.units import UnitTree

_DAY_S = 86_400
_MOST = 24  # entries of one list: one an hour
_LOCAL_TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?", re.ASCII)


def _local_time(value: object) -> object:
    """Only `HH:MM` and `HH:MM:SS`: a number of seconds or an offset would be a misunderstanding."""
    if isinstance(value, time):
        return value
    if not isinstance(value, str) or not _LOCAL_TIME.fullmatch(value):
        raise PydanticCustomError("not_a_local_time", "not a local time")
    return time.fromisoformat(value)


# JSON Schema's own `time` has an offset (RFC 3339), and a local one has none.
LocalTime = Annotated[
    time,
    BeforeValidator(_local_time),
    WithJsonSchema({"type": "string", "pattern": f"^{_LOCAL_TIME.pattern}$", "examples": ["05:30"]}),
]
_Whole = Annotated[int, Field(strict=True)]  # true is no number, and yes is not true
_Flag = Annotated[bool, Field(strict=True)]
Weekday = Annotated[_Whole, Field(ge=1, le=7, description="1: Monday, 7: Sunday")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SessionDocument(_Part):
    """A slot of the day in which the unit broadcasts; `end` 00:00 is the midnight at the end of the day."""

    code: str = Field(min_length=1, max_length=40, pattern="^[a-z0-9][a-z0-9_-]*$")
    name: str = Field(default="", max_length=120, pattern=r"^[^\x00-\x1f\x7f]*$")
    begin: LocalTime
    end: LocalTime
    weekdays: tuple[Weekday, ...] = Field(default=tuple(sorted(WEEKDAYS)), max_length=7)


class QuietDocument(_Part):
    """Hours in which nothing sounds; over midnight when `end` does not lie after `begin`."""

    begin: LocalTime
    end: LocalTime


class ReservedDocument(_Part):
    """A slot for programmes of the unit and of those above it: what units below it issue does not sound in it (R-09)."""

    begin: LocalTime
    end: LocalTime
    weekdays: tuple[Weekday, ...] = Field(default=tuple(sorted(WEEKDAYS)), max_length=7)


class VolumeCapDocument(_Part):
    """The loudest that anything is in these hours; over midnight when `end` does not lie after `begin`."""

    begin: LocalTime
    end: LocalTime
    percent: _Whole = Field(ge=1, le=100)


class FallbackDocument(_Part):
    """What devices sound at these local times when their plan has run out."""

    bulletin_id: uuid.UUID
    times: tuple[LocalTime, ...] = Field(min_length=1, max_length=_MOST)


_Devices = Annotated[_Whole, Field(ge=1, le=1_000_000)]


class SecondPersonDocument(_Part):
    """From how many devices on an operation waits for another person with the same right; what is left out never waits.

    `alerts`: to issue or change one or to test aloud now, not to end it; `silences`: the kill switch and its end; `live`:
    broadcasts with a live source, and what such a source is; `volume`: of an area at once; `keys`: claim codes of devices.
    Only devices on the unit's own ground count, whichever unit speaks, and with them those that the same person touched
    by the same kind of operation in the `within_s` seconds before (0: each operation counts by itself).
    """

    alerts: _Devices | None = None
    silences: _Devices | None = None
    live: _Devices | None = None
    volume: _Devices | None = None
    keys: _Devices | None = None
    within_s: _Whole = Field(default=3_600, ge=0, le=LONGEST_WITHIN.total_seconds())

    def value(self) -> SecondPerson:
        """The document as it is judged by."""
        sizes = self.model_dump(exclude={"within_s"})
        return SecondPerson(**sizes, within=timedelta(seconds=self.within_s))


class PolicyDocument(_Part):
    """What a unit says for its ground; what it leaves out it says nothing about, and what holds above holds.

    `exceptions_by_approver`: a named approver may let a broadcast pass that breaks what this unit limits.
    `accepts_normal`: normal content from above enters without being accepted one by one.
    """

    sessions: tuple[SessionDocument, ...] = Field(default=(), max_length=_MOST)
    quiet: tuple[QuietDocument, ...] = Field(default=(), max_length=_MOST)
    reserved: tuple[ReservedDocument, ...] = Field(default=(), max_length=_MOST)
    weekdays: tuple[Weekday, ...] | None = Field(default=None, max_length=7)
    max_session_s: _Whole | None = Field(default=None, gt=0, le=_DAY_S)
    max_day_s: _Whole | None = Field(default=None, gt=0, le=_DAY_S)
    volume_caps: tuple[VolumeCapDocument, ...] = Field(default=(), max_length=_MOST)
    forbids_self_approval: _Flag | None = None
    approved_levels: tuple[Literal["normal", "priority"], ...] | None = Field(default=None, max_length=2)
    allows_direct_relays: _Flag | None = None
    may_stop_alerts_from_above: _Flag | None = None
    second_person_from: SecondPersonDocument | None = None
    exceptions_by_approver: _Flag = False
    accepts_normal: _Flag = False
    fallback: FallbackDocument | None = None

    @property
    def says_nothing(self) -> bool:
        """Whether everything is as it would be without the document."""
        return self == NOTHING_SAID

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
            reserved=tuple(
                Reserved(begin=each.begin, end=each.end, weekdays=frozenset(each.weekdays)) for each in self.reserved
            ),
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
            stops_alerts_from_above=self.may_stop_alerts_from_above,
            second_person=None if self.second_person_from is None else self.second_person_from.value(),
            exceptions_by_approver=self.exceptions_by_approver,
            accepts_normal=self.accepts_normal,
            fallback=None
            if self.fallback is None
            else Fallback(bulletin_id=BulletinId(self.fallback.bulletin_id), times=self.fallback.times),
        )

    def body(self) -> dict[str, Any]:
        """The document as it is stored: only what is said."""
        return self.model_dump(mode="json", exclude_defaults=True)


NOTHING_SAID = PolicyDocument()

# Fields of the document for those of the value, where they are not called the same.
FIELDS = {
    "max_session": "max_session_s",
    "max_day": "max_day_s",
    "stops_alerts_from_above": "may_stop_alerts_from_above",
    "second_person": "second_person_from",
}


def planning_policy(unit_id: UnitId, body: Mapping[str, Any]) -> Policy:
    """The policy in a row of the database."""
    return PolicyDocument.model_validate(body).policy(unit_id)


def with_province_s_word(
    policies: Mapping[UnitId, Policy], tree: UnitTree, *, may_approve_own: bool
) -> dict[UnitId, Policy]:
    """The policies, with the province's setting standing in where a root says nothing of approving one's own."""
    complete = dict(policies)
    if may_approve_own:
        return complete
    for root in tree.roots:
        own = complete.get(root.unit_id, Policy(unit_id=root.unit_id))
        if own.forbids_self_approval is None:
            complete[root.unit_id] = replace(own, forbids_self_approval=True)
    return complete


def may_approve_own(
    policies: Mapping[UnitId, Policy], unit_id: UnitId, tree: UnitTree, *, may_approve_own: bool
) -> bool:
    """Whether somebody may decide in the unit on what they made themselves (R-12).

    No when a unit on its path forbids it; where the root says nothing, the province's setting is its word. Of a unit in
    no tree only the setting knows.
    """
    if unit_id not in tree:
        return may_approve_own
    complete = with_province_s_word(policies, tree, may_approve_own=may_approve_own)
    return not Policies(complete).at(unit_id, tree).forbids_self_approval


def may_stop_alerts(policies: Mapping[UnitId, Policy], unit_id: UnitId, tree: UnitTree) -> bool:
    """Whether the unit may end alerts from above on its own ground: where a unit over it allows it and none forbids it."""
    said = [policies[each].stops_alerts_from_above for each in tree.path(unit_id) if each in policies]
    above = [policies[each].stops_alerts_from_above for each in tree.ancestors(unit_id) if each in policies]
    return True in above and False not in said


def _span(seconds: int | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)
