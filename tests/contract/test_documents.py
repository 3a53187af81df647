"""What the documents point at is there."""

import re
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
DOCUMENTS = subprocess.run(
    ["git", "ls-files", "*.md"], cwd=TOP, capture_output=True, text=True, check=True
).stdout.split()


def anchors(text: str) -> set[str]:
    """The names under which headings can be linked to."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_somewhere(document: str) -> None:
    file = TOP / document
    for link in re.findall(r"\]\(([^)\s]+)\)", file.read_text()):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = file.parent / path if path else file
        assert target.exists(), f"{document} links to {link}"
        assert not anchor or anchor in anchors(target.read_text()), f"{document} links to {link}"


def test_the_code_map_names_what_there_is() -> None:
    rows = re.findall(r"^\| `([\w./]+/)` \|", (TOP / "ARCHITECTURE.md").read_text(), re.MULTILINE)
    assert len(rows) >= 8
    assert [row for row in rows if not (TOP / row).is_dir()] == []


def test_the_documents_asked_for_are_there() -> None:
    names = ("README.md", "ARCHITECTURE.md", "DECISIONS.md", "CONTRIBUTING.md", "CHANGELOG.md", "deploy/README.md")
    assert [name for name in names if not (TOP / name).is_file()] == []


def test_each_line_of_the_threat_model_names_tests_that_there_are() -> None:
    section = (TOP / "ARCHITECTURE.md").read_text().partition("\n## Trust\n")[2].partition("\n## ")[0]
    header, *lines = [line for line in section.splitlines() if line.startswith("| ")]
    assert header.endswith("| tried in (below `tests/`) |")
    assert len(lines) >= 15
    for line in lines:
        named = re.findall(r"`([\w/]+\.py)::(\w+)`", line.rsplit("|", 2)[1])
        assert named, f"no test backs this line: {line[:80]}"
        for path, name in named:
            file = TOP / "tests" / path
            found = file.is_file() and re.search(rf"^(async )?def {name}\(", file.read_text(), re.MULTILINE)
            assert found, f"there is no test {path}::{name}"
