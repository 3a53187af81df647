"""What one broadcast asks of the devices, whatever others ask: the part of planning that nothing else can change.

A draft holds the slots of every occurrence for every class of devices that are to put out the same thing under the same
rules, what nobody will put out and why, and to which units it is offered. What several broadcasts share, the time that a
policy or an owner grants, is noted as grants and settled in `programme`.

Devices of one unit mostly are alike in everything that matters here (`Crowd`), and units under the same policies are
alike too, so a broadcast for a whole province is looked at a few times, not once per device.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple

from schemas.arbitration import Contender, Precedence, precedence
from schemas.configuration import Ownership
from schemas.fields import DeviceKind, Level, PlayReference, PlaySource
from schemas.identifiers import UnitId
from schemas.orders import Rank
from services.control.planning import policies, recurrence
from services.control.planning.lineup import Form, Lineup, Piece, Stock, line_up
from services.control.planning.model import (
    Broadcast,
    BulletinItem,
    DeviceNo,
    DeviceRef,
    Fill,
    Fit,
    Occurrence,
    Problem,
    ProblemKind,
    RelaySource,
    Slot,
    Snapshot,
    Window,
    to_ms,
)
from services.control.planning.policies import EffectivePolicy, Policies
from services.control.planning.targets import PLAYS, Choice, Fleet, Groups, choose
from services.control.units import UnitHistory, UnitTree

# An occurrence stays within a day, so that whoever looks two days back has seen all that can still sound.
MAX_OCCURRENCE_LENGTH = timedelta(hours=24)
# Who is ready later than half-way through an item leaves it: the rest of a notice tells nobody anything.
JOINABLE_PARTS = 2
# A unit deeper than the wire can say ranks with the deepest it can.
MAX_ISSUER_DEPTH = 15
# Zones are at most a day ahead of UTC or behind it, and an occurrence lasts a day.
_AROUND = timedelta(days=3)
# How far ahead the first occurrences of a broadcast are looked for at once.
_COUNTED_DAYS = 64


# --- what is asked for -----------------------------------------------------------------------------------------------


# Whose grant it is (None: the owner's), the local day, and the session or None for all of the day.
GrantKey = tuple[UnitId | None, date, str | None]
_NOTHING = timedelta(0)
_MS = timedelta(milliseconds=1)


class Grant(NamedTuple):
    """Time that an occurrence draws on, together with others that have the same key on the same device."""

    key: GrantKey
    limit: timedelta
    wanted: timedelta
    kind: ProblemKind  # what it is when the grant does not suffice
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """One occurrence, as one class of devices puts it out; `precedence` is who is served first where time is granted."""

    occurrence: Occurrence
    slots: tuple[Slot, ...]
    grants: tuple[Grant, ...] = ()
    precedence: Precedence | None = None  # by the order that decides who sounds; None without grants


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Share:
    """What a class of devices gets of a broadcast; `wants` is what all of it draws on grants, with their limits."""

    devices: tuple[DeviceNo, ...]
    parts: tuple[Part, ...]
    slots: tuple[Slot, ...] = field(init=False, repr=False)
    wants: Mapping[GrantKey, tuple[timedelta, timedelta]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        wants: dict[GrantKey, tuple[timedelta, timedelta]] = {}
        for part in self.parts:
            for grant in part.grants:
                before = wants[grant.key][0] if grant.key in wants else _NOTHING
                wants[grant.key] = (before + grant.wanted, grant.limit)
        object.__setattr__(self, "wants", wants)
        object.__setattr__(self, "slots", tuple(slot for part in self.parts for slot in part.slots))

    @property
    def is_limited(self) -> bool:
        """Whether any of it draws on time that is granted."""
        return bool(self.wants)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What one broadcast asks for. Problems are sorted, and each stands there once."""

    shares: tuple[Share, ...]
    problems: tuple[Problem, ...]
    offers: frozenset[UnitId]


# --- who is there ----------------------------------------------------------------------------------------------------


class Traits(NamedTuple):
    """Everything about a device that makes a difference here.

    `above` is the highest volume cap of its policies that it is set louder than, and a private board is always by itself.
    """

    kind: DeviceKind
    deciding: UnitId
    policy: EffectivePolicy
    above: int
    private: DeviceNo | None


