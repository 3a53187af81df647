"""Alerts on a device: what is believed, what sounds when, and what is told; in whatever order messages come."""

from __future__ import annotations

import itertools
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_sim import effects, inputs, memory
from schemas import codec, signing
from schemas.alerts import Alert, AlertContent, Area, Audience, Circle, Purpose
from schemas.commands import Action
from schemas.configuration import Position
from schemas.events import (
    AlertHandled,
    AlertResult,
    CommandDone,
    CommandResult,
    MessageKind,
    PlanAccepted,
    PlayEnded,
    PlayOutcome,
    PlayStarted,
    RefusalReason,
    Refused,
)
from schemas.fields import ClockState, DeviceKind, Level, PlaySource, ResumePolicy
from schemas.limits import INT64_MAX
from schemas.plans import ContentKind
from schemas.topics import DownlinkKind
from tests.unit.firmware_sim.builders import (
    COMMUNE,
    DAY,
    DEVICE,
    ELSEWHERE,
    MINUTE,
    PLATFORM,
    PROVINCE,
    SECOND,
    STORM,
    STRANGER,
    T0,
    Bench,
    a_command,
    a_configuration,
    a_content,
    a_file,
    a_key,
    a_key_set,
    a_plan,
    a_rank,
    an_alert,
    an_emission,
    announced,
    signed,
)

FIRE = uuid.uuid5(uuid.NAMESPACE_OID, "fire")
LENGTHS = {a_file(name).sha256: 20 * SECOND for name in ("siren", "other", "song")}
FILES = tuple(a_file(name) for name in ("siren", "other"))


def a_bench(kind: DeviceKind = DeviceKind.CLUSTER, **fields: Any) -> Bench:
    """A device of the commune, connected, with the files of its alerts on flash."""
    bench = Bench(kind=kind, media_ms=dict(LENGTHS), **fields)
    bench.ready()
    bench.receive(DownlinkKind.CONFIG, signed(at_home()))
    bench.events.clear()
    return bench


def at_home(**fields: Any) -> Any:
    return a_configuration(**{"serial": 2, "membership": (PROVINCE, COMMUNE), "alert_media": FILES, **fields})


def handled(bench: Bench) -> list[tuple[int, AlertResult]]:
    return [(each.alert_version, each.result) for each in bench.told_of(AlertHandled)]


def refusals(bench: Bench) -> list[RefusalReason]:
    return [each.reason for each in bench.told_of(Refused) if each.refused is MessageKind.ALERT]


