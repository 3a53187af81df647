"""What a walk along a chain finds, whatever was done to it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.control.auditing.chain import BEGINNING, Entry, Link, Walk, Wrong, sealed
from services.control.auditing.exports import ExportError, line_of, link_in

NOW = datetime(2026, 3, 10, 2, 0, tzinfo=UTC)
ACCOUNT = uuid.UUID(int=7)


def an_entry(number: int) -> Entry:
    return Entry(
        audit_id=100 + number,
        at=NOW + timedelta(seconds=number),
        account_id=ACCOUNT,
        origin="203.0.113.7",
        action="device_moved",
        unit_id=None,
        subject=f"device:cum-{number}",
        before=None,
        after=f'{{"place": {number}}}',
    )


def a_chain(length: int = 6) -> list[Link]:
    return list(sealed([an_entry(number) for number in range(1, length + 1)], after=(0, BEGINNING), at=NOW))


def walked(links: Sequence[Link], heads: dict[int, bytes] | None = None) -> Walk:
    walk = Walk(number=0, hash=BEGINNING, heads=heads or {})
    for link in links:
        walk.take(link)
    walk.end()
    return walk


def rechained(links: Sequence[Link]) -> list[Link]:
    """What an attacker with the database makes of it: everything sealed anew, so that it fits together."""
    return list(sealed([each.entry for each in links if each.entry], after=(0, BEGINNING), at=NOW))


def test_nothing_is_found_in_a_chain_that_was_left_alone() -> None:
    links = a_chain()
    walk = walked(links, {3: links[2].hash, 6: links[5].hash})
    assert walk.finding is None
    assert (walk.number, walk.hash) == (6, links[5].hash)


@pytest.mark.parametrize(
    "change",
    [
        {"at": NOW},
        {"account_id": None},
        {"origin": None},
        {"action": "device_retired"},
        {"unit_id": uuid.UUID(int=1)},
        {"subject": "device:another"},
        {"before": "{}"},
        {"after": '{"place": 4 }'},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_column_is_under_the_seal(change: dict[str, object]) -> None:
    links = a_chain()
    assert links[3].entry is not None
    links[3] = replace(links[3], entry=replace(links[3].entry, **change))  # type: ignore[arg-type]
    finding = walked(links).finding
    assert finding is not None
    assert (finding.wrong, finding.number, finding.audit_id) == (Wrong.CHANGED, 4, 104)


def _swap_entries(links: list[Link]) -> list[Link]:
    second, fifth = links[1], links[4]
    assert second.entry is not None
    assert fifth.entry is not None
    links[1] = replace(second, entry=replace(fifth.entry, audit_id=second.audit_id))
    links[4] = replace(fifth, entry=replace(second.entry, audit_id=fifth.audit_id))
    return links


def _swap_links(links: list[Link]) -> list[Link]:
    links[1], links[4] = replace(links[4], number=2), replace(links[1], number=5)
    return links


def _remove_link_and_renumber(links: list[Link]) -> list[Link]:
    return [*links[:2], *(replace(each, number=each.number - 1) for each in links[3:])]


def _insert_link(links: list[Link]) -> list[Link]:
    (made,) = sealed([an_entry(99)], after=(2, links[1].hash), at=NOW)
    return [*links[:2], made, *(replace(each, number=each.number + 1) for each in links[2:])]


@pytest.mark.parametrize(
    ("tamper", "wrong", "number"),
    [
        (lambda links: [*links[:2], replace(links[2], entry=None), *links[3:]], Wrong.REMOVED, 3),
        (lambda links: [*links[:2], *links[3:]], Wrong.REMOVED, 3),
        (lambda links: links[1:], Wrong.REMOVED, 1),
        (_swap_entries, Wrong.REORDERED, 2),
        (_swap_links, Wrong.BROKEN, 2),
        (_remove_link_and_renumber, Wrong.BROKEN, 3),
        (_insert_link, Wrong.BROKEN, 4),
        (lambda links: [*links[:3], replace(links[3], sealed_at=NOW - timedelta(days=1)), *links[4:]], Wrong.BROKEN, 4),
        (lambda links: [*links[:3], replace(links[3], audit_id=999), *links[4:]], Wrong.BROKEN, 4),
        (lambda links: links[:4], Wrong.TRUNCATED, 5),
        (lambda links: rechained([*links[:2], *links[3:]]), Wrong.REWRITTEN, 5),
        (lambda links: [], Wrong.TRUNCATED, 1),
    ],
)
def test_the_first_thing_wrong_is_named(tamper: Callable[[list[Link]], list[Link]], wrong: Wrong, number: int) -> None:
    links = a_chain()
    finding = walked(tamper(list(links)), {5: links[4].hash}).finding
    assert finding is not None
    assert (finding.wrong, finding.number) == (wrong, number)


def test_one_that_was_chained_anew_fits_together_and_only_a_head_kept_elsewhere_tells() -> None:
    links = a_chain()
    assert links[1].entry is not None
    forged = rechained(
        [links[0], replace(links[1], entry=replace(links[1].entry, action="nothing_happened")), *links[2:]]
    )
    assert walked(forged).finding is None
    finding = walked(forged, {6: links[5].hash}).finding
    assert finding is not None
    assert (finding.wrong, finding.number) == (Wrong.REWRITTEN, 6)


@given(st.data())
def test_a_chain_sealed_in_batches_is_the_same_walk_and_any_one_change_is_found(data: st.DataObject) -> None:
    entries = [an_entry(number) for number in range(1, data.draw(st.integers(2, 8)) + 1)]
    cut = data.draw(st.integers(0, len(entries)))
    first = sealed(entries[:cut], after=(0, BEGINNING), at=NOW)
    after = (first[-1].number, first[-1].hash) if first else (0, BEGINNING)
    links = [*first, *sealed(entries[cut:], after=after, at=NOW + timedelta(hours=1))]
    assert walked(links).finding is None
    place = data.draw(st.integers(0, len(links) - 1))
    entry = links[place].entry
    assert entry is not None
    links[place] = replace(links[place], entry=replace(entry, subject=data.draw(st.text())))
    finding = walked(links).finding
    assert (finding is None) == (links[place].entry == entry)
    assert finding is None or finding.number == place + 1


def test_an_entry_without_a_link_was_never_recorded() -> None:
    walk = walked(a_chain())
    walk.stray(77, is_gone=False)
    walk.stray(78, is_gone=True)  # only the first is kept
    assert walk.finding is not None
    assert (walk.finding.wrong, walk.finding.number, walk.finding.audit_id) == (Wrong.INSERTED, None, 77)


@given(
    st.builds(
        Entry,
        audit_id=st.integers(1, 2**63 - 1),
        at=st.datetimes(timezones=st.just(UTC)),
        account_id=st.none() | st.uuids(),
        origin=st.none() | st.text(),
        action=st.text(),
        unit_id=st.none() | st.uuids(),
        subject=st.text(),
        before=st.none() | st.text(),
        after=st.none() | st.text(),
    )
)
def test_an_exported_line_holds_everything_that_was_hashed(entry: Entry) -> None:
    (link,) = sealed([entry], after=(4, bytes(range(32))), at=NOW)
    assert link_in(line_of(link)) == link
    assert link_in(line_of(replace(link, entry=None))) == replace(link, entry=None)
    assert "\n" not in line_of(link)


@pytest.mark.parametrize(
    "line", ["", "{}", "[]", "null", '{"number": 1}', '{"number": 1, "audit_id": 1, "sealed_at": "x"}']
)
def test_a_line_that_is_none_is_refused(line: str) -> None:
    with pytest.raises(ExportError):
        link_in(line)
