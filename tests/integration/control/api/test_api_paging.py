"""Lists page by page: every row once, also where many are of one instant."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from services.control.permissions import Role
from tests.support.control_api import Api, add_awaiting_broadcast, add_broadcast, add_bulletin, add_offer

pytestmark = pytest.mark.integration


async def a_bulletin(api: Api, _number: int) -> None:
    await add_bulletin(api, "11")


async def an_offer(api: Api, number: int) -> None:
    """Every other one the same broadcast as the one before, to another unit."""
    if number % 2:
        await api.execute(
            """
            INSERT INTO control.offers (broadcast_id, unit_id, state, offered_at)
            SELECT broadcast_id, $1, 'offered', offered_at FROM control.offers ORDER BY offered_at DESC, broadcast_id LIMIT 1
                ON CONFLICT DO NOTHING
            """,
            api.units[("12", "21")[number % 4 // 2]],
        )
    else:
        await add_offer(api, "11")


async def an_exception(api: Api, _number: int) -> None:
    await add_awaiting_broadcast(api, "11")


@pytest.mark.parametrize(
    ("path", "key", "make"),
    [
        pytest.param("broadcasts", ("broadcast_id",), lambda api, _: add_broadcast(api, "11"), id="broadcasts"),
        pytest.param("bulletins", ("bulletin_id",), a_bulletin, id="bulletins"),
        pytest.param("offers", ("broadcast_id", "unit"), an_offer, id="offers"),
        pytest.param("policy-exceptions", ("broadcast_id", "version"), an_exception, id="exceptions"),
    ],
)
async def test_pages_of_a_list_hold_every_row_once(
    api: Api, path: str, key: tuple[str, ...], make: Callable[[Api, int], Awaitable[Any]]
) -> None:
    for number in range(7):
        if number == 5:
            api.clock.forward(seconds=1)
        await make(api, number)
    viewer = await api.person((Role.VIEWER, "24"))

    def keys(rows: list[dict[str, Any]]) -> list[str]:
        return [repr([row[name] for name in key]) for row in rows]

    everything = keys((await api.client.get(f"/api/v1/{path}?limit=100", headers=viewer)).json())
    assert len(everything) >= 6
    seen: list[str] = []
    link: str | None = f"/api/v1/{path}?limit=2"
    while link is not None:
        answer = await api.client.get(link, headers=viewer)
        assert answer.status_code == 200, answer.text
        seen += keys(answer.json())
        link = answer.links["next"]["url"] if "next" in answer.links else None
    assert seen == everything
