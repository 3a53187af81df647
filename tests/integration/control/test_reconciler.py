"""The reconciler with a real database: what devices report, stored as ingest stores it, against what was planned."""

from __future__ import annotations

import asyncio
import uuid
from datetime import datetime, timedelta
from typing import Any

import pytest

from schemas.events import (
    Booted,
    BootReason,
    MediaFailed,
    MediaStored,
    MessageKind,
    MissReason,
    PlanAccepted,
    PlayEnded,
    PlayMissed,
    PlayOutcome,
    PlayStarted,
    PowerChanged,
    RefusalReason,
    Refused,
)
from schemas.fields import ClockState, PlayReference, PlaySource, PowerSource
from schemas.identifiers import BroadcastId
from services.control import airing_store, device_media_store, report_store
from services.control.planning.model import to_ms
from services.control.planning.reconcile import PATIENCE, VERDICT_WITHIN
from services.control.reconciler import Reconciler, run_reconciler
from services.control.trust.keyring import Keyring
from services.shared.clock import utc_now
from tests.support.control import Province, a_planner, eventually, quick_proof, some_metrics
from tests.support.database import TestDatabase
from tests.support.planning import number

pytestmark = pytest.mark.integration

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
LENGTH = timedelta(seconds=60)
ALERT = PlayReference(source=PlaySource.ALERT, id=number(9, 1), occurrence_at_ms=1_773_104_400_000, item=0)


class Past:
    """A broadcast of one minute that began a while ago, planned and signed an hour before."""

    def __init__(self, province: Province, broadcast_id: BroadcastId, start: datetime, sha256: bytes) -> None:
        self.province = province
        self.broadcast_id = broadcast_id
        self.start = start
        self.sha256 = sha256
        self.reconciler = Reconciler(province.control, settings=quick_proof(), metrics=some_metrics())

    @property
    def reference(self) -> PlayReference:
        return PlayReference(
            source=PlaySource.EMISSION, id=self.broadcast_id, occurrence_at_ms=to_ms(self.start), item=0
        )

    def started(self, after: timedelta = timedelta(0)) -> PlayStarted:
        at = to_ms(self.start + after)
        return PlayStarted(device_at_ms=at, clock=ClockState.SYNCHRONISED, reference=self.reference, started_at_ms=at)

    def ended(self, sounded: timedelta = LENGTH, after: timedelta = timedelta(0), **changes: Any) -> PlayEnded:
        values: dict[str, Any] = {
            "device_at_ms": to_ms(self.start + after + sounded),
            "clock": ClockState.SYNCHRONISED,
            "reference": self.reference,
            "started_at_ms": to_ms(self.start + after),
            "ended_at_ms": to_ms(self.start + after + sounded),
            "outcome": PlayOutcome.COMPLETED,
            "sounded_ms": round(sounded.total_seconds() * 1000),
            "samples": round(sounded.total_seconds() * 44_100),
            "sample_rate_hz": 44_100,
            "media": self.sha256,
            "volume_percent": 30,
        }
        return PlayEnded(**(values | changes))

    def missed(self, reason: MissReason, cut_by: PlayReference | None = None) -> PlayMissed:
        return PlayMissed(
            device_at_ms=to_ms(self.start),
            clock=ClockState.SYNCHRONISED,
            reference=self.reference,
            reason=reason,
            cut_by=cut_by,
        )

    def accepted(self, serial: int = 1) -> PlanAccepted:
        return PlanAccepted(
            device_at_ms=to_ms(self.start - 30 * MINUTE),
            clock=ClockState.SYNCHRONISED,
            serial=serial,
            emissions=1,
            media_missing=0,
        )

    async def follow(self) -> None:
        """Follow until everything is read. On a server shared with others their transactions hide events for a moment."""

        async def is_done() -> bool:
            return not await self.reconciler.follow_once(now=utc_now())

        await eventually(is_done, what="the end of the events")

    async def classify(self, *, after: timedelta = PATIENCE) -> None:
        while await self.reconciler.classify_once(now=self.start + LENGTH + after):
            pass

    async def outcome(self, device_id: str) -> dict[str, Any]:
        rows = await self.province.emissions(self.broadcast_id)
        return next(row for row in rows if row["device_id"] == device_id)

    async def check(
        self, device_id: str, outcome: str | None, reason: str | None = None, evidence: str | None = None
    ) -> dict[str, Any]:
        row = await self.outcome(device_id)
        assert (row["outcome"], row["reason"], row["evidence"]) == (outcome, reason, evidence)
        return row


