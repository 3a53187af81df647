"""The launcher: its verbs, and what it says where it can do nothing."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from services.local import __main__ as verbs

pytestmark = pytest.mark.integration

TOP = Path(__file__).resolve().parents[3]
LAUNCHER = TOP / "loa"


def run(*arguments: str | Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["/bin/bash", LAUNCHER, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def test_help_lists_exactly_the_verbs_there_are() -> None:
    shown = run("--help")

    assert shown.returncode == 0
    assert set(re.findall(r"^  \./loa (\w+)", shown.stdout, re.M)) == {*verbs.PARTS, *verbs.TOOLS}


@pytest.mark.parametrize("verb", sorted({*verbs.PARTS, *verbs.TOOLS}))
def test_every_verb_is_handed_over_and_tells_of_itself(verb: str) -> None:
    shown = run(verb, "--help")

    assert shown.returncode == 0, shown.stderr
    assert shown.stdout


@pytest.mark.parametrize(("arguments", "complaint"), [((), "./loa demo"), (("fly",), "no such verb: fly")])
def test_anything_else_is_a_usage_error(arguments: tuple[str, ...], complaint: str) -> None:
    shown = run(*arguments)

    assert shown.returncode == 2
    assert complaint in shown.stderr
    assert shown.stdout == ""


def test_verb_without_its_settings_says_which_are_missing() -> None:
    shown = run("migrate", "--check")

    assert shown.returncode == 2
    assert shown.stderr == "services.shared.database.migrate: MIGRATE_DATABASE__URL: must be set\n"


def test_called_from_elsewhere_and_through_a_link_it_is_the_same(tmp_path: Path) -> None:
    link = tmp_path / "loa"
    link.symlink_to(LAUNCHER)

    shown = subprocess.run(
        [link, "migrate", "--check"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MIGRATE_DATABASE__URL": "postgresql://me:swordfish@host/loa"},
    )

    assert shown.returncode == 0
    assert "postgresql://me:**********@host/loa" in shown.stdout
    assert "swordfish" not in shown.stdout + shown.stderr


def path_with(folder: Path, *programs: str) -> str:
    """A PATH with these programs and the few the launcher itself is written with."""
    for name in ("bash", "cat", "cut", "dirname", "readlink", "sed", "rm", "mktemp", "sha256sum", *programs):
        found = shutil.which(name)
        assert found, name
        (folder / name).symlink_to(found)
    return str(folder)


def bare_start(tmp_path: Path, *programs: str, **scripts: str) -> "subprocess.CompletedProcess[str]":
    """`./loa test` in a bare folder, on a PATH with these programs and scripts only."""
    copy = tmp_path / "checkout" / "loa"
    copy.parent.mkdir()
    # The launcher widens PATH by the system folders, which is just what this machine must not show it.
    text = LAUNCHER.read_text()
    assert "export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin" in text
    copy.write_text(text.replace("export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin", ""))
    folder = tmp_path / "bin"
    folder.mkdir()
    path = path_with(folder, *programs)
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/bash\n{script}\n")
        (folder / name).chmod(0o755)
    return subprocess.run(["/bin/bash", copy, "demo"], capture_output=True, text=True, check=False, env={"PATH": path})


MOSQUITTO_1 = "echo mosquitto version 1.6.9; exit 3"
MOSQUITTO_2 = "echo mosquitto version 2.0.11; exit 3"


@pytest.mark.parametrize(
    ("programs", "scripts", "line"),
    [
        pytest.param(
            (),
            {"id": "echo 0"},
            "please install: mosquitto python3 python3-venv (this system has no apt-get to do it with)",
            id="no_apt",
        ),
        pytest.param(
            ("apt-get",),
            {"id": "echo 1000", "python3": "exit 0"},
            "please install as root: apt-get install mosquitto (neither root nor usable sudo here)",
            id="no_sudo",
        ),
        pytest.param(
            (),
            {"mosquitto": MOSQUITTO_1, "python3": "exit 0"},
            "mosquitto is 1.6.9; Loa needs 2.0 or newer",
            id="old_broker",
        ),
        pytest.param((), {"mosquitto": MOSQUITTO_2, "python3": "exit 1"}, "please install: python3-venv", id="no_venv"),
        pytest.param(
            (),
            {
                "mosquitto": MOSQUITTO_2,
                "python3": 'case "$2" in *ensurepip*) ;; *version_info*) exit 1 ;; *) echo Python 3.9.2 ;; esac',
            },
            "python3 is 3.9.2; Loa needs 3.11 or newer",
            id="old_python",
        ),
    ],
)
def test_what_it_cannot_mend_it_names_in_one_line(
    tmp_path: Path, programs: tuple[str, ...], scripts: dict[str, str], line: str
) -> None:
    shown = bare_start(tmp_path, *programs, **scripts)

    assert shown.returncode == 1
    assert shown.stderr.startswith(f"loa: {line}")
    assert shown.stderr.count("\n") == 1


def test_with_all_packages_there_it_goes_on_to_the_environment(tmp_path: Path) -> None:
    """The broker's own help ends with a failure status, which must not end the launcher."""
    shown = bare_start(tmp_path, "flock", "head", mosquitto=MOSQUITTO_2, python3='[ "$1" = -c ] || exit 1')

    assert shown.returncode == 1
    assert "loa: making the environment in .venv\n" in shown.stderr
    assert shown.stderr.endswith("loa: could not make .venv (see above)\n")


REQUIREMENTS = ("requirements.txt", "requirements-dev.txt", "requirements-bootstrap.txt")


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_locked_requirements_are_hashed_and_name_no_host(name: str) -> None:
    text = (TOP / name).read_text()
    pinned = [line for line in text.splitlines() if line and not line.startswith(" ")]

    assert "://" not in text
    assert not [line for line in pinned if line.startswith("-")]
    assert pinned
    assert text.count("\n    --hash=sha256:") >= len(pinned)


def test_a_package_has_one_version_in_all_files() -> None:
    versions: dict[str, set[str]] = {}
    for name in REQUIREMENTS:
        for package, version in re.findall(r"^([a-z0-9_.-]+)==([^ ;]+)", (TOP / name).read_text(), re.M):
            versions.setdefault(package, set()).add(version)

    assert {package: found for package, found in versions.items() if len(found) > 1} == {}
