"""What devices hold before anything happens: bare tones, and the alerts a new installation is given, made once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from services.control.alerting import template_store
from services.control.alerting.outfitter import AlertOutfitter
from services.control.alerting.prepared import prepared
from services.control.alerting.renderer import Renderer
from services.control.alerting.sounds import Workshop
from services.control.alerting.template import MAX_FILES, Template
from services.control.alerting.templates import BARE_TONES
from services.control.catalogue.template_texts import PREPARED
from services.control.measurement import Limits
from services.control.measurer import Measurer
from services.control.media_files import MediaFiles
from services.shared.clock import utc_now
from tests.support.control import LOCAL, Province

pytestmark = pytest.mark.integration


def an_outfitter(province: Province, folder: Path, *, prepares: bool = True) -> AlertOutfitter:
    limits = Limits(max_duration_s=600, max_film_s=60, max_cpu_s=20, max_memory_mib=1024)
    files = MediaFiles(folder)
    files.prepare(now=utc_now())
    workshop = Workshop(renderer=Renderer(limits), measurer=Measurer(limits), files=files)
    return AlertOutfitter(province.control, workshop=workshop, time_zone=LOCAL, prepares=prepares)


async def kept(province: Province) -> tuple[Template, ...]:
    async with province.control.connection() as connection:
        return await template_store.templates_of(connection, province.units.values())


async def test_tones_and_prepared_alerts_are_made_once_however_many_replicas_start(
    province: Province, tmp_path: Path
) -> None:
    await province.device("loa", "a1")
    replicas = [an_outfitter(province, tmp_path) for _ in range(2)]

    await asyncio.gather(*(each.outfit_once(now=utc_now()) for each in replicas))

    templates = await kept(province)
    assert [each.place for each in templates] == list(range(len(PREPARED)))
    assert {each.unit_id for each in templates} == {province.units["p"]}
    for each in templates:
        assert [text.language for text in each.texts] == ["vi", "en"]
        assert all(text.media_sha256 is not None for text in each.texts), each.name
    async with province.control.connection() as connection:
        tones = await template_store.tones(connection)
    assert set(tones) == set(BARE_TONES)
    sounds = {*tones.values(), *(file for each in templates for file in each.files)}
    assert len(sounds) <= MAX_FILES
    for sha256 in sounds:
        assert list(tmp_path.rglob(sha256.hex()))
    # Devices are told of it with their next configuration, and who made it was the installation itself.
    assert await province.value("SELECT count(*) FROM control.issue_requests") == 1
    assert await province.value("SELECT count(*) FROM control.audit WHERE action = 'alert_template_created'") == len(
        PREPARED
    )

    before = await province.value("SELECT count(*) FROM control.media")
    await an_outfitter(province, tmp_path).outfit_once(now=utc_now())
    assert await kept(province) == templates
    assert await province.value("SELECT count(*) FROM control.media") == before


async def test_where_somebody_has_made_or_retired_templates_none_are_given(province: Province, tmp_path: Path) -> None:
    own = prepared(province.units["a"], now=utc_now())[0]
    async with province.control.transaction() as connection:
        await template_store.add(connection, own)
        await template_store.retire(connection, own.template_id, by=None, at=utc_now())

    await an_outfitter(province, tmp_path).outfit_once(now=utc_now())

    assert await kept(province) == ()


async def test_a_province_may_do_without(province: Province, tmp_path: Path) -> None:
    await an_outfitter(province, tmp_path, prepares=False).outfit_once(now=utc_now())

    assert await kept(province) == ()
    assert await province.value("SELECT count(*) FROM control.alert_tones") == len(BARE_TONES)
