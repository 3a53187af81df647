"""What is a security event, under which name, and how it is written for syslog."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import RefusalReason
from services.control.security import events, syslog
from services.control.security.events import AUDITED, LONGEST_VALUE, REFUSED, SecurityEvent, Severity
from services.control.security.syslog import Header

AT = datetime(2026, 3, 10, 2, 0, 0, 5_000, tzinfo=UTC)
HEADER = Header(facility=10, host="control-1.loa.test", process=4711)

# RFC 5424, section 6, as one expression: an oracle that shares nothing with what is tested.
MESSAGE = re.compile(
    rb"<(?P<pri>\d{1,3})>1 (?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,6}Z) (?P<host>[!-~]{1,255}) (?P<app>[!-~]{1,48}) "
    rb"(?P<proc>[!-~]{1,128}) (?P<id>[!-~]{1,32}) "
    rb'(?P<data>-|\[[^\s=\]"]{1,32}( [^\s=\]"]{1,32}="([^"\\\]]|\\["\\\]])*")*\])(?P<text> \xef\xbb\xbf.*)?',
    re.S,
)


def an_event(**facts: str | int | None) -> SecurityEvent:
    return SecurityEvent(at=AT, name="LOGIN_FAILED", severity=Severity.WARNING, facts=facts)


def test_names_fit_the_field_they_travel_in() -> None:
    for name, _ in (*AUDITED.values(), *REFUSED.values()):
        assert re.fullmatch("[A-Z_]{1,32}", name)


@pytest.mark.parametrize("action", [*AUDITED, "alert_issue_refused", "anything_that_was_refused"])
def test_declared_actions_and_refused_attempts_are_events(action: str) -> None:
    event = events.of_audit(action, at=AT, facts={"login": "an", "after": None})
    assert event is not None
    assert event.facts["action"] == action
    assert event.facts["login"] == "an"


def test_the_kill_switch_is_told_by_its_name() -> None:
    silenced = events.of_audit("alert_issued", at=AT, facts={"purpose": "silence"})
    released = events.of_audit("alert_cancelled", at=AT, facts={"purpose": "silence"})
    alert = events.of_audit("alert_issued", at=AT, facts={"purpose": "alert"})
    assert [each and each.name for each in (silenced, released, alert)] == [
        "SILENCE_ISSUED",
        "SILENCE_RELEASED",
        "ALERT_ISSUED",
    ]


@pytest.mark.parametrize(
    ("action", "name", "severity"),
    [
        ("alert_timetable_set", "ALERT_TESTS_SET", Severity.NOTICE),
        ("alert_test_weighed", "ALERT_TEST_WEIGHED", Severity.INFO),
        ("alert_test_refused", "ATTEMPT_REFUSED", Severity.WARNING),
        ("cap_sender_trusted", "CAP_SENDER_TRUSTED", Severity.WARNING),
        ("cap_delivery_refused", "ATTEMPT_REFUSED", Severity.WARNING),
    ],
)
def test_whoever_changes_what_may_warn_and_what_is_tested_is_told_of(
    action: str, name: str, severity: Severity
) -> None:
    event = events.of_audit(action, at=AT, facts={"login": "an"})
    assert event is not None
    assert (event.name, event.severity, event.facts["action"]) == (name, severity, action)


@pytest.mark.parametrize("action", ["bulletin_approved", "broadcast_created", "refused"])
def test_the_day_s_work_is_none(action: str) -> None:
    assert events.of_audit(action, at=AT, facts={}) is None


def test_a_refusal_goes_by_its_own_code_or_that_of_a_fault() -> None:
    by_code = events.of_refusal(("not_permitted_here", "unit_outside_own_subtree"), at=AT, facts={"origin": "::1"})
    by_fault = events.of_refusal(("invalid_request", "code_not_taken"), at=AT, facts={})
    assert by_code is not None
    assert by_fault is not None
    assert (by_code.name, by_code.facts["code"]) == ("PERMISSION_REFUSED", "not_permitted_here")
    assert (by_fault.name, by_fault.severity) == ("SECOND_FACTOR_WRONG", Severity.WARNING)
    assert events.of_refusal(("login_needed",), at=AT, facts={}) is None
    assert events.of_refusal(("invalid_request", "too_long"), at=AT, facts={}) is None


@pytest.mark.parametrize("reason", RefusalReason)
def test_every_reason_a_device_has_is_told_and_forgery_is_graver_than_lateness(reason: RefusalReason) -> None:
    body = {"refused": "alert", "reason": reason.name.lower(), "serial": 7, "detail": None}
    event = events.of_device(body, at=AT, device="cum-1", principal="cum-1", event_no=12)
    assert event.name == "DOWNLINK_REFUSED"
    assert event.as_dict().items() >= {"reason": reason.name.lower(), "serial": 7, "device": "cum-1"}.items()
    assert event.severity is (Severity.WARNING if reason in events.FORGED else Severity.NOTICE)


def test_a_line_tells_time_and_severity_in_words_and_leaves_out_what_is_not_known() -> None:
    assert an_event(login=None, origin="203.0.113.7").as_dict() == {
        "time": "2026-03-10T02:00:00.005Z",
        "event": "LOGIN_FAILED",
        "severity": "warning",
        "origin": "203.0.113.7",
    }


def test_facts_are_flat_and_of_bounded_length() -> None:
    event = events.of_audit("glass_broken", at=AT, facts={"after": {"lý do": "mất điện"}, "subject": "x" * 10_000})  # type: ignore[dict-item]
    assert event is not None
    assert event.facts["after"] == '{"lý do": "mất điện"}'
    assert len(str(event.facts["subject"])) == LONGEST_VALUE


def test_a_message_is_written_as_the_standard_says() -> None:
    written = syslog.message(an_event(login='a"]\\b', number=5), HEADER)
    assert written.startswith(
        b"<84>1 2026-03-10T02:00:00.005Z control-1.loa.test loa-control 4711 LOGIN_FAILED "
        b'[loa@32473 login="a\\"\\]\\\\b" number="5"] \xef\xbb\xbf{"time": "2026-03-10T02:00:00.005Z"'
    )
    for facility, severity, priority in ((0, Severity.ALERT, 1), (23, Severity.INFO, 190), (4, Severity.NOTICE, 37)):
        event = SecurityEvent(at=AT, name="X", severity=severity, facts={})
        header = Header(facility=facility, host="h", process=1)
        assert syslog.message(event, header).startswith(f"<{priority}>1 ".encode())


@given(
    st.dictionaries(st.text(min_size=1, max_size=40), st.text() | st.integers() | st.none(), max_size=6),
    st.text(max_size=300),
)
def test_whatever_strangers_write_a_message_stays_one(facts: dict[str, str | int | None], host: str) -> None:
    written = syslog.message(an_event(**facts), Header(facility=10, host=host, process=1))
    found = MESSAGE.fullmatch(written)
    assert found is not None
    assert b"\n" not in written


@given(st.dictionaries(st.text(min_size=1, max_size=20), st.text(max_size=400), max_size=8), st.integers(200, 2_000))
def test_a_datagram_is_cut_where_it_stays_well_formed(facts: dict[str, str], limit: int) -> None:
    written = syslog.message(an_event(**facts), HEADER, limit=limit)
    assert len(written) <= limit
    assert MESSAGE.fullmatch(written)


def test_on_a_stream_each_message_follows_its_length() -> None:
    assert syslog.framed([b"<1>1 a", "<1>1 đ".encode()]) == b"6 <1>1 a7 <1>1 \xc4\x91"
