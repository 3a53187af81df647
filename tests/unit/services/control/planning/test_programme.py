from datetime import UTC, date, datetime, timedelta

import pytest

from schemas.fields import DeviceKind, Level
from schemas.plans import ContentKind
from services.control.planning.lineup import TEXT_LENGTH
from services.control.planning.model import (
    BulletinItem,
    DeviceNo,
    DeviceTarget,
    Pause,
    Plan,
    Problem,
    ProblemKind,
    Snapshot,
    UnitTarget,
)
from services.control.planning.programme import begin, plan, replan
from services.control.units import UnitHistory
from tests.support.planning import (
    a_broadcast,
    a_bulletin,
    a_device,
    a_snapshot,
    a_unit,
    bulletin_id,
    bulletins,
    daily,
    days,
    local,
    once,
    to_devices,
    to_units,
    unit_id,
)

SENSOR, BOARD, GATEWAY = DeviceKind.SENSOR, DeviceKind.BOARD, DeviceKind.GATEWAY


def heard(result: Plan) -> dict[int, list[datetime]]:
    """When each device begins something."""
    return {no: [slot.starts_at for slot in programme] for no, programme in result.programmes.items()}


def kinds(result: Plan) -> list[ProblemKind]:
    return [problem.kind for problem in result.problems]


def check_targets(snapshot: Snapshot, expected: set[int], problems: list[ProblemKind]) -> Plan:
    result = plan(snapshot, days(1))
    assert {no for no, programme in result.programmes.items() if programme} == expected
    assert kinds(result) == problems
    return result


FLEET = (
    a_device(1, 11),
    a_device(2, 12),
    a_device(3, 21),
    a_device(4, 10),
    a_device(5, 11, SENSOR),
    a_device(6, 11, GATEWAY),
)


def targeted(*targets: object) -> Snapshot:
    return a_snapshot([a_broadcast(targets=targets)], devices=FLEET)


@pytest.mark.parametrize(
    ("targets", "expected", "problems"),
    [
        pytest.param(to_units(1), {1, 2, 3, 4}, [], id="a_unit_means_its_whole_subtree"),
        pytest.param(to_units(10), {1, 2, 4}, [], id="a_district_means_its_communes_and_itself"),
        pytest.param(to_units(11), {1}, [], id="a_commune"),
        pytest.param(to_devices(3, 1), {1, 3}, [], id="devices_one_by_one"),
        pytest.param((*to_units(11), *to_devices(1)), {1}, [], id="twice_is_once"),
        pytest.param(
            (*to_units(1), UnitTarget(unit_id=unit_id(10), is_excluded=True)), {3}, [], id="without_a_district"
        ),
        pytest.param(
            (DeviceTarget(device_no=DeviceNo(1), is_excluded=True), *to_units(10)), {2, 4}, [], id="exclusions_win"
        ),
        pytest.param(to_units(99), set(), [ProblemKind.TARGET_UNIT_CLOSED, ProblemKind.NO_DEVICE], id="no_such_unit"),
        pytest.param(to_devices(1, 99), {1}, [ProblemKind.TARGET_DEVICE_GONE], id="one_device_is_gone_the_other_plays"),
        pytest.param(to_devices(1, 5), {1}, [ProblemKind.CANNOT_PLAY], id="a_sensor_was_named"),
        pytest.param(to_devices(1, 6), {1}, [ProblemKind.CANNOT_PLAY], id="a_gateway_was_named"),
    ],
)
def test_targets(targets: tuple[object, ...], expected: set[int], problems: list[ProblemKind]) -> None:
    assert set(check_targets(targeted(*targets), expected, problems).programmes) == {1, 2, 3, 4}


def test_nobody_speaks_outside_the_issuing_unit() -> None:
    snapshot = a_snapshot([a_broadcast(unit_id=unit_id(10), targets=(*to_units(1), *to_devices(1, 3)))], devices=FLEET)
    check_targets(snapshot, {1}, [ProblemKind.TARGET_OUTSIDE_ISSUER] * 2)


