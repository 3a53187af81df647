"""A wish that is kept as JSON and read again is the same wish."""

from __future__ import annotations

import json
import uuid
from datetime import date, datetime, time, timedelta

from schemas.identifiers import BulletinId, UnitId
from services.control.broadcast_requests import (
    BulletinWish,
    DeviceWish,
    GroupWish,
    KindWish,
    PauseWish,
    RelayWish,
    UnitWish,
    Wish,
)
from services.control.relay_sources import Wish as SourceWish
from services.control.wish_documents import document_of, source_wish_of, wish_of


def test_a_broadcast_with_everything_in_it_comes_back_as_it_was() -> None:
    wish = Wish(
        unit_id=UnitId(uuid.uuid4()),
        title="Trực tiếp",
        level="priority",
        recurrence="rule",
        rrule="FREQ=WEEKLY;BYDAY=MO",
        time_zone="Asia/Ho_Chi_Minh",
        starts_on=date(2026, 3, 1),
        ends_on=None,
        local_times=(time(5), time(5, 30, 15)),
        items=(
            BulletinWish(bulletin_id=uuid.uuid4()),
            PauseWish(length=timedelta(milliseconds=1_001)),
            RelayWish(source_id=uuid.uuid4(), length=timedelta(minutes=5)),
            RelayWish(source_id=uuid.uuid4(), length=timedelta(minutes=5), starts_after=timedelta(0)),
        ),
        targets=(
            UnitWish(unit_id=UnitId(uuid.uuid4())),
            DeviceWish(device_id="loa-0001", is_excluded=True),
            GroupWish(group_id=uuid.uuid4()),
            KindWish(kind="cluster"),
        ),
        volume_percent=40,
        resume="drop",
        sessions=("sang",),
        # A day stands for all its times, a moment at midnight for one.
        rdates=(
            date(2026, 3, 2),
            datetime.fromisoformat("2026-03-02T00:00:00"),
            datetime.fromisoformat("2026-03-02T05:00:01"),
        ),
        exdates=(datetime.fromisoformat("2026-03-03T00:00:00"), date(2026, 3, 4)),
        length=timedelta(hours=1),
        fit="trim",
        fill="repeat",
        patience=timedelta(milliseconds=1),
    )
    kept = wish_of(json.loads(json.dumps(document_of(wish))))
    assert kept == wish
    assert [type(each) for each in (*kept.rdates, *kept.exdates)] == [date, datetime, datetime, datetime, date]


def test_a_live_source_comes_back_as_it_was() -> None:
    for fallback in (None, BulletinId(uuid.uuid4())):
        wish = SourceWish(
            unit_id=UnitId(uuid.uuid4()),
            name="VOV1",
            kind="stream",
            url="https://vov.example/1",
            is_direct=False,
            fallback_bulletin_id=fallback,
            silence_dbfs=-50.5,
            silence_after=timedelta(seconds=5),
        )
        assert source_wish_of(json.loads(json.dumps(document_of(wish)))) == wish
