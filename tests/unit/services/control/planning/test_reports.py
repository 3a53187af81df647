"""Reports are read from what ingest stores: `to_json` of the very messages devices send."""

from datetime import timedelta

import pytest

from schemas.events import MissReason, PlayEnded, PlayMissed, PlayOutcome, PlayStarted
from schemas.fields import ClockState, PlayReference, PlaySource
from schemas.wire import to_json
from services.control.planning.model import to_ms
from services.control.planning.reconcile import Ended, NotPlayed, Report, Standing, Started
from services.control.planning.reports import emission_key, read_report
from tests.support.planning import broadcast_id, local, number

START = local("2026-09-07 05:30")
EMISSION = PlayReference(source=PlaySource.EMISSION, id=broadcast_id(1), occurrence_at_ms=to_ms(START), item=2)
ALERT = PlayReference(source=PlaySource.ALERT, id=number(9, 1), occurrence_at_ms=to_ms(START), item=0)
COMMON = {"device_at_ms": to_ms(START), "clock": ClockState.SYNCHRONISED, "reference": EMISSION}


def read(event: PlayStarted | PlayEnded | PlayMissed) -> Report | None:
    return read_report(
        event.type.name.lower(), to_json(event), event_no=7, standing=Standing.DEVICE, is_clock_trusted=True
    )


def test_a_start() -> None:
    assert read(PlayStarted(**COMMON, started_at_ms=to_ms(START))) == Started(  # type: ignore[arg-type]
        event_no=7, standing=Standing.DEVICE, is_clock_trusted=True, started_at=START
    )


def test_an_end_with_everything() -> None:
    event = PlayEnded(
        **COMMON,  # type: ignore[arg-type]
        started_at_ms=to_ms(START),
        ended_at_ms=to_ms(START) + 1500,
        outcome=PlayOutcome.CUT,
        sounded_ms=1500,
        samples=66150,
        sample_rate_hz=44100,
        media=b"\x01" * 32,
        volume_percent=0,
        cut_by=ALERT,
        interruptions=2,
    )
    assert read(event) == Ended(
        event_no=7,
        standing=Standing.DEVICE,
        is_clock_trusted=True,
        started_at=START,
        ended_at=START + timedelta(milliseconds=1500),
        outcome=PlayOutcome.CUT,
        sounded=timedelta(milliseconds=1500),
        samples=66150,
        sample_rate_hz=44100,
        media_sha256=b"\x01" * 32,
        volume_percent=0,
        cut_by=ALERT,
        interruptions=2,
    )


def test_an_end_with_the_least() -> None:
    event = PlayEnded(
        **COMMON,  # type: ignore[arg-type]
        started_at_ms=to_ms(START),
        ended_at_ms=to_ms(START),
        outcome=PlayOutcome.COMPLETED,
        sounded_ms=0,
    )
    report = read(event)
    assert isinstance(report, Ended)
    assert (report.media_sha256, report.volume_percent, report.samples, report.interruptions) == (None, None, None, 0)


@pytest.mark.parametrize("reason", MissReason)
def test_a_miss(reason: MissReason) -> None:
    report = read(PlayMissed(**COMMON, reason=reason, cut_by=EMISSION))  # type: ignore[arg-type]
    assert isinstance(report, NotPlayed)
    assert (report.reason, report.cut_by) == (reason, EMISSION)


def test_which_emission_a_report_is_about() -> None:
    event = PlayStarted(**COMMON, started_at_ms=to_ms(START))  # type: ignore[arg-type]
    assert emission_key(to_json(event)) == (broadcast_id(1), START, 2)
    other = PlayStarted(**(COMMON | {"reference": ALERT}), started_at_ms=to_ms(START))  # type: ignore[arg-type]
    assert emission_key(to_json(other)) is None


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"reference": None},
        {"reference": {"source": "emission", "id": "x", "occurrence_at_ms": 0, "item": 0}},
        {"reference": {"source": "emission", "id": str(broadcast_id(1)), "item": 0}},
    ],
)
def test_a_body_of_another_time_is_no_report(body: dict[str, object]) -> None:
    assert emission_key(body) is None


def test_words_we_do_not_know_yet_are_no_report() -> None:
    body = to_json(PlayMissed(**COMMON, reason=MissReason.SILENCED))  # type: ignore[arg-type]
    body["reason"] = "struck_by_lightning"
    assert read_report("play_missed", body, event_no=1, standing=Standing.DEVICE, is_clock_trusted=True) is None
    assert read_report("play_paused", body, event_no=1, standing=Standing.DEVICE, is_clock_trusted=True) is None
