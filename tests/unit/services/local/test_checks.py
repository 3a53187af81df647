"""The tools of development at the command line."""

import pytest

from services.local import checks


def test_lint_refuses_what_it_would_not_heed(capsys: pytest.CaptureFixture[str]) -> None:
    assert checks.lint(["services/ingest"]) == 2
    assert "lint takes no arguments" in "".join(capsys.readouterr())