def starts(bench: Bench) -> list[int]:
    """Seconds after T0 at which something of an alert began."""
    began = (each for each in bench.told_of(PlayStarted) if each.reference.source is PlaySource.ALERT)
    return [(each.started_at_ms - T0) // SECOND for each in began]


# --- sounding --------------------------------------------------------------------------------------------------------


def test_sounds_at_once_from_cache_over_what_was_sounding_which_goes_on_afterwards() -> None:
    bench = a_bench()
    news = an_emission(at_ms=T0, duration_ms=5 * MINUTE)
    bench.receive(DownlinkKind.PLAN, signed(a_plan(news)))
    bench.advance(10 * SECOND)
    bench.hear(an_alert())
    assert handled(bench) == [(1, AlertResult.TAKEN)]
    assert starts(bench) == [10]
    bench.advance(30 * SECOND)
    (alert_ended,) = bench.told_of(PlayEnded)
    assert (alert_ended.outcome, alert_ended.sounded_ms) == (PlayOutcome.COMPLETED, 20 * SECOND)
    assert alert_ended.volume_percent == 100  # an emergency is not bound by the cap of 80
    assert bench.state.programme.sounding is not None
    assert bench.state.programme.sounding.reference == news.reference


def test_begins_before_anything_is_written_down() -> None:
    bench = a_bench()
    bench.told.clear()
    bench.hear(an_alert())
    assert isinstance(bench.told[0], effects.StartPlayback)


def test_repeats_with_the_pause_that_was_asked_for_until_it_is_over() -> None:
    bench = a_bench()
    bench.hear(an_alert(repeat_interval_s=40, valid_for_ms=130 * SECOND))
    bench.advance(10 * MINUTE)
    assert starts(bench) == [0, 60, 120]
    occurrences = [each.reference.occurrence_at_ms for each in bench.told_of(PlayStarted)]
    assert occurrences == [T0, T0 + 60 * SECOND, T0 + 120 * SECOND]
    # What sounds when the alert's time is over goes on to its end.
    assert [each.outcome for each in bench.told_of(PlayEnded)] == [PlayOutcome.COMPLETED] * 3


def test_every_language_sounds_one_after_the_other_in_every_round() -> None:
    bench = a_bench()
    bench.hear(an_alert(a_content(), a_content("other", language="en"), repeat_interval_s=60, valid_for_ms=150_000))
    bench.advance(10 * MINUTE)
    told = [(each.reference.item, (each.started_at_ms - T0) // SECOND) for each in bench.told_of(PlayStarted)]
    assert told == [(0, 0), (1, 20), (0, 100), (1, 120)]


def test_a_board_shows_every_language_from_the_same_moment() -> None:
    bench = a_bench(DeviceKind.BOARD)
    bench.hear(an_alert(a_content(duration_ms=20_000, text="Sơ tán ngay"), a_content(None, language="en")))
    bench.advance(MINUTE)
    shown = [each for each in bench.told if isinstance(each, effects.StartPlayback)]
    assert [(each.content, each.text) for each in shown] == [
        (ContentKind.TEXT, "Sơ tán ngay"),
        (ContentKind.TEXT, "Bão số 5"),
    ]
    assert starts(bench) == [0, 20]
    assert len(bench.told_of(PlayEnded)) == 2


@pytest.mark.parametrize("kind", [DeviceKind.SENSOR, DeviceKind.GATEWAY])
def test_who_has_no_voice_says_so(kind: DeviceKind) -> None:
    bench = a_bench(kind)
    bench.hear(an_alert())
    assert handled(bench) == [(1, AlertResult.UNSUPPORTED)]


def test_a_file_that_is_missing_is_told_and_fetched_at_once_and_sounds_when_it_is_there() -> None:
    bench = a_bench(delivers=False)
    bench.told.clear()
    bench.hear(an_alert(a_content("song")))
    assert handled(bench) == [(1, AlertResult.MEDIA_MISSING)]
    fetched = [each.media.sha256 for each in bench.told if isinstance(each, effects.Fetch)]
    assert fetched == [a_file("song").sha256] or bench.state.shelf.fetching
    bench.advance(5 * SECOND)
    bench.feed(inputs.MediaFetched(sha256=a_file("song").sha256, size=1))
    assert starts(bench) == [5]


def test_what_is_at_hand_does_not_wait_for_what_is_not() -> None:
    bench = a_bench(delivers=False)
    for each in FILES:
        bench.feed(inputs.MediaFetched(sha256=each.sha256, size=1))
    bench.hear(an_alert(a_content("song"), a_content("other", language="en"), repeat_interval_s=30))
    bench.advance(60 * SECOND)
    assert [each.reference.item for each in bench.told_of(PlayStarted)] == [1, 1]


def test_files_for_alerts_to_come_are_fetched_and_survive_every_plan() -> None:
    bench = a_bench()
    assert {each.sha256 for each in FILES} <= set(bench.state.shelf.stored)
    for serial in range(1, 60):
        bench.receive(DownlinkKind.PLAN, signed(a_plan(serial=serial)))
        one = a_file(f"other-{serial}").sha256
        bench.stored[one] = 1
        bench.feed(inputs.MediaFetched(sha256=one, size=1))
    assert {each.sha256 for each in FILES} <= set(bench.state.shelf.stored)


def test_files_for_alerts_to_come_keep_no_broadcast_waiting() -> None:
    bench = Bench(delivers=False)
    bench.ready()

    def fetched() -> list[str]:
        return [each.url.rpartition("/")[2] for each in bench.told if isinstance(each, effects.Fetch)]

    def arrives(name: str) -> None:
        bench.feed(inputs.MediaFetched(sha256=a_file(name).sha256, size=1))

    siren, other, news, song = (a_file(name).path.rpartition("/")[2] for name in ("siren", "other", "news", "song"))
    bench.receive(DownlinkKind.CONFIG, signed(at_home()))
    assert fetched() == [siren]  # one at a time
    bench.receive(
        DownlinkKind.PLAN, signed(a_plan(an_emission(at_ms=T0 + MINUTE), an_emission("song", at_ms=T0 + DAY)))
    )
    assert fetched() == [siren, news]
    arrives("news")
    assert fetched() == [siren, news]
    arrives("siren")
    assert fetched() == [siren, news, other]  # before what begins tomorrow
    arrives("other")
    assert fetched() == [siren, news, other, song]


def test_the_file_of_an_alert_to_come_that_failed_waits_for_the_one_on_its_way() -> None:
    bench = Bench(delivers=False)
    bench.ready()
    bench.receive(DownlinkKind.CONFIG, signed(at_home()))
    bench.feed(inputs.MediaFailed(sha256=FILES[0].sha256, detail="HTTP 503"))
    assert len([each for each in bench.told if isinstance(each, effects.Fetch)]) == 2
    bench.advance(10 * MINUTE)
    assert len([each for each in bench.told if isinstance(each, effects.Fetch)]) == 2
    bench.feed(inputs.MediaFetched(sha256=FILES[1].sha256, size=1))
    bench.advance(SECOND)
    assert len([each for each in bench.told if isinstance(each, effects.Fetch)]) == 3


def test_an_audible_test_sounds_once_below_the_cap() -> None:
    bench = a_bench()
    bench.hear(an_alert(purpose=Purpose.AUDIBLE_TEST))
    bench.advance(5 * MINUTE)
    assert starts(bench) == [0]
    (ended,) = bench.told_of(PlayEnded)
    assert ended.volume_percent == 60


# --- cancel, update, references --------------------------------------------------------------------------------------


def test_a_cancel_stops_it_and_is_told_even_by_who_never_had_the_alert() -> None:
    bench, other = a_bench(), a_bench()
    bench.hear(an_alert(repeat_interval_s=30))
    bench.advance(5 * SECOND)
    for each in (bench, other):
        each.hear(an_alert(version=2, purpose=Purpose.CANCEL))
        each.advance(5 * MINUTE)
    assert handled(bench) == [(1, AlertResult.TAKEN), (2, AlertResult.CANCELLED)]
    (ended,) = bench.told_of(PlayEnded)
    assert (ended.outcome, ended.sounded_ms) == (PlayOutcome.STOPPED, 5 * SECOND)
    assert starts(bench) == [0]
    assert handled(other) == [(2, AlertResult.CANCELLED)]
    other.hear(an_alert())
    assert (starts(other), refusals(other)) == ([], [])


def test_an_update_takes_the_place_of_what_sounds() -> None:
    bench = a_bench()
    bench.hear(an_alert())
    bench.advance(5 * SECOND)
    bench.hear(an_alert(a_content("other"), version=2))
    bench.advance(MINUTE)
    assert [each.outcome for each in bench.told_of(PlayEnded)] == [PlayOutcome.STOPPED, PlayOutcome.COMPLETED]
    assert [each.media for each in bench.told_of(PlayStarted)] == [a_file("siren").sha256, a_file("other").sha256]


def test_an_update_that_is_for_others_ends_it_here() -> None:
    bench = a_bench()
    bench.hear(an_alert(repeat_interval_s=30))
    bench.hear(an_alert(version=2, units=(ELSEWHERE,)))
    bench.advance(5 * MINUTE)
    assert handled(bench) == [(1, AlertResult.TAKEN), (2, AlertResult.CANCELLED)]
    assert (starts(bench), refusals(bench)) == ([0], [])


@pytest.mark.parametrize("is_early", [False, True])
def test_what_an_alert_refers_to_is_over_whichever_came_first(*, is_early: bool) -> None:
    bench = a_bench()
    old, new = an_alert(repeat_interval_s=30), an_alert(alert_id=FIRE, references=(STORM,))
    bench.hear(*((new, old) if is_early else (old, new)))
    bench.advance(10 * MINUTE)
    assert set(bench.state.alerts.standing) == {FIRE}


# --- who is meant ----------------------------------------------------------------------------------------------------

HERE = Position(latitude_e6=21_280_000, longitude_e6=106_190_000)
FAR = Position(latitude_e6=10_000_000, longitude_e6=106_190_000)


@pytest.mark.parametrize(
    ("audience", "is_meant"),
    [
        (Audience(areas=(Area(units=(PROVINCE,)),)), True),
        (Audience(areas=(Area(units=(COMMUNE,)),)), True),
        (Audience(areas=(Area(units=(ELSEWHERE,)),)), False),
        (Audience(devices=(DEVICE,)), True),
        (Audience(devices=("loa-0002",)), False),
        (Audience(areas=(Area(units=(PROVINCE,)),), except_units=(COMMUNE,)), False),
        (Audience(areas=(Area(units=(PROVINCE,)),), except_devices=(DEVICE,)), False),
        (Audience(areas=(Area(units=(PROVINCE,)),), kinds=(DeviceKind.BOARD,)), False),
        (Audience(areas=(Area(units=(PROVINCE,), circles=(Circle(centre=HERE, radius_m=100),)),)), True),
        (Audience(areas=(Area(units=(PROVINCE,), circles=(Circle(centre=FAR, radius_m=100),)),)), False),
    ],
)
def test_only_who_is_meant_by_what_was_signed_for_it_sounds(audience: Audience, *, is_meant: bool) -> None:
    bench = a_bench()
    bench.receive(DownlinkKind.CONFIG, signed(at_home(serial=3, position=HERE)))
    bench.hear(an_alert(audience=audience))
    assert (starts(bench), handled(bench)) == (([0], [(1, AlertResult.TAKEN)]) if is_meant else ([], []))
    assert refusals(bench) == []


def test_a_configuration_that_moves_the_device_away_ends_it() -> None:
    bench = a_bench()
    bench.hear(an_alert(repeat_interval_s=30))
    bench.receive(DownlinkKind.CONFIG, signed(at_home(serial=3, membership=(ELSEWHERE,))))
    assert handled(bench)[-1] == (1, AlertResult.CANCELLED)
    bench.advance(5 * MINUTE)
    assert starts(bench) == [0]


# --- what is not believed --------------------------------------------------------------------------------------------


def _flipped(message: bytes, index: int) -> bytes:
    altered = bytearray(message)
    altered[index] ^= 1
    return bytes(altered)


def _of_type(alert: Alert, media_type: str) -> bytes:
    return signing.seal(codec.encode(alert), media_type=media_type, key=PLATFORM)


def _downgraded(alert: Alert) -> bytes:
    """Signed with another algorithm, by who has the key."""
    protected = codec.dumps({1: -7, 4: signing.key_id(PLATFORM.public_key()), 16: "application/loa-alert+cbor"})
    payload = codec.encode(alert)
    signature = PLATFORM.sign(signing.to_be_signed(protected, payload))
    return codec.dumps([protected, {}, payload, signature])


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (codec.encode(an_alert()), RefusalReason.MALFORMED),
        (b"\x80", RefusalReason.MALFORMED),
        (_flipped(signed(an_alert()), -1), RefusalReason.BAD_SIGNATURE),
        (_flipped(signed(an_alert()), 120), RefusalReason.BAD_SIGNATURE),
        (_of_type(an_alert(), "application/loa-plan+cbor"), RefusalReason.WRONG_TYPE),
        (_downgraded(an_alert()), RefusalReason.DOWNGRADED_ALGORITHM),
        (signed(an_alert(at_ms=T0 + 3 * MINUTE)), RefusalReason.NOT_YET_VALID),
        (signed(an_alert(at_ms=T0 - DAY)), RefusalReason.EXPIRED),
        (bytes(70_000), RefusalReason.TOO_LARGE),
    ],
    ids=["unsigned", "no_message", "signature", "altered", "type", "algorithm", "early", "yesterday", "too_large"],
)
def test_what_is_not_genuine_or_not_of_now_is_refused_and_makes_no_sound(message: bytes, reason: RefusalReason) -> None:
    bench = a_bench()
    bench.hear(message)
    bench.advance(MINUTE)
    assert refusals(bench) == [reason]
    assert (starts(bench), handled(bench)) == ([], [])


def test_a_stranger_is_refused_when_no_key_came_to_explain_it() -> None:
    bench = a_bench()
    bench.hear(signed(an_alert(), STRANGER))
    assert refusals(bench) == []
    bench.advance(4 * SECOND)
    assert (refusals(bench), starts(bench)) == ([RefusalReason.UNKNOWN_KEY], [])


def test_an_alert_may_overtake_the_key_that_signed_it() -> None:
    bench, key = a_bench(), a_key(9)
    bench.hear(signed(an_alert(), key))
    bench.advance(SECOND)
    bench.receive(DownlinkKind.KEYS, signed(a_key_set(announced(PLATFORM), announced(key), serial=2)))
    assert (refusals(bench), starts(bench)) == ([], [1])


def test_what_a_withdrawn_key_signed_stops_at_once_and_stays_stopped() -> None:
    bench = a_bench()
    bench.hear(an_alert(repeat_interval_s=30))
    bench.receive(DownlinkKind.KEYS, signed(a_key_set(announced(a_key(9)), serial=2)))
    assert RefusalReason.UNKNOWN_KEY in refusals(bench)
    bench.advance(5 * MINUTE)
    assert starts(bench) == [0]


def test_yesterdays_alert_is_a_replay_where_it_was_heard() -> None:
    bench = a_bench()
    old = signed(an_alert())
    bench.hear(old)
    bench.advance(5 * MINUTE)
    bench.at_ms += DAY
    bench.hear(old)
    bench.advance(MINUTE)
    assert (refusals(bench), starts(bench)) == ([RefusalReason.REPLAYED], [0])


def test_one_that_comes_a_little_late_is_no_attack() -> None:
    bench = a_bench()
    bench.hear(an_alert(at_ms=T0 - 31 * MINUTE))
    assert (handled(bench), refusals(bench), starts(bench)) == ([(1, AlertResult.EXPIRED)], [], [])


def test_a_clock_set_back_brings_no_alert_back() -> None:
    bench = a_bench()
    old = signed(an_alert())
    bench.hear(old)
    bench.advance(MINUTE)
    bench.at_ms += DAY
    bench.receive(DownlinkKind.CONFIG, signed(at_home(serial=9, at_ms=T0 + DAY)))
    bench.at_ms -= DAY
    bench.hear(old, an_alert(alert_id=FIRE))
    bench.advance(MINUTE)
    assert starts(bench) == [0]
    assert RefusalReason.REPLAYED in refusals(bench) or RefusalReason.EXPIRED in refusals(bench)


def test_a_clock_set_forward_has_what_is_said_now_count_as_over_and_the_device_says_so() -> None:
    """It cannot know better; that it refuses, and fails the silent test, is how people learn of it."""
    bench = a_bench()
    bench.at_ms += DAY  # whoever is on its line answers for the time
    bench.hear(an_alert(), an_alert(alert_id=FIRE, purpose=Purpose.SILENT_TEST))
    bench.advance(MINUTE)
    assert (starts(bench), handled(bench)) == ([], [])
    assert refusals(bench) == [RefusalReason.EXPIRED, RefusalReason.EXPIRED]

    bench.at_ms -= DAY  # set right again, it hears what it refused
    bench.hear(an_alert())
    assert [result for _, result in handled(bench)] == [AlertResult.TAKEN]


def test_a_wiped_device_takes_no_alert_from_before_what_it_was_given() -> None:
    bench = a_bench()
    bench.files.clear()
    bench.at_ms = 0
    bench.power_cut(0, clock=ClockState.UNSYNCHRONISED)
    bench.ready()  # what is retained for it, of T0; its own clock shows 1970
    bench.receive(DownlinkKind.KEYS, signed(a_key_set(at_ms=T0)))
    bench.receive(DownlinkKind.CONFIG, signed(at_home()))
    bench.events.clear()
    bench.hear(an_alert(at_ms=T0 - 20 * MINUTE))
    assert (refusals(bench), starts(bench)) == ([RefusalReason.REPLAYED], [])
    bench.hear(an_alert(alert_id=FIRE, at_ms=T0 - 9 * MINUTE))
    assert len(starts(bench)) == 1


# --- once ------------------------------------------------------------------------------------------------------------


def test_the_same_alert_by_topic_and_by_command_sounds_once() -> None:
    bench = a_bench()
    alert = signed(an_alert())
    for serial in (1, 2):
        bench.hear(alert)
        bench.receive(DownlinkKind.COMMAND, signed(a_command(Action.ALERT, serial=serial, alert=alert)))
    bench.advance(5 * MINUTE)
    assert (starts(bench), handled(bench)) == ([0], [(1, AlertResult.TAKEN)])
    assert [each.result for each in bench.told_of(CommandDone)] == [CommandResult.DONE] * 2


def test_a_forged_alert_gains_nothing_from_a_genuine_command() -> None:
    bench = a_bench()
    bench.receive(DownlinkKind.COMMAND, signed(a_command(Action.ALERT, alert=_flipped(signed(an_alert()), -1))))
    assert starts(bench) == []
    (done,) = bench.told_of(CommandDone)
    assert (done.result, done.detail) == (CommandResult.FAILED, "refused: bad_signature")


@given(pauses=st.lists(st.integers(min_value=0, max_value=120), max_size=12), has_power_cuts=st.booleans())
def test_a_flapping_device_sounds_once(pauses: list[int], *, has_power_cuts: bool) -> None:
    """With every reconnection the broker delivers what is retained again."""
    bench = a_bench()
    alert = signed(an_alert())
    bench.hear(alert)
    bench.advance(25 * SECOND)  # it has sounded
    for pause_s in pauses:
        bench.feed(inputs.Disconnected())
        bench.advance(pause_s * SECOND + 1)
        if has_power_cuts:
            bench.power_cut(SECOND)
        bench.feed(inputs.Connected())
        bench.hear(alert)
    assert starts(bench) == [0]
    assert refusals(bench) == []


def test_nothing_a_topic_is_cleared_with_means_anything() -> None:
    bench = a_bench()
    bench.hear(an_alert(repeat_interval_s=30), b"")
    bench.advance(MINUTE)
    assert (starts(bench), refusals(bench)) == ([0, 50], [])


# --- power -----------------------------------------------------------------------------------------------------------


def test_a_device_that_restarts_without_a_network_goes_on_within_the_validity() -> None:
    bench = a_bench()
    bench.hear(an_alert(repeat_interval_s=30, valid_for_ms=5 * MINUTE))
    bench.advance(10 * SECOND)
    bench.power_cut(20 * SECOND)
    assert starts(bench) == [0, 30]
    bench.advance(10 * MINUTE)
    assert starts(bench) == [0, 30, 80, 130, 180, 230, 280]


def test_a_restart_in_a_pause_keeps_the_pause_and_after_the_end_nothing_sounds() -> None:
    bench = a_bench()
    bench.hear(an_alert(repeat_interval_s=60, valid_for_ms=5 * MINUTE))
    bench.advance(30 * SECOND)
    bench.power_cut(10 * SECOND)
    bench.advance(MINUTE)
    assert len(starts(bench)) == 2
    bench.power_cut(10 * MINUTE)
    bench.advance(10 * MINUTE)
    assert len(starts(bench)) == 2


def test_an_alert_tampered_with_on_flash_is_refused() -> None:
    bench = a_bench()
    bench.hear(an_alert(repeat_interval_s=30))
    raw = signed(an_alert(repeat_interval_s=30))
    bench.files[memory.ALERTS] = bench.files[memory.ALERTS].replace(
        raw.hex().encode(), _flipped(raw, -1).hex().encode()
    )
    bench.power_cut(SECOND)
    bench.advance(5 * MINUTE)
    assert RefusalReason.BAD_SIGNATURE in refusals(bench)
    assert starts(bench) == [0]


# --- at a glance -----------------------------------------------------------------------------------------------------
# Whenever a test of these lets a device hear an alert, the bench holds what is foreseen to what the device does.


def test_a_speaker_with_nothing_else_to_do_begins_a_new_emergency_at_a_glance() -> None:
    bench = a_bench()
    bench.hear(an_alert(AlertContent(language="vi", headline="Lũ", media=FILES[0])))

    assert bench.foreseen is not None
    assert bench.foreseen.media == FILES[0].sha256


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        (STRANGER, {}),
        (PLATFORM, {"units": (ELSEWHERE,)}),
        (PLATFORM, {"purpose": Purpose.AUDIBLE_TEST}),
        (PLATFORM, {"at_ms": T0 + 10 * MINUTE}),  # comes from the future
        (PLATFORM, {"at_ms": T0 - 40 * MINUTE}),  # is over
        (PLATFORM, {"volume_percent": 0}),
        (PLATFORM, {"references": (FIRE,)}),
    ],
)
def test_whatever_is_not_plain_is_thought_through_first(key: Any, changes: dict[str, Any]) -> None:
    bench = a_bench()
    bench.hear(signed(an_alert(AlertContent(language="vi", headline="Lũ", media=FILES[0]), **changes), key))

    assert bench.foreseen is None


