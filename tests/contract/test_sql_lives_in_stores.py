"""SQL of the services stands in stores, where a row becomes a value in the same function, and nowhere else."""

import ast
import re
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]

# Places, by the last part of the module's name. Adding one is a decision, not a convenience.
PLACES = re.compile(r"(.*_)?store|outbox|statements|audit|planning_queue")

SQL = re.compile(
    r"\s*(SELECT|INSERT\s+INTO|UPDATE\s+\w|DELETE\s+FROM|WITH\s+\w+\s+AS|CREATE\s|ALTER\s|COPY\s|DROP\s|CALL\s)"
)


def statements(path: Path) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    strings = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return [text.split("\n")[0] for text in strings if SQL.match(text)]


def test_no_module_but_a_store_holds_sql() -> None:
    elsewhere = {
        str(path.relative_to(TOP)): found
        for part in ("ingest", "control")
        for path in sorted((TOP / "services" / part).rglob("*.py"))
        if not PLACES.fullmatch(path.stem) and (found := statements(path))
    }

    assert elsewhere == {}


def test_the_rule_sees_sql_where_it_is() -> None:
    assert statements(TOP / "services" / "shared" / "database" / "migrate.py")
