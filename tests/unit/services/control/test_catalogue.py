"""The catalogue is complete in both languages, and everything that is said anywhere stands in it."""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import services.control
from schemas.events import MissReason, RefusalReason
from schemas.fields import ClockState, NetworkType, PowerSource
from schemas.readings import UNITS
from services.control.alerting.cap_xml import Flaw as XmlFlaw
from services.control.api import faults
from services.control.catalogue.fault_texts import FAULTS
from services.control.catalogue.page_texts import PAGES
from services.control.catalogue.problem_texts import PROBLEMS
from services.control.catalogue.texts import TEXTS, Language, preferred, text
from services.control.enrolments import CSR_FAULTS
from services.control.measurement import Refusal as MediaRefusal
from services.control.planning.model import ProblemKind
from services.control.planning.permission import Rule
from services.control.planning.policy_faults import FaultCode as PolicyFault
from services.control.planning.reconcile import Reason
from services.control.relay_troubles import Trouble

PACKAGE = Path(services.control.__file__).parent
TEMPLATES = sorted((PACKAGE / "pages" / "templates").glob("*.html"))


def places(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}


@pytest.mark.parametrize("key", TEXTS)
def test_each_text_is_there_in_both_languages_and_names_the_same_facts(key: str) -> None:
    vietnamese, english = TEXTS[key]
    assert vietnamese.strip() == vietnamese != ""
    assert english.strip() == english != ""
    assert places(vietnamese) == places(english)


def test_languages_are_chosen_as_clients_ask() -> None:
    assert preferred(None) is Language.VIETNAMESE
    assert preferred("en") is Language.ENGLISH
    assert preferred("en-GB,en;q=0.9") is Language.ENGLISH
    assert preferred("fr, vi;q=0.5, en;q=0.4") is Language.VIETNAMESE
    assert preferred("fr") is Language.VIETNAMESE
    assert preferred("en;q=0, vi;q=0.1") is Language.VIETNAMESE
    assert preferred(";;;,,q=x" * 100) is Language.VIETNAMESE


# --- what the code says ----------------------------------------------------------------------------------------------


@cache
def every_call() -> tuple[tuple[str, ast.Call], ...]:
    """Every call in the package and where it stands; read once, which takes seconds."""
    return tuple(
        (f"{path.name}:{node.lineno}", node)
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
    )


def calls(names: set[str]) -> Iterator[tuple[str, ast.Call]]:
    for place, node in every_call():
        if isinstance(node.func, ast.Name) and node.func.id in names:
            yield place, node


def notes() -> Iterator[tuple[str, ast.Call]]:
    """What a reader of documents notes of them: `notes.fault(field, code, **facts)` and `notes.remark(…)`."""
    for place, node in every_call():
        match node:
            case ast.Call(func=ast.Attribute(value=noted, attr="fault" | "remark")) if ast.unparse(noted).endswith(
                "notes"
            ):
                yield place, node


