"""The broker as `./loa` runs it: its files, its ports, its end."""

import asyncio
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from services.control.trust.certificates import ServiceName
from services.local import broker as local_broker
from services.local.broker import Broker, BrokerFailed, installed_version, running_broker
from services.local.directories import temporary_directory
from services.local.pki import Pki, prepare
from services.shared.clock import utc_now
from tests.support.broker import DEADLINE_S, broker_for, connect_device, connect_service, eventually, run

pytestmark = pytest.mark.integration


def test_it_does_not_run_as_root_and_nobody_else_can_read_its_key(broker: Broker) -> None:
    status = Path(f"/proc/{broker.process.pid}/status").read_text()
    uids = next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1:]
    assert "0" not in uids
    for path in (broker.directory / "own").rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode & 0o077 == 0, f"{path} is open to others: {mode:o}"


def test_a_link_in_its_folder_is_not_followed(broker: Broker, tmp_path: Path) -> None:
    run(broker.stop())
    certificates = broker.directory / "own" / "certificates"
    shutil.rmtree(certificates)
    tmp_path.chmod(0o755)
    before = tmp_path.stat()
    certificates.symlink_to(tmp_path)
    with pytest.raises(BrokerFailed, match="certificates"):
        run(broker.start())
    after = tmp_path.stat()
    assert (after.st_mode, after.st_uid, list(tmp_path.iterdir())) == (before.st_mode, before.st_uid, [])


def test_its_ports_are_the_same_after_a_restart_and_after_a_power_cut(broker: Broker) -> None:
    ports = broker.device_port, broker.service_port
    run(broker.stop())
    run(broker.start())
    run(broker.kill())
    run(broker.start())
    assert (broker.device_port, broker.service_port) == ports
    again = Broker(broker.directory, broker.pki)
    run(broker.stop())
    run(again.start())
    assert (again.device_port, again.service_port) == ports
    run(again.stop())


def test_it_takes_other_ports_when_a_stranger_has_taken_its_own(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_broker, "PREDECESSOR_DEADLINE", local_broker.PREDECESSOR_DEADLINE / 1000)
    run(broker.stop())
    taken = broker.device_port
    with socket.create_server(("127.0.0.1", taken)):
        run(broker.start())
        assert broker.device_port != taken
        connect_device(broker, "cluster-a").close()


def test_two_of_them_live_side_by_side_and_do_not_know_each_other() -> None:
    with temporary_directory() as one, temporary_directory() as two:
        first, second = (prepare(folder / "pki", now=utc_now()) for folder in (one, two))
        with broker_for(first) as here, broker_for(second) as there:
            assert {here.device_port, here.service_port}.isdisjoint({there.device_port, there.service_port})
            with connect_service(here, ServiceName.CONTROL) as control, connect_device(there, "cluster-a") as device:
                device.subscribe("loa/v1/cluster-a/down/#")
                control.publish("loa/v1/cluster-a/down/command", b"here")
                with connect_service(there, ServiceName.CONTROL) as other:
                    other.publish("loa/v1/cluster-a/down/command", b"there")
                device.wait_for(b"there")
                assert device.payloads() == [b"there"]


PARENT = """
import asyncio, sys
from pathlib import Path
from services.local.broker import running_broker
from services.local.pki import prepare
from services.shared.clock import utc_now

async def main() -> None:
    folder = Path(sys.argv[1])
    async with running_broker(folder / "broker", prepare(folder / "pki", now=utc_now())) as broker:
        print(broker.process.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def test_it_saves_and_ends_when_its_parent_is_killed() -> None:
    with temporary_directory() as folder:
        parent = subprocess.Popen([sys.executable, "-c", PARENT, str(folder)], stdout=subprocess.PIPE, text=True)
        assert parent.stdout is not None
        with parent.stdout:
            pid = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
        eventually(lambda: not Path(f"/proc/{pid}").exists() or _is_zombie(pid))
        broker = Broker(folder / "broker", prepare(folder / "pki", now=utc_now()))
        assert broker.database.exists()
        run(broker.start())  # on the same ports, as soon as they are free
        run(broker.stop())


def _is_zombie(pid: int) -> bool:
    return ") Z " in Path(f"/proc/{pid}/stat").read_text()


def test_a_start_that_is_given_up_leaves_nothing_running(pki: Pki) -> None:
    broker = Broker(pki.directory.with_name("broker"), pki)

    async def give_up() -> None:
        async with asyncio.timeout(0.005):
            await broker.start()

    with pytest.raises(TimeoutError):
        run(give_up())
    eventually(lambda: broker.process.returncode is not None)


def test_what_is_wrong_with_its_configuration_is_in_the_error(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    with temporary_directory() as folder:
        for name in ("mosquitto.conf.template", "access.acl.template"):
            (folder / name).write_bytes((local_broker.CONFIGURATION / name).read_bytes())
        with (folder / "mosquitto.conf.template").open("a") as file:
            file.write("no_such_option true\n")
        monkeypatch.setattr(local_broker, "CONFIGURATION", folder)
        with pytest.raises(BrokerFailed, match="no_such_option"):
            run(Broker(pki.directory.with_name("broker"), pki).start())


def test_without_mosquitto_it_says_what_to_install(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_broker, "PROGRAM", "no-such-mosquitto")
    with pytest.raises(BrokerFailed, match="apt-get install mosquitto"):
        run(Broker(pki.directory.with_name("broker"), pki).start())


def test_its_log_is_emptied_when_it_has_grown_and_goes_on(broker: Broker) -> None:
    connect_device(broker, "cluster-a").close()
    eventually(lambda: re.search(r"Client cluster-a .*disconnected\.", broker.log.read_text()) is not None)
    broker.trim_log(limit=10**9)
    assert "cluster-a" in broker.log.read_text()
    broker.trim_log(limit=100)
    connect_device(broker, "cluster-b").close()
    told = broker.log.read_text()
    assert "cluster-a" not in told
    assert "cluster-b" in told


def test_the_release_is_one_the_configuration_was_written_for() -> None:
    assert (2, 0) <= installed_version()[:2] < (3, 0)


def test_mosquitto_accepts_every_line_without_complaint(broker: Broker) -> None:
    log = broker.log.read_text()
    complaints = [line for line in log.splitlines() if "Warning" in line or "Error" in line]
    assert [line for line in complaints if "area/+/alert/+' does not contain" not in line] == []
    assert b"Error" not in (broker.directory / "mosquitto.out").read_bytes()


async def test_its_log_is_kept_small_for_as_long_as_it_runs(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_broker, "TRIM_EVERY", timedelta(milliseconds=10))
    async with running_broker(pki.directory.with_name("broker"), pki) as broker, asyncio.timeout(DEADLINE_S):
        os.truncate(broker.log, local_broker.LOG_LIMIT_BYTES + 1)  # as if it had grown
        while broker.log.stat().st_size > local_broker.LOG_LIMIT_BYTES:
            await asyncio.sleep(0.01)
    assert "terminating" in broker.log.read_text()
