from __future__ import annotations

import contextlib
import io
import math
import struct
import wave
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from services.control.measurement import Limits, Measures, Refusal, Refused, measure
from services.control.media_containers import container_of
from tests.support import pictures, sounds

LIMITS = Limits(max_duration_s=30, max_film_s=4, max_cpu_s=20, max_memory_mib=1024)


def written(folder: Path, content: bytes) -> Path:
    path = folder / "sound"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("form", "mime"),
    [
        ("wav", "audio/wav"),
        ("flac", "audio/flac"),
        ("ogg", "audio/ogg"),
        ("mp3", "audio/mpeg"),
        ("m4a", "audio/mp4"),
    ],
)
def test_each_form_is_measured_by_what_was_decoded(tmp_path: Path, form: str, mime: str) -> None:
    measures = measure(written(tmp_path, sounds.tone(form, seconds=2.0)), LIMITS)
    assert measures.mime == mime
    assert (measures.sample_rate_hz, measures.channels) == (48_000, 1)
    assert measures.duration_ms == pytest.approx(2_000, abs=100)
    # A 1 kHz sine of amplitude 0.2 in one channel: -14 dBFS peak, -17 LUFS (EBU R 128 counts one channel once).
    assert measures.loudness_lufs == pytest.approx(-17.0, abs=1.0)
    assert measures.true_peak_dbtp == pytest.approx(-14.0, abs=1.5)
    assert not measures.is_silent


def test_silence_is_flagged_and_not_refused(tmp_path: Path) -> None:
    measures = measure(written(tmp_path, sounds.tone("wav", amplitude=0.0)), LIMITS)
    assert measures.is_silent
    assert measures.loudness_lufs is None


def test_two_channels_and_odd_rates_are_fine(tmp_path: Path) -> None:
    measures = measure(written(tmp_path, sounds.tone("wav", rate=22_050, layout="stereo")), LIMITS)
    assert (measures.sample_rate_hz, measures.channels) == (22_050, 2)


def truncated_wav() -> bytes:
    """A header that promises an hour in front of two seconds: only what is there counts."""
    good = bytearray(sounds.tone("wav"))
    place = good.index(b"data") + 4
    good[place : place + 4] = (48_000 * 2 * 3_600).to_bytes(4, "little")
    return bytes(good)


def test_a_header_that_promises_more_than_there_is_promises_nothing(tmp_path: Path) -> None:
    assert measure(written(tmp_path, truncated_wav()), LIMITS).duration_ms == pytest.approx(2_000, abs=100)


def many_channels() -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(6)
        out.setsampwidth(2)
        out.setframerate(48_000)
        out.writeframes(bytes(6 * 2 * 48_000))
    return file.getvalue()


# A sound of two seconds, and what may stand around it in a WAV file.
PCM = b"".join(struct.pack("<h", 8_000 if number % 40 < 20 else -8_000) for number in range(32_000))


