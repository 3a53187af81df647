from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from schemas.fields import Level, ResumePolicy
from schemas.plans import ContentKind
from services.control.planning.changes import Recorded, changes, fingerprint, is_history
from services.control.planning.model import Plan, Problem, ProblemKind, RelaySource, Slot
from services.control.planning.programme import plan
from tests.support.planning import (
    a_broadcast,
    a_bulletin,
    a_media,
    a_snapshot,
    broadcast_id,
    bulletin_id,
    days,
    local,
    once,
    source_id,
)
from tests.support.programmes import a_slot

NOON = local("2026-09-07 12:00")
MINUTE = timedelta(minutes=1)


def planned(*times: str, **changed: object) -> Plan:
    return plan(a_snapshot([a_broadcast(1, once(*times), **changed)], bulletins=[a_bulletin(1, 600)]), days(1))


def stands(result: Plan, **changed: object) -> list[Recorded]:
    return [
        Recorded(
            broadcast_id=each.slot.broadcast_id,
            occurrence_at=each.slot.occurrence_at,
            item=each.slot.item,
            device_no=each.device_no,
            starts_at=each.slot.starts_at,
            ends_at=each.slot.ends_at,
            fingerprint=fingerprint(each.slot),
        )._replace(**changed)  # type: ignore[arg-type]
        for each in result.emissions
    ]


def starts(emissions: object) -> list[datetime]:
    return [each.slot.starts_at for each in emissions]  # type: ignore[attr-defined]


def test_what_is_new_is_added() -> None:
    change = changes(planned("13:00"), [], now=NOON, asked_at=NOON)
    assert starts(change.add) == [local("2026-09-07 13:00")]
    assert change.devices == {1}


def test_what_stands_is_kept() -> None:
    result = planned("13:00")
    change = changes(result, stands(result), now=NOON, asked_at=NOON)
    assert change.is_empty
    assert change.devices == frozenset()


def test_what_is_no_longer_wanted_is_withdrawn_if_it_has_not_begun() -> None:
    change = changes(planned("23:00"), stands(planned("13:00")), now=NOON, asked_at=NOON)
    assert [each.starts_at for each in change.withdraw] == [local("2026-09-07 13:00")]
    assert starts(change.add) == [local("2026-09-07 23:00")]


def test_what_sounds_and_is_no_longer_wanted_is_stopped_and_stays_on_record() -> None:
    rows = stands(planned("11:55"))
    change = changes(planned("23:00"), rows, now=NOON, asked_at=NOON)
    assert change.stop == tuple(rows)
    assert change.withdraw == ()
    assert change.devices == {1}


def test_what_was_stopped_already_is_history() -> None:
    change = changes(planned("23:00"), stands(planned("11:55"), is_stopped=True), now=NOON, asked_at=NOON)
    assert change.stop == ()


def test_a_new_form_replaces_what_has_not_begun() -> None:
    louder = planned("13:00", volume_percent=60)
    change = changes(louder, stands(planned("13:00")), now=NOON, asked_at=NOON)
    assert [each.slot.volume_percent for each in change.add] == [60]


def test_a_new_form_does_not_rewrite_what_has_begun() -> None:
    rows = stands(planned("11:55"))
    change = changes(planned("11:55", volume_percent=60), rows, now=NOON, asked_at=NOON)
    assert change.is_empty
    assert change.keep == tuple(rows)


def test_what_lay_before_the_asking_is_no_part_of_the_programme() -> None:
    # A device moved into the commune at noon did not miss the morning's programme.
    assert changes(planned("05:30"), [], now=NOON, asked_at=NOON).is_empty


def test_what_was_asked_for_in_time_but_planned_too_late_is_recorded_as_lapsed() -> None:
    change = changes(planned("11:50"), [], now=NOON, asked_at=NOON - 15 * MINUTE)
    assert starts(change.lapsed) == [local("2026-09-07 11:50")]
    assert change.add == ()
    assert change.devices == frozenset()


def test_what_can_still_be_joined_is_added() -> None:
    change = changes(planned("11:57"), [], now=NOON, asked_at=NOON - 15 * MINUTE)
    assert starts(change.add) == [local("2026-09-07 11:57")]


