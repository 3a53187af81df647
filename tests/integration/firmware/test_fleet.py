"""A fleet as a process: bad uplinks, storms, its own status, and going down in order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request

import pytest

from schemas.events import Booted, PlayEnded, PlayOutcome
from schemas.topics import DownlinkKind
from tests.integration.firmware.centre import Centre, eventually, make_sound, now_ms
from tests.unit.firmware_sim.builders import a_plan, an_emission, signed

pytestmark = pytest.mark.integration

HOSTILE = """
description = "Every fifth message is lost, every fifth comes twice, every second late, links break all the time."
[uplink]
drop = 0.2
duplicate = 0.2
delay = 0.5
delay_max_ms = 300
disconnect = 0.05
[outages]
mean_gap_s = 3
mean_length_s = 0.5
[mains]
mean_gap_s = 2
mean_length_s = 1
[clocks]
ppm = 50
synchronised_every_s = 2
"""

CLUSTERS = [f"loa-{number:04}" for number in range(12)]


def test_no_event_is_lost_on_a_hostile_uplink(centre: Centre) -> None:
    sound = centre.folder / "news.mp3"
    make_sound(sound, seconds=1.0)
    media = centre.media.offer(sound)
    scenario = centre.folder / "hostile.toml"
    scenario.write_text(HOSTILE)
    centre.provision(dict.fromkeys(CLUSTERS, "cluster"))
    starts_at_ms = now_ms() + 6_000
    for cluster in CLUSTERS:
        centre.greet(cluster)
        emission = an_emission(at_ms=starts_at_ms, duration_ms=5_000, media=media.sha256)
        centre.send(
            cluster, DownlinkKind.PLAN, signed(a_plan(emission, device=cluster, at_ms=now_ms(), files=(media,)))
        )
    simulator = centre.start(SIM_SCENARIO=str(scenario), SIM_SEED="7")

    for cluster in CLUSTERS:
        (ended,) = centre.wait(cluster, PlayEnded, deadline_s=50)
        assert ended.outcome is PlayOutcome.COMPLETED
    for cluster in CLUSTERS:
        assert len({journal for journal, _ in centre.told(cluster).events}) == 1
        # Every mains failure and clock step before the end of the play has come through as well.
        wait_without_gaps(centre, cluster)
    assert simulator.status()["links_broken"] > 0
    assert simulator.stop() == 0


def wait_without_gaps(centre: Centre, cluster: str) -> None:
    """Wait until no event before the end of the play is missing."""

    def is_complete() -> bool:
        told = centre.told(cluster).events
        last = max(sequence for (_, sequence), event in told.items() if isinstance(event, PlayEnded))
        return {sequence for _, sequence in told} >= set(range(1, last + 1))

    eventually(is_complete, f"the events of {cluster} before the end of its play")


def test_storm_is_survived(centre: Centre) -> None:
    scenario = centre.folder / "storm.toml"
    scenario.write_text('description = "x"\n[storm]\nfirst_after_s = 2\nevery_s = 2\nshare = 1.0\n')
    centre.provision(dict.fromkeys(CLUSTERS, "cluster"))
    simulator = centre.start(SIM_SCENARIO=str(scenario))
    for cluster in CLUSTERS:
        centre.wait(cluster, Booted)
    eventually(lambda: simulator.status()["connections"] >= 3 * len(CLUSTERS), "everybody to be back twice")
    eventually(lambda: simulator.status()["connected"] == len(CLUSTERS), "everybody to be connected")
    assert simulator.stop() == 0


def test_status_tells_what_the_fleet_does(centre: Centre) -> None:
    centre.provision({"loa-0001": "cluster", "gw-01": "gateway"}, children={"gw-01": {"day-01": "cluster"}})
    simulator = centre.start()
    centre.wait("loa-0001", Booted)
    status = eventually(lambda: (s := simulator.status())["connected"] == 2 and s, "both sessions")
    assert isinstance(status, dict)
    assert (status["sessions"], status["devices"], status["scenario"]) == (2, 3, "quiet_day")
    url = simulator.log_lines("status_listening")[-1]["url"]
    with urllib.request.urlopen(f"{url}/healthz", timeout=5) as response:
        assert json.load(response) == {"status": "ok"}
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{url}/secrets", timeout=5)
    caught.value.close()
    assert caught.value.code == 404


@pytest.mark.parametrize(
    ("environ", "status", "told"),
    [
        pytest.param({}, 0, '"scenario": "quiet_day"', id="check"),
        pytest.param({"SIM_SCENARIO": "sunny_day"}, 2, "named scenarios are", id="unknown_scenario"),
        pytest.param({"SIM_BROKER__PORT": "0"}, 2, "SIM_BROKER__PORT: ", id="bad_port"),
    ],
)
def test_check(centre: Centre, environ: dict[str, str], status: int, told: str) -> None:
    centre.provision({"loa-0001": "cluster"})
    base = {
        "SIM_MANIFEST": str(centre.folder / "fleet.json"),
        "SIM_DATA": str(centre.folder / "devices"),
        "SIM_BROKER__HOST": "127.0.0.1",
        "SIM_BROKER__CA_FILE": str(centre.broker.pki.service_ca),
    }
    run = subprocess.run(
        [sys.executable, "-m", "firmware_sim", "--check"],
        env=os.environ | base | environ,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert run.returncode == status
    assert told in run.stdout + run.stderr
    assert not (centre.folder / "devices").exists()


def test_broker_that_another_authority_vouches_for_hears_nothing(centre: Centre) -> None:
    """The device's own authority signs device certificates; a broker that shows one of those is no broker."""
    centre.provision({"loa-0001": "cluster", "loa-0002": "cluster"})
    simulator = centre.start(SIM_BROKER__CA_FILE=str(centre.broker.pki.device_ca), SIM_LOG__LEVEL="debug")
    failures = eventually(lambda: simulator.log_lines("connection_failed"), "a failed connection")
    assert "CERTIFICATE_VERIFY_FAILED" in failures[0]["error"]
    assert simulator.status()["connected"] == 0
    assert centre.told("loa-0001").heartbeats == []


def test_one_flash_has_one_process(centre: Centre) -> None:
    centre.provision({"loa-0001": "cluster"})
    first = centre.start()
    centre.wait("loa-0001", Booted)
    second = centre.start()
    assert second.process.wait(timeout=20) == 2
    centre.simulator = first
    assert first.status()["connected"] == 1
