"""Laws of a device under arbitrary programmes and arbitrary bad luck."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firmware_sim import effects, inputs
from firmware_sim.state import orders_of
from schemas import arbitration
from schemas.events import MissReason, PlayEnded, PlayMissed, PlayOutcome, PlayStarted
from schemas.fields import ClockState, Level, PlayReference, ResumePolicy
from schemas.plans import Emission
from schemas.topics import DownlinkKind
from tests.unit.firmware_sim.builders import (
    MINUTE,
    SECOND,
    T0,
    Bench,
    a_file,
    a_plan,
    a_rank,
    a_relay,
    an_emission,
    signed,
)

START = T0 + MINUTE
NAMES = ("news", "song", "siren", "other")
LENGTHS_MS = {"song": 7 * SECOND, "siren": 0}  # as fallbacks: one that repeats, one that has no sound in it
RELAYS = (a_relay("vov"), a_relay("province"), a_relay("abroad", url="http://radio.test/stream"))


@st.composite
def emissions(draw: st.DrawFn, *, resume: st.SearchStrategy[ResumePolicy], relays: bool = False) -> list[Emission]:
    """Up to six overlapping emissions of four files within two minutes; ranks may be equal in all but identity.

    With `relays`, some of them are relays of three sources, with a fallback or without.
    """
    planned = []
    for item in range(draw(st.integers(1, 6))):
        duration_ms = draw(st.integers(1, 40)) * SECOND
        at_ms = START + draw(st.integers(0, 60)) * SECOND
        relay = draw(st.sampled_from([None, *RELAYS])) if relays else None
        fallback = None if relay is None else draw(st.sampled_from([None, "song", "siren"]))
        planned.append(
            an_emission(
                draw(st.sampled_from(NAMES)),
                at_ms=at_ms,
                duration_ms=duration_ms,
                latest_ms=at_ms + draw(st.integers(0, duration_ms)),
                rank=a_rank(
                    draw(st.sampled_from(Level)),
                    live=draw(st.booleans()),
                    severity=draw(st.integers(0, 4)),
                    depth=draw(st.integers(0, 3)),
                    issued_at_ms=T0 - draw(st.integers(0, 2)),
                ),
                volume=draw(st.sampled_from([None, None, None, 0, 40])),
                resume=draw(resume),
                item=item,
                relay=relay,
                fallback=fallback,
            )
        )
    return planned


@dataclass(frozen=True)
class Luck:
    """What goes wrong when, in seconds after the bench has its plan."""

    at_s: int
    what: str


LUCK = st.lists(
    st.builds(
        Luck,
        at_s=st.integers(1, 170),
        what=st.sampled_from(
            [
                "power_cut",
                "long_power_cut",
                "disconnect",
                "connect",
                "media",
                "plan_again",
                "clock_lost",
                "clock_set",
                "source_sounds",
                "source_silent",
            ]
        ),
    ),
    max_size=6,
).map(lambda luck: sorted(luck, key=lambda each: each.at_s))


def suffer(bench: Bench, luck: Luck, planned: list[Emission], serial: int) -> None:
    match luck.what:
        case "power_cut":
            bench.power_cut(3 * SECOND)
        case "long_power_cut":
            bench.power_cut(70 * SECOND)
        case "disconnect":
            bench.feed(inputs.Disconnected())
        case "connect":
            bench.feed(inputs.Connected())
        case "media":
            bench.delivers = True
        case "plan_again":
            bench.receive(DownlinkKind.PLAN, signed(a_plan(*planned, at_ms=T0, serial=serial)))
        case "clock_lost" | "clock_set":
            previous = bench.clock
            lost = luck.what == "clock_lost"
            bench.clock = ClockState.UNSYNCHRONISED if lost else ClockState.SYNCHRONISED
            bench.feed(inputs.ClockSet(previous=previous))
        case "source_sounds" | "source_silent":
            bench.source(RELAYS[luck.at_s % len(RELAYS)], sounds=luck.what == "source_sounds")


def run(planned: list[Emission], luck: list[Luck], *, corrupt: set[str], delivers: bool) -> Bench:
    bench = Bench(
        corrupt={a_file(name).sha256 for name in corrupt},
        delivers=delivers,
        media_ms={a_file(name).sha256: length_ms for name, length_ms in LENGTHS_MS.items()},
        sounding={RELAYS[0].source_id, RELAYS[2].source_id},
    )
    bench.ready(*planned)
    begin = bench.at_ms
    for serial, each in enumerate(luck, start=2):
        if begin + each.at_s * SECOND > bench.at_ms:
            bench.until(begin + each.at_s * SECOND)
        suffer(bench, each, planned, serial)
    if bench.clock is ClockState.UNSYNCHRONISED:
        suffer(bench, Luck(0, "clock_set"), planned, 0)
    bench.advance(5 * MINUTE)
    return bench


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    planned=emissions(resume=st.sampled_from(ResumePolicy), relays=True),
    luck=LUCK,
    corrupt=st.sets(st.sampled_from(NAMES), max_size=1),
    delivers=st.booleans(),
)
def test_every_emission_ends_exactly_once_with_a_reason(
    planned: list[Emission], luck: list[Luck], corrupt: set[str], delivers: bool
) -> None:
    bench = run(planned, luck, corrupt=corrupt, delivers=delivers)

    ends = Counter[PlayReference](event.reference for event in bench.told_of(PlayEnded))
    misses = Counter[PlayReference](event.reference for event in bench.told_of(PlayMissed))
    starts = Counter[PlayReference](event.reference for event in bench.told_of(PlayStarted))
    assert ends + misses == Counter(each.reference for each in planned)
    assert starts == ends
    assert bench.parts == {}, "nothing sounds for ever"
    for event in bench.told_of(PlayMissed):
        assert (event.reason is MissReason.OUTRANKED) == (event.cut_by is not None)
    for ended in bench.told_of(PlayEnded):
        assert ended.started_at_ms <= ended.ended_at_ms
        assert ended.outcome is not PlayOutcome.CUT or ended.cut_by is not None
        assert (ended.fallback_ms or 0) <= ended.sounded_ms
    assert bench.tuned == {}, "nobody is listened to for ever"


@settings(max_examples=100, deadline=None)
@given(planned=emissions(resume=st.just(ResumePolicy.RESUME)))
def test_the_winner_of_arbitration_sounds_at_every_instant(planned: list[Emission]) -> None:
    """With everything at hand the device is a plain function of time: compared with that function, second by second."""
    bench = Bench()
    bench.ready(*planned)
    begun: set[PlayReference] = set()
    for _ in range(110):
        bench.advance(SECOND)
        expected = plain(planned, begun, bench.at_ms)
        sounding = bench.state.programme.sounding
        assert (None if sounding is None else sounding.reference) == expected
        if expected is not None:
            begun.add(expected)


def plain(planned: list[Emission], begun: set[PlayReference], at_ms: int) -> PlayReference | None:
    contenders = [
        arbitration.Contender(reference=each.reference, rank=each.rank)
        for each in planned
        if each.starts_at_ms <= at_ms < each.ends_at_ms
        and each.volume_percent != 0
        and (each.reference in begun or at_ms <= each.latest_start_ms + 50)
    ]
    best = arbitration.winner(contenders)
    return None if best is None else best.reference


@settings(max_examples=60, deadline=None)
@given(planned=emissions(resume=st.sampled_from(ResumePolicy)), stride_ms=st.sampled_from([250, 1_000]))
def test_being_woken_more_often_than_asked_for_changes_nothing(planned: list[Emission], stride_ms: int) -> None:
    lazy, eager = Bench(), Bench()
    for bench, strides in ((lazy, 1), (eager, 3 * MINUTE // stride_ms)):
        bench.ready(*planned)
        for _ in range(strides):
            bench.advance(3 * MINUTE // strides)
    assert lazy.events == eager.events


@settings(max_examples=60, deadline=None)
@given(planned=emissions(resume=st.sampled_from(ResumePolicy)), garbage=st.lists(st.binary(max_size=200), max_size=5))
def test_garbage_changes_nothing_but_refusals(planned: list[Emission], garbage: list[bytes]) -> None:
    bench = Bench()
    bench.ready(*planned)
    before = bench.state
    bench.told.clear()
    for kind in DownlinkKind:
        for payload in garbage:
            bench.receive(kind, payload)
    assert bench.state.programme == before.programme
    assert bench.state.trust == before.trust
    assert bench.state.plan is before.plan
    assert not [each for each in bench.told if not isinstance(each, effects.Record)]


@settings(max_examples=60, deadline=None)
@given(planned=emissions(resume=st.sampled_from(ResumePolicy)), at_s=st.integers(1, 170))
def test_what_is_on_flash_is_what_the_device_knows(planned: list[Emission], at_s: int) -> None:
    """At any instant the flash holds everything a restart needs: booting forgets nothing that was settled or accepted."""
    bench = Bench()
    bench.ready(*planned)
    bench.advance(at_s * SECOND)
    before = bench.state
    bench.power_cut(1)
    after = bench.state
    assert after.plan == before.plan
    assert after.config == before.config
    assert after.trust == before.trust
    assert before.programme.settled.items() <= after.programme.settled.items()
    assert orders_of(after) == orders_of(before)
