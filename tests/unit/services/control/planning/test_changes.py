from datetime import datetime, timedelta

from services.control.planning.changes import Recorded, changes, fingerprint
from services.control.planning.model import Plan, Slot
from services.control.planning.programme import plan
from tests.support.planning import a_broadcast, a_bulletin, a_snapshot, days, local, once

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
