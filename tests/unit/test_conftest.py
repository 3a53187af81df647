"""The guard that no test leaves tasks behind, seen from outside."""

import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]

LEAKY = """
import asyncio

async def test_leaks():
    test_leaks.task = asyncio.ensure_future(asyncio.Event().wait())

async def test_ends_what_it_began():
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(0))

def test_without_a_loop():
    pass
"""


def test_test_that_leaves_a_task_behind_fails_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "test_leaky.py").write_text(LEAKY)

    shown = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", TOP / "pyproject.toml", "--rootdir", TOP, "-p", "tests.conftest",
         "-p", "no:cacheprovider", tmp_path],
        cwd=TOP,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip

    assert "the test left tasks running" in shown.stdout
    assert "3 passed, 1 error" in shown.stdout.splitlines()[-1]
