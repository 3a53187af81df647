"""Hundreds of broken messages through the real broker into the real ingest: each is settled once, and it goes on."""

import asyncio

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from schemas import codec
from schemas.fields import DeviceKind
from services.control.trust.certificates import ServiceName
from services.ingest.admission import Quarantined, judge
from services.ingest.batch import PAYLOAD_KEPT_BYTES
from services.ingest.registry import Registry, pack
from services.ingest.stamps import TimeWindow
from services.shared.clock import utc_now
from tests.integration.ingest.support import CLUSTER, Bench, a_heartbeat, enveloped, eventually
from tests.support import hostile
from tests.support.broker import MqttClient, connect_service

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

MESSAGES = 300
ENOUGH = 10_000  # of quarantined payloads and of journals a day, so that none is turned away for its number
HONEST = sorted(hostile.honest().values())
EDGES = sorted(hostile.edges().values())

Sent = tuple[str, bytes, bool]  # topic, payload, whether it is retained


@st.composite
def messages(draw: st.DrawFn) -> Sent:
    kind, payload = draw(st.sampled_from([*HONEST, *HONEST, *EDGES]))
    level = hostile.LEVELS[kind]
    if (kind, payload) in HONEST:
        payload = draw(hostile.payloads(payload))
    payload = payload or b"\xff"  # an empty one is a clearing where it is retained, and nothing to settle
    return f"loa/v1/{CLUSTER}/{level}", payload, level.startswith("up/") and draw(st.integers(0, 9)) == 0


def a_lot() -> list[Sent]:
    """The same in every run: what is found here by chance could not be found again."""
    made: list[Sent] = []

    @settings(max_examples=MESSAGES, phases=[Phase.generate], derandomize=True, database=None)
    @given(messages())
    def make(message: Sent) -> None:
        made.append(message)

    make()
    assert len(made) >= MESSAGES
    return made[:MESSAGES]


def publish_all(client: MqttClient, sent: list[Sent]) -> None:
    for topic, payload, is_retained in sent:
        assert client.publish(topic, payload, retain=is_retained) == 0


async def test_each_of_hundreds_of_broken_messages_is_settled_once(bench: Bench) -> None:
    sent = a_lot()
    registry = Registry([(CLUSTER.encode(), pack(DeviceKind.CLUSTER, bench.numbers[CLUSTER], bench.numbers[CLUSTER]))])
    refused = [
        payload
        for topic, payload, is_retained in sent
        if isinstance(
            judge(topic, payload, is_retained=is_retained, registry=registry, now=utc_now(), window=TimeWindow()),
            Quarantined,
        )
    ]
    assert len(set(refused)) > MESSAGES / 4
    limits = {"quarantine": {"per_principal": ENOUGH, "in_all": ENOUGH}, "ledger": {"journals_a_day": ENOUGH}}
    async with bench.ingest(**limits) as ingest:
        cluster = await bench.device(CLUSTER)
        await asyncio.to_thread(publish_all, cluster, sent)

        async def settled() -> tuple[float, float]:
            return (
                await ingest.metric("ingest_messages_admitted_total"),
                await ingest.metric("ingest_messages_quarantined_total"),
            )

        await eventually(settled, lambda counts: counts == (len(sent) - len(refused), len(refused)))
        assert await ingest.is_ready()
        rows = await bench.rows("SELECT * FROM telemetry.quarantine_log")
        assert sum(row["messages"] for row in rows) == len(refused)
        assert {(row["size"], row["payload"]) for row in rows} == {
            (len(payload), payload[:PAYLOAD_KEPT_BYTES]) for payload in refused
        }
        assert len(rows) == len(set(refused))
        assert all(row["reason"] for row in rows)

        # Nothing of it is left at the broker, and whoever is honest is heard.
        for kind in ("heartbeat", "reading", "event"):
            await nothing_is_retained(bench, cluster, f"loa/v1/{CLUSTER}/up/{kind}")
        await asyncio.to_thread(cluster.publish, f"loa/v1/{CLUSTER}/up/event", enveloped(7, journal=b"honestly"))
        await bench.eventually(
            "SELECT 1 FROM telemetry.event_log WHERE journal_id = $1 AND sequence = 7", bool, b"honestly".hex()
        )
        await bench.eventually("SELECT 1 FROM telemetry.heartbeat_log WHERE firmware = 'honest'", bool)
        await ingest.until("ingest_messages_in_hand", 0)


async def nothing_is_retained(bench: Bench, cluster: MqttClient, topic: str) -> None:
    """Return when whoever subscribes is given only what is published afterwards."""
    numbers = iter(range(1, 1_000))

    async def given_first() -> tuple[bytes, list[bytes]]:
        fresh = codec.encode(a_heartbeat(firmware="honest", uptime_s=next(numbers)))
        with connect_service(bench.broker, ServiceName.INGEST, client_id="ingest:onlooker") as onlooker:
            await asyncio.to_thread(onlooker.subscribe, topic)
            await asyncio.to_thread(cluster.publish, topic, fresh)
            await asyncio.to_thread(onlooker.wait_for, fresh)
            return fresh, onlooker.payloads(topic)

    await eventually(given_first, lambda answer: answer[1] == [answer[0]], what=f"nothing retained on {topic}")
