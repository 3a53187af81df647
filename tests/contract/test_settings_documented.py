"""The runbook names every setting of every program, and no setting that does not exist."""

import re
from pathlib import Path

import pytest

from services.local.describe import settings as described
from services.shared.settings import FILE_SUFFIX, setting_names

TOP = Path(__file__).resolve().parents[2]
RUNBOOK = TOP / "deploy" / "README.md"

# Where an operator might read the name of a setting.
DOCUMENTS = (
    *(TOP / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "broker_config/README.md")),
    *(path for path in sorted((TOP / "deploy").rglob("*")) if path.is_file()),
)
_SETTING = re.compile(r"\b(?:INGEST|CONTROL|MIGRATE|SIM)_[A-Z][A-Z_]*[A-Z]\b")


def known_variables() -> set[str]:
    """Every variable a program understands, also as a file where it is a secret."""
    known = set()
    for module in described.DECLARED:
        for setting in setting_names(described.settings_class(module)):
            known.add(setting.variable)
            if setting.secret:
                known.add(setting.variable + FILE_SUFFIX)
    return known


def test_runbook_has_a_table_for_every_program() -> None:
    assert described.tables_of(RUNBOOK.read_text("utf-8")) == tuple(described.DECLARED)


def test_tables_say_what_the_code_says() -> None:
    text = RUNBOOK.read_text("utf-8")

    assert text == described.filled_in(text), "run: python -m services.local.describe"


@pytest.mark.parametrize("module", described.DECLARED)
def test_every_setting_has_one_line_with_default_and_meaning(module: str) -> None:
    # Not by way of the generator: it could leave something out on both sides.
    text = RUNBOOK.read_text("utf-8")
    for setting in setting_names(described.settings_class(module)):
        lines = [line for line in text.splitlines() if line.startswith(f"| `{setting.variable}`")]
        assert len(lines) == 1, f"{setting.variable} stands {len(lines)} times in the tables"
        _, _, default, meaning, _ = re.split(r"(?<!\\)\|", lines[0])
        assert default.strip() == (
            "**must be set**" if setting.is_required else f"`{setting.default}`" if setting.default else "unset"
        )
        assert meaning.strip()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(TOP)))
def test_documents_name_no_setting_that_does_not_exist(path: Path) -> None:
    named = set(_SETTING.findall(path.read_text("utf-8")))

    assert named - known_variables() == set()


def test_a_group_of_settings_is_found_by_the_search() -> None:
    assert _SETTING.findall("set INGEST_DATABASE__URL_FILE, CONTROL_NO_SUCH; not INGESTED") == [
        "INGEST_DATABASE__URL_FILE",
        "CONTROL_NO_SUCH",
    ]
