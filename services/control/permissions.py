"""Who may do what where: roles, permissions, and grants bound to a unit and valid for its whole subtree. Pure.

Default deny: what no role lists is not allowed. The tree decides reach as it stands today, so a unit that is in no tree
today gives no rights; what hangs on such a unit is in the hands of those with the right over a root. Rights over a unit
that a reform closed are rights over its heir, if that is of the same level.
"""

from __future__ import annotations

import enum
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from schemas.identifiers import UnitId
from services.control.units import UnitTree


class Role(enum.StrEnum):
    """What a person is in a unit (S-06). Everybody sees; each role adds what its work needs and nothing else."""

    VIEWER = "viewer"
    OFFICER = "officer"  # makes bulletins and broadcasts
    APPROVER = "approver"  # decides on bulletins, and on broadcasts that a policy stands against
    OPERATOR = "operator"  # sets devices and looks after the fleet
    CAP_SOURCE = "cap_source"  # a program that delivers CAP messages, and sees nothing
    ADMINISTRATOR = "administrator"  # accounts, units, policies, registry of devices


class Permission(enum.StrEnum):
    """What a route asks for."""

    OWN_ACCOUNT = "own_account"  # anybody who is logged in, for what is theirs
    SEE_UNITS = "see_units"
    IMPORT_UNITS = "import_units"
    SEE_ACCOUNTS = "see_accounts"
    MANAGE_ACCOUNTS = "manage_accounts"
    SEE_DEVICES = "see_devices"
    REGISTER_DEVICES = "register_devices"
    OPERATE_DEVICES = "operate_devices"
    SEE_BULLETINS = "see_bulletins"
    MAKE_BULLETINS = "make_bulletins"
    DECIDE_BULLETINS = "decide_bulletins"
    SEE_BROADCASTS = "see_broadcasts"
    MAKE_BROADCASTS = "make_broadcasts"
    MANAGE_RELAYS = "manage_relays"  # live sources and where they are
    SET_POLICIES = "set_policies"  # say what may sound on a unit's ground
    ALLOW_EXCEPTIONS = "allow_exceptions"  # let a broadcast pass although a unit's policy stands against it
    REQUISITION_BOARDS = "requisition_boards"  # note an order over private boards
    SEE_ALERTS = "see_alerts"
    RELEASE_ALERTS = "release_alerts"  # say an emergency, change it, end it
    DELIVER_CAP = "deliver_cap"  # lay CAP messages of trusted senders before people
    MAKE_ALERT_TEMPLATES = "make_alert_templates"
    MANAGE_SENSOR_RULES = "manage_sensor_rules"  # say which readings raise an alarm and propose an alert
    TEST_ALERTS = "test_alerts"  # plan tests, silent and audible ones
    SILENCE_DEVICES = "silence_devices"  # the kill switch (S-04)
    ENROL_DEVICES = "enrol_devices"  # claim codes and certificates
    SEE_AUDIT = "see_audit"
    SEE_QUARANTINE = "see_quarantine"
    DECIDE_QUARANTINE = "decide_quarantine"  # replay what was received, or discard it
    CORRECT_QUARANTINE = "correct_quarantine"  # make a changed copy of what a device said


_SEEING = frozenset(
    {
        Permission.OWN_ACCOUNT,
        Permission.SEE_UNITS,
        Permission.SEE_DEVICES,
        Permission.SEE_BULLETINS,
        Permission.SEE_BROADCASTS,
        Permission.SEE_ALERTS,
    }
)

PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.VIEWER: _SEEING,
    Role.CAP_SOURCE: frozenset({Permission.OWN_ACCOUNT, Permission.DELIVER_CAP}),
    Role.OFFICER: _SEEING | {Permission.MAKE_BULLETINS, Permission.MAKE_BROADCASTS},
    # Whoever sets a limit is not who excepts from it: two persons stand between an officer and a loudspeaker at night.
    Role.APPROVER: _SEEING | {Permission.DECIDE_BULLETINS, Permission.ALLOW_EXCEPTIONS},
    Role.OPERATOR: _SEEING
    | {
        Permission.OPERATE_DEVICES,
        Permission.REQUISITION_BOARDS,
        Permission.MANAGE_RELAYS,
        Permission.RELEASE_ALERTS,
        Permission.MAKE_ALERT_TEMPLATES,
        Permission.MANAGE_SENSOR_RULES,
        Permission.TEST_ALERTS,
        Permission.SILENCE_DEVICES,
        Permission.SEE_QUARANTINE,
        Permission.DECIDE_QUARANTINE,
    },
    Role.ADMINISTRATOR: _SEEING
    | {
        Permission.IMPORT_UNITS,
        Permission.SEE_ACCOUNTS,
        Permission.MANAGE_ACCOUNTS,
        Permission.REGISTER_DEVICES,
        Permission.OPERATE_DEVICES,
        Permission.MANAGE_RELAYS,
        Permission.SET_POLICIES,
        Permission.REQUISITION_BOARDS,
        Permission.MAKE_ALERT_TEMPLATES,
        Permission.MANAGE_SENSOR_RULES,
        Permission.SILENCE_DEVICES,
        Permission.ENROL_DEVICES,
        Permission.SEE_AUDIT,
        Permission.SEE_QUARANTINE,
        Permission.DECIDE_QUARANTINE,
        Permission.CORRECT_QUARANTINE,
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A role in a unit and everything below it, until `expires_at` (None: until taken back)."""

    unit_id: UnitId
    role: Role
    expires_at: datetime | None = None

    def holds(self, *, now: datetime) -> bool:
        """Whether the grant has not run out."""
        return self.expires_at is None or now < self.expires_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Narrowing:
    """What a token lets through of what its account may: these permissions, in this unit and below; None: all of it."""

    permissions: frozenset[Permission] | None = None
    unit_id: UnitId | None = None

    @property
    def holds_back(self) -> bool:
        """Whether it holds anything back."""
        return self != NO_NARROWING


NO_NARROWING = Narrowing()


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who asks: an account, what it was granted, and how it proved itself; a token until it expires."""

    account_id: uuid.UUID
    login: str
    display_name: str
    unit_id: UnitId
    grants: tuple[Grant, ...]
    session_id: uuid.UUID | None = None
    token_id: uuid.UUID | None = None
    token_expires_at: datetime | None = None
    narrowing: Narrowing = NO_NARROWING
    second_factor_at: datetime | None = None  # when the session last showed it


class Rights:
    """What an actor may do in the tree of today. Immutable."""

    __slots__ = ("_grants", "_narrowing", "_tops", "tree")

    def __init__(
        self, grants: Iterable[Grant], tree: UnitTree, *, now: datetime, narrowing: Narrowing = NO_NARROWING
    ) -> None:
        self._grants = tuple(
            grant if over == grant.unit_id else replace(grant, unit_id=over)
            for grant in grants
            if grant.holds(now=now) and (over := tree.rights_in(grant.unit_id)) is not None
        )
        self._narrowing = narrowing
        self._tops: dict[Permission, tuple[UnitId, ...]] = {}
        self.tree = tree

    def units(self, permission: Permission) -> tuple[UnitId, ...]:
        """The highest units in which the permission holds, in tree order; it holds in everything below them."""
        if permission not in self._tops:
            granted = self._narrowed(
                permission, {grant.unit_id for grant in self._grants if permission in PERMISSIONS[grant.role]}
            )
            highest = (unit for unit in granted if granted.isdisjoint(self.tree.ancestors(unit)))
            self._tops[permission] = tuple(sorted(highest, key=self._place))
        return self._tops[permission]

    def _narrowed(self, permission: Permission, granted: set[UnitId]) -> set[UnitId]:
        """What is left of the units in which a permission was granted."""
        if not self._lets_through(permission):
            return set()
        if self._narrowing.unit_id is None:
            return granted
        within = self.tree.rights_in(self._narrowing.unit_id)
        if within is None:
            return set()
        if any(self.tree.covers(each, within) for each in granted):
            return {within}
        return {each for each in granted if self.tree.covers(within, each)}

    def _lets_through(self, permission: Permission) -> bool:
        """What is one's own (passwords, sessions, tokens) is for a narrowed token only where it is named."""
        allowed = self._narrowing.permissions
        if permission is Permission.OWN_ACCOUNT and allowed is None:
            return not self._narrowing.holds_back
        return allowed is None or permission in allowed

    def _place(self, unit_id: UnitId) -> list[tuple[str, str, UnitId]]:
        """Where a unit stands among all: the order of its ancestors among their siblings, then its own."""
        on_the_way = (self.tree.get(each) for each in self.tree.path(unit_id))
        return [(unit.sort_key, unit.code, unit.unit_id) for unit in on_the_way if unit is not None]

    def reach(self, permission: Permission) -> frozenset[UnitId]:
        """Every unit in which the permission holds."""
        return frozenset(unit_id for top in self.units(permission) for unit_id in self.tree.subtree(top))

    def may_anywhere(self, permission: Permission) -> bool:
        """Whether the permission holds in any unit; for what is the account's own, a valid account is enough."""
        if permission is Permission.OWN_ACCOUNT:
            return self._lets_through(permission)
        return bool(self.units(permission))

    def may(self, permission: Permission, unit_id: UnitId) -> bool:
        """Whether the permission holds in the unit; over a unit in no tree, whether it holds in a root."""
        tops = self.units(permission)
        if unit_id not in self.tree:
            return any(top in tops for top in (root.unit_id for root in self.tree.roots))
        return any(self.tree.covers(top, unit_id) for top in tops)

    def may_in_root(self, permission: Permission) -> bool:
        """Whether the permission holds in every root: for what concerns the whole tree."""
        tops = self.units(permission)
        return bool(self.tree.roots) and all(root.unit_id in tops for root in self.tree.roots)

    def lasts_until(self, permission: Permission, unit_id: UnitId) -> datetime | None:
        """When the longest-lasting grant of the permission in the unit runs out; None: never. Ask `may` first."""
        ends = [
            grant.expires_at
            for grant in self._grants
            if permission in PERMISSIONS[grant.role] and self.tree.covers(grant.unit_id, unit_id)
        ]
        return None if None in ends else max((end for end in ends if end is not None), default=None)