async def a_past(province: Province, keyring: Keyring, *, ago: timedelta = 20 * MINUTE) -> Past:
    now = utc_now()
    start = (now - ago).replace(microsecond=0)
    before = start - timedelta(hours=1)
    bulletin = await province.bulletin(seconds=LENGTH.total_seconds())
    broadcast = await province.broadcast("p", [bulletin], at=start, requested_at=before)
    planner = a_planner(province.control, keyring)
    await planner.plan_once(now=before)
    while await planner.issue_once(now=before):
        pass
    sha256 = await province.value("SELECT media_sha256 FROM control.bulletins WHERE bulletin_id = $1", bulletin)
    return Past(province, broadcast, start, sha256)


async def test_played(province: Province, keyring: Keyring) -> None:
    await province.device("loa-1", "a1")
    past = await a_past(province, keyring, ago=5 * MINUTE)

    await province.event("loa-1", past.started())
    await past.follow()
    row = await past.check("loa-1", None)
    assert row["started_at"] == past.start  # on the air, as far as we know

    await province.event("loa-1", past.ended())
    await past.follow()
    row = await past.check("loa-1", "played", None, "device")
    assert (row["started_at"], row["ended_at"], row["sounded_ms"]) == (past.start, past.start + LENGTH, 60_000)
    assert row["reconciled_at"] is not None


async def test_late_cut_missed_and_refused(province: Province, keyring: Keyring) -> None:
    for device in ("late", "cut", "gone", "deaf"):
        await province.device(f"loa-{device}", "a1")
    past = await a_past(province, keyring)
    await province.event("loa-late", past.ended(LENGTH - 10 * SECOND, 10 * SECOND))
    await province.event("loa-cut", past.ended(20 * SECOND, outcome=PlayOutcome.CUT, cut_by=ALERT))
    await province.event("loa-gone", past.missed(MissReason.MEDIA_MISSING))
    await province.event(
        "loa-deaf",
        Refused(
            device_at_ms=to_ms(past.start - 30 * MINUTE),
            clock=ClockState.SYNCHRONISED,
            refused=MessageKind.PLAN,
            reason=RefusalReason.UNKNOWN_KEY,
            serial=1,
        ),
    )

    await past.follow()
    await past.classify()

    late = await past.check("loa-late", "late", None, "device")
    assert late["started_at"] - late["starts_at"] == 10 * SECOND
    cut = await past.check("loa-cut", "cut", "outranked", "device")
    assert (cut["sounded_ms"], cut["cut_by_source"], cut["cut_by"]) == (20_000, "alert", ALERT.id)
    await past.check("loa-gone", "missed", "media_missing", "device")
    await past.check("loa-deaf", "refused", "unknown_key", "device")


async def test_silence_is_explained(province: Province, keyring: Keyring) -> None:
    for device in ("never", "off", "empty", "mute"):
        await province.device(f"loa-{device}", "a1")
    past = await a_past(province, keyring)
    await province.event("loa-off", past.accepted())
    await province.heard("loa-off", at=past.start - 5 * MINUTE, plan_serial=1)
    await province.heard("loa-empty", plan_serial=None)
    await province.heard("loa-mute", plan_serial=1)
    await past.follow()

    await past.classify(after=PATIENCE - SECOND)
    await past.check("loa-mute", None)

    await past.classify()
    await past.check("loa-never", "missed", "never_heard")
    await past.check("loa-off", "unknown", "offline")
    await past.check("loa-empty", "missed", "no_plan")
    await past.check("loa-mute", "unknown", "no_report")