def test_a_device_that_has_something_else_to_do_thinks_first() -> None:
    content = AlertContent(language="vi", headline="Lũ", media=FILES[0])
    busy, silenced, lost = a_bench(), a_bench(), a_bench()
    busy.hear(an_alert(content, alert_id=FIRE))
    silenced.hear(an_alert(alert_id=FIRE, purpose=Purpose.SILENCE))
    lost.clock = ClockState.UNSYNCHRONISED
    for bench in (busy, silenced, lost, a_bench(DeviceKind.BOARD)):
        bench.hear(an_alert(content))
        assert bench.foreseen is None


# --- silence ---------------------------------------------------------------------------------------------------------


def test_a_silence_holds_over_restarts_until_it_is_released() -> None:
    bench = a_bench()
    bench.receive(DownlinkKind.PLAN, signed(a_plan(an_emission(at_ms=T0, duration_ms=20 * MINUTE))))
    bench.advance(SECOND)
    bench.hear(an_alert(alert_id=FIRE, purpose=Purpose.SILENCE))
    assert bench.state.programme.sounding is None
    bench.power_cut(SECOND)
    bench.hear(an_alert(repeat_interval_s=30))
    bench.advance(MINUTE)
    assert starts(bench) == []
    bench.hear(an_alert(alert_id=FIRE, version=2, purpose=Purpose.RELEASE))
    assert len(starts(bench)) == 1  # the alert is still in force
    assert handled(bench) == [
        (1, AlertResult.SILENCED),
        (1, AlertResult.KILLED),
        (2, AlertResult.RELEASED),
    ]


