"""Which containers of sounds and films are taken, and how each is told by its first bytes. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Film:
    """What of moving pictures a container may hold."""

    mime: str
    codecs: frozenset[str]
    sound_codecs: frozenset[str]


@dataclass(frozen=True, slots=True)
class Container:
    """A form of sounds, of films, or of both; `codecs` are of sound without moving pictures."""

    demuxer: str
    mime: str
    codecs: frozenset[str]
    film: Film | None = None


_PCM = frozenset({"pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_u8"})
WAV = Container("wav", "audio/wav", _PCM)
FLAC = Container("flac", "audio/flac", frozenset({"flac"}))
_OGG = Container("ogg", "audio/ogg", frozenset({"opus", "vorbis", "flac"}))
_MP3 = Container("mp3", "audio/mpeg", frozenset({"mp3", "mp3float"}))
_MP4 = Container("mp4", "audio/mp4", frozenset({"aac"}), Film("video/mp4", frozenset({"h264"}), frozenset({"aac"})))
_WEBM = Container(
    "matroska,webm",
    "audio/webm",
    frozenset(),
    Film("video/webm", frozenset({"vp8", "vp9", "av1", "libdav1d"}), frozenset({"opus", "vorbis"})),
)
_WEBM_TYPE = b"\x42\x82\x84webm"  # DocType in the header: other Matroska may hold anything


def container_of(head: bytes) -> Container | None:
    """The container a file claims to be by its first bytes, if it is one we take."""
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return WAV
    if head[:4] == b"fLaC":
        return FLAC
    if head[:4] == b"OggS":
        return _OGG
    if head[:3] == b"ID3" or _is_mpeg_layer_3(head[:3]):
        return _MP3
    if head[4:8] == b"ftyp":
        return _MP4
    if head[:4] == b"\x1aE\xdf\xa3" and _WEBM_TYPE in head:
        return _WEBM
    return None


def _is_mpeg_layer_3(head: bytes) -> bool:
    """Whether an MPEG audio frame header of layer III begins here (eleven set bits; version, layer, rates not reserved)."""
    return (
        len(head) == 3
        and head[0] == 0xFF
        and head[1] & 0xE0 == 0xE0
        and head[1] >> 3 & 3 != 1
        and head[1] >> 1 & 3 == 1
        and head[2] >> 4 not in (0, 15)
        and head[2] >> 2 & 3 != 3
    )
