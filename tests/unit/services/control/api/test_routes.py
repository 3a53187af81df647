"""Default deny: every route there is declares a permission, or stands in the list of public ones."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from services.control import alerts
from services.control.api.access import PUBLIC, Requirement
from services.control.api.app import routed
from services.control.api.openapi import document
from services.control.permissions import PERMISSIONS, Permission, Role


def requirements(dependant: Dependant) -> Iterator[Requirement]:
    for dependency in dependant.dependencies:
        if isinstance(dependency.call, Requirement):
            yield dependency.call
        yield from requirements(dependency)


def routes() -> Iterator[tuple[str, APIRoute]]:
    for route in routed().routes:
        assert isinstance(route, APIRoute), f"{route!r} is a kind of route that nobody looks at"
        for method in route.methods or ():
            yield method, route


def test_every_route_declares_one_permission_or_is_public() -> None:
    undeclared = []
    for method, route in routes():
        declared = list(requirements(route.dependant))
        is_public = (method, route.path) in PUBLIC
        if len(declared) != (0 if is_public else 1):
            undeclared.append(f"{method} {route.path}: {len(declared)}")
    assert undeclared == []


def test_every_public_route_exists() -> None:
    assert {(method, route.path) for method, route in routes()} >= PUBLIC


def test_every_operation_of_the_document_says_how_to_log_in_unless_public() -> None:
    schema = document(routed())
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            assert ("security" in operation) == ((method.upper(), path) not in PUBLIC), f"{method} {path}"


def test_every_operation_of_the_document_says_what_it_is_and_which_problems_it_answers_with() -> None:
    schema = document(routed())
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            if path.startswith("/api/"):
                assert operation["description"], f"{method} {path}"
                problems = [status for status in operation["responses"] if status.startswith(("4", "5"))]
                assert problems, f"{method} {path}"


def test_every_permission_is_given_by_some_role_and_asked_for_by_some_route() -> None:
    asked = {requirement.permission for _, route in routes() for requirement in requirements(route.dependant)}
    asked |= set(alerts.PERMISSIONS.values())  # which of them depends on the purpose that the body names
    given = frozenset().union(*PERMISSIONS.values())
    assert asked == set(Permission) == given


def test_officers_cannot_decide_and_approvers_cannot_make() -> None:
    assert Permission.DECIDE_BULLETINS not in PERMISSIONS[Role.OFFICER]
    assert Permission.MAKE_BULLETINS not in PERMISSIONS[Role.APPROVER]
    for role in set(Role) - {Role.ADMINISTRATOR}:
        assert Permission.MANAGE_ACCOUNTS not in PERMISSIONS[role]