def test_a_silence_ends_by_itself_and_two_silences_both_must() -> None:
    bench = a_bench()
    bench.hear(an_alert(alert_id=FIRE, purpose=Purpose.SILENCE, valid_for_ms=2 * MINUTE))
    bench.hear(an_alert(purpose=Purpose.SILENCE, valid_for_ms=4 * MINUTE))
    bench.advance(3 * MINUTE)
    quiet = [bench.state.is_quiet]
    bench.advance(2 * MINUTE)
    quiet.append(bench.state.is_quiet)
    assert quiet == [True, False]
    assert [result for _, result in handled(bench)] == [AlertResult.SILENCED] * 2 + [AlertResult.RELEASED] * 2


def test_a_part_is_released_by_a_newer_silence_that_excepts_it() -> None:
    bench = a_bench()
    bench.hear(an_alert(purpose=Purpose.SILENCE))
    everybody_else = Audience(areas=(Area(units=(PROVINCE,)),), except_units=(COMMUNE,))
    bench.hear(an_alert(version=2, purpose=Purpose.SILENCE, audience=everybody_else))
    assert not bench.state.is_quiet
    assert handled(bench)[-1] == (2, AlertResult.RELEASED)


# --- silent tests ----------------------------------------------------------------------------------------------------


def test_a_silent_test_passes_without_a_sound() -> None:
    bench = a_bench()
    bench.hear(an_alert(a_content(), purpose=Purpose.SILENT_TEST))
    bench.advance(MINUTE)
    assert (handled(bench), bench.told_of(PlayStarted)) == ([(1, AlertResult.TEST_PASSED)], [])