def test_the_tree_of_the_day_decides() -> None:
    # Commune 11 moves from district 10 to district 20 on the second day.
    moves_on = date(2026, 9, 8)
    units = UnitHistory(
        (
            a_unit(1),
            a_unit(10, 1),
            a_unit(20, 1),
            a_unit(11, 10, valid_until=moves_on),
            a_unit(11, 20, valid_from=moves_on),
        )
    )
    result = plan(
        a_snapshot(
            [
                a_broadcast(1, daily("05:00"), unit_id=unit_id(10), targets=to_units(10)),
                a_broadcast(2, daily("06:00"), unit_id=unit_id(20), targets=to_units(20)),
            ],
            units=units,
        ),
        days(2),
    )
    assert heard(result) == {1: [local("2026-09-07 05:00"), local("2026-09-08 06:00")]}
    assert kinds(result) == [ProblemKind.NO_DEVICE] * 2


def test_rank_says_how_near_the_issuer_is_to_the_root() -> None:
    result = plan(
        a_snapshot(
            [
                a_broadcast(1, once("05:00"), level=Level.EMERGENCY),
                a_broadcast(2, once("06:00"), unit_id=unit_id(10), targets=to_units(10)),
                a_broadcast(3, once("07:00"), unit_id=unit_id(11), targets=to_units(11)),
            ]
        ),
        days(1),
    )
    assert [(slot.rank.level, slot.rank.issuer_depth) for slot in result.programmes[DeviceNo(1)]] == [
        (Level.EMERGENCY, 0),
        (Level.NORMAL, 1),
        (Level.NORMAL, 2),
    ]


def test_a_closed_issuer_says_nothing() -> None:
    result = plan(a_snapshot([a_broadcast(unit_id=unit_id(99))]), days(1))
    assert heard(result) == {1: []}
    assert kinds(result) == [ProblemKind.ISSUER_CLOSED]


def test_items_follow_one_another_with_their_pauses() -> None:
    items = (
        BulletinItem(number=0, bulletin_id=bulletin_id(1)),
        Pause(number=1, length=timedelta(seconds=5)),
        BulletinItem(number=2, bulletin_id=bulletin_id(2)),
    )
    result = plan(
        a_snapshot(
            [a_broadcast(items=items, recurrence=once("05:30"))], bulletins=[a_bulletin(1, 60), a_bulletin(2, 30)]
        ),
        days(1),
    )
    first, second = result.programmes[DeviceNo(1)]
    assert (first.item, first.starts_at, first.ends_at, first.latest_start_at) == (
        0,
        local("2026-09-07 05:30:00"),
        local("2026-09-07 05:31:00"),
        local("2026-09-07 05:30:30"),
    )
    assert (second.item, second.starts_at, second.ends_at) == (
        2,
        local("2026-09-07 05:31:05"),
        local("2026-09-07 05:31:35"),
    )
    assert first.occurrence_at == second.occurrence_at == local("2026-09-07 05:30")


@pytest.mark.parametrize(
    ("broken", "kind"),
    [(a_bulletin(1, is_approved=False), ProblemKind.BULLETIN_NOT_APPROVED), (None, ProblemKind.BULLETIN_MISSING)],
)
def test_what_may_not_be_said_takes_no_time(broken: object, kind: ProblemKind) -> None:
    stock = [each for each in (broken, a_bulletin(2, 30)) if each is not None]
    result = plan(a_snapshot([a_broadcast(items=bulletins(1, 2), recurrence=once("05:30"))], bulletins=stock), days(1))  # type: ignore[arg-type]
    assert heard(result) == {1: [local("2026-09-07 05:30")]}
    assert [(problem.kind, problem.item) for problem in result.problems] == [(kind, 0)]


def test_clusters_sound_and_boards_show() -> None:
    stock = [
        a_bulletin(1, 90, board_text="Lịch tiêm chủng"),
        a_bulletin(2, None, board_text="Cắt điện"),
        a_bulletin(3, 20),
    ]
    result = plan(
        a_snapshot(
            [a_broadcast(items=bulletins(1, 2, 3), recurrence=once("05:30"))],
            bulletins=stock,
            devices=[a_device(1), a_device(2, kind=BOARD)],
        ),
        days(1),
    )
    start = local("2026-09-07 05:30")
    after_text = start + timedelta(seconds=90) + TEXT_LENGTH
    sound, show = result.programmes[DeviceNo(1)], result.programmes[DeviceNo(2)]
    assert [(slot.item, slot.content, slot.starts_at) for slot in sound] == [
        (0, ContentKind.AUDIO, start),
        (2, ContentKind.AUDIO, after_text),
    ]
    assert [(slot.item, slot.content, slot.text, slot.media) for slot in show] == [
        (0, ContentKind.TEXT, "Lịch tiêm chủng", None),
        (1, ContentKind.TEXT, "Cắt điện", None),
    ]
    assert result.problems == ()


