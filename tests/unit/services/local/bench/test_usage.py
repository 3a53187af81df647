"""What processes use is read from where the kernel keeps it."""

import os
import socket
import subprocess
import sys

import pytest

from services.local.bench import usage
from services.local.bench.usage import Family


def test_our_own_cpu_time_is_found() -> None:
    used = Family(os.getpid()).cpu_s()

    assert used is not None
    own = os.times()
    assert used >= own.user - 1
    assert usage.machine_busy_s() >= 0


def test_nothing_is_known_of_who_is_not_here() -> None:
    assert Family(None).cpu_s() is None
    assert Family(2**22 + 1).cpu_s() is None
    assert usage.parent_of(2**22 + 1) is None
    assert usage.name_of(2**22 + 1) == ""


def test_memory_is_at_most_its_peak() -> None:
    ours = usage.memory(os.getpid())

    assert 0 < ours.now_mib <= ours.peak_mib


def test_a_child_that_has_ended_has_no_memory() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    with pytest.raises(OSError, match=f"process {child.pid} has ended"):
        usage.memory(child.pid)

    child.wait()


def test_our_parent_is_known() -> None:
    assert usage.parent_of(os.getpid()) == os.getppid()


def test_bytes_nobody_has_read_are_counted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert usage.unread_bytes(port) == 0
        with socket.create_connection(("127.0.0.1", port)) as client, server.accept()[0] as accepted:
            client.sendall(b"x" * 1_000)
            assert accepted.recv(1_000, socket.MSG_PEEK)  # it has arrived
            assert usage.unread_bytes(port) == 1_000
            accepted.recv(300)
            assert usage.unread_bytes(port) == 700


def test_the_machine_is_described() -> None:
    assert {"cpu", "cores", "memory_mib", "kernel", "python"} <= usage.machine().keys()