@pytest.mark.parametrize(
    ("trouble", "detail"),
    [
        (lambda bench: bench.receive(DownlinkKind.CONFIG, signed(at_home(serial=3, volume=0))), "volume 0"),
        (lambda bench: bench.feed(inputs.MediaUnreadable(sha256=FILES[0].sha256, detail="noise")), "media: 1 missing"),
        (lambda bench: bench.feed(inputs.EventsLost(count=1)), "storage"),
        (lambda bench: setattr(bench, "clock", ClockState.UNSYNCHRONISED), "clock"),
    ],
    ids=["volume", "media", "storage", "clock"],
)
def test_a_silent_test_says_what_would_fail(trouble: Any, detail: str) -> None:
    bench = a_bench()
    trouble(bench)
    bench.hear(an_alert(purpose=Purpose.SILENT_TEST))
    (told,) = bench.told_of(AlertHandled)
    assert (told.result, told.detail) == (AlertResult.TEST_FAILED, detail)


def test_a_silenced_device_says_so_in_a_test() -> None:
    bench = a_bench()
    bench.receive(DownlinkKind.COMMAND, signed(a_command(Action.SILENCE)))
    bench.hear(an_alert(purpose=Purpose.SILENT_TEST))
    assert handled(bench) == [(1, AlertResult.KILLED)]