@pytest.mark.parametrize(
    ("at", "wanted", "stands_already", "expected"),
    [
        pytest.param("12:00", True, False, "add", id="begins_as_it_is_asked_for"),
        pytest.param("11:59:59.999", True, False, "", id="began_before_it_was_asked_for"),
        pytest.param("12:00", False, True, "stop", id="begins_now_and_is_not_wanted"),
        pytest.param("12:00:00.001", False, True, "withdraw", id="is_about_to_begin_and_not_wanted"),
        pytest.param("11:50", False, True, "keep", id="ends_now_and_is_not_wanted"),
        pytest.param("11:50:00.001", False, True, "stop", id="is_about_to_end_and_not_wanted"),
        pytest.param("12:00", True, True, "keep", id="begins_now_and_has_another_form"),
        pytest.param("12:00:00.001", True, True, "add", id="is_about_to_begin_and_has_another_form"),
    ],
)
def test_the_instant_itself(at: str, wanted: bool, stands_already: bool, expected: str) -> None:
    """What begins at an instant has begun then, and what ends at it is over."""
    rows = stands(planned(at)) if stands_already else []
    asked = planned(at, volume_percent=60) if wanted else Plan(programmes={}, problems=())
    change = changes(asked, rows, now=NOON, asked_at=NOON)
    about = {
        "add": starts(change.add),
        **{n: [r.starts_at for r in getattr(change, n)] for n in ("withdraw", "stop", "keep")},
    }
    found = [name for name, instants in about.items() if local(f"2026-09-07 {at}") in instants]
    assert " ".join(found) == expected
    assert (change.lapsed, bool(change.devices)) == ((), expected in ("add", "withdraw", "stop"))


@pytest.mark.parametrize(("at", "is_lapsed"), [("11:55", True), ("11:55:00.001", False)])
def test_who_may_still_join_at_the_last_moment(at: str, is_lapsed: bool) -> None:
    """Of ten minutes the first five: at their end it is too late to sign a plan for it."""
    change = changes(planned(at), [], now=NOON, asked_at=NOON - 15 * MINUTE)
    assert (len(change.lapsed), len(change.add)) == ((1, 0) if is_lapsed else (0, 1))
    assert not change.is_empty


def test_a_fingerprint_covers_everything_a_device_is_told() -> None:
    def only_slot(result: Plan) -> Slot:
        (emission,) = result.emissions
        return emission.slot

    plain = only_slot(planned("13:00"))
    variants = [
        only_slot(planned("13:00:01")),
        only_slot(planned("13:00", volume_percent=1)),
        only_slot(planned("13:00", issued_at=NOON)),
        only_slot(plan(a_snapshot([a_broadcast(recurrence=once("13:00"))], bulletins=[a_bulletin(1, 601)]), days(1))),
        only_slot(
            plan(
                a_snapshot([a_broadcast(recurrence=once("13:00"))], bulletins=[a_bulletin(1, 600, title="Khác")]),
                days(1),
            )
        ),
    ]
    assert len({fingerprint(slot) for slot in (plain, *variants)}) == len(variants) + 1
    assert fingerprint(plain) == fingerprint(only_slot(planned("13:00")))


@pytest.mark.parametrize(
    ("occurrence_at", "local_day", "expected"),
    [
        pytest.param(NOON - MINUTE, NOON.date(), True, id="began_before"),
        pytest.param(NOON, NOON.date(), False, id="begins_as_it_is_asked_for"),
        pytest.param(NOON + MINUTE, NOON.date(), False, id="begins_after"),
        pytest.param(None, date(2026, 9, 6), True, id="a_day_before"),
        pytest.param(None, date(2026, 9, 7), False, id="that_day"),
        pytest.param(None, None, False, id="the_whole_broadcast"),
    ],
)
def test_what_is_noted_of_the_past_stays(
    occurrence_at: datetime | None, local_day: date | None, expected: bool
) -> None:
    problem = Problem(
        kind=ProblemKind.QUIET_HOURS,
        broadcast_id=broadcast_id(1),
        local_day=local_day,
        occurrence_at=occurrence_at,
    )
    assert is_history(problem, asked_at=NOON, asked_on=date(2026, 9, 7)) is expected


RELAY = RelaySource(source_id=source_id(1), name="VOV", path="relays/1", fallback=a_media(60, 9))
SLOT = a_slot(1, 0, 60)
RELAYED = replace(SLOT, content=ContentKind.RELAY, bulletin_id=None, media=None, relay=RELAY)


@pytest.mark.parametrize(
    ("slot", "facts"),
    [
        (SLOT, {"latest_start_at": SLOT.ends_at}),
        (SLOT, {"ends_at": SLOT.ends_at + MINUTE}),
        (SLOT, {"media": a_media(60, 8)}),
        (SLOT, {"media": None, "text": "chữ"}),
        (SLOT, {"content": ContentKind.TICKER}),
        (SLOT, {"bulletin_id": bulletin_id(9)}),
        (SLOT, {"resume": ResumePolicy.DROP}),
        *(
            (SLOT, {"rank": SLOT.rank.model_copy(update=update)})
            for update in ({"level": Level.PRIORITY}, {"live": True}, {"severity": 1}, {"issuer_depth": 3}, {"place": 0})
        ),
        (RELAYED, {"relay": replace(RELAY, source_id=source_id(2))}),
        (RELAYED, {"relay": replace(RELAY, path="relays/2")}),
        (RELAYED, {"relay": replace(RELAY, path=None, url="fm://102.7")}),
        (RELAYED, {"relay": replace(RELAY, fallback=None)}),
    ],
)  # fmt: skip
def test_every_fact_changes_the_fingerprint(slot: Slot, facts: dict[str, Any]) -> None:
    assert fingerprint(replace(slot, **facts)) != fingerprint(slot)
