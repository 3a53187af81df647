"""The demonstration: what it says of a folder it cannot use, and what it keeps of one that an earlier release made."""

import json
from pathlib import Path

import pytest

from services.local import demo
from services.local.platform import load_secrets


def test_folder_that_cannot_be_made_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()

    assert demo.main(["--data", str(tmp_path / "file" / "province")]) == 1

    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == f"loa: failed: {tmp_path}/file/province: Not a directory; name another folder with --data"
    assert len(lines) == 2  # and where the data would have been


def test_secrets_of_an_earlier_release_are_kept_and_what_they_lack_is_drawn(tmp_path: Path) -> None:
    file = tmp_path / "secrets.json"
    first = load_secrets(file)
    kept = json.loads(file.read_text())
    del kept["operator_password"]
    file.write_text(json.dumps(kept))

    again = load_secrets(file)

    assert again.administrator_password == first.administrator_password
    assert again.operator_password not in ("", first.operator_password)
    assert load_secrets(file) == again
    assert file.stat().st_mode & 0o077 == 0
