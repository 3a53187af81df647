"""The verb refuses what it cannot measure, and shows what it measured."""

import pytest

from services.local.bench import command, ingest
from services.local.bench.traffic import Profile


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("egress",),
        ("ingest", "--seconds", "1"),
        ("ingest", "--seconds", "61"),
        ("ingest", "--devices", "10"),
        ("ingest", "--devices", "9000001"),
        ("ingest", "--profile", "easy"),
        ("ingest", "--replicas", "0"),
        ("ingest", "--replicas", "5"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        command.main(arguments)

    assert stopped.value.code == 2
    assert "usage: ./loa bench" in capsys.readouterr().err


def test_a_report_is_readable_before_anything_was_measured() -> None:
    request = ingest.Request(seconds=20, devices=2_800_000, profile=Profile.MIXED, database=None)
    report = ingest.empty_report(request) | {"problems": ["interrupted"], "cpu_us_per_msg": {"ingest": 44.5}}

    text = command.readable(report).splitlines()

    assert "devices                     2,800,000" in text
    assert "loa_msgs_per_s              -" in text
    assert "  ingest                    44.5" in text
    assert text[-1] == "problem: interrupted"