class Crowd(NamedTuple):
    """Devices of one unit that are alike; those that come or go within the window apart."""

    traits: Traits
    devices: tuple[DeviceNo, ...]
    passing: tuple[DeviceRef, ...]


class Ground:
    """Devices, units and what holds there: what a change of broadcasts leaves as it is."""

    __slots__ = (
        "_crowds",
        "_end",
        "_first",
        "fleet",
        "groups",
        "policies",
        "requisitions",
        "snapshot",
        "units",
        "window",
    )  # fmt: skip

    def __init__(self, snapshot: Snapshot, window: Window) -> None:
        self.snapshot = snapshot
        self.window = window
        self.fleet = Fleet(snapshot.devices)
        self.units: UnitHistory = snapshot.units
        self.groups: Groups = snapshot.groups
        self.policies = Policies(snapshot.policies)
        self.requisitions = snapshot.requisitions
        self._first = datetime.combine(window.first, time(0), tzinfo=UTC) - _AROUND
        self._end = datetime.combine(window.end, time(0), tzinfo=UTC) + _AROUND
        # A tree is kept alive by the history, so its id is its own.
        self._crowds: dict[tuple[int, UnitId], tuple[Crowd, ...]] = {}

    def is_same(self, snapshot: Snapshot) -> bool:
        """Whether a snapshot differs at most in what is broadcast."""
        ours = self.snapshot
        return (
            ours.units.versions == snapshot.units.versions
            and ours.units.heirs == snapshot.units.heirs
            and ours.devices == snapshot.devices
            and ours.groups == snapshot.groups
            and ours.policies == snapshot.policies
            and ours.requisitions == snapshot.requisitions
        )

    def crowds(self, unit_id: UnitId, tree: UnitTree) -> tuple[Crowd, ...]:
        """The devices of a unit that can put something out."""
        key = (id(tree), unit_id)
        found = self._crowds.get(key)
        if found is None:
            found = self._crowds[key] = self.sorted_out(self.fleet.by_unit.get(unit_id, ()), tree)
        return found

    def sorted_out(self, devices: Iterable[DeviceRef], tree: UnitTree) -> tuple[Crowd, ...]:
        """Devices that can put something out, by their traits."""
        alike: dict[Traits, tuple[list[DeviceNo], list[DeviceRef]]] = {}
        homes: dict[UnitId, tuple[UnitId, EffectivePolicy, tuple[int, ...]]] = {}
        for device in devices:
            if device.kind not in PLAYS:
                continue
            home = homes.get(device.unit_id)
            if home is None:
                policy = self.policies.at(device.unit_id, tree)
                home = homes[device.unit_id] = (tree.deciding(device.unit_id), policy, _caps(policy))
            deciding, policy, caps = home
            is_private = device.kind is DeviceKind.BOARD and device.ownership is not Ownership.PUBLIC
            traits = Traits(
                kind=device.kind,
                deciding=deciding,
                policy=policy,
                above=max((cap for cap in caps if cap < device.volume_percent), default=0),
                private=device.device_no if is_private else None,
            )
            steady, passing = alike.setdefault(traits, ([], []))
            if device.is_there(self._first) and device.is_there(self._end):
                steady.append(device.device_no)
            else:
                passing.append(device)
        return tuple(Crowd(traits, tuple(steady), tuple(passing)) for traits, (steady, passing) in alike.items())

    def is_requisitioned(self, device: DeviceRef, tree: UnitTree, begin: datetime, end: datetime) -> bool:
        """Whether a private board may be used from `begin` to `end` by somebody's order."""
        return any(
            each.valid_from <= begin
            and end <= each.expires_at
            and (
                each.device_no == device.device_no
                # An order over a unit that was closed is none over the boards of its heir.
                or (
                    each.unit_id is not None and tree.stands(each.unit_id) and tree.covers(each.unit_id, device.unit_id)
                )
            )
            for each in self.requisitions
        )


def _caps(policy: EffectivePolicy) -> tuple[int, ...]:
    return tuple({cap.percent for each in policy.policies for cap in each.volume_caps})


