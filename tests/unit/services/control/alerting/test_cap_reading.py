"""CAP documents of feeds as they are, and of people who mean harm: read whole, or refused with what is wrong."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.control.alerting import cap_reading, cap_values, cap_xml
from services.control.alerting.cap import CapAlert, MessageType, ResponseType, Scope, Status
from services.control.alerting.cap_reading import parse
from services.control.alerting.model import CapReference, Category, Certainty, Point, Severity, Urgency

FILES = Path(__file__).parents[4] / "support" / "cap"
NAMESPACE = "urn:oasis:names:tc:emergency:cap:1.2"

HEAD = """<identifier>A-1</identifier><sender>s@example.org</sender><sent>2026-11-29T08:00:00+07:00</sent>
<status>Actual</status><msgType>Alert</msgType><scope>Public</scope>"""
INFO = """<language>vi</language><category>Met</category><event>Lũ</event><urgency>Immediate</urgency>
<severity>Severe</severity><certainty>Likely</certainty>"""
AREA = "<areaDesc>Xã</areaDesc>"


def alert(head: str = HEAD, info: str | None = INFO, area: str | None = AREA, *, namespace: str = NAMESPACE) -> bytes:
    area_part = f"<area>{area}</area>" if area is not None else ""
    info_part = f"<info>{info}{area_part}</info>" if info is not None else ""
    return f'<alert xmlns="{namespace}">{head}{info_part}</alert>'.encode()


def taken(data: bytes) -> CapAlert:
    reading = parse(data)
    assert reading.faults == ()
    assert reading.alert is not None
    return reading.alert


def faults(data: bytes) -> list[tuple[str, str]]:
    reading = parse(data)
    assert reading.alert is None or not reading.faults
    return [(each.field, each.code) for each in reading.faults]


def remarks(data: bytes) -> set[str]:
    reading = parse(data)
    assert reading.alert is not None, reading.faults
    return {each.code for each in reading.remarks}


# --- feeds as they are -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(each.name for each in FILES.glob("*.xml")))
def test_every_habit_of_feeds_is_read(name: str) -> None:
    found = taken((FILES / name).read_bytes())
    assert found.infos
    assert all(info.areas for info in found.infos)


def test_a_weather_service_document_is_read_to_the_last_part() -> None:
    found = taken((FILES / "weather_service.xml").read_bytes())
    assert (found.status, found.message_type, found.scope) == (Status.ACTUAL, MessageType.UPDATE, Scope.PUBLIC)
    assert found.sent == datetime(2026, 11, 29, 1, 15, tzinfo=UTC)
    assert found.references == (
        CapReference(
            sender="canh-bao@kttv.example.org",
            identifier="urn:oid:2.49.0.1.704.0.0f.001.1",
            sent=datetime(2026, 11, 28, 19, 10, tzinfo=UTC),
        ),
        CapReference(
            sender="canh-bao@kttv.example.org",
            identifier="urn:oid:2.49.0.1.704.0.0f.002.1",
            sent=datetime(2026, 11, 28, 22, 0, tzinfo=UTC),
        ),
    )
    (info,) = found.infos
    assert info.categories == (Category.MET,)
    assert (info.urgency, info.severity, info.certainty) == (Urgency.IMMEDIATE, Severity.SEVERE, Certainty.LIKELY)
    assert [each.value for each in info.parameters] == [
        "FFWBNI",
        "/O.NEW.KBNI.FF.W.0042.261129T0115Z-261129T0415Z/",
        "",
    ]
    assert info.description is not None
    assert "rain & a full reservoir" in info.description
    assert "\n\n* Flash Flood" in info.description
    (area,) = info.areas
    assert [(each.name, each.value) for each in area.geocodes] == [
        ("SAME", "024223"),
        ("SAME", "024227"),
        ("UGC", "BNC223"),
    ]
    assert area.polygons[0][0] == area.polygons[0][-1] == Point(latitude=21.30, longitude=106.50)


def test_a_signature_is_passed_over_and_told() -> None:
    data = (FILES / "two_languages_signed.xml").read_bytes()
    found = taken(data)
    assert [info.language for info in found.infos] == ["vi-VN", "en-CA"]
    assert found.restriction is None
    assert found.references == ()
    assert found.infos[0].description == "Mưa to đến rất to, có nơi trên 150 mm trong 24 giờ."
    assert found.infos[0].areas[1].circles[0].radius_km == 7.5
    assert (found.infos[0].areas[1].altitude, found.infos[0].areas[1].ceiling) == (0, 1000.5)
    assert [each.facts["name"] for each in parse(data).remarks] == ["{http://www.w3.org/2000/09/xmldsig#}Signature"]


def test_prefixes_files_and_quoted_incidents() -> None:
    data = (FILES / "prefixed_with_file.xml").read_bytes()
    found = taken(data)
    assert found.status is Status.EXERCISE
    assert found.incidents == ("Diễn tập 2026", "DT-1")
    (info,) = found.infos
    assert info.response_types == (ResponseType.EVACUATE, ResponseType.ALL_CLEAR)
    assert info.resources[0].content == "SUQzBAAAAAAA"
    assert info.expires == datetime(2026, 11, 29, 8, 30, tzinfo=UTC)
    assert remarks(data) == {"cap_time_other_form"}


def test_what_is_untidy_but_beyond_doubt_is_taken_and_remarked() -> None:
    data = (FILES / "islands_untidy.xml").read_bytes()
    found = taken(data)
    assert found.status is Status.ACTUAL
    assert found.infos[0].language == "en-US"  # what the standard says of silence
    assert found.infos[0].areas[0].polygons[0][-1] == Point(latitude=21.1, longitude=106.0)
    assert found.infos[0].areas[0].geocodes == ()
    assert remarks(data) == {"cap_other_letters", "cap_other_order", "cap_polygon_open"}


@pytest.mark.parametrize(
    "where",
    [
        "<polygon>21,106 21,107 22,107 21,106</polygon>",
        "<circle>21,106 5</circle>",
        "<geocode><valueName>DVHC</valueName><value>07</value></geocode>",
    ],
)
@pytest.mark.parametrize("name", ["", "<areaDesc/>", "<areaDesc> </areaDesc>"])
def test_an_area_without_a_name_says_by_shapes_or_codes_where_it_is(name: str, where: str) -> None:
    data = alert(area=name + where)
    ((area,),) = (info.areas for info in taken(data).infos)
    assert (area.description, bool(area.polygons or area.circles or area.geocodes)) == ("", True)
    assert remarks(data) == {"cap_missing"}


@pytest.mark.parametrize("drawn", ["21,106 21,106", "21,106 22,107 21,106", "21,106 22,107 21,106 22,107 21,106"])
def test_a_polygon_that_surrounds_nothing_is_left_out(drawn: str) -> None:
    data = alert(area=AREA + f"<polygon>{drawn}</polygon><circle>21,106 5</circle>")
    ((area,),) = (info.areas for info in taken(data).infos)
    assert (len(area.polygons), len(area.circles)) == (0, 1)
    assert remarks(data) == {"cap_polygon_too_few"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-8-sig"])
def test_encodings(encoding: str) -> None:
    declaration = f'<?xml version="1.0" encoding="{encoding.removesuffix("-sig")}"?>'
    data = (declaration + alert().decode()).encode(encoding)
    assert taken(data).infos[0].event == "Lũ"


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_blanks_before_the_declaration_mean_nothing(mark: bytes) -> None:
    assert taken(mark + b'\n\n <?xml version="1.0" encoding="UTF-8"?>' + alert()).identifier == "A-1"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2026-11-29T08:00:00+07:00", datetime(2026, 11, 29, 1, 0, tzinfo=UTC)),
        ("2026-11-29T01:00:00-00:00", datetime(2026, 11, 29, 1, 0, tzinfo=UTC)),
        ("2026-11-29T01:00:00Z", datetime(2026, 11, 29, 1, 0, tzinfo=UTC)),
        ("2026-11-28T20:30:00.987-04:30", datetime(2026, 11, 29, 1, 0, tzinfo=UTC)),
        ("2026-11-29T08:00:00+0700", datetime(2026, 11, 29, 1, 0, tzinfo=UTC)),
        ("2026-11-29T08:00+07:00", datetime(2026, 11, 29, 1, 0, tzinfo=UTC)),
        ("2026-11-29T24:00:00+07:00", datetime(2026, 11, 29, 17, 0, tzinfo=UTC)),
        ("2026-11-29T01:00:00-0000", datetime(2026, 11, 29, 1, 0, tzinfo=UTC)),
    ],
)
def test_times(written: str, meant: datetime) -> None:
    assert taken(alert(HEAD.replace("2026-11-29T08:00:00+07:00", written))).sent == meant


def test_messages_without_information_are_read() -> None:
    found = taken(alert(HEAD.replace(">Alert<", ">Ack<").replace(">Actual<", ">System<"), info=None))
    assert (found.message_type, found.status, found.infos) == (MessageType.ACK, Status.SYSTEM, ())


def test_references_that_a_new_alert_does_not_rest_on_are_no_reason_to_refuse_it() -> None:
    assert remarks(alert(HEAD + "<references>see our web page</references>")) == {"cap_reference_malformed"}
    update = HEAD.replace(">Alert<", ">Update<") + "<references>x,y</references>"
    assert faults(alert(update)) == [("alert.references[0]", "cap_reference_malformed")]


@pytest.mark.parametrize(
    ("info", "area", "remarked"),
    [
        (INFO + "<parameter></parameter><eventCode><value>1</value></eventCode>", AREA, "cap_missing"),
        (INFO + "<resource></resource><resource><resourceDesc>a</resourceDesc></resource>", AREA, "cap_missing"),
        (INFO + "<resource><resourceDesc>a</resourceDesc><mimeType>a/b</mimeType><size>12 KB</size></resource>", AREA, "cap_number_malformed"),
        (INFO + "<resource><resourceDesc>a</resourceDesc><mime>a/b</mime></resource>", AREA, "cap_unknown_element"),
        (INFO + "<onset>tomorrow</onset>", AREA, "cap_time_malformed"),
        (INFO + "<web>a</web><web>b</web>", AREA, "cap_repeated"),
        (INFO, AREA + "<altitude>100 ft</altitude>", "cap_number_malformed"),
        (INFO, AREA + "<altitude>100</altitude><ceiling>9,842.5</ceiling>", "cap_number_malformed"),
        (INFO, AREA + "<geocode></geocode>", "cap_missing"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_parts_that_nothing_rests_on_refuses_no_warning(info: str, area: str, remarked: str) -> None:
    assert remarked in remarks(alert(info=info, area=area))


def test_words_of_the_first_version_and_of_computers_are_taken_as_meant() -> None:
    data = alert(info=INFO.replace("Likely", "Very Likely").replace(">vi<", ">vi_VN<"))
    (info,) = taken(data).infos
    assert (info.certainty, info.language) == (Certainty.LIKELY, "vi-VN")
    assert remarks(data) == {"cap_taken_as"}


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("Người dân <b>KHÔNG</b> được ra khỏi nhà", "Người dân KHÔNG được ra khỏi nhà"),
        ('Người dân <h:b xmlns:h="http://www.w3.org/1999/xhtml"><h:i>KHÔNG</h:i></h:b> ra', "Người dân KHÔNG ra"),
        ("<p>Ở lại trong nhà.</p><p>Không ra sông.</p>", "Ở lại trong nhà.\n\nKhông ra sông."),
        ("Ở lại<br/>trong nhà", "Ở lại\n\ntrong nhà"),
        ("Ở<!-- đi --> lại <![CDATA[<trong>]]> nhà", "Ở lại <trong> nhà"),
    ],
)
def test_no_word_of_a_text_is_dropped(written: str, read: str) -> None:
    data = alert(info=INFO + f"<description>{written}</description>")
    assert taken(data).infos[0].description == read
    assert remarks(data) == (set() if "CDATA" in written else {"cap_markup_in_text"})


def test_words_between_elements_are_told() -> None:
    assert remarks(alert(HEAD + "KHÔNG")) == {"cap_stray_text"}


def test_a_sender_with_blanks_and_commas_in_its_name_is_referred_to() -> None:
    head = HEAD.replace(">s@example.org<", ">Fiji Met Service, Suva<").replace(">Alert<", ">Cancel<")
    sent = "2026-11-29T08:00:00+07:00"
    written = f"Fiji Met Service, Suva,x 1,{sent} Other Service,urn:x,y,{sent}\n  a@b,c,2026-11-29T08:00:00.5Z,"
    found = taken(alert(head + f"<references>{written}</references>")).references
    assert [(each.sender, each.identifier) for each in found] == [
        ("Fiji Met Service, Suva", "x 1"),
        ("Other Service", "urn:x,y"),
        ("a@b", "c"),
    ]


def test_a_message_that_lists_itself_with_those_before_replaces_them_and_not_itself() -> None:
    before, itself = "s@example.org,A-0,2026-11-29T07:00:00+07:00", "s@example.org,A-1,2026-11-29T08:00:00+07:00"
    update = HEAD.replace(">Alert<", ">Update<")
    data = alert(update + f"<references>{itself} {before}</references>")
    assert [each.identifier for each in taken(data).replaced] == ["A-0"]
    assert remarks(data) == {"cap_self_reference"}
    assert (taken(alert(update + f"<references>{itself}</references>")).replaced, remarks(alert(update))) == ((), set())


def test_references_are_bounded() -> None:
    many = " ".join(f"s,{number},2026-11-29T08:00:00+07:00" for number in range(cap_values.MAX_REFERENCES + 1))
    update = HEAD.replace(">Alert<", ">Update<")
    assert faults(alert(update + f"<references>{many}</references>")) == [("alert.references", "cap_too_many")]
    assert len(taken(alert(update + f"<references>{many[: many.rindex(' ')]}</references>")).references) == 500


LARGE = """
import sys
from services.control.alerting.cap_reading import parse
document = sys.stdin.buffer.read()
for name, many in (("polygon", 1), ("circle", 1), ("altitude", 1)):
    for each in ("1", ",", " ", "-", ".", "1 ", "1,", "1, ", "0,0 ", "1e", "+"):
        text = (each * (1_000_000 // len(each)) + "x").encode()
        parse(document.replace(b"<areaDesc>", b"<%s>%s</%s><areaDesc>" % (name.encode(), text, name.encode())))
for name in ("references", "incidents", "sent", "addresses"):
    for each in ('"', ",", " ", "a,", "s,1,2026-11-29T08:00:00+07:00,", ",2026-11-29T08", "-1"):
        text = (each * (1_000_000 // len(each)) + "x").encode()
        parse(document.replace(b"</scope>", b"</scope><%s>%s</%s>" % (name.encode(), text, name.encode())))
"""


def test_a_megabyte_of_anything_is_read_or_refused_in_one_pass() -> None:
    """What costs the square of its length takes hours for the first of these."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (60, 60))

    done = subprocess.run([sys.executable, "-c", LARGE], input=alert(), preexec_fn=limit, check=False)
    assert done.returncode == 0


# --- what is not CAP -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", ("file", "cap_malformed")),
        (b"\x00\x01\x02", ("file", "cap_malformed")),
        (b"{}", ("file", "cap_malformed")),
        (alert()[:-9], ("file", "cap_malformed")),
        (alert() + b"<more/>", ("file", "cap_malformed")),
        (alert().replace("Lũ".encode(), b"\xff\xfe"), ("file", "cap_malformed")),
        (b'<?xml version="1.0" encoding="klingon"?>' + alert(), ("file", "cap_malformed")),
        (alert(namespace=""), ("file", "cap_wrong_namespace")),
        (alert(namespace="urn:oasis:names:tc:emergency:cap:1.3"), ("file", "cap_wrong_namespace")),
        (alert(namespace="urn:oasis:names:tc:emergency:cap:1.1"), ("alert", "cap_old_version")),
        (alert(namespace="http://www.incident.com/cap/1.0"), ("alert", "cap_old_version")),
        (b'<feed xmlns="http://www.w3.org/2005/Atom"/>', ("file", "cap_wrong_root")),
        (b"<html><body>404</body></html>", ("file", "cap_wrong_root")),
    ],
)
def test_what_is_no_cap_is_refused_by_name(data: bytes, found: tuple[str, str]) -> None:
    assert faults(data) == [found]


@pytest.mark.parametrize(
    "doctype",
    [
        '<!DOCTYPE alert [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>',
        '<!DOCTYPE alert [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE alert SYSTEM "http://127.0.0.1:1/evil.dtd">',
        '<!DOCTYPE alert [<!ENTITY % remote SYSTEM "http://127.0.0.1:1/evil.dtd"> %remote;]>',
        "<!DOCTYPE alert>",
    ],
)
def test_document_types_are_refused_where_they_begin(doctype: str) -> None:
    assert faults(f'<?xml version="1.0"?>{doctype}'.encode() + alert(info=INFO + "<note>&x;</note>")) == [
        ("file", "cap_has_dtd")
    ]


def test_a_bomb_of_entities_costs_nothing() -> None:
    levels = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 30))
    bomb = f'<!DOCTYPE alert [<!ENTITY l0 "ha">{levels}]><alert>&l29;</alert>'.encode()
    began = time.monotonic()
    assert faults(bomb) == [("file", "cap_has_dtd")]
    assert time.monotonic() - began < 1


