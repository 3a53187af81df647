"""Nothing that is missing, double or foreign escapes the ledger."""

import pytest

from schemas.topics import UplinkKind
from services.local.bench.ledger import Comparison, Ledger
from services.local.bench.population import FEWEST, Population
from services.local.bench.traffic import Profile, Traffic, rows_of, speaks

SENT = (1_700, 1_000, 0, 64)


def a_traffic(profile: Profile = Profile.MIXED) -> Traffic:
    return Traffic(population=Population.of(FEWEST, profile.mix), profile=profile, base_ms=1_900_000_000_000)


def enter(ledger: Ledger, traffic: Traffic, gateway: int, number: int, *, rows: int | None = None) -> None:
    """Enter a message's rows as the database would hold them."""
    index = traffic.index(number)
    kind = speaks(traffic.profile, index)
    device_no = traffic.population.device_no(gateway, index)
    for _ in range(rows_of(kind) if rows is None else rows):
        if kind is UplinkKind.EVENT:
            sequence = 1 + number // traffic.population.per_gateway
            found = ledger.enter_event(device_no, traffic.journal_no(index), sequence)
        else:
            found = ledger.enter_timed(kind, device_no, traffic.at_ms(number))
        assert found == (gateway, number)


def a_full_ledger(traffic: Traffic, *, but: tuple[int, int] | None = None) -> Ledger:
    ledger = Ledger(traffic, SENT)
    for gateway, count in enumerate(SENT):
        for number in range(count):
            if (gateway, number) != but:
                enter(ledger, traffic, gateway, number)
    return ledger


def number_of(traffic: Traffic, kind: UplinkKind) -> int:
    return next(number for number in range(1_000) if speaks(traffic.profile, traffic.index(number)) is kind)


@pytest.mark.parametrize("profile", Profile)
def test_everything_once_is_as_it_should_be(profile: Profile) -> None:
    total = sum(SENT)

    assert a_full_ledger(a_traffic(profile)).compare() == Comparison(
        sent=total, complete=total, lost=0, duplicates=0, foreign=0
    )


@pytest.mark.parametrize("kind", UplinkKind)
def test_a_message_without_rows_is_lost(kind: UplinkKind) -> None:
    traffic = a_traffic()

    found = a_full_ledger(traffic, but=(1, number_of(traffic, kind))).compare()

    assert (found.complete, found.lost, found.duplicates) == (sum(SENT) - 1, 1, 0)


def test_a_message_with_one_row_of_two_is_lost() -> None:
    traffic = a_traffic()
    number = number_of(traffic, UplinkKind.READING)
    ledger = a_full_ledger(traffic, but=(0, number))

    enter(ledger, traffic, 0, number, rows=1)

    assert (ledger.compare().lost, ledger.compare().duplicates) == (1, 0)


@pytest.mark.parametrize("kind", UplinkKind)
def test_rows_beyond_a_messages_own_are_duplicates(kind: UplinkKind) -> None:
    traffic = a_traffic()
    ledger = a_full_ledger(traffic)

    enter(ledger, traffic, 0, number_of(traffic, kind), rows=3)

    assert (ledger.compare().lost, ledger.compare().duplicates) == (0, 3)


def test_a_duplicate_does_not_make_up_for_a_loss() -> None:
    traffic = a_traffic(Profile.HEARTBEATS)
    ledger = a_full_ledger(traffic, but=(3, 63))

    enter(ledger, traffic, 3, 62)

    assert (ledger.compare().lost, ledger.compare().duplicates) == (1, 1)


def test_rows_nobody_sent_are_foreign() -> None:
    traffic = a_traffic()
    ledger = a_full_ledger(traffic)
    heartbeat = number_of(traffic, UplinkKind.HEARTBEAT)
    device_no = traffic.population.device_no(0, traffic.index(heartbeat))
    unsent = next(
        each for each in range(1_700, 2_700) if speaks(Profile.MIXED, traffic.index(each)) is UplinkKind.READING
    )

    assert ledger.enter_timed(UplinkKind.HEARTBEAT, device_no, traffic.at_ms(heartbeat) + 500_000) is None
    assert ledger.enter_timed(UplinkKind.READING, device_no, traffic.at_ms(heartbeat)) is None
    assert ledger.enter_timed(UplinkKind.HEARTBEAT, 2, traffic.at_ms(heartbeat)) is None
    assert ledger.enter_event(device_no, 1, 1) is None
    assert (
        ledger.enter_timed(
            UplinkKind.READING, traffic.population.device_no(0, traffic.index(unsent)), traffic.at_ms(unsent)
        )
        is None
    )
    assert ledger.compare().foreign == 5