# --- who is meant ----------------------------------------------------------------------------------------------------


class _Class(NamedTuple):
    """Devices that put out the same thing under the same rules."""

    kind: DeviceKind
    policy: EffectivePolicy
    above: int
    place: int | None
    private: DeviceNo | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Audience:
    """Who is meant on the days of one tree, and what became of the offer to others (R-17)."""

    depth: int
    choice: Choice
    classes: tuple[tuple[_Class, tuple[DeviceNo, ...], tuple[DeviceRef, ...]], ...]
    undecided: tuple[tuple[ProblemKind, UnitId], ...]
    offered: frozenset[UnitId]
    waiting: frozenset[DeviceKind]  # kinds of devices that do not get it because of the offer


def _audience(broadcast: Broadcast, ground: Ground, snapshot: Snapshot, tree: UnitTree, depth: int) -> _Audience:
    choice = choose(broadcast.targets, broadcast.unit_id, tree, ground.fleet, ground.groups)
    members: dict[_Class, tuple[list[DeviceNo], list[DeviceRef]]] = defaultdict(lambda: ([], []))
    undecided: set[tuple[ProblemKind, UnitId]] = set()
    offered: set[UnitId] = set()
    waiting: set[DeviceKind] = set()
    single = ground.sorted_out(choice.devices, tree)
    for crowd in (*(crowd for unit in choice.units for crowd in ground.crowds(unit, tree)), *single):
        traits = crowd.traits
        if _is_offered(broadcast, traits.deciding, ground, tree):
            offered.add(traits.deciding)
            is_accepted = snapshot.offers.get((broadcast.broadcast_id, traits.deciding))
            if not is_accepted:
                kind = ProblemKind.OFFER_PENDING if is_accepted is None else ProblemKind.OFFER_DECLINED
                undecided.add((kind, traits.deciding))
                waiting.add(traits.kind)
                continue
        place = None
        if broadcast.level is Level.PRIORITY:
            place = snapshot.places.get((traits.deciding, broadcast.broadcast_id))
        steady, passing = members[_Class(traits.kind, traits.policy, traits.above, place, traits.private)]
        steady.extend(crowd.devices)
        passing.extend(crowd.passing)
    return _Audience(
        depth=depth,
        choice=choice,
        classes=tuple((each, tuple(steady), tuple(passing)) for each, (steady, passing) in members.items()),
        undecided=tuple(sorted(undecided)),
        offered=frozenset(offered),
        waiting=frozenset(waiting),
    )


def _is_offered(broadcast: Broadcast, deciding: UnitId, ground: Ground, tree: UnitTree) -> bool:
    """Whether a unit has to accept a broadcast before it enters: a normal one from above, unless it takes all of them."""
    if broadcast.level is not Level.NORMAL or deciding == tree.standing(broadcast.unit_id):
        return False
    own = ground.policies.own(deciding)
    return tree.covers(broadcast.unit_id, deciding) and not (own is not None and own.accepts_normal)


# --- drafting --------------------------------------------------------------------------------------------------------


def draft(broadcast: Broadcast, ground: Ground, snapshot: Snapshot, stock: Stock) -> Draft:
    """Return what `broadcast` asks for on the days of the window."""
    return _Drafting(broadcast, ground, snapshot, stock).draft()


class _Ruling(NamedTuple):
    """What holds for an occurrence under one policy. Without a line-up it is refused."""

    lineup: Lineup | None
    grants: tuple[Grant, ...] = ()
    caps: tuple[int | None, ...] | None = None  # of the volume of each piece; None: nobody caps any


class _Cast(NamedTuple):
    """What one kind of device makes of a line-up: pieces by their position, and the numbers they were asked for by."""

    forms: tuple[tuple[int, Piece, Form], ...]
    asked: frozenset[int]