def test_size_depth_and_number_are_bounded() -> None:
    assert faults(alert() + b" " * (50 * 1024 * 1024)) == [("file", "cap_too_large")]
    deep = b"<x>" * (cap_xml.MAX_DEPTH + 1) + b"</x>" * (cap_xml.MAX_DEPTH + 1)
    assert faults(alert(HEAD + deep.decode())) == [("file", "cap_too_deep")]
    foreign = '<y xmlns="urn:other">' + "<z/>" * cap_xml.MAX_ELEMENTS + "</y>"
    assert faults(alert(HEAD + foreign)) == [("file", "cap_too_many_elements")]
    infos = f"<info>{INFO}<area>{AREA}</area></info>" * (cap_reading.MAX_INFOS + 1)
    assert ("alert.info", "cap_too_many") in faults(alert(HEAD + infos, info=None))


def test_what_is_wrong_is_told_at_once_and_bounded() -> None:
    many = f"<info>{INFO.replace('Severe', 'Awful')}</info>" * 60
    assert len(faults(alert(HEAD + many, info=None))) == cap_reading.MAX_FAULTS


@pytest.mark.parametrize("name", ["identifier", "sender", "sent", "status", "msgType", "scope"])
def test_each_mandatory_part_of_a_message(name: str) -> None:
    begin, end = HEAD.index(f"<{name}>"), HEAD.index(f"</{name}>")
    without = HEAD[:begin] + HEAD[end + len(name) + 3 :]
    empty = HEAD[: begin + len(name) + 2] + " " + HEAD[end:]
    twice = HEAD + HEAD[begin : end + len(name) + 3]
    assert faults(alert(without)) == [(f"alert.{name}", "cap_missing")]
    assert faults(alert(empty)) == [(f"alert.{name}", "cap_missing")]
    assert faults(alert(twice)) == [(f"alert.{name}", "cap_repeated")]


