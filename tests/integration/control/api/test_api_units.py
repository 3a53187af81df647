"""The tree of units over HTTP: read on a day, searched, imported."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

import services.control
from services.control.permissions import Role
from tests.support.control_api import TREE, Api, add_device

pytestmark = pytest.mark.integration

DATA = Path(services.control.__file__).parent / "data"
CSV = {"Content-Type": "text/csv"}


async def import_file(api: Api, content: bytes | str, day: str, **query: str) -> Any:
    headers = await api.person((Role.ADMINISTRATOR, "24"))
    return await api.client.post(
        "/api/v1/units/import", params={"valid_from": day, **query}, content=content, headers={**headers, **CSV}
    )


async def test_units_come_in_vietnamese_order_with_their_path(api: Api) -> None:
    headers = await api.person((Role.VIEWER, "11"))
    tree = (await api.client.get("/api/v1/units/tree", headers=headers)).json()
    assert [unit["name"] for unit in tree] == [
        "Tỉnh Thử Nghiệm",
        "Huyện Bắc",
        "Xã An Lạc",
        "Xã Đại Sơn",
        "Huyện Nam",
        "Xã Tân Tiến",
    ]
    commune = await api.client.get(f"/api/v1/units/{api.units['11']}", headers=headers)
    assert [each["code"] for each in commune.json()["path"]] == ["24", "1", "11"]
    assert [unit["code"] for unit in (await api.client.get("/api/v1/units", headers=headers)).json()] == ["24"]
    children = await api.client.get("/api/v1/units", params={"parent_id": str(api.units["1"])}, headers=headers)
    assert [unit["code"] for unit in children.json()] == ["12", "11"]


@pytest.mark.parametrize(
    ("words", "codes"),
    [
        ("dai son", ["11"]),
        ("ĐẠI", ["11"]),
        ("huyen", ["1", "2"]),
        ("12", ["12"]),
        ("an", ["12", "21"]),  # beginnings of words before their middles
        ("%", []),
        ("_", []),
        ("nowhere", []),
        (" ", ["24"]),  # no search at all
    ],
)
async def test_search_takes_parts_of_names_without_accents_and_codes(api: Api, words: str, codes: list[str]) -> None:
    headers = await api.person((Role.VIEWER, "11"))
    found = await api.client.get("/api/v1/units", params={"q": words}, headers=headers)
    assert [unit["code"] for unit in found.json()] == codes


async def test_the_shipped_trees_are_imported_one_after_the_other(api: Api) -> None:
    first = await import_file(api, (DATA / "bac_giang_3_level.csv").read_bytes(), "2021-01-01", may_strand="true")
    assert first.status_code == 200, first.text
    assert first.json()["units"] == 220
    root = first.json()["root"]["unit_id"]
    # Whoever administered the old root has no rights over the new tree: the first administrator makes the next.
    await api.execute("UPDATE control.role_grants SET unit_id = $1", root)
    headers = await api.token(await _account_with_grant(api, root))
    second = await api.client.post(
        "/api/v1/units/import",
        params={"valid_from": "2030-07-01", "may_strand": "true"},
        content=(DATA / "bac_ninh_2_level.csv").read_bytes(),
        headers={**headers, **CSV},
    )
    assert second.status_code == 200, second.text
    for day, count in (("2020-06-01", 6), ("2030-06-30", 220), ("2030-07-01", 100)):
        tree = await api.client.get("/api/v1/units/tree", params={"on": day}, headers=headers)
        assert len(tree.json()) == count, day
    newest = await api.client.get("/api/v1/units/tree", params={"on": "2030-07-01"}, headers=headers)
    names = [unit["name"] for unit in newest.json()[1:]]
    assert names.index("Xã Đại Sơn") > names.index("Xã Cẩm Lý")
    found = await api.client.get("/api/v1/units", params={"q": "son dong", "on": "2030-07-01"}, headers=headers)
    assert {"Xã Sơn Động"} <= {unit["name"] for unit in found.json()}


async def _account_with_grant(api: Api, root: str) -> Any:
    account = await api.account((Role.ADMINISTRATOR, "24"))
    await api.execute("UPDATE control.role_grants SET unit_id = $1 WHERE account_id = $2", root, account.account_id)
    return account


async def test_importing_the_same_tree_again_changes_nothing(api: Api) -> None:
    before = await api.fetchval("SELECT string_agg(v::text, '' ORDER BY unit_id) FROM control.unit_versions v")
    response = await import_file(api, TREE, "2020-01-01")
    assert response.status_code == 200
    assert (response.json()["opened"], response.json()["closed"]) == (0, 0)
    after = await api.fetchval("SELECT string_agg(v::text, '' ORDER BY unit_id) FROM control.unit_versions v")
    assert after == before


@pytest.mark.parametrize(
    ("content", "field", "code"),
    [
        (TREE.replace("parent_code", "parent"), "file", "bad_header"),
        (TREE + "11,1,commune,Xã Trùng\n", "lines[8].code", "duplicate_unit_code"),
        (TREE + "31,3,commune,Xã Mồ Côi\n", "lines[8].parent_code", "unknown_parent_code"),
        (TREE + "31,32,commune,A\n32,31,commune,B\n", "lines[8].parent_code", "unit_circle"),
        (TREE + "31,1,commune,\n", "lines[8].name", "cell_is_empty"),
        (TREE + "31,,province,Tỉnh Hai\n", "lines[8].parent_code", "second_root"),
        (TREE.encode("utf-16"), "file", "not_utf8"),
        ("", "file", "file_is_empty"),
    ],
)
async def test_a_faulty_file_is_refused_whole_naming_line_and_field(
    api: Api, content: str | bytes, field: str, code: str
) -> None:
    before = await api.fetchval("SELECT count(*) FROM control.unit_versions")
    response = await import_file(api, content, "2026-01-01")
    assert response.status_code == 422
    problem = response.json()
    assert problem["code"] == "unit_file_invalid"
    assert (field, code) in [(error["field"], error["code"]) for error in problem["errors"]]
    assert all(error["message"] and error["mend"] for error in problem["errors"])
    assert await api.fetchval("SELECT count(*) FROM control.unit_versions") == before


async def test_a_form_with_a_file_is_taken_too_and_one_without_is_told_so(api: Api) -> None:
    headers = await api.person((Role.ADMINISTRATOR, "24"))
    query = {"valid_from": "2020-01-01"}
    sent = await api.client.post(
        "/api/v1/units/import", params=query, files={"file": ("../../x.csv", TREE)}, headers=headers
    )
    assert sent.status_code == 200
    without = await api.client.post(
        "/api/v1/units/import", params=query, files={"other": ("x.csv", TREE)}, headers=headers
    )
    assert without.json()["errors"][0] | {"mend": "", "message": ""} == {
        "field": "file",
        "code": "field_missing",
        "message": "",
        "mend": "",
    }


async def test_an_older_tree_cannot_come_after_a_newer_one(api: Api) -> None:
    response = await import_file(api, TREE, "2019-12-31")
    assert (response.status_code, response.json()["code"]) == (409, "unit_tree_is_newer")
    assert response.json()["errors"][0]["field"] == "valid_from"


async def test_units_still_in_use_are_not_closed_unless_that_is_meant(api: Api) -> None:
    await add_device(api, "21")
    without = TREE.replace("21,2,commune,Xã Tân Tiến\n", "")
    refused = await import_file(api, without, "2026-01-01")
    assert (refused.status_code, refused.json()["code"]) == (409, "units_in_use")
    assert refused.json()["units"] == [{"unit_id": str(api.units["21"]), "devices": 1, "accounts": 0}]
    meant = await import_file(api, without, "2026-01-01", may_strand="true")
    assert meant.status_code == 200
    assert [each["name"] for each in meant.json()["stranded"]] == ["Xã Tân Tiến"]


@pytest.mark.parametrize("day", ["", "01/07/2025", "2025-13-01", "2025-02-30", "tomorrow"])
async def test_a_day_that_is_none_is_named(api: Api, day: str) -> None:
    response = await import_file(api, TREE, day)
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "valid_from"


@pytest.mark.parametrize("path", ["00000000-0000-4000-8000-000000000000", "nonsense", "%00", "1" * 400])
async def test_an_unknown_unit_is_not_found(api: Api, path: str) -> None:
    headers = await api.person((Role.VIEWER, "24"))
    for suffix in ("", "/status"):
        response = await api.client.get(f"/api/v1/units/{path}{suffix}", headers=headers)
        assert response.status_code in (404, 422)
        assert response.headers["content-type"] == "application/problem+json"


async def test_a_new_tree_counts_at_once_for_everybody(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "1"))
    path = f"/api/v1/units/{api.units['21']}/status"
    assert (await api.client.get(path, headers=officer)).status_code == 403
    moved = TREE.replace("21,2,commune", "21,1,commune")
    assert (await import_file(api, moved, date(2026, 1, 1).isoformat())).status_code == 200
    assert (await api.client.get(path, headers=officer)).status_code == 200