async def test_what_began_anew_is_waited_for_until_it_can_be_over(province: Province, keyring: Keyring) -> None:
    """Cut after ten seconds, and begun anew at the latest start: its slot is over half a minute before it is."""
    for device in ("anew", "mute", "silent"):
        await province.device(f"loa-{device}", "a1")
    past = await a_past(province, keyring, ago=5 * MINUTE)
    await province.execute("UPDATE control.emissions SET resume = 'restart'")
    for device in ("anew", "mute"):
        await province.event(f"loa-{device}", past.started())
    for device in ("anew", "mute", "silent"):
        await province.event(f"loa-{device}", past.accepted())
        await province.heard(f"loa-{device}", plan_serial=1)
    await past.follow()
    longer = LENGTH / 2  # from the start to the latest start

    await past.classify(after=PATIENCE + longer - SECOND)
    await past.check("loa-silent", "unknown", "no_report")
    for device in ("anew", "mute"):
        await past.check(f"loa-{device}", None)
    async with province.control.connection() as connection:
        over = past.start + LENGTH + VERDICT_WITHIN
        for now, overdue in ((over + longer - SECOND, 0), (over + longer, 2)):
            totals = await airing_store.proof_totals(connection, now=now)
            assert (totals.pending, totals.overdue) == (2 - overdue, overdue)
            assert await report_store.count_overdue(connection, ended_before=now - VERDICT_WITHIN) == overdue

    await province.event("loa-anew", past.ended(longer + LENGTH, interruptions=1))
    await past.follow()
    await past.classify(after=PATIENCE + longer)
    await past.check("loa-anew", "played", None, "device")
    await past.check("loa-mute", "unknown", "no_end_reported", "device")


async def test_a_journal_that_arrives_late_is_weighed_again(province: Province, keyring: Keyring) -> None:
    await province.device("loa-1", "a1")
    past = await a_past(province, keyring)
    await province.event("loa-1", past.accepted())
    await province.heard("loa-1", at=past.start - MINUTE, plan_serial=1)
    await past.follow()
    await past.classify()
    await past.check("loa-1", "unknown", "offline")

    await province.event("loa-1", past.ended())
    await past.follow()

    await past.check("loa-1", "played", None, "device")


async def test_a_plan_that_was_taken_in_time_but_told_of_late_is_weighed_again(
    province: Province, keyring: Keyring
) -> None:
    await province.device("loa-1", "a1")
    past = await a_past(province, keyring)
    await past.classify()
    await past.check("loa-1", "missed", "never_heard")

    await province.heard("loa-1", at=past.start - MINUTE)
    await province.event("loa-1", past.accepted())
    await past.follow()

    await past.check(
        "loa-1", "unknown", "offline"
    )  # it had its plan after all, so nobody knows before its journal is here


async def test_a_plan_that_was_taken_after_the_slot_explains_nothing(province: Province, keyring: Keyring) -> None:
    await province.device("loa-1", "a1")
    past = await a_past(province, keyring)
    await past.classify()
    back = past.start + 5 * MINUTE
    await province.heard("loa-1", at=back, plan_serial=2)
    await province.event(
        "loa-1",
        PlanAccepted(device_at_ms=to_ms(back), clock=ClockState.SYNCHRONISED, serial=2, emissions=1, media_missing=0),
    )
    await past.follow()
    await past.check("loa-1", "missed", "no_plan")


