"""The built wheel: exactly our three packages, with their data, and nothing else.

An editable checkout hides a file missing from the wheel until it is missing in the image.
"""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
PACKAGES = ("schemas", "services", "firmware_sim")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Names of all files in the wheel."""
    target = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", target],
        cwd=TOP,
        check=True,
        capture_output=True,
    )
    (built,) = target.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        return archive.namelist()


def test_wheel_holds_our_packages_only(wheel: list[str]) -> None:
    folders = {name.partition("/")[0] for name in wheel}

    assert {folder for folder in folders if not folder.endswith(".dist-info")} == set(PACKAGES)


def test_wheel_holds_every_file_of_them_that_is_not_ignored(wheel: list[str]) -> None:
    listed = subprocess.run(
        ["git", "ls-files", *PACKAGES], cwd=TOP, check=True, capture_output=True, text=True
    ).stdout.split("\n")
    present = {name for name in listed if name and (TOP / name).exists()}

    assert any(name.endswith(".sql") for name in present)
    assert present - set(wheel) == set()