class _Drafting:
    """The making of one draft; holds what its occurrences have in common."""

    def __init__(self, broadcast: Broadcast, ground: Ground, snapshot: Snapshot, stock: Stock) -> None:
        self.broadcast = broadcast
        self._ground = ground
        self._snapshot = snapshot
        self._stock = stock
        self._zone = recurrence.zone(broadcast.time_zone)
        self._problems: set[Problem] = set()
        self._devices: dict[object, tuple[DeviceNo, ...]] = {}
        self._parts: dict[object, list[Part]] = defaultdict(list)
        self._offered: set[UnitId] = set()
        self._audiences: dict[int, _Audience] = {}
        self._lineups: dict[tuple[tuple[tuple[int, ProblemKind], ...], timedelta | None], Lineup] = {}
        # By the id of a line-up, which `_lineups` keeps.
        self._casts: dict[tuple[int, DeviceKind], _Cast] = {}
        self._ranks: dict[tuple[int, int | None], Rank] = {}
        self._perishables = self._find_perishables()

    def draft(self) -> Draft:
        expansion = recurrence.expand(self.broadcast, self._ground.window, self._session_begins)
        self._problems.update(expansion.problems)
        for occurrence in expansion.occurrences:
            self._plan(occurrence)
        return Draft(
            shares=self._shares(),
            problems=tuple(sorted(self._problems, key=lambda each: each.order)),
            offers=frozenset(self._offered),
        )

    def _shares(self) -> tuple[Share, ...]:
        """Classes that came to the same parts, whatever made them classes, share them."""
        alike: dict[tuple[Part, ...], list[DeviceNo]] = defaultdict(list)
        for key, parts in self._parts.items():
            alike[tuple(parts)].extend(self._devices[key])
        return tuple(Share(devices=tuple(devices), parts=parts) for parts, devices in alike.items())

    # --- one occurrence ----------------------------------------------------------------------------------------------

    def _plan(self, occurrence: Occurrence) -> None:
        tree = self._ground.units.on(occurrence.local_day)
        depth = tree.depth(self.broadcast.unit_id)
        if occurrence.at < self.broadcast.issued_at:
            self.say(ProblemKind.BEFORE_ISSUE, occurrence)
            return
        if depth is None:
            self.say(ProblemKind.ISSUER_CLOSED, occurrence)
            return
        # One tree object stands for all days between two changes of the tree (UnitHistory.on).
        audience = self._audiences.get(id(tree))
        if audience is None:
            audience = _audience(self.broadcast, self._ground, self._snapshot, tree, depth)
            self._audiences[id(tree)] = audience
        self._offered |= audience.offered
        for kind, unit_id in audience.undecided:
            self.say(kind, occurrence, detail=str(unit_id))
        for fault in audience.choice.faults:
            self.say(fault.kind, occurrence, device_no=fault.device_no, detail=fault.detail)
        self._deal(occurrence, audience, tree)

    def _deal(self, occurrence: Occurrence, audience: _Audience, tree: UnitTree) -> None:
        """Give every class of the audience what it is to put out."""
        left_out = tuple((item, kind) for item, kind, since in self._perishables if occurrence.at >= since)
        whole = self.line_up(left_out, None)
        hearing = _Hearing(self, occurrence, left_out, whole)
        known: dict[tuple[object, ...], tuple[Slot, ...]] = {}
        parts: dict[tuple[int, int, tuple[Grant, ...]], Part] = {}
        reached: set[int] = set()
        for kind in audience.waiting:
            reached |= self._cast(whole, kind).asked
        for number, (each, steady, passing) in enumerate(audience.classes):
            ruling = hearing.ruling(each.policy)
            lineup = ruling.lineup
            if lineup is None:
                reached |= self._cast(whole, each.kind).asked
                continue
            cast = self._cast(lineup, each.kind)
            if not cast.forms:
                continue
            volumes = self._volumes(ruling.caps, each.above, len(lineup.pieces))
            key = (id(lineup), each.kind, each.place, volumes)
            slots = known.get(key)
            if slots is None:
                rank = self._rank(audience.depth, each.place)
                slots = known[key] = tuple(
                    self._slot(occurrence, piece, form, rank, volumes[position] if volumes else None)
                    for position, piece, form in cast.forms
                )
            owned: tuple[Grant, ...] = ()
            if each.private is not None:
                given = self._owned(occurrence, self._ground.fleet.by_no[each.private], slots, lineup, audience, tree)
                if given is None:
                    reached |= cast.asked
                    continue
                owned = given
            grants = ruling.grants + owned
            if steady:
                reached |= cast.asked
                part = parts.get((id(slots), id(ruling.grants), owned))
                if part is None:
                    part = parts[id(slots), id(ruling.grants), owned] = hearing.part(slots, grants)
                self._give((id(audience), number), steady, part)
            for device in passing:
                some = tuple(slot for slot in slots if device.is_there(slot.starts_at))
                if some:
                    begun = {slot.item for slot in some}
                    reached.update(piece.asked for _, piece, _ in cast.forms if piece.item in begun)
                    one = (device.device_no,)
                    self._give((id(audience), number, device.device_no), one, hearing.part(some, grants))
        self._name_gaps(occurrence, whole, hearing.lineups, audience, reached)

    def _cast(self, lineup: Lineup, kind: DeviceKind) -> _Cast:
        found = self._casts.get((id(lineup), kind))
        if found is None:
            forms = tuple(
                (position, piece, form)
                for position, piece in enumerate(lineup.pieces)
                if (form := piece.form(kind)) is not None
            )
            found = _Cast(forms, frozenset(piece.asked for _, piece, _ in forms))
            self._casts[id(lineup), kind] = found
        return found

    def _give(self, key: object, devices: tuple[DeviceNo, ...], part: Part) -> None:
        self._devices[key] = devices
        self._parts[key].append(part)

    def _name_gaps(
        self,
        occurrence: Occurrence,
        whole: Lineup,
        made: Sequence[Lineup],
        audience: _Audience,
        reached: set[int],
    ) -> None:
        """What of this occurrence is not emitted although somebody asked for it."""
        named: set[int] = set()
        for lineup in made or [whole]:
            for item, kind in lineup.gaps:
                self.say(kind, occurrence, item=item)
                named.add(item)
            if lineup.is_overfull:
                self.say(ProblemKind.TOO_MANY_ITEMS, occurrence)
        for piece in whole.pieces:
            if piece.asked == piece.item and piece.asked not in reached | named:
                self.say(ProblemKind.NO_DEVICE, occurrence, item=piece.item)
        for device in audience.choice.named:
            for piece in whole.pieces:
                if piece.asked != piece.item:
                    continue
                if piece.form(device.kind) is None:
                    kind, detail = ProblemKind.CANNOT_PLAY, device.kind.name.lower()
                elif not device.is_there(occurrence.at + piece.offset):
                    kind, detail = ProblemKind.TARGET_DEVICE_GONE, ""
                else:
                    continue
                self.say(kind, occurrence, item=piece.item, device_no=device.device_no, detail=detail)
        if not whole.pieces and not whole.gaps:
            self.say(ProblemKind.BULLETIN_MISSING, occurrence)

    # --- who gives what ----------------------------------------------------------------------------------------------

    def _owned(
        self,
        occurrence: Occurrence,
        device: DeviceRef,
        slots: Sequence[Slot],
        lineup: Lineup,
        audience: _Audience,
        tree: UnitTree,
    ) -> tuple[Grant, ...] | None:
        """What a private board gives: everything under a requisition, else its public share; None when it is not ours."""
        if self._ground.is_requisitioned(device, tree, occurrence.at, occurrence.at + lineup.length):
            return ()
        share = device.public_share
        if device.ownership is Ownership.PRIVATE or not share:
            # Said of the unit; of the board itself only to who named it.
            is_named = device in audience.choice.named
            self.say(
                ProblemKind.PRIVATE_BOARD,
                occurrence,
                device_no=device.device_no if is_named else None,
                detail=str(device.unit_id),
            )
            return None
        return (
            Grant(
                key=(None, occurrence.local_day, None),
                limit=share,
                wanted=sum((slot.ends_at - slot.starts_at for slot in slots), _NOTHING),
                kind=ProblemKind.SHARE_USED_UP,
                detail=str(device.unit_id),
            ),
        )

    # --- slots -------------------------------------------------------------------------------------------------------

    def _slot(self, occurrence: Occurrence, piece: Piece, form: Form, rank: Rank, volume_percent: int | None) -> Slot:
        broadcast, source = self.broadcast, piece.source
        length = piece.length if form.length is None else min(piece.length, form.length)
        starts_at = occurrence.at + piece.offset
        patience = length / JOINABLE_PARTS if broadcast.patience is None else min(broadcast.patience, length)
        return Slot(
            broadcast_id=broadcast.broadcast_id,
            occurrence_at=occurrence.at,
            item=piece.item,
            starts_at=starts_at,
            ends_at=starts_at + length,
            latest_start_at=starts_at + patience,
            rank=rank,
            content=form.content,
            bulletin_id=None if isinstance(source, RelaySource) else source.bulletin_id,
            title=source.name if isinstance(source, RelaySource) else source.title,
            media=form.media,
            text=form.text,
            relay=source if isinstance(source, RelaySource) else None,
            volume_percent=volume_percent,
            resume=broadcast.resume,
        )

    def _volumes(self, caps: tuple[int | None, ...] | None, above: int, pieces: int) -> tuple[int | None, ...] | None:
        """How loud each piece is to be, by broadcast and caps; None where a device is to sound as it is configured."""
        wanted = self.broadcast.volume_percent
        if caps is None:
            return None if wanted is None else (wanted,) * pieces
        if wanted is None:
            # Only what is set louder than the cap is told anything: a cap must not make a quiet device louder.
            return tuple(cap if cap is not None and above >= cap else None for cap in caps)
        return tuple(wanted if cap is None else min(cap, wanted) for cap in caps)

    def _rank(self, depth: int, place: int | None) -> Rank:
        found = self._ranks.get((depth, place))
        if found is None:
            found = self._ranks[depth, place] = Rank(
                level=self.broadcast.level,
                severity=self.broadcast.severity,
                issuer_depth=min(depth, MAX_ISSUER_DEPTH),
                issued_at_ms=to_ms(self.broadcast.issued_at),
                place=place,
            )
        return found

    # --- what occurrences have in common -----------------------------------------------------------------------------

    def line_up(self, left_out: tuple[tuple[int, ProblemKind], ...], closes: timedelta | None) -> Lineup:
        found = self._lineups.get((left_out, closes))
        if found is None:
            found = line_up(self.broadcast, self._stock, left_out=dict(left_out), closes=closes)
            self._lineups[left_out, closes] = found
        return found

    def _find_perishables(self) -> tuple[tuple[int, ProblemKind, datetime], ...]:
        """Items that are in no occurrence from an instant on: bulletins that expire, and that were in often enough."""
        found: list[tuple[int, ProblemKind, datetime]] = []
        for item in self.broadcast.items:
            bulletin = self._stock.bulletins.get(item.bulletin_id) if isinstance(item, BulletinItem) else None
            if bulletin is None:
                continue
            if bulletin.expires_at is not None:
                found.append((item.number, ProblemKind.EXPIRED, bulletin.expires_at))
            if bulletin.max_plays is not None:
                since = self._used_up_at(bulletin.max_plays)
                if since is not None:
                    found.append((item.number, ProblemKind.PLAYS_USED_UP, since))
        return tuple(found)

    def _used_up_at(self, plays: int) -> datetime | None:
        """When the occurrence after the first `plays` ones begins; None when that is not before the window has ended."""
        first, end, days = self.broadcast.recurrence.starts_on, self._ground.window.end, _COUNTED_DAYS
        left = plays
        while first < end:
            until = min(first + timedelta(days=days), end)
            span = recurrence.expand(self.broadcast, Window(first=first, end=until), self._session_begins)
            if left < len(span.occurrences):
                return span.occurrences[left].at
            left -= len(span.occurrences)
            first, days = until, days * 2
        return None

    def local_pieces(self, spans: Iterable[tuple[datetime, datetime]]) -> tuple[policies.Piece, ...]:
        """What sounds in `spans`, in local days and times of the broadcast."""
        assert self._zone is not None, "nothing occurs without a zone"
        return policies.local_pieces(spans, self._zone)

    def _session_begins(self, code: str, day: date) -> time | ProblemKind:
        held = self.held(code, day)
        return held.begin if isinstance(held, policies.Held) else held

    def held(self, code: str, day: date) -> policies.Held | ProblemKind:
        """A session of the issuing unit as it takes place on a day, or why it does not."""
        tree = self._ground.units.on(day)
        if self.broadcast.unit_id not in tree:
            return ProblemKind.ISSUER_CLOSED
        held = policies.session(self._ground.policies.at(self.broadcast.unit_id, tree), code, day)
        return held if isinstance(held, policies.Held) else ProblemKind.UNKNOWN_SESSION

    def say(
        self,
        kind: ProblemKind,
        occurrence: Occurrence,
        *,
        item: int | None = None,
        device_no: DeviceNo | None = None,
        detail: str = "",
    ) -> None:
        self._problems.add(problem(kind, occurrence, item=item, device_no=device_no, detail=detail))