async def test_mains_lost_is_told_from_a_device_that_is_merely_offline(province: Province, keyring: Keyring) -> None:
    for device in ("dark", "dim", "off"):
        await province.device(f"loa-{device}", "a1")
    past = await a_past(province, keyring)
    for device in ("dark", "dim", "off"):
        await province.event(f"loa-{device}", past.accepted())
        await province.heard(f"loa-{device}", at=past.start - 5 * MINUTE, plan_serial=1)
    went = past.start - 6 * MINUTE
    for device in ("dark", "dim"):
        await province.event(
            f"loa-{device}",
            PowerChanged(device_at_ms=to_ms(went), clock=ClockState.SYNCHRONISED, source=PowerSource.BATTERY),
        )
    await past.follow()
    await past.classify()
    await past.check("loa-dim", "unknown", "mains_lost")
    await past.check("loa-off", "unknown", "offline")

    back = past.start + 5 * MINUTE
    await province.event(
        "loa-dark",
        Booted(
            device_at_ms=to_ms(back),
            clock=ClockState.SYNCHRONISED,
            reason=BootReason.POWER_ON,
            firmware="test 1.0",
            last_up_at_ms=to_ms(past.start - 4 * MINUTE),
        ),
    )
    await past.follow()
    await past.check("loa-dark", "missed", "mains_lost", "device")


async def test_a_relay_is_played_by_what_its_source_gave(province: Province, keyring: Keyring) -> None:
    await province.device("loa-1", "a1")
    past = await a_past(province, keyring)
    source_id = uuid.uuid4()
    await province.execute(
        """
        INSERT INTO control.relay_sources (source_id, unit_id, name, kind, url, is_direct, created_at, created_by)
        VALUES ($1, $2, 'VOV1', 'stream', 'http://vov.test/1', false, now(), $3)
        """,
        source_id,
        province.units["p"],
        province.account_id,
    )
    await province.execute(
        "UPDATE control.emissions SET content = 'relay', bulletin_id = NULL, relay_source_id = $1", source_id
    )
    await province.event("loa-1", past.ended(media=None, fallback_ms=50_000))
    await past.follow()
    row = await past.check("loa-1", "cut", "source_silent", "device")
    assert (row["sounded_ms"], row["fallback_ms"], row["is_resumed"]) == (60_000, 50_000, None)


async def test_what_was_cut_says_whether_it_went_on(province: Province, keyring: Keyring) -> None:
    for device in ("on", "gone"):
        await province.device(f"loa-{device}", "a1")
    past = await a_past(province, keyring)
    await province.event("loa-on", past.ended(30 * SECOND, interruptions=1, cut_by=ALERT))
    await province.event("loa-gone", past.ended(30 * SECOND, outcome=PlayOutcome.CUT, cut_by=ALERT))
    await past.follow()
    assert (await past.check("loa-on", "cut", "interrupted", "device"))["is_resumed"] is True
    assert (await past.check("loa-gone", "cut", "outranked", "device"))["is_resumed"] is False


async def test_what_devices_hold_is_kept_as_they_last_said(province: Province, keyring: Keyring) -> None:
    for device_id in ("loa-1", "loa-2"):
        await province.device(device_id, "a1")
    await province.device("gw-1", "b1", "gateway")
    past = await a_past(province, keyring)
    at = to_ms(past.start)
    one, two = bytes([1]) * 32, bytes([2]) * 32
    said: list[tuple[str, MediaStored | MediaFailed]] = [
        ("loa-1", MediaStored(device_at_ms=at, clock=ClockState.SYNCHRONISED, media=one, size=9)),
        ("loa-1", MediaStored(device_at_ms=at, clock=ClockState.SYNCHRONISED, media=two, size=9)),
        ("loa-2", MediaStored(device_at_ms=at, clock=ClockState.SYNCHRONISED, media=one, size=9)),
        ("loa-1", MediaFailed(device_at_ms=at, clock=ClockState.SYNCHRONISED, media=two, detail="404")),
    ]
    for device_id, event in said:
        await province.event(device_id, event)
    await province.event("loa-2", said[1][1], principal="gw-1")  # which does not speak for it
    await past.follow()
    numbers = [province.devices[each] for each in ("loa-1", "loa-2")]
    async with province.control.connection() as connection:
        held = await device_media_store.held(connection, numbers, [one, two])
        assert held == {number: frozenset({one}) for number in numbers}
        assert await device_media_store.held(connection, numbers, []) == {}