REFUSED: dict[str, tuple[Callable[[], bytes], Refusal | None]] = {
    "empty": (lambda: b"", Refusal.EMPTY),
    "text": (lambda: b"Xin chao" * 100, Refusal.NOT_AUDIO),
    "html": (lambda: b"<!doctype html><script>alert(1)</script>", Refusal.NOT_AUDIO),
    "gif": (lambda: b"GIF89a" + bytes(100), Refusal.NOT_AUDIO),
    "svg": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>', Refusal.NOT_AUDIO),
    "zip": (lambda: b"PK\x03\x04" + bytes(100), Refusal.NOT_AUDIO),
    "html_before_a_sound": (lambda: b"<html>" + sounds.tone("mp3"), Refusal.NOT_AUDIO),
    "playlist": (lambda: b"#EXTM3U\n#EXTINF:10\nhttp://169.254.169.254/latest\n", Refusal.NOT_AUDIO),
    "sound_form_with_pictures": (lambda: pictures.film("ogg", "libvpx"), Refusal.HAS_VIDEO),
    "six_channels": (many_channels, Refusal.LAYOUT),
    "too_short": (lambda: sounds.tone("wav", seconds=0.2), Refusal.TOO_SHORT),
    "too_long": (lambda: sounds.tone("wav", seconds=31, rate=8_000), Refusal.TOO_LONG),
    "too_long_but_small": (lambda: sounds.tone("flac", seconds=40, rate=8_000, amplitude=0), Refusal.TOO_LONG),
    "archive_behind_a_sound": (lambda: sounds.tone("mp3") + b"PK\x03\x04" * 200_000, Refusal.FOREIGN_BYTES),
    "mpeg_header_and_noise": (lambda: b"\xff\xfb\x90\x64" + bytes(range(256)) * 20, None),
    "riff_and_nothing": (lambda: b"RIFF\x00\x00\x00\x00WAVE", None),
    "ogg_and_nothing": (lambda: b"OggS" + bytes(200), None),
    "flac_and_nothing": (lambda: b"fLaC" + bytes(200), None),
    "mp4_and_nothing": (lambda: b"\x00\x00\x00\x18ftypM4A " + bytes(200), None),
    "archive_at_the_end": (lambda: sounds.tone("mp3") + archive(), Refusal.FOREIGN_BYTES),
    "archive_at_the_end_of_a_recording": (lambda: sounds.tone("wav") + archive(), Refusal.FOREIGN_BYTES),
    "archive_on_another_disk": (lambda: sounds.tone("mp3") + on_another_disk(archive()), Refusal.FOREIGN_BYTES),
    "archive_in_a_tag": (lambda: _tag(archive()) + sounds.tone("mp3", seconds=1), Refusal.FOREIGN_BYTES),
    "document_in_a_tag": (lambda: _tag(b"%PDF-1.7\n") + sounds.tone("mp3"), Refusal.FOREIGN_BYTES),
    "wav_with_a_second_sound": (lambda: _wav(more=_part(b"data", PCM)), Refusal.FOREIGN_BYTES),
    "wav_with_a_second_format": (lambda: _wav(more=_part(b"fmt ", _format(rate=48_000))), Refusal.FOREIGN_BYTES),
    "wav_with_a_sound_behind_its_end": (lambda: _wav() + _part(b"data", PCM), Refusal.FOREIGN_BYTES),
    "wav_of_a_million_parts": (lambda: _wav(more=_part(b"JUNK", b"") * 1_000_000), Refusal.FOREIGN_BYTES),
    "wav_of_no_length": (lambda: _wav(length=0), Refusal.DAMAGED),
    "wav_without_a_format": (lambda: _riff(_part(b"data", PCM)), Refusal.DAMAGED),
    "wav_of_other_bytes_a_second": (lambda: _wav(_format(a_second=1)), Refusal.DAMAGED),
    "wav_of_other_blocks": (lambda: _wav(_format(block=400, a_second=16_000 * 400)), Refusal.DAMAGED),
    "wav_of_endless_loudness": (lambda: _floats(math.inf), Refusal.DAMAGED),
    "wav_of_no_numbers": (lambda: _floats(math.nan), Refusal.DAMAGED),
    "wav_of_absurd_loudness": (lambda: _floats(1e30), Refusal.DAMAGED),
    "flac_of_another_length": (lambda: _flac(21, 0x0F), Refusal.DAMAGED),
    "flac_of_another_rate": (lambda: _flac(18, 0x10), Refusal.DAMAGED),
    "flac_of_more_channels": (lambda: _flac(20, 0x02), Refusal.DAMAGED),
    "flac_without_a_head": (lambda: b"fLaC\x04" + sounds.tone("flac")[5:], Refusal.DAMAGED),
    "holes": (lambda: _with_holes(sounds.tone("mp3", seconds=4)), Refusal.DAMAGED),
}


def _part(kind: bytes, body: bytes, length: int | None = None) -> bytes:
    filling = bytes(len(body) % 2)
    return kind + struct.pack("<I", len(body) if length is None else length) + body + filling


def _riff(*parts: bytes) -> bytes:
    return _part(b"RIFF", b"WAVE" + b"".join(parts))


def _format(*, tag: int = 1, rate: int = 16_000, bits: int = 16, block: int = 2, a_second: int | None = None) -> bytes:
    return struct.pack("<HHIIHH", tag, 1, rate, rate * block if a_second is None else a_second, block, bits)


def _wav(form: bytes | None = None, *, length: int | None = None, more: bytes = b"") -> bytes:
    return _riff(_part(b"fmt ", form or _format()), _part(b"data", PCM, length), more)


def _floats(odd: float) -> bytes:
    """Floating point with a hundred odd samples in the middle."""
    samples = [0.1] * 16_000 + [odd] * 100 + [-0.1] * 16_000
    body = struct.pack(f"<{len(samples)}f", *samples)
    return _riff(_part(b"fmt ", _format(tag=3, bits=32, block=4)), _part(b"data", body))


def _flac(place: int, flipped: int) -> bytes:
    """A sound whose head says something else than it is, in the byte at `place`."""
    content = bytearray(sounds.tone("flac"))
    content[place] ^= flipped
    return bytes(content)


def _tag(body: bytes) -> bytes:
    return b"ID3\x04\0\0\0\0" + bytes([len(body) >> 7, len(body) & 0x7F]) + body


def on_another_disk(archived: bytes) -> bytes:
    """The same archive, which says that it ends on a second disk; readers that know no disks open it all the same."""
    at = archived.rindex(b"PK\x05\x06") + 4
    said = archived[:at] + b"\1\0\1\0" + archived[at + 4 :]
    assert zipfile.is_zipfile(io.BytesIO(said))
    return said


