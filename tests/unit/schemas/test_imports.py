"""What the contract is built on: an import linter can forbid packages, this test allows the few there are."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import schemas

MODULES = sorted(Path(schemas.__file__).parent.glob("*.py"))

ANYWHERE = {"__future__", "collections", "dataclasses", "enum", "functools", "pydantic", "schemas", "typing", "uuid"}
ONLY_IN = {
    "cbor2": {"codec"},
    "io": {"codec"},  # BytesIO
    "math": {"audience"},
    "cryptography": {"device_signing", "signing"},
    "hashlib": {"device_signing", "keys"},
    "re": {"identifiers"},
    "types": {"shapes"},
}


def imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield (node.module or "").split(".")[0]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_imports_only_what_the_contract_may_rest_on(path: Path) -> None:
    for name in imported(ast.parse(path.read_text(encoding="utf-8"))):
        assert name in ANYWHERE or path.stem in ONLY_IN.get(name, set()), f"{path.stem} imports {name}"


def test_the_package_exports_nothing() -> None:
    tree = ast.parse((Path(schemas.__file__)).read_text(encoding="utf-8"))
    assert [type(node) for node in tree.body] == [ast.Expr], "each name has one address"
