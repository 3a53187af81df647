"""System users: one of a name, whoever asks for it at the same time."""

import os
import pwd
import subprocess
import sys
from collections.abc import Iterator

import pytest

from services.local.system_user import NoSystemUser, system_user

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root makes users"),
]

AT_ONCE = 4
ASK = "import sys; from services.local.system_user import system_user; print(*system_user(sys.argv[1]))"


@pytest.fixture
def name() -> Iterator[str]:
    name = f"loa-try-{os.getpid()}"
    yield name
    subprocess.run(["userdel", name], check=True, capture_output=True)


def test_whoever_asks_at_the_same_time_gets_the_same_user(name: str) -> None:
    asking = [
        subprocess.Popen([sys.executable, "-c", ASK, name], stdout=subprocess.PIPE, text=True) for _ in range(AT_ONCE)
    ]
    answers = {process.communicate()[0] for process in asking}

    made = pwd.getpwnam(name)
    assert answers == {f"{made.pw_uid} {made.pw_gid}\n"}
    assert pwd.getpwuid(made.pw_uid).pw_name == name
    assert made.pw_shell == "/usr/sbin/nologin"
    assert system_user(name) == (made.pw_uid, made.pw_gid)


def test_user_that_cannot_be_made_is_told_in_the_words_of_useradd() -> None:
    with pytest.raises(NoSystemUser, match="invalid user name"):
        system_user("no:name")
