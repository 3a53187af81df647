"""From what size on an operation needs a second person: each unit counts its own ground, and what came shortly before."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from schemas.identifiers import UnitId
from services.control.operation_sizes import Reached, judge
from services.control.operation_store import Earlier
from services.control.planning.model import DeviceNo
from services.control.planning.policies import Danger, SecondPerson

NOW = datetime(2026, 3, 10, 2, tzinfo=UTC)
PROVINCE, COMMUNE, OTHER = (UnitId(uuid.UUID(int=number)) for number in (1, 2, 3))


def some(*numbers: int) -> frozenset[DeviceNo]:
    return frozenset(map(DeviceNo, numbers))


GROUNDS = {PROVINCE: some(1, 2, 3, 4, 5, 6), COMMUNE: some(1, 2, 3), OTHER: some(4, 5, 6)}


def before(minutes: float, *numbers: int) -> Earlier:
    return Earlier(at=NOW - timedelta(minutes=minutes), devices=some(*numbers))


def least(alerts: int, minutes: float = 60) -> SecondPerson:
    return SecondPerson(alerts=alerts, within=timedelta(minutes=minutes))


@pytest.mark.parametrize(
    ("asking", "devices", "earlier", "reached"),
    [
        pytest.param({PROVINCE: least(3)}, some(1, 2), (), None, id="fewer"),
        pytest.param({PROVINCE: least(3)}, some(1, 2, 4), (), (3, 0), id="as_many"),
        pytest.param({PROVINCE: least(6), COMMUNE: least(2)}, some(1, 2, 4), (), (2, 0), id="stricter_below"),
        pytest.param({COMMUNE: least(2)}, some(1, 4, 5, 6), (), None, id="elsewhere_does_not_count"),
        pytest.param({PROVINCE: least(4), COMMUNE: least(3)}, some(1, 2, 3, 4), (), (3, 0), id="strictest"),
        pytest.param({PROVINCE: least(3)}, some(1), (before(59, 2), before(30, 4)), (3, 2), id="one_after_the_other"),
        pytest.param({PROVINCE: least(3)}, some(1), (before(60, 2), before(30, 4)), None, id="period_over"),
        pytest.param({PROVINCE: least(3)}, some(1), (before(5, 1, 2), before(3, 2)), None, id="each_counts_once"),
        pytest.param({COMMUNE: least(3)}, some(1), (before(5, 2, 4, 5, 6),), None, id="before_elsewhere"),
        pytest.param({COMMUNE: least(2)}, some(4), (before(5, 1, 2),), None, id="not_touched_now"),
        pytest.param({PROVINCE: least(2, minutes=0)}, some(1), (before(0, 2),), None, id="by_itself"),
        pytest.param({PROVINCE: SecondPerson(silences=1)}, some(1), (), None, id="another_kind"),
    ],
)
def test_which_size_is_reached(
    asking: dict[UnitId, SecondPerson],
    devices: frozenset[DeviceNo],
    earlier: tuple[Earlier, ...],
    reached: tuple[int, int] | None,
) -> None:
    wanted = None if reached is None else Reached(needed_from=reached[0], before=reached[1])
    assert judge(asking, Danger.ALERTS, devices, earlier, GROUNDS, now=NOW) == wanted