# --- several at once -------------------------------------------------------------------------------------------------


def _from_province(version: int = 1, **fields: Any) -> Alert:
    rank = a_rank(Level.EMERGENCY, severity=3, depth=0, issued_at_ms=T0)
    return an_alert(a_content("siren"), version=version, rank=rank, **fields)


def _from_commune(version: int = 1, **fields: Any) -> Alert:
    rank = a_rank(Level.EMERGENCY, severity=3, depth=2, issued_at_ms=T0)
    return an_alert(a_content("other"), alert_id=FIRE, version=version, rank=rank, **fields)


@pytest.mark.parametrize("resume", list(ResumePolicy))
@pytest.mark.parametrize("is_province_first", [True, False])
def test_of_two_emergencies_the_province_sounds_first_and_then_the_commune(
    resume: ResumePolicy, *, is_province_first: bool
) -> None:
    bench = a_bench()
    both = [_from_province(resume=resume), _from_commune(resume=resume)]
    bench.hear(*(both if is_province_first else reversed(both)))
    sounding = bench.state.programme.sounding
    assert sounding is not None
    assert sounding.reference.id == STORM
    bench.advance(5 * MINUTE)
    ended = {each.reference.id: each.outcome for each in bench.told_of(PlayEnded)}
    assert ended[STORM] is PlayOutcome.COMPLETED
    # What was cut before its first moment was over goes on as its issuer wanted.
    if is_province_first or resume is ResumePolicy.RESTART:
        assert ended[FIRE] is PlayOutcome.COMPLETED