def test_a_board_that_was_named_for_sound_is_reported() -> None:
    result = plan(
        a_snapshot([a_broadcast(targets=to_devices(2))], devices=[a_device(1), a_device(2, kind=BOARD)]), days(1)
    )
    assert kinds(result) == [ProblemKind.NO_DEVICE, ProblemKind.CANNOT_PLAY]


def test_a_device_that_comes_or_goes_gets_what_begins_while_it_is_there() -> None:
    noon = local("2026-09-07 12:00")
    result = plan(
        a_snapshot(
            [a_broadcast(recurrence=once("05:30", "17:00"))],
            devices=[a_device(1), a_device(2, registered_at=noon), a_device(3, retired_at=noon)],
        ),
        days(1),
    )
    morning, evening = local("2026-09-07 05:30"), local("2026-09-07 17:00")
    assert heard(result) == {1: [morning, evening], 2: [evening], 3: [morning]}


def test_a_device_that_comes_between_two_items_gets_the_second() -> None:
    start = local("2026-09-07 05:30")
    result = plan(
        a_snapshot(
            [a_broadcast(recurrence=once("05:30"), items=bulletins(1, 2))],
            bulletins=[a_bulletin(1, 60), a_bulletin(2, 60)],
            devices=[
                a_device(1),
                a_device(2, registered_at=start + timedelta(seconds=30)),
                a_device(3, retired_at=start + timedelta(seconds=30)),
            ],
        ),
        days(1),
    )
    first, second = start, start + timedelta(seconds=60)
    assert heard(result) == {1: [first, second], 2: [second], 3: [first]}


def test_what_lies_before_its_issue_is_named() -> None:
    result = plan(
        a_snapshot([a_broadcast(recurrence=once("05:30", "17:00"), issued_at=local("2026-09-07 10:00"))]), days(1)
    )
    assert heard(result) == {1: [local("2026-09-07 17:00")]}
    assert result.problems == (
        Problem(
            kind=ProblemKind.BEFORE_ISSUE,
            broadcast_id=a_broadcast().broadcast_id,
            local_day=date(2026, 9, 7),
            local_time=datetime(2026, 9, 7, 5, 30, tzinfo=UTC).time(),
            occurrence_at=local("2026-09-07 05:30"),
        ),
    )


def test_an_occurrence_longer_than_a_day_is_refused() -> None:
    result = plan(a_snapshot(bulletins=[a_bulletin(1, 30 * 3600)]), days(1))
    assert heard(result) == {1: []}
    assert kinds(result) == [ProblemKind.TOO_LONG]


def test_devices_with_the_same_programme_share_it() -> None:
    result = plan(a_snapshot(devices=[a_device(no) for no in range(1, 100)]), days(7))
    assert len({id(programme) for programme in result.programmes.values()}) == 1


def test_devices_that_were_registered_together_share_their_programme_from_the_first_day_on() -> None:
    """A fleet is registered in a few batches; in its first days it is planned as easily as ever after."""
    since = local("2026-09-07 09:00")
    fleet = (
        *(a_device(no, registered_at=since) for no in (1, 2)),
        a_device(3, registered_at=since + timedelta(days=1)),
    )
    result = plan(a_snapshot([a_broadcast(1, daily("05:30"), targets=to_units(11))], devices=fleet), days(3))
    first, second, third = (result.programmes[DeviceNo(no)] for no in (1, 2, 3))
    assert first is second
    assert (len(first), len(third)) == (2, 1)


def test_who_cannot_reach_a_device_is_not_looked_at_when_it_goes() -> None:
    broadcasts = [
        a_broadcast(1, unit_id=unit_id(1), level=Level.PRIORITY, targets=to_units(1)),
        a_broadcast(2, unit_id=unit_id(11), targets=to_units(11)),
        a_broadcast(3, unit_id=unit_id(21), targets=to_units(21)),
        a_broadcast(4, unit_id=unit_id(21), targets=(*to_units(21), *to_devices(1))),
    ]
    before = begin(a_snapshot(broadcasts, devices=FLEET), days(1))
    after = replan(before, a_snapshot(broadcasts, devices=FLEET[1:]), ())
    assert after.plan == plan(after.snapshot, days(1))
    assert [after.drafts[each] is before.drafts[each] for each in before.drafts] == [False, False, True, False]