def archive() -> bytes:
    """What a program that unpacks finds at the end of a file, whatever stands before it."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as out:
        out.writestr("bai.txt", "x")
    return packed.getvalue()


def test_what_honest_programs_write_around_a_recording_is_taken(tmp_path: Path) -> None:
    info = _part(b"LIST", b"INFO" + _part(b"INAM", b"Ban tin"))
    for content in (
        _wav(more=info),
        _wav(length=0xFFFFFFFF),  # written while nobody knew how long it would be
        _riff(_part(b"JUNK", bytes(28)), _part(b"fmt ", _format()), info, _part(b"data", PCM)),
        _wav(_format(tag=1, bits=12)),
    ):
        assert measure(written(tmp_path, content), LIMITS).duration_ms == 2_000
    unknown = bytearray(sounds.tone("flac"))  # as by an encoder that could not go back to the head
    unknown[21] &= 0xF0
    unknown[22:26] = bytes(4)
    assert measure(written(tmp_path, bytes(unknown)), LIMITS).duration_ms == 2_000


def _with_holes(content: bytes) -> bytes:
    """Every second half-kilobyte replaced by ones that look like frame headers."""
    return b"".join(
        content[place : place + 512] if place // 512 % 2 == 0 else b"\xff\xfb\x90" * 170 + b"\xff\xfb"
        for place in range(0, len(content), 512)
    )


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_honest_sound_is_refused_with_its_reason(tmp_path: Path, name: str) -> None:
    make, expected = REFUSED[name]
    with pytest.raises(Refused) as caught:
        measure(written(tmp_path, make()), LIMITS)
    if expected is not None:
        assert caught.value.refusal is expected


@pytest.mark.parametrize("form", sounds.FORMATS)
def test_no_beginning_of_a_file_crashes_the_measuring(tmp_path: Path, form: str) -> None:
    content = sounds.tone(form, seconds=1.0)
    for length in range(0, len(content), max(1, len(content) // 25)):
        with contextlib.suppress(Refused):
            measure(written(tmp_path, content[:length]), LIMITS)


@pytest.mark.parametrize(
    ("head", "is_known"),
    [
        (b"ID3\x04", True),
        (b"\xff\xfb\x90", True),
        (b"\xff\xff\xff", False),
        (b"\xff\xf1\x50", False),  # AAC in ADTS
        (b"RIFF1234AVI ", False),
        (b"", False),
    ],
)
def test_the_first_bytes_tell_the_container(head: bytes, is_known: bool) -> None:
    assert (container_of(head) is not None) is is_known


# --- pictures and films ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("form", "mime"), [("png", "image/png"), ("jpeg", "image/jpeg")])
def test_a_picture_has_a_size_and_no_length(tmp_path: Path, form: str, mime: str) -> None:
    measures = measure(written(tmp_path, pictures.picture(form, width=320, height=160)), LIMITS)
    assert measures == Measures(mime=mime, width=320, height=160)
    assert not measures.is_silent


@pytest.mark.parametrize(
    ("form", "codec", "sound", "mime"),
    [
        ("mp4", "libx264", None, "video/mp4"),
        ("mp4", "libx264", "aac", "video/mp4"),
        ("webm", "libvpx", None, "video/webm"),
        ("webm", "libvpx-vp9", "libopus", "video/webm"),
    ],
)
def test_a_film_has_a_size_and_a_length(tmp_path: Path, form: str, codec: str, sound: str | None, mime: str) -> None:
    content = pictures.film(form, codec, seconds=2, width=128, height=64, sound=sound)
    measures = measure(written(tmp_path, content), LIMITS)
    assert (measures.mime, measures.width, measures.height) == (mime, 128, 64)
    assert measures.duration_ms == pytest.approx(2_000, abs=50)
    assert (measures.sample_rate_hz, measures.channels) == ((48_000, 1) if sound else (None, None))
    assert measures.is_silent is (sound is not None)


REFUSED_PICTURES: dict[str, tuple[Callable[[], bytes], Refusal | None]] = {
    "png_and_nothing": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(100), Refusal.DAMAGED),
    "archive_behind_a_picture": (lambda: pictures.picture("png") + b"PK\x03\x04", Refusal.FOREIGN_BYTES),
    "much_said_about_a_picture": (
        lambda: pictures.png(extra=pictures.chunk(b"tEXt", bytes(300_000))),
        Refusal.FOREIGN_BYTES,
    ),
    "bomb_in_a_profile": (lambda: a_note(b"iCCP", b"x\0\0" + bomb()), Refusal.FOREIGN_BYTES),
    "bomb_in_a_text": (lambda: a_note(b"zTXt", b"x\0\0" + bomb()), Refusal.FOREIGN_BYTES),
    "bomb_in_an_international_text": (lambda: a_note(b"iTXt", b"x\0\1\0\0\0" + bomb()), Refusal.FOREIGN_BYTES),
    "bomb_in_parts": (lambda: a_note(*(b"zTXt", b"x\0\0" + bomb(3)) * 2), Refusal.FOREIGN_BYTES),
    "text_that_is_not_packed_as_it_says": (lambda: a_note(b"zTXt", b"x\0\0xyz"), Refusal.DAMAGED),
    "archive_in_a_text": (lambda: a_note(b"tEXt", b"x\0" + archive()), Refusal.FOREIGN_BYTES),
    "archive_in_a_photograph": (lambda: _behind_the_head(pictures.picture("jpeg"), archive()), Refusal.FOREIGN_BYTES),
    "more_scans_than_a_picture_has": (lambda: _scans(pictures.picture("jpeg"), 200), Refusal.FOREIGN_BYTES),
    "archive_in_a_film": (
        lambda: pictures.film() + struct.pack(">I", 8 + len(archive())) + b"free" + archive(),
        Refusal.FOREIGN_BYTES,
    ),
    "too_many_pixels": (lambda: pictures.png(width=50_000, height=50_000, rows=b""), Refusal.TOO_MANY_PIXELS),
    "animated": (lambda: pictures.png(extra=pictures.chunk(b"acTL", bytes(8))), Refusal.ANIMATED),
    "film_of_another_codec": (sounds.video, Refusal.CODEC),
    "film_with_a_codec_for_discs": (lambda: pictures.film("mp4", "libx264", sound="ac3"), Refusal.CODEC),
    "matroska": (lambda: pictures.film("matroska", "libvpx"), Refusal.NOT_AUDIO),
    "two_films": (lambda: pictures.film(films=2), Refusal.SEVERAL_FILMS),
    "film_too_long": (lambda: pictures.film(seconds=4.5), Refusal.TOO_LONG),
    "film_too_short": (lambda: pictures.film(seconds=0.2), Refusal.TOO_SHORT),
    "film_too_large": (lambda: pictures.film(seconds=0.1, width=4_096, height=2_176), Refusal.TOO_MANY_PIXELS),
    "archive_behind_a_film": (lambda: pictures.film() + b"PK\x03\x04" * 100_000, Refusal.FOREIGN_BYTES),
    "film_cut_in_the_middle": (lambda: pictures.film("mp4", seconds=2)[:-2_000], None),
    "webm_and_nothing": (lambda: b"\x1aE\xdf\xa3\x87B\x82\x84webm" + bytes(100), None),
}


def a_note(*kinds_and_bodies: bytes) -> bytes:
    """A picture with chunks about it."""
    pairs = zip(kinds_and_bodies[::2], kinds_and_bodies[1::2], strict=True)
    return pictures.png(extra=b"".join(pictures.chunk(kind, body) for kind, body in pairs))


def bomb(mebibytes: int = 64) -> bytes:
    """Much that is packed as little."""
    return zlib.compress(bytes(mebibytes << 20), 9)


def _behind_the_head(jpeg: bytes, note: bytes) -> bytes:
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(note)) + note + jpeg[2:]


def _scans(jpeg: bytes, count: int) -> bytes:
    begin, end = jpeg.index(b"\xff\xda"), jpeg.rindex(b"\xff\xd9")
    return jpeg[:end] + jpeg[begin:end] * count + jpeg[end:]


def test_what_cameras_and_editors_write_about_a_picture_is_taken(tmp_path: Path) -> None:
    profile = a_note(b"iCCP", b"sRGB\0\0" + zlib.compress(bytes(560_000)), b"iTXt", b"x\0\0\0\0\0Cong bo")
    assert measure(written(tmp_path, profile), LIMITS).mime == "image/png"
    assert measure(written(tmp_path, _scans(pictures.picture("jpeg"), 10)), LIMITS).mime == "image/jpeg"


@pytest.mark.parametrize("name", REFUSED_PICTURES)
def test_what_is_no_honest_picture_or_film_is_refused_with_its_reason(tmp_path: Path, name: str) -> None:
    make, expected = REFUSED_PICTURES[name]
    with pytest.raises(Refused) as caught:
        measure(written(tmp_path, make()), LIMITS)
    if expected is not None:
        assert caught.value.refusal is expected


@pytest.mark.parametrize("form", ["png", "jpeg", "mp4", "webm"])
def test_no_beginning_of_a_picture_or_film_crashes_the_measuring(tmp_path: Path, form: str) -> None:
    makers = {"mp4": pictures.film, "webm": lambda: pictures.film("webm", "libvpx")}
    content = makers[form]() if form in makers else pictures.picture(form)
    for length in range(0, len(content), max(1, len(content) // 25)):
        with contextlib.suppress(Refused):
            measure(written(tmp_path, content[:length]), LIMITS)