@pytest.mark.parametrize(
    "order",
    [pytest.param(order, id="".join(str(each) for each in order)) for order in itertools.permutations(range(5))],
)
def test_the_order_of_arrival_decides_nothing(order: tuple[int, ...]) -> None:
    """Two emergencies, an update of each and a cancel of one, from two replicas, in every order."""
    messages = [
        _from_province(),
        _from_commune(repeat_interval_s=30),
        _from_province(2, repeat_interval_s=30),
        an_alert(version=3, purpose=Purpose.CANCEL),
        _from_commune(2, repeat_interval_s=60),
    ]
    bench = a_bench()
    for index in order:
        bench.hear(messages[index])
        bench.advance(SECOND)
    assert {key: each.alert.alert_version for key, each in bench.state.alerts.standing.items()} == {FIRE: 2}
    assert {key: each.version for key, each in bench.state.alerts.handled.items()} == {STORM: 3, FIRE: 2}
    bench.advance(10 * SECOND)
    sounding = bench.state.programme.sounding
    assert sounding is not None
    assert sounding.reference.id == FIRE
    assert refusals(bench) == []
    bench.events.clear()
    bench.advance(10 * MINUTE)
    assert {each.reference.id for each in bench.told_of(PlayStarted)} == {FIRE}


_MESSAGES = st.builds(
    an_alert,
    alert_id=st.sampled_from([STORM, FIRE]),
    version=st.integers(min_value=1, max_value=4),
    purpose=st.sampled_from([Purpose.ALERT, Purpose.CANCEL, Purpose.SILENCE, Purpose.RELEASE]),
    units=st.sampled_from([(PROVINCE,), (ELSEWHERE,)]),
)


