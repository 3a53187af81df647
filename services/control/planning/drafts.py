"""What one broadcast asks of the devices, whatever others ask: the part of planning that nothing else can change.

A draft holds the slots of every occurrence for every class of devices that are to put out the same thing under the same
rules (`audiences`), what nobody will put out and why, and to which units it is offered. What policies make of an
occurrence is found in `hearings`, what all occurrences have in common in `staging`. What several broadcasts share, the
time that a policy or an owner grants, is noted as grants and settled in `programme`.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from datetime import date, timedelta

from schemas.arbitration import Contender, Precedence, precedence
from schemas.configuration import Ownership
from schemas.fields import PlayReference, PlaySource, ResumePolicy
from schemas.identifiers import UnitId
from schemas.orders import Rank
from services.control.planning.audiences import Audience, Class, Members, audience_of
from services.control.planning.ground import Ground
from services.control.planning.hearings import Caps, Hearing, Ruling
from services.control.planning.lineup import Form, Lineup, Piece, Stock
from services.control.planning.model import (
    Broadcast,
    DeviceNo,
    Occurrence,
    Problem,
    ProblemKind,
    RelaySource,
    Slot,
    Snapshot,
    to_ms,
)
from services.control.planning.shares import Draft, Grant, Part, Share
from services.control.planning.staging import Staging

# Occurrences that are looked at ahead of their planning: each is held against every policy of the audience.
MAX_FORESEEN = 200

_NOTHING = timedelta(0)

# Devices that get the same of every occurrence on the days of a tree: an audience, a class in it, and who comes or goes.
_Key = tuple[int, ...]


def draft(broadcast: Broadcast, ground: Ground, snapshot: Snapshot, stock: Stock) -> Draft:
    """Return what `broadcast` asks for on the days of the window."""
    drafting = _Drafting(broadcast, ground, snapshot, stock)
    return drafting.draft(drafting.expand())


def draft_of_news(broadcast: Broadcast, ground: Ground, snapshot: Snapshot, stock: Stock, *, since: date) -> Draft:
    """Return what `broadcast` asks for on the days from `since` on that units and policies were not asked about before.

    Of occurrences that are alike to them only the first is looked at, and none where there was one before `since`; of
    more than `MAX_FORESEEN` unlike ones, those that come first.
    """
    drafting = _Drafting(broadcast, ground, snapshot, stock)
    return drafting.draft(drafting.news(since))


class _Drafting:
    """The making of one draft."""

    def __init__(self, broadcast: Broadcast, ground: Ground, snapshot: Snapshot, stock: Stock) -> None:
        self._broadcast = broadcast
        self._ground = ground
        self._snapshot = snapshot
        self._staging = Staging(broadcast, ground, stock)
        self._audiences: dict[int, Audience] = {}
        self._problems: set[Problem] = set()
        self._offered: set[UnitId] = set()
        self._devices: dict[_Key, tuple[DeviceNo, ...]] = {}
        self._parts: dict[_Key, list[Part]] = defaultdict(list)

    def expand(self) -> Iterable[Occurrence]:
        expansion = self._staging.expand(self._ground.window)
        self._problems.update(expansion.problems)
        return expansion.occurrences

    def news(self, since: date) -> Iterable[Occurrence]:
        first: dict[Hashable, Occurrence] = {}
        for occurrence in self._staging.expand(self._ground.window).occurrences:
            if occurrence.at < self._broadcast.issued_at:
                continue  # it was held against nothing
            first.setdefault(self._staging.likeness(occurrence), occurrence)
        later = (each for each in first.values() if each.day >= since)
        return itertools.islice(later, MAX_FORESEEN)

    def draft(self, occurrences: Iterable[Occurrence]) -> Draft:
        for occurrence in occurrences:
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
        tree = self._ground.units.on(occurrence.day)
        depth = tree.depth(self._broadcast.unit_id)
        if occurrence.at < self._broadcast.issued_at:
            self._say(ProblemKind.BEFORE_ISSUE, occurrence)
            return
        if depth is None:
            self._say(ProblemKind.ISSUER_CLOSED, occurrence)
            return
        if self._broadcast.is_awaiting:
            self._say(ProblemKind.AWAITING_APPROVAL, occurrence)
            return
        # One tree object stands for all days between two changes of the tree (UnitHistory.on).
        audience = self._audiences.get(id(tree))
        if audience is None:
            audience = audience_of(self._broadcast, self._ground, self._snapshot, tree, depth)
            self._audiences[id(tree)] = audience
        self._offered |= audience.offered
        for kind, unit_id in audience.undecided:
            self._say(kind, occurrence, unit_id=unit_id)
        for fault in audience.choice.faults:
            self._say(fault.kind, occurrence, device_no=fault.device_no, unit_id=fault.unit_id, detail=fault.detail)
        self._deal(occurrence, audience)

    def _deal(self, occurrence: Occurrence, audience: Audience) -> None:
        """Give every class of the audience what it is to put out."""
        hearing = Hearing(self._staging, occurrence, self._staging.left_out(occurrence.at))
        airing = _Airing(self._staging, occurrence, audience.depth)
        reached: set[int] = set()
        for kind in audience.waiting:
            reached |= self._staging.cast(hearing.whole, kind).asked
        for number, members in enumerate(audience.classes):
            ruling = hearing.ruling(members.of.policy)
            if ruling.lineup is None:
                reached |= self._staging.cast(hearing.whole, members.of.kind).asked
                continue
            slots = airing.slots(ruling.lineup, members.of, ruling)
            if not slots:
                continue
            owned: tuple[Grant, ...] | None = ()
            if members.of.private is not None:
                owned = self._owned(occurrence, members.of.private, slots, ruling.lineup, audience)
            # Of a board that is not ours nothing is wanted, so no limit is missed on it either.
            grants = None if owned is None else hearing.grants(members.of.policy, members.of.kind)
            if owned is None or grants is None:
                reached |= self._staging.cast(ruling.lineup, members.of.kind).asked
                continue
            if members.steady:
                reached |= self._staging.cast(ruling.lineup, members.of.kind).asked
                part = airing.part(slots, grants, owned)
                self._give((id(audience), number), members.steady, part)
            if members.passing:
                key = (id(audience), number)
                begun = self._give_passing(key, members, slots, grants + owned, airing)
                forms = self._staging.cast(ruling.lineup, members.of.kind).forms
                reached |= {piece.asked for _, piece, _ in forms if piece.item in begun}
        self._problems |= hearing.problems
        self._name_gaps(occurrence, hearing, audience, reached)

    def _give_passing(
        self, key: _Key, members: Members, slots: tuple[Slot, ...], grants: tuple[Grant, ...], airing: _Airing
    ) -> set[int]:
        """Give devices that come or go what begins while they are there; return the numbers of what somebody gets."""
        begun: set[int] = set()
        for devices in members.passing:
            some = tuple(slot for slot in slots if devices[0].is_there(slot.starts_at))
            if some:
                begun |= {slot.item for slot in some}
                numbers = tuple(device.device_no for device in devices)
                self._give((*key, numbers[0]), numbers, airing.own_part(some, grants))
        return begun

    def _give(self, key: _Key, devices: tuple[DeviceNo, ...], part: Part) -> None:
        self._devices[key] = devices
        self._parts[key].append(part)

    def _owned(
        self, occurrence: Occurrence, device_no: DeviceNo, slots: Sequence[Slot], lineup: Lineup, audience: Audience
    ) -> tuple[Grant, ...] | None:
        """What a private board gives: everything under a requisition, else its public share; None when it is not ours."""
        device = self._ground.fleet.by_no[device_no]
        end = occurrence.at + lineup.length
        if self._ground.is_requisitioned(device, audience.tree, occurrence.at, end):
            return ()
        share = device.public_share
        # Where it is filed may have been closed since.
        lies_in = audience.tree.standing(device.unit_id) or device.unit_id
        if device.ownership is Ownership.PRIVATE or not share:
            # Said of the unit; of the board itself only to who named it.
            about = device_no if device in audience.choice.named else None
            self._say(ProblemKind.PRIVATE_BOARD, occurrence, device_no=about, unit_id=lies_in)
            return None
        return (
            Grant(
                key=(None, occurrence.day, None),
                limit=share,
                wanted=sum((slot.ends_at - slot.starts_at for slot in slots), _NOTHING),
                kind=ProblemKind.SHARE_USED_UP,
                unit_id=lies_in,
            ),
        )

    # --- what is not emitted -----------------------------------------------------------------------------------------

    def _name_gaps(self, occurrence: Occurrence, hearing: Hearing, audience: Audience, reached: set[int]) -> None:
        """What of this occurrence is not emitted although somebody asked for it."""
        whole = hearing.whole
        named: set[int] = set()
        for lineup in hearing.lineups or [whole]:
            for item, kind in lineup.gaps:
                self._say(kind, occurrence, item=item)
                named.add(item)
            if lineup.is_overfull:
                self._say(ProblemKind.TOO_MANY_ITEMS, occurrence)
        first_round = [piece for piece in whole.pieces if piece.asked == piece.item]
        for piece in first_round:
            if piece.asked not in reached | named:
                self._say(ProblemKind.NO_DEVICE, occurrence, item=piece.item)
        for device in audience.choice.named:
            for piece in first_round:
                if piece.form(device.kind) is None:
                    kind, detail = ProblemKind.CANNOT_PLAY, device.kind.name.lower()
                elif not device.is_there(occurrence.at + piece.offset):
                    kind, detail = ProblemKind.TARGET_DEVICE_GONE, ""
                else:
                    continue
                self._say(kind, occurrence, item=piece.item, device_no=device.device_no, detail=detail)
        if not whole.pieces and not whole.gaps:
            self._say(ProblemKind.BULLETIN_MISSING, occurrence)

    def _say(
        self,
        kind: ProblemKind,
        occurrence: Occurrence,
        *,
        item: int | None = None,
        device_no: DeviceNo | None = None,
        unit_id: UnitId | None = None,
        detail: str = "",
    ) -> None:
        self._problems.add(
            Problem.about(occurrence, kind, item=item, device_no=device_no, unit_id=unit_id, detail=detail)
        )


class _Airing:
    """Slots and parts of one occurrence, each made once and shared by everybody who is to put out the same."""

    def __init__(self, staging: Staging, occurrence: Occurrence, depth: int) -> None:
        self._staging = staging
        self._broadcast = staging.broadcast
        self._occurrence = occurrence
        self._depth = depth
        # By the id of a line-up, which the staging keeps.
        self._slots: dict[tuple[object, ...], tuple[Slot, ...]] = {}
        # By the ids of slots and of grants, which the hearing keeps.
        self._parts: dict[tuple[int, int, tuple[Grant, ...]], Part] = {}
        # By the id of a rank, which the staging keeps.
        self._served: dict[int, Precedence] = {}

    def slots(self, lineup: Lineup, each: Class, ruling: Ruling) -> tuple[Slot, ...]:
        """What a class of devices puts out of a line-up, where volumes are capped, and what may begin anew."""
        volumes = self._volumes(ruling.caps, each.above, len(lineup.pieces))
        bound = ruling.bound
        if each.private is not None and self._broadcast.resume is ResumePolicy.RESTART:
            # An order, or a share, gives the slot on somebody else's board and no time behind it.
            bound = frozenset(range(len(lineup.pieces)))
        key = (id(lineup), each.kind, each.place, volumes, bound)
        found = self._slots.get(key)
        if found is None:
            found = self._slots[key] = tuple(
                self._slot(
                    piece,
                    form,
                    self._staging.rank(self._depth, each.place, is_live=piece.is_live),
                    volumes[position] if volumes else None,
                    ResumePolicy.RESUME if position in bound else self._broadcast.resume,
                )
                for position, piece, form in self._staging.cast(lineup, each.kind).forms
            )
        return found

    def _volumes(self, caps: Caps | None, above: int, pieces: int) -> tuple[int | None, ...] | None:
        """How loud each piece is to be, by broadcast and caps; None where a device is to sound as it is configured."""
        wanted = self._broadcast.volume_percent
        if caps is None:
            return None if wanted is None else (wanted,) * pieces
        if wanted is None:
            # Only what is set louder than the cap is told anything: a cap must not make a quiet device louder.
            return tuple(cap if cap is not None and above >= cap else None for cap in caps)
        return tuple(wanted if cap is None else min(cap, wanted) for cap in caps)

    def _slot(self, piece: Piece, form: Form, rank: Rank, volume_percent: int | None, resume: ResumePolicy) -> Slot:
        broadcast, source, at = self._broadcast, piece.source, self._occurrence.at
        starts_at = at + piece.offset
        return Slot(
            broadcast_id=broadcast.broadcast_id,
            occurrence_at=at,
            item=piece.item,
            starts_at=starts_at,
            ends_at=starts_at + piece.length,
            latest_start_at=starts_at + self._staging.patience(piece, at),
            rank=rank,
            content=form.content,
            bulletin_id=None if isinstance(source, RelaySource) else source.bulletin_id,
            title=source.name if isinstance(source, RelaySource) else source.title,
            media=form.media,
            text=form.text,
            relay=source if isinstance(source, RelaySource) else None,
            volume_percent=volume_percent,
            resume=resume,
        )

    def part(self, slots: tuple[Slot, ...], grants: tuple[Grant, ...], owned: tuple[Grant, ...]) -> Part:
        """The occurrence for a class whose policy and whose owner grant this."""
        key = (id(slots), id(grants), owned)
        found = self._parts.get(key)
        if found is None:
            found = self._parts[key] = self.own_part(slots, grants + owned)
        return found

    def own_part(self, slots: tuple[Slot, ...], grants: tuple[Grant, ...]) -> Part:
        """The occurrence for who does not share it."""
        if not grants:
            return Part(occurrence=self._occurrence, slots=slots)
        # Who speaks live goes first on the air; of granted time the broadcast has what its level gives it.
        rank = self._staging.rank(self._depth, slots[0].rank.place)
        served = self._served.get(id(rank))
        if served is None:
            # Nothing comes from outside here, so nothing is validated again.
            reference = PlayReference.model_construct(
                source=PlaySource.EMISSION,
                id=self._occurrence.broadcast_id,
                occurrence_at_ms=to_ms(self._occurrence.at),
                item=0,
            )
            served = self._served[id(rank)] = precedence(Contender(reference=reference, rank=rank))
        return Part(occurrence=self._occurrence, slots=slots, grants=grants, precedence=served)
