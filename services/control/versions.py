"""Optimistic concurrency: the version of a resource is its ETag, and a change names the one it means (If-Match)."""

from __future__ import annotations

from typing import Any

from services.control.errors import VersionMismatch, VersionRequired


def etag(version: int | str) -> str:
    """The version as an entity tag."""
    return f'"{version}"'


def check(version: int | str, if_match: str | None, present: Any, *, given: Any) -> None:
    """Raise unless `if_match` names the stored version.

    Without it `VersionRequired`; with another one `VersionMismatch`, showing what is stored (`present`) beside what the
    client wanted (`given`), so that a person can see what the other officer did (409, see `errors.VersionMismatch`).
    """
    tag = etag(version)
    if if_match is None:
        raise VersionRequired("version_required", facts={"etag": tag})
    tags = {each.strip() for each in if_match.split(",")}
    if "*" not in tags and tag not in tags:
        raise VersionMismatch(
            "version_mismatch",
            facts={"present": tag, "given": if_match[:64]},
            members={"present": present, "given": given, "etag": tag},
        )