@pytest.mark.parametrize("name", ["category", "event", "urgency", "severity", "certainty"])
def test_each_mandatory_part_of_an_information(name: str) -> None:
    begin, end = INFO.index(f"<{name}>"), INFO.index(f"</{name}>")
    assert faults(alert(info=INFO[:begin] + INFO[end + len(name) + 3 :])) == [(f"alert.info[0].{name}", "cap_missing")]


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (alert(HEAD.replace("Actual", "Real")), ("alert.status", "cap_not_listed")),
        (alert(HEAD.replace(">Alert<", ">Warning<")), ("alert.msgType", "cap_not_listed")),
        (alert(HEAD.replace("Public", "Restricted")), ("alert.restriction", "cap_missing")),
        (alert(HEAD.replace("Public", "Private")), ("alert.addresses", "cap_missing")),
        (alert(HEAD.replace("+07:00", "")), ("alert.sent", "cap_time_without_offset")),
        (alert(HEAD.replace("T08", " 08")), ("alert.sent", "cap_time_malformed")),
        (alert(HEAD.replace("11-29T08", "02-30T08")), ("alert.sent", "cap_time_malformed")),
        (alert(HEAD.replace("2026-11-29T08:00:00+07:00", "0001-01-01T00:00:00+07:00")), ("alert.sent", "cap_time_malformed")),
        (alert(HEAD.replace("A-1", "A" * 501)), ("alert.identifier", "text_too_long")),
        (alert(HEAD + "<expiry>now</expiry>"), ("alert", "cap_unknown_element")),
        (alert(info=INFO.replace("Met", "Weather")), ("alert.info[0].category[0]", "cap_not_listed")),
        (alert(info=INFO.replace("Lũ", "L" * 100_001)), ("alert.info[0].event", "text_too_long")),
        (alert(info=INFO.replace(">vi<", ">tiếng Việt<")), ("alert.info[0].language", "cap_language_malformed")),
        (alert(area=""), ("alert.info[0].area[0].areaDesc", "cap_missing")),
        (alert(area="<polygon>21,106 21,106</polygon>"), ("alert.info[0].area[0].areaDesc", "cap_missing")),
        (alert(HEAD.replace("T08:00:00", "T24:00:01")), ("alert.sent", "cap_time_malformed")),
        (alert(HEAD.replace("+07:00", "+99:00")), ("alert.sent", "cap_time_malformed")),
        (alert(area=AREA + "<polygon>21 106 22 107 21 107</polygon>"), ("alert.info[0].area[0].polygon[0]", "cap_polygon_malformed")),
        (alert(area=AREA + "<polygon>21,106 22,107 north</polygon>"), ("alert.info[0].area[0].polygon[0]", "cap_polygon_malformed")),
        (alert(area=AREA + "<polygon>NaN,106 22,107 21,107</polygon>"), ("alert.info[0].area[0].polygon[0]", "cap_polygon_malformed")),
        (alert(area=AREA + "<polygon>106,21 107,22 107,21 106,21</polygon>"), ("alert.info[0].area[0].polygon[0]", "cap_point_nowhere")),
        (alert(area=AREA + f"<polygon>{'21.5,106.5 ' * 100_001}</polygon>"), ("alert.info[0].area[0].polygon[0]", "cap_too_many")),
        (alert(area=AREA + "<circle>21,106</circle>"), ("alert.info[0].area[0].circle[0]", "cap_circle_malformed")),
        (alert(area=AREA + f"<circle>21,106 {'9' * 400}</circle>"), ("alert.info[0].area[0].circle[0]", "cap_circle_malformed")),
        (alert(area=AREA + "<circle>21,106 -5</circle>"), ("alert.info[0].area[0].circle[0]", "cap_circle_malformed")),
        (alert(area=AREA + "<circle>91,106 5</circle>"), ("alert.info[0].area[0].circle[0]", "cap_point_nowhere")),
    ],
)  # fmt: skip
def test_faults_name_the_place_and_the_reason(data: bytes, found: tuple[str, str]) -> None:
    assert faults(data) == [found]