@given(
    messages=st.lists(_MESSAGES, max_size=8, unique_by=lambda each: (each.alert_id, each.alert_version)), data=st.data()
)
def test_the_highest_version_is_what_counts_in_any_order(messages: list[Alert], data: Any) -> None:
    """Also one that leaves this device out: what an attacker holds back and says later does not sound."""
    bench = a_bench()
    for message in data.draw(st.permutations(messages)):
        bench.hear(message)
    for alert_id in (STORM, FIRE):
        versions = sorted((each for each in messages if each.alert_id == alert_id), key=lambda each: each.alert_version)
        standing = bench.state.alerts.standing.get(alert_id)
        newest = versions[-1] if versions else None
        is_kept = (
            newest is not None
            and newest.audience.areas[0].units == (PROVINCE,)
            and newest.purpose in (Purpose.ALERT, Purpose.SILENCE)
        )
        assert (None if standing is None else standing.alert) == (newest if is_kept else None)


def test_a_version_that_left_a_device_out_is_taken_once_the_device_is_moved_to_where_it_is_meant() -> None:
    bench = a_bench()
    elsewhere = an_alert(version=2, units=(ELSEWHERE,))
    bench.hear(elsewhere, an_alert(version=1))
    bench.power_cut(SECOND)
    assert (handled(bench), starts(bench)) == ([], [])
    bench.receive(DownlinkKind.CONFIG, signed(at_home(serial=3, membership=(ELSEWHERE,))))
    bench.hear(elsewhere)
    assert handled(bench) == [(2, AlertResult.TAKEN)]


def test_a_command_that_stops_what_sounds_stops_one_round_only() -> None:
    bench = a_bench()
    bench.hear(an_alert(repeat_interval_s=30))
    bench.advance(5 * SECOND)
    bench.receive(DownlinkKind.COMMAND, signed(a_command(Action.STOP)))
    bench.advance(MINUTE)
    assert starts(bench) == [0, 35]


@pytest.mark.parametrize("clock", [ClockState.SYNCHRONISED, ClockState.UNSYNCHRONISED])
def test_the_last_word_of_a_thief_does_not_shut_the_platform_out(clock: ClockState) -> None:
    """Whoever stole the platform's key says the highest serials and versions there are, of years to come; then root drops
    the key.
    """
    bench = a_bench()
    bench.clock = clock
    bench.hear(an_alert(version=65_535, purpose=Purpose.CANCEL))
    bench.receive(DownlinkKind.CONFIG, signed(at_home(serial=INT64_MAX)))
    bench.receive(DownlinkKind.PLAN, signed(a_plan(serial=INT64_MAX, valid_for_ms=360 * DAY)))
    bench.receive(DownlinkKind.COMMAND, signed(a_command(Action.SILENCE, serial=INT64_MAX)))
    # A device that does not know the time believes what is signed of it.
    bench.hear(an_alert(alert_id=FIRE, at_ms=T0 + 300 * DAY, valid_for_ms=360 * DAY))
    assert bench.state.trust.serials[MessageKind.PLAN] == INT64_MAX

    bench.receive(DownlinkKind.KEYS, signed(a_key_set(announced(STRANGER), serial=2, at_ms=T0, valid_for_ms=30 * DAY)))
    bench.power_cut(SECOND, clock=clock)
    bench.events.clear()
    bench.receive(DownlinkKind.CONFIG, signed(at_home(serial=3), STRANGER))
    bench.receive(DownlinkKind.PLAN, signed(a_plan(serial=2), STRANGER))
    bench.receive(DownlinkKind.COMMAND, signed(a_command(Action.RELEASE, serial=2), STRANGER))
    bench.receive(DownlinkKind.PLAN, signed(a_plan(serial=1), STRANGER))
    bench.hear(signed(an_alert(version=2), STRANGER))
    (refused,) = bench.told_of(Refused)  # that of serial 1: what grows has begun anew
    assert (refused.refused, refused.reason) == (MessageKind.PLAN, RefusalReason.REPLAYED)
    assert [each.serial for each in bench.told_of(PlanAccepted)] == [2]
    assert handled(bench) == [(2, AlertResult.TAKEN)]
    bench.advance(SECOND)
    assert {each.reference.id for each in bench.told_of(PlayStarted)} == {STORM}


def test_an_alert_nobody_has_content_for_is_text_on_a_board_only() -> None:
    content = AlertContent(language="vi", headline="Lũ quét")
    cluster, board = a_bench(), a_bench(DeviceKind.BOARD)
    for bench in (cluster, board):
        bench.hear(an_alert(content))
    assert handled(cluster) == [(1, AlertResult.UNSUPPORTED)]
    assert handled(board) == [(1, AlertResult.TAKEN)]
