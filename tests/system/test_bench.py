"""The bench of ingest, short and small: what it says is stored is what was sent, by one replica and by two."""

import pytest

from services.local.bench import contenders, store
from services.local.bench.site import site
from services.local.bench.traffic import Profile

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

SECONDS = 2.0
MESSAGES = 900_000  # more than can be taken meanwhile


async def test_nothing_is_lost_or_double_with_any_number_of_replicas() -> None:
    async with site(devices=4_000, profile=Profile.MIXED, database=None) as place:
        for replicas in (1, 2):
            await store.empty(place.owner)

            run = await contenders.loa(place, seconds=SECONDS, messages=MESSAGES, replicas=replicas)

            compared = run.verified.comparison
            assert compared.sent > run.full.taken  # more was sent than the window took: it was full all along
            assert (compared.lost, compared.duplicates, compared.foreign, run.quarantined) == (0, 0, 0, 0)
            assert run.verified.stored == compared.sent
            assert run.verified.problems == []
            assert sorted(run.by_replica) == [f"ingest:{1 + which}" for which in range(replicas)]
            assert sum(run.by_replica.values()) == pytest.approx(run.full.rate)
            assert run.full.memory


@pytest.mark.parametrize("in_batches", [False, True])
async def test_the_naive_scripts_store_every_kind_of_message(in_batches: bool) -> None:
    async with site(devices=4_000, profile=Profile.MIXED, database=None) as place:
        await place.owner.execute(store.MAKE_NAIVE)

        window = await contenders.naively(place, in_batches=in_batches, seconds=SECONDS, messages=100_000)

        assert window.taken > 0