def constants(node: ast.expr | None) -> list[str]:
    """The texts an expression can be, when it is written out."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.IfExp):
        return constants(node.body) + constants(node.orelse)
    return []


REFUSALS = {
    "Busy",
    "Conflict",
    "Forbidden",
    "NotFound",
    "NotOurs",
    "NotUnderstood",
    "TooLarge",
    "TooManyAttempts",
    "TooSlow",
    "Unauthenticated",
    "UnsupportedContent",
    "VersionMismatch",
    "VersionRequired",
}


def facts_of(call: ast.Call, keyword: str) -> set[str] | None:
    """The facts a refusal names; None when they are not written out."""
    value = next((each.value for each in call.keywords if each.arg == keyword), None)
    if value is None:
        return set()
    if isinstance(value, ast.Dict):
        return {str(key.value) for key in value.keys if isinstance(key, ast.Constant)}
    return None


def test_every_refusal_has_words_and_the_facts_they_name() -> None:
    seen = set()
    for place, call in calls(REFUSALS):
        for code in constants(call.args[0] if call.args else None):
            seen.add(code)
            assert code in PROBLEMS, f"{place}: {code}"
            facts = facts_of(call, "facts")
            wanted = places(PROBLEMS[code]["detail"][0]) - {"seconds"}
            assert facts is None or wanted <= facts, f"{place}: {code} needs {wanted}, has {facts}"
    for _, call in calls({"Invalid", "Table"}):
        seen |= {code for each in call.keywords if each.arg == "code" for code in constants(each.value)}
    assert len(seen) > 30
    by_the_framework = {"not_understood", "invalid_request", "no_such_address", "method_not_allowed"}
    by_the_database = {"database_unavailable", "internal_error", "changed_meanwhile"}
    assert PROBLEMS.keys() - seen <= by_the_framework | by_the_database


def test_every_fault_has_words_and_the_facts_they_name() -> None:
    seen = {code for code, _ in faults._CODES.values()} | {each.value for each in MediaRefusal} | {"not_valid"}
    seen |= {f"policy_{each.value}" for each in PolicyFault}
    for name in ("Fault", "FieldFault", "_fault", "_refusal", "fault", "row_fault"):
        for place, call in calls({name}):
            position = {"Fault": 1, "FieldFault": 0, "_fault": 2, "_refusal": 1, "fault": 1, "row_fault": 2}[name]
            for code in constants(call.args[position] if len(call.args) > position else None):
                seen.add(code)
                assert code in FAULTS, f"{place}: {code}"
                given: set[str] | None
                if name == "Fault":
                    facts = call.args[2] if len(call.args) > 2 else None
                    is_written_out = facts is None or (isinstance(facts, ast.Dict) and None not in facts.keys)
                    given = (
                        (
                            {str(key.value) for key in facts.keys if isinstance(key, ast.Constant)}
                            if isinstance(facts, ast.Dict)
                            else set()
                        )
                        if is_written_out
                        else None
                    )
                else:
                    given = {each.arg for each in call.keywords if each.arg}
                    if name in {"_fault", "row_fault"}:
                        given |= {"line", "column"}
                wanted = places(FAULTS[code]["message"][0]) | places(FAULTS[code]["mend"][0])
                assert given is None or wanted <= given, f"{place}: {code} needs {wanted}, has {given}"
    for place, call in notes():
        for code in constants(call.args[1]):
            seen.add(code)
            wanted = places(FAULTS[code]["message"][0]) | places(FAULTS[code]["mend"][0])
            assert wanted <= {each.arg for each in call.keywords}, f"{place}: {code} needs {wanted}"
    seen |= {each.value for each in XmlFlaw} | set(CSR_FAULTS.values())
    seen |= {f"against_{rule.value}" for rule in Rule if rule is not Rule.UNKNOWN_SESSION}
    for _, call in calls({"_Faulty", "RuleFault", "Unrenderable", "_failed"}):
        seen |= {code for each in call.args[:1] for code in constants(each)}
        seen |= {code for each in call.keywords if each.arg == "code" for code in constants(each.value)}
    assert seen <= FAULTS.keys()
    password = {"password_too_short", "password_too_long", "password_too_easy"}
    assert FAULTS.keys() - seen <= password | {"device_retired"}


# --- what the pages say ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_templates_hold_no_words_of_their_own(path: Path) -> None:
    source = path.read_text()
    spoken = re.sub(r"{%.*?%}|{{.*?}}|{#.*?#}", " ", source, flags=re.S)
    for attribute in ("title", "alt", "aria-label", "placeholder", "data-label"):
        for value in re.findall(rf'{attribute}="([^"]*)"', spoken):
            assert not re.search(r"\w", value), f'{attribute}="{value}"'
    between = re.sub(r"<[^>]*>", " ", re.sub(r"<!doctype.*?>", "", spoken))
    assert not re.search(r"\w", between), re.findall(r"[\w ]{2,}", between)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_templates_load_nothing_from_elsewhere_and_run_nothing_inline(path: Path) -> None:
    source = path.read_text()
    assert not re.search(r"(?:src|href|action)=\"(?:https?:)?//", source)
    assert not re.search(r"<script(?![^>]*\bsrc=)", source)
    assert not re.search(r'\son\w+="', source)
    assert "style=" not in source
    assert "| safe" not in source
    assert "|safe" not in source


def test_every_text_a_page_asks_for_is_there() -> None:
    asked = set()
    for path in TEMPLATES:
        asked |= set(re.findall(r"""\bt\(\s*"([^"]+)"\s*[,)]""", path.read_text()))
    assert asked <= PAGES.keys()


@pytest.mark.parametrize(
    ("group", "values"),
    [
        (
            "outcome",
            ["planned", "played", "late", "cut", "missed", "refused", "unknown", "by_gateway", "pending", "overdue"],
        ),
        ("kind", ["cluster", "board", "sensor", "gateway"]),
        ("kinds", ["cluster", "board", "sensor", "gateway"]),
        ("liveness", ["online", "offline", "never"]),
        ("level_of", ["normal", "priority", "emergency"]),
        ("state", ["scheduled", "awaiting_approval", "rejected", "withdrawn"]),
        ("evidence", ["device", "gateway"]),
        ("playing", ["emission", "command", "alert", "fallback"]),
    ],
)
def test_every_word_of_an_enumeration_is_translated(group: str, values: list[str]) -> None:
    assert [value for value in values if f"{group}.{value}" not in PAGES] == []


def test_every_reason_of_a_verdict_is_translated() -> None:
    words = [reason.value for reason in Reason] + [each.name.lower() for each in (*MissReason, *RefusalReason)]
    assert [word for word in words if f"reason.{word}" not in PAGES] == []
    for group, names in (("clock", ClockState), ("network", NetworkType), ("power", PowerSource)):
        assert [each.name.lower() for each in names if f"{group}.{each.name.lower()}" not in PAGES] == []


def test_every_trouble_of_a_relay_is_translated() -> None:
    assert [each.value for each in Trouble if f"relay.trouble.{each.value}" not in PAGES] == []


def test_every_problem_of_planning_is_translated() -> None:
    assert [kind.value for kind in ProblemKind if f"problem_of.{kind.value}" not in PAGES] == []


def test_every_quantity_that_has_a_unit_has_a_name() -> None:
    assert [quantity for quantity in UNITS if f"quantity.{quantity}" not in PAGES] == []


def test_a_missing_fact_is_a_bug_and_not_a_blank() -> None:
    with pytest.raises(KeyError):
        text("problem.unit_not_found.detail", Language.VIETNAMESE)
