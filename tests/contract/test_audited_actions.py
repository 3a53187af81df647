"""Every action that the audit holds is a security event, or the day's work and named here: none is left out unawares."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from services.control.security.events import AUDITED

TOP = Path(__file__).resolve().parents[2] / "services" / "control"
# What takes the name of an attempt, and no action: one that is refused ends in `_refused`, and is told of whatever it is.
ATTEMPTS = {"on_record", "_deciding", "told_of", "of_audit"}

# What is planned and approved, and how, is for those whose ground it is: nothing of it opens or disarms anything at once.
THE_DAYS_WORK = {
    "alert_expired",
    "alert_proposed",
    "alert_template_created",
    "broadcast_approved",
    "broadcast_changed",
    "broadcast_created",
    "broadcast_rejected",
    "broadcast_withdrawn",
    "bulletin_*",
    "bulletin_drafted",
    "bulletin_edited",
    "bulletin_submitted",
    "bulletin_withdrawn",
    "group_changed",
    "group_closed",
    "group_created",
    "media_uploaded",
    "offer_*",
    "priorities_ordered",
    "requisition_noted",
    "requisition_revoked",
    "sensor_rule_created",
    "sensor_rule_blind_cleared",
    "sensor_rule_blind_raised",
    "sensor_threshold_cleared",
    "sensor_threshold_raised",
    "second_factor_begun",  # nothing is in force yet
    "second_factor_shown",
}


def said(value: ast.expr | None, tree: ast.Module, *, follows: bool = True) -> Iterator[str]:
    """The words an expression may come to: constants, choices, look-ups in a table, names given to such."""
    match value:
        case ast.Constant(value=str(word)):
            yield word
        case ast.JoinedStr(values=parts):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in parts)
        case ast.IfExp(body=one, orelse=other):
            yield from said(one, tree)
            yield from said(other, tree)
        case ast.Dict(values=values):
            for each in values:
                yield from said(each, tree)
        case ast.Subscript(value=table):
            yield from said(table, tree)
        case ast.Name(id=name) if follows:
            for node in ast.walk(tree):
                match node:
                    case ast.Assign(targets=[ast.Name(id=given)]) | ast.AnnAssign(target=ast.Name(id=given)):
                        if given == name:
                            yield from said(node.value, tree, follows=False)


def recorded() -> set[str]:
    """Every word that is handed on as the action of an entry, through whatever function takes one."""
    trees = {path: ast.parse(path.read_text()) for path in TOP.rglob("*.py") if path.name != "attempts.py"}
    places: dict[str, set[int]] = {"Entry": set()}
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                names = [each.arg for each in (*node.args.posonlyargs, *node.args.args)]
                by_name = [each.arg for each in node.args.kwonlyargs]
                if "action" in (*names, *by_name) and node.name not in ATTEMPTS:
                    places.setdefault(node.name, set()).update(names.index(each) for each in names if each == "action")
    found: set[str] = set()
    for tree in trees.values():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called not in places:
                continue
            given = [each.value for each in node.keywords if each.arg == "action"]
            given += [node.args[place] for place in places[called] if place < len(node.args)]
            for each in given:
                found |= set(said(each, tree))
    return found


def test_every_action_is_a_security_event_or_the_day_s_work_by_name() -> None:
    alarms = {f"{kind}_{what}" for kind in ("sensor_threshold", "sensor_rule_blind") for what in ("raised", "cleared")}
    actions = {each for each in recorded() if each in AUDITED or not each.endswith("_refused")}
    actions = actions - {"*_raised", "*_cleared"} | alarms
    assert len(actions) > 60, "the actions are looked for where they are not"
    told = {action for action in AUDITED if not action.startswith("silence_")}
    assert sorted(actions - told - THE_DAYS_WORK) == []
    assert sorted((told | THE_DAYS_WORK) - actions) == [], "nothing is recorded under this name"
    assert not told & THE_DAYS_WORK