class _Hearing:
    """What policies make of one occurrence, each asked once; and said where they refuse or shorten it."""

    def __init__(
        self,
        drafting: _Drafting,
        occurrence: Occurrence,
        left_out: tuple[tuple[int, ProblemKind], ...],
        whole: Lineup,
    ) -> None:
        self._drafting = drafting
        self._broadcast = drafting.broadcast
        self._occurrence = occurrence
        self._left_out = left_out
        self._whole = whole
        # By the id of a policy: `Policies` keeps them, and hands out the same one for the same path.
        self._rulings: dict[int, _Ruling] = {}
        # By the id of a line-up; what is the same for all policies.
        self._local: dict[int, tuple[policies.Piece, ...]] = {}
        self._pieces: dict[int, tuple[tuple[policies.Piece, ...], ...]] = {}
        self._caps: dict[tuple[int, ...], tuple[int | None, ...] | None] = {}
        # By the id of a rank, which the draft keeps.
        self._served: dict[int, Precedence] = {}

    @property
    def lineups(self) -> list[Lineup]:
        """The line-ups of the policies that let something sound."""
        return [each.lineup for each in self._rulings.values() if each.lineup is not None]

    def ruling(self, policy: EffectivePolicy) -> _Ruling:
        """What holds under a policy."""
        found = self._rulings.get(id(policy))
        if found is None:
            found = self._rulings[id(policy)] = self._rule(policy)
        return found

    def _rule(self, policy: EffectivePolicy) -> _Ruling:
        broadcast, occurrence = self._broadcast, self._occurrence
        lineup = self._whole
        if not policy.is_empty and (broadcast.fit is not Fit.WHOLE or broadcast.fill is Fill.REPEAT):
            lineup = self._drafting.line_up(self._left_out, self._closes(policy))
            if lineup.is_shortened:
                self._drafting.say(ProblemKind.SHORTENED, occurrence, detail=str(policy.policies[-1].unit_id))
        if lineup.length > MAX_OCCURRENCE_LENGTH:
            self._drafting.say(ProblemKind.TOO_LONG, occurrence)
            return _Ruling(None)
        if policy.is_empty or broadcast.level is Level.EMERGENCY:
            return _Ruling(lineup)
        local = self._local.get(id(lineup))
        if local is None:
            local = self._local[id(lineup)] = self._drafting.local_pieces(_spans(occurrence.at, lineup.pieces))
        breaches = policies.check(
            policy,
            local,
            level=broadcast.level,
            has_direct_relay=lineup.has_direct_relay,
            allowed=broadcast.allowed_rules,
        )
        for breach in breaches:
            self._drafting.say(ProblemKind(breach.rule.value), occurrence, detail=str(breach.unit_id))
        if breaches:
            return _Ruling(None)
        budgets = policies.budgets(policy, local, level=broadcast.level, allowed=broadcast.allowed_rules)
        return _Ruling(lineup, _granted(budgets, occurrence), self._volume_caps(policy, lineup))

    def _closes(self, policy: EffectivePolicy) -> timedelta | None:
        """When the session ends that the occurrence begins in, from its beginning on."""
        occurrence = self._occurrence
        begin_ms = _ms_of_day(occurrence.local_time)
        ends = [policies.open_until(policy, occurrence.local_day, begin_ms)]
        if occurrence.session is not None:
            held = self._drafting.held(occurrence.session, occurrence.local_day)
            if isinstance(held, policies.Held):
                ends.append(_ms_of_day(held.end) or _DAY_MS)
        known = [end - begin_ms for end in ends if end is not None and end > begin_ms]
        return timedelta(milliseconds=min(known)) if known else None

    def _volume_caps(self, policy: EffectivePolicy, lineup: Lineup) -> tuple[int | None, ...] | None:
        """The cap of each piece; None where there is none. Most units only have the caps of those above."""
        said = [id(each) for each in policy.policies if each.volume_caps]
        if not said:
            return None
        key = (id(lineup), *said)
        if key not in self._caps:
            pieces = self._pieces.get(id(lineup))
            if pieces is None:
                pieces = self._pieces[id(lineup)] = self._local_by_piece(lineup)
            level = self._broadcast.level
            caps = tuple(policies.volume_cap(policy, each, level=level) for each in pieces)
            self._caps[key] = caps if any(cap is not None for cap in caps) else None
        return self._caps[key]

    def _local_by_piece(self, lineup: Lineup) -> tuple[tuple[policies.Piece, ...], ...]:
        local, at = self._local[id(lineup)], self._occurrence.at
        if len(local) == 1 and len(lineup.pieces) > 1:
            # All of it without a break on one day: the clock on the wall runs evenly through it.
            day, begin_ms = local[0].day, local[0].begin_ms
            first = lineup.pieces[0].offset
            spans = [
                (begin_ms + (each.offset - first) // _MS, begin_ms + (each.offset + each.length - first) // _MS)
                for each in lineup.pieces
            ]
            if spans[-1][1] == local[0].end_ms:
                return tuple((policies.Piece(day, begin, end),) for begin, end in spans)
        return tuple(self._drafting.local_pieces(_spans(at, [piece])) for piece in lineup.pieces)

    def part(self, slots: tuple[Slot, ...], grants: tuple[Grant, ...]) -> Part:
        """The occurrence, as a class of devices puts it out."""
        occurrence = self._occurrence
        if not grants:
            return Part(occurrence=occurrence, slots=slots)
        rank = slots[0].rank
        served = self._served.get(id(rank))
        if served is None:
            # Nothing comes from outside here, so nothing is validated again.
            reference = PlayReference.model_construct(
                source=PlaySource.EMISSION, id=occurrence.broadcast_id, occurrence_at_ms=to_ms(occurrence.at), item=0
            )
            served = self._served[id(rank)] = precedence(Contender(reference=reference, rank=rank))
        return Part(occurrence=occurrence, slots=slots, grants=grants, precedence=served)


def problem(
    kind: ProblemKind,
    occurrence: Occurrence,
    *,
    item: int | None = None,
    device_no: DeviceNo | None = None,
    detail: str = "",
) -> Problem:
    """A problem of one occurrence."""
    return Problem(
        kind=kind,
        broadcast_id=occurrence.broadcast_id,
        local_day=occurrence.local_day,
        local_time=occurrence.local_time,
        occurrence_at=occurrence.at,
        item=item,
        device_no=device_no,
        detail=detail,
    )


def _spans(at: datetime, pieces: Sequence[Piece]) -> list[tuple[datetime, datetime]]:
    """When something sounds, in spans without a break."""
    spans: list[tuple[datetime, datetime]] = []
    for piece in pieces:
        begin, end = at + piece.offset, at + piece.offset + piece.length
        if spans and spans[-1][1] == begin:
            begin = spans.pop()[0]
        spans.append((begin, end))
    return spans


def _granted(budgets: Iterable[policies.Budget], occurrence: Occurrence) -> tuple[Grant, ...]:
    """Budgets as grants. What sounds after midnight counts for the day on which its occurrence begins, like all of it:
    so what a day holds is known from that day, and windows of days compose.
    """
    merged: dict[GrantKey, Grant] = {}
    for budget in budgets:
        key = (budget.unit_id, occurrence.local_day, budget.session)
        before = merged[key].wanted if key in merged else _NOTHING
        merged[key] = Grant(
            key=key,
            limit=budget.limit,
            wanted=before + budget.wanted,
            kind=ProblemKind(budget.rule.value),
            detail=str(budget.unit_id),
        )
    return tuple(merged.values())


_DAY_MS = 86_400_000


def _ms_of_day(at: time) -> int:
    return ((at.hour * 60 + at.minute) * 60 + at.second) * 1000 + at.microsecond // 1000