async def test_the_word_of_the_own_gateway_is_evidence_of_its_own_class(province: Province, keyring: Keyring) -> None:
    await province.device("gw-1", "a", "gateway")
    await province.device("loa-1", "a1", gateway="gw-1")
    past = await a_past(province, keyring)

    await province.event("loa-1", past.ended(), principal="gw-1")
    await past.follow()

    await past.check("loa-1", "played", None, "gateway")


async def test_the_word_of_a_foreign_gateway_counts_nothing_and_is_on_record(
    province: Province, keyring: Keyring
) -> None:
    await province.device("gw-1", "a", "gateway")
    await province.device("gw-2", "b", "gateway")
    await province.device("loa-1", "a1", gateway="gw-1")
    past = await a_past(province, keyring)

    await province.event("loa-1", past.ended(), principal="gw-2")
    await past.follow()
    await past.check("loa-1", None)
    await past.classify()

    await past.check("loa-1", "missed", "never_heard")
    (report,) = await province.rows("SELECT principal, standing, type FROM control.play_reports")
    assert report == {"principal": "gw-2", "standing": "foreign", "type": "play_ended"}


async def test_a_gateway_vouches_only_for_the_time_of_its_assignment(province: Province, keyring: Keyring) -> None:
    await province.device("gw-1", "a", "gateway")
    await province.device("gw-2", "a", "gateway")
    await province.device("loa-1", "a1", gateway="gw-1")
    past = await a_past(province, keyring)
    # Handed over between the slot and the report.
    await province.execute("UPDATE control.gateway_assignments SET valid_until = $1", past.start + LENGTH + MINUTE)
    await province.execute(
        "INSERT INTO control.gateway_assignments (device_no, gateway_no, valid_from) VALUES ($1, $2, $3)",
        province.devices["loa-1"],
        province.devices["gw-2"],
        past.start + LENGTH + MINUTE,
    )

    await province.event("loa-1", past.ended(), principal="gw-1")
    await past.follow()

    await past.check("loa-1", "played", None, "gateway")


async def test_a_device_without_the_time_proves_nothing(province: Province, keyring: Keyring) -> None:
    await province.device("loa-1", "a1")
    past = await a_past(province, keyring)

    await province.event("loa-1", past.ended(clock=ClockState.UNSYNCHRONISED))
    await past.follow()

    await past.check("loa-1", "unknown", "clock_untrusted", "device")


async def test_a_play_of_something_withdrawn_is_on_record(province: Province, keyring: Keyring) -> None:
    await province.device("loa-1", "a1")
    past = await a_past(province, keyring)
    await province.execute("UPDATE control.emissions SET withdrawn_at = $1", past.start - MINUTE)

    await past.classify()
    await past.check("loa-1", None)
    await province.event("loa-1", past.ended())
    await past.follow()

    await past.check("loa-1", "played", None, "device")


async def test_a_play_that_nobody_planned_is_counted(province: Province, keyring: Keyring) -> None:
    await province.device("loa-1", "a1")
    past = await a_past(province, keyring)
    await province.execute("DELETE FROM control.emissions")

    await province.event("loa-1", past.ended())
    await past.follow()

    assert past.reconciler._metrics.unplanned_plays._value.get() == 1
    assert await province.value("SELECT count(*) FROM control.play_reports") == 1


async def test_plays_of_commands_and_alerts_are_no_emissions(province: Province, keyring: Keyring) -> None:
    await province.device("loa-1", "a1")
    past = await a_past(province, keyring)

    await province.event("loa-1", past.ended(reference=ALERT))
    await past.follow()

    assert await province.value("SELECT count(*) FROM control.play_reports") == 0
    assert past.reconciler._metrics.unplanned_plays._value.get() == 0


