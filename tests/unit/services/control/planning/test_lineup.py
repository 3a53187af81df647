"""Items one after another: what is placed where, what is cut or left out, and what is played again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from schemas.fields import DeviceKind
from schemas.plans import ContentKind
from services.control.planning.lineup import MAX_ITEM_NUMBER, TEXT_LENGTH, Lineup, Stock, bulletin_form, line_up
from services.control.planning.model import (
    Bulletin,
    BulletinItem,
    Fill,
    Fit,
    Item,
    Pause,
    ProblemKind,
    RelayItem,
)
from tests.support.planning import a_broadcast, a_bulletin, a_media, a_relay, bulletin_id, source_id

CLUSTER, BOARD = DeviceKind.CLUSTER, DeviceKind.BOARD
STOCK = Stock(
    bulletins={
        bulletin_id(n): each
        for n, each in {
            1: a_bulletin(1, 60),
            2: a_bulletin(2, 10),
            3: a_bulletin(3, 30, is_approved=False),
            5: a_bulletin(5, None, board_text="chữ"),
        }.items()
    },
    relays={source_id(1): a_relay(1), source_id(2): a_relay(2, path=None, url="fm://102.7")},
)


def s(n: float) -> timedelta:
    return timedelta(seconds=n)


def items(*words: str) -> tuple[Item, ...]:
    """`1` a bulletin, `j2` a jingle, `p5` a pause of 5 s, `r1:40` a relay of 40 s, `r1:40@90` one that begins at 90 s."""
    found: list[Item] = []
    for number, word in enumerate(words):
        if word[0] == "p":
            found.append(Pause(number=number, length=s(float(word[1:]))))
        elif word[0] == "r":
            source, _, rest = word[1:].partition(":")
            length, _, pin = rest.partition("@")
            starts_after = s(float(pin)) if pin else None
            found.append(
                RelayItem(
                    number=number, source_id=source_id(int(source)), length=s(float(length)), starts_after=starts_after
                )
            )
        else:
            is_jingle = word[0] == "j"
            found.append(
                BulletinItem(number=number, bulletin_id=bulletin_id(int(word.strip("j"))), is_jingle=is_jingle)
            )
    return tuple(found)


def placed(lineup: Lineup) -> str:
    return " ".join(
        f"{each.item}:{each.offset.total_seconds():g}-{(each.offset + each.length).total_seconds():g}"
        for each in lineup.pieces
    )


def gaps(lineup: Lineup) -> str:
    return " ".join(f"{item}:{kind.value}" for item, kind in lineup.gaps)


def lined_up(*words: str, closes: float | None = None, **changes: Any) -> Lineup:
    broadcast = a_broadcast(items=items(*words), **changes)
    return line_up(broadcast, STOCK, closes=None if closes is None else s(closes))


@pytest.mark.parametrize(
    ("words", "where", "missing"),
    [
        pytest.param(("1", "2"), "0:0-60 1:60-70", "", id="one_after_another"),
        pytest.param(("1", "p5", "2"), "0:0-60 2:65-75", "", id="with_a_pause"),
        pytest.param(("3", "4", "2"), "2:0-10", "0:bulletin_not_approved 1:bulletin_missing", id="gaps_take_no_time"),
        pytest.param(("5", "2"), "0:0-60 1:60-70", "", id="a_text_lasts_a_minute"),
        pytest.param(("2", "r1:40", "2"), "0:0-10 1:10-50 2:50-60", "", id="a_relay_in_its_place"),
        pytest.param(("r9:40", "2"), "1:0-10", "0:source_missing", id="no_such_source"),
        pytest.param(("2", "r1:40@90", "2"), "0:0-10 1:90-130 2:130-140", "", id="a_relay_with_a_fixed_start_waits"),
        pytest.param(("j2", "1", "j2"), "0:0-10 1:10-70 2:70-80", "", id="jingles_frame"),
        pytest.param(
            ("j2", "3", "j2"), "", "0:jingle_alone 1:bulletin_not_approved 2:jingle_alone", id="jingles_alone"
        ),
        pytest.param(("j2", "p5"), "0:0-10", "", id="nothing_but_a_jingle_was_asked_for"),
        pytest.param(("p5",), "", "", id="only_silence"),
        pytest.param(("r1:0", "2"), "1:0-10", "0:no_room", id="a_relay_without_length"),
    ],
)
def test_items_are_placed(words: tuple[str, ...], where: str, missing: str) -> None:
    lineup = lined_up(*words)
    assert (placed(lineup), gaps(lineup)) == (where, missing)


@pytest.mark.parametrize(
    ("fit", "where", "missing"),
    [
        (Fit.WHOLE, "0:0-60 1:60-120 2:120-130", ""),
        (Fit.TRIM, "0:0-60 1:60-100", "2:no_room"),
        (Fit.DROP, "0:0-60 2:60-70", "1:no_room"),
    ],
)
def test_what_does_not_fit(fit: Fit, where: str, missing: str) -> None:
    lineup = lined_up("1", "1", "2", length=s(100), fit=fit)
    assert (placed(lineup), gaps(lineup), lineup.is_shortened) == (where, missing, False)


@pytest.mark.parametrize(
    ("fit", "where", "missing"),
    [
        (Fit.WHOLE, "0:0-60 1:60-90 2:90-100", ""),
        (Fit.TRIM, "0:0-50 1:50-90 2:90-100", ""),
        (Fit.DROP, "1:50-90 2:90-100", "0:no_room"),
    ],
)
def test_what_is_in_the_way_of_a_relay_with_a_fixed_start(fit: Fit, where: str, missing: str) -> None:
    lineup = lined_up("1", "r1:40@50", "2", fit=fit)
    assert (placed(lineup), gaps(lineup)) == (where, missing)


def test_a_pause_gives_way_to_a_relay_with_a_fixed_start() -> None:
    assert placed(lined_up("2", "p300", "r1:40@60")) == "0:0-10 2:60-100"


def test_a_relay_whose_time_is_over_has_no_room() -> None:
    lineup = lined_up("1", "r1:20@30")
    assert (placed(lineup), gaps(lineup)) == ("0:0-60", "1:no_room")


@pytest.mark.parametrize(
    ("fit", "where", "is_shortened"),
    [(Fit.WHOLE, "0:0-60 1:60-120", False), (Fit.TRIM, "0:0-60 1:60-100", True), (Fit.DROP, "0:0-60", False)],
)
def test_the_end_of_the_session(fit: Fit, where: str, is_shortened: bool) -> None:
    lineup = lined_up("1", "1", closes=100, length=s(500), fit=fit)
    assert (placed(lineup), lineup.is_shortened) == (where, is_shortened)


@pytest.mark.parametrize(
    ("fit", "closes", "where"),
    [
        (Fit.WHOLE, None, "0:0-60 1:60-70 2:70-130 3:130-140 4:140-200"),
        (Fit.TRIM, None, "0:0-60 1:60-70 2:70-130 3:130-140 4:140-150"),
        (Fit.DROP, None, "0:0-60 1:60-70 2:70-130 3:130-140"),
        (Fit.WHOLE, 160.0, "0:0-60 1:60-70 2:70-130 3:130-140"),
        (Fit.WHOLE, 200.0, "0:0-60 1:60-70 2:70-130 3:130-140 4:140-200"),
    ],
)
def test_items_again_until_the_time_is_filled(fit: Fit, closes: float | None, where: str) -> None:
    assert placed(lined_up("1", "2", closes=closes, length=s(150), fit=fit, fill=Fill.REPEAT)) == where


def test_repeating_fills_a_session_and_leaves_relays_with_a_fixed_start_out() -> None:
    lineup = lined_up("2", "r1:20@30", closes=75, fill=Fill.REPEAT)
    assert placed(lineup) == "0:0-10 1:30-50 2:50-60 4:60-70"
    assert {each.item: each.asked for each in lineup.pieces} == {0: 0, 1: 1, 2: 0, 4: 0}


def test_repeating_ends_when_numbers_do() -> None:
    lineup = lined_up("2", length=timedelta(hours=5), fill=Fill.REPEAT)
    assert (len(lineup.pieces), lineup.pieces[-1].item, lineup.is_overfull) == (256, MAX_ITEM_NUMBER, True)


@pytest.mark.parametrize("words", [("p5",), ("3",), ("r1:0",)])
def test_nothing_is_not_repeated_for_ever(words: tuple[str, ...]) -> None:
    assert lined_up(*words, length=timedelta(hours=5), fill=Fill.REPEAT).pieces == ()


def test_an_item_that_cannot_be_numbered_is_named() -> None:
    broadcast = a_broadcast(items=(BulletinItem(number=256, bulletin_id=bulletin_id(2)),))
    assert gaps(line_up(broadcast, STOCK)) == "256:no_room"


def test_a_source_taken_directly_is_noted() -> None:
    assert [lined_up("2", each).has_direct_relay for each in ("r1:5", "r2:5", "2")] == [False, True, False]


PICTURE, FILM = a_media(None, 50, mime="image/png"), a_media(45, 60, mime="video/mp4")


@pytest.mark.parametrize(
    ("bulletin", "cluster", "board"),
    [
        (a_bulletin(1, 60), ContentKind.AUDIO, None),
        (a_bulletin(1, None, board_text="chữ"), None, ContentKind.TEXT),
        (a_bulletin(1, None, board_text="chữ", board_style=ContentKind.TICKER), None, ContentKind.TICKER),
        (a_bulletin(1, 60, board_media=PICTURE), ContentKind.AUDIO, ContentKind.IMAGE),
        (a_bulletin(1, None, board_media=FILM), None, ContentKind.VIDEO),
        (a_bulletin(1, None, board_media=a_media(20)), None, None),
        (a_bulletin(1, None, media=FILM), None, None),
        (a_bulletin(1, None, board_text=""), None, None),
    ],
)
def test_devices_get_what_they_can_put_out(
    bulletin: Bulletin, cluster: ContentKind | None, board: ContentKind | None
) -> None:
    forms = {kind: bulletin_form(bulletin, kind) for kind in DeviceKind}
    contents = {kind: None if form is None else form.content for kind, form in forms.items()}
    assert contents == {CLUSTER: cluster, BOARD: board, DeviceKind.SENSOR: None, DeviceKind.GATEWAY: None}


@pytest.mark.parametrize(
    ("bulletin", "seconds"),
    [
        (a_bulletin(1, 20, board_media=FILM), 45),
        (a_bulletin(1, 60, board_media=FILM), 60),
        (a_bulletin(1, None, board_media=PICTURE), TEXT_LENGTH.total_seconds()),
        (a_bulletin(1, None, board_media=PICTURE, board_length=s(15)), 15),
        (a_bulletin(1, 0, board_text="chữ"), TEXT_LENGTH.total_seconds()),
    ],
)
def test_a_bulletin_lasts_as_long_as_what_has_a_length(bulletin: Bulletin, seconds: float) -> None:
    stock = Stock(bulletins={bulletin_id(1): bulletin}, relays={})
    assert line_up(a_broadcast(items=items("1")), stock).length == s(seconds)


def test_what_is_left_out_says_why() -> None:
    lineup = line_up(a_broadcast(items=items("1", "2")), STOCK, left_out={0: ProblemKind.EXPIRED})
    assert (placed(lineup), gaps(lineup)) == ("1:0-10", "0:expired")


def test_jingles_do_not_sound_when_what_they_frame_has_no_room() -> None:
    lineup = lined_up("j2", "1", "j2", length=s(30), fit=Fit.DROP, fill=Fill.REPEAT)
    assert (placed(lineup), gaps(lineup)) == ("", "0:jingle_alone 1:no_room 2:jingle_alone")


@pytest.mark.parametrize(
    ("stale", "expected", "missing"),
    [
        pytest.param({0: 100}, "0:0-60 1:60-70 2:70-130 3:130-140 5:140-150", "", id="no_third_time"),
        pytest.param({0: 70}, "0:0-60 1:60-70 3:70-80 5:80-90 7:90-100 9:100-110 11:110-120 13:120-130 15:130-140 17:140-150", "", id="at_its_end"),
        pytest.param({1: 60}, "0:0-60 2:60-120", "1:expired", id="at_its_beginning"),
        pytest.param({1: 60.001}, "0:0-60 1:60-70 2:70-130", "", id="begun_before"),
        pytest.param({0: 1, 1: 65}, "0:0-60 1:60-70", "", id="nothing_left_to_repeat"),
    ],
)  # fmt: skip
def test_nothing_begins_when_it_is_stale(stale: dict[int, float], expected: str, missing: str) -> None:
    broadcast = a_broadcast(items=items("1", "2"), length=s(150), fit=Fit.DROP, fill=Fill.REPEAT)
    lineup = line_up(broadcast, STOCK, stale={item: s(since) for item, since in stale.items()})
    assert (placed(lineup), gaps(lineup)) == (expected, missing)


@pytest.mark.parametrize(
    ("words", "length", "stale", "expected"),
    [
        pytest.param(("j2", "1", "j2"), 1_000, {1: 20}, "0:0-10 1:10-70 2:70-80", id="news_goes_stale"),
        pytest.param(("j2", "1"), 85, {}, "0:0-10 1:10-70", id="no_room_for_news"),
        pytest.param(("j2", "r1:20@30"), 75, {}, "0:0-10 1:30-50", id="relays_are_not_repeated"),
        pytest.param(("j2",), 25, {}, "0:0-10 1:10-20", id="nothing_to_frame"),
    ],
)
def test_no_round_is_repeated_without_what_its_jingles_frame(
    words: tuple[str, ...], length: float, stale: dict[int, float], expected: str
) -> None:
    broadcast = a_broadcast(items=items(*words), length=s(length), fit=Fit.DROP, fill=Fill.REPEAT)
    lineup = line_up(broadcast, STOCK, stale={item: s(since) for item, since in stale.items()})
    assert placed(lineup) == expected


def test_what_is_left_of_a_millisecond_is_not_filled() -> None:
    lineup = lined_up("2", length=timedelta(seconds=10, microseconds=999), fit=Fit.TRIM, fill=Fill.REPEAT)
    assert placed(lineup) == "0:0-10"
    lineup = lined_up("2", length=timedelta(seconds=10, milliseconds=1), fit=Fit.TRIM, fill=Fill.REPEAT)
    assert placed(lineup) == "0:0-10 1:10-10.001"