async def test_a_commit_that_comes_late_is_not_stepped_over(province: Province, keyring: Keyring) -> None:
    await province.device("loa-1", "a1")
    await province.device("loa-2", "a1")
    past = await a_past(province, keyring)
    await province.event("loa-1", past.accepted())  # the chunk or partition is there
    async with province.ingest.transaction() as slow:
        await province.event("loa-1", past.ended(), connection=slow)
        await province.event("loa-2", past.ended())  # a later transaction, committed first
        for _ in range(3):
            await past.reconciler.follow_once(now=utc_now())
        await past.check("loa-2", None)
    await past.follow()
    await past.check("loa-1", "played", None, "device")
    await past.check("loa-2", "played", None, "device")


async def test_a_database_restored_from_a_dump_does_not_make_the_reader_deaf(
    province: Province, keyring: Keyring
) -> None:
    await province.device("loa-1", "a1")
    past = await a_past(province, keyring)
    await past.follow()
    await province.execute(
        "INSERT INTO control.cursors (name, tx, event_no) VALUES ('proof', '99999999999', 7)"
        " ON CONFLICT (name) DO UPDATE SET tx = excluded.tx"
    )

    await province.event("loa-1", past.ended())
    await past.follow()

    await past.check("loa-1", "played", None, "device")


async def test_a_turn_that_dies_is_done_again_whole(province: Province, keyring: Keyring) -> None:
    await province.device("loa-1", "a1")
    past = await a_past(province, keyring)
    await province.event("loa-1", past.ended())

    async def die(*_: object, **__: object) -> Any:
        raise RuntimeError("the process dies here")

    honest, past.reconciler._weigh_named = past.reconciler._weigh_named, die  # type: ignore[method-assign]
    with pytest.raises(RuntimeError):
        await past.follow()
    assert await province.value("SELECT count(*) FROM control.play_reports") == 0
    past.reconciler._weigh_named = honest  # type: ignore[method-assign]

    await past.follow()
    await past.check("loa-1", "played", None, "device")


async def test_many_events_in_small_batches_by_two_at_once(province: Province, keyring: Keyring) -> None:
    for place in range(30):
        await province.device(f"loa-{place:02}", "a1")
    past = await a_past(province, keyring)
    for place in range(30):
        await province.event(f"loa-{place:02}", past.started())
        await province.event(f"loa-{place:02}", past.ended())
    reconcilers = [
        Reconciler(province.control, settings=quick_proof(batch=7), metrics=some_metrics()) for _ in range(2)
    ]

    async def is_done() -> bool:
        return bool(await province.value("SELECT count(*) = 60 FROM control.play_reports"))

    async def follow(reconciler: Reconciler) -> None:
        while not await is_done():
            await reconciler.follow_once(now=utc_now())

    await asyncio.gather(*map(follow, reconcilers))

    assert await province.value("SELECT count(*) FROM control.emissions WHERE outcome = 'played'") == 30
    assert await province.value("SELECT count(*) FROM control.play_reports") == 60
    followed = sum(
        sample.value
        for reconciler in reconcilers
        for metric in reconciler._metrics.followed_events.collect()
        for sample in metric.samples
        if sample.name.endswith("_total")
    )
    assert followed == 60  # each exactly once


async def test_the_loop_is_woken_by_what_ingest_commits(
    province: Province, database: TestDatabase, keyring: Keyring
) -> None:
    await province.device("loa-1", "a1")
    await province.device("loa-2", "a1")
    past = await a_past(province, keyring)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(
            run_reconciler(
                province.control,
                listening=database.control,
                settings=quick_proof(turn_every=timedelta(minutes=10)),
                metrics=some_metrics(),
            )
        )

        async def is_decided(device_id: str) -> bool:
            return (await past.outcome(device_id))["outcome"] is not None

        # The slot of loa-2 was over long ago: the classifier's first turn has it.
        await eventually(lambda: is_decided("loa-2"), what="a verdict by the classifier")
        await province.event("loa-1", past.ended())
        await eventually(lambda: has_outcome(past, "loa-1", "played"), what="a verdict by report")
        task.cancel()


async def has_outcome(past: Past, device_id: str, outcome: str) -> bool:
    return bool((await past.outcome(device_id))["outcome"] == outcome)
