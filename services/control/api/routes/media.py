"""Sounds, pictures and films: uploaded by officers, fetched by devices.

A device fetches by hash and believes nothing else, so reading needs no login: whoever knows the hash has been told it.
"""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field
from starlette.datastructures import FormData, UploadFile

from schemas.identifiers import UnitId
from services.control import bulletin_store, media_files, media_uploads, ranges
from services.control.api import uploads
from services.control.api.access import Scope, requires
from services.control.api.context import Caller, Parts
from services.control.api.errors import documented
from services.control.api.fields import Answer, uuid_of
from services.control.bulletin_store import MediaFile
from services.control.errors import Fault, Invalid, NotFound, UnsupportedContent
from services.control.permissions import Permission

router = APIRouter(tags=["media"])

Maker = Annotated[Caller, requires(Permission.MAKE_BULLETINS, Scope.BODY)]
Reader = Annotated[Caller, requires(Permission.SEE_BULLETINS, Scope.ANYWHERE)]

# A name stands for its bytes for ever.
_CACHE = "public, max-age=31536000, immutable"
_KINDS: dict[str, Any] = {
    kind: {"schema": {"type": "string", "format": "binary"}} for kind in ("audio/*", "image/*", "video/*")
}


class MediaView(Answer):
    """A stored file and what was measured of it."""

    sha256: str
    size: int
    mime: str
    duration_ms: int | None = Field(description="of sounds and films")
    sample_rate_hz: int | None
    channels: int | None
    loudness_lufs: float | None = Field(description="integrated loudness (EBU R 128); null for silence")
    true_peak_dbtp: float | None
    width: int | None = Field(description="of pictures and films, in pixels")
    height: int | None
    is_silent: bool
    stored_at: datetime
    is_new: bool = Field(description="false when the same bytes were stored before")


def media_view(media: MediaFile, *, is_new: bool) -> MediaView:
    """The answer for a file."""
    measures = media.measures
    return MediaView(
        sha256=media.sha256.hex(),
        size=media.size,
        mime=measures.mime,
        duration_ms=measures.duration_ms,
        sample_rate_hz=measures.sample_rate_hz,
        channels=measures.channels,
        loudness_lufs=measures.loudness_lufs,
        true_peak_dbtp=measures.true_peak_dbtp,
        width=measures.width,
        height=measures.height,
        is_silent=measures.is_silent,
        stored_at=media.stored_at,
        is_new=is_new,
    )


@router.post(
    "/api/v1/media",
    status_code=201,
    responses=documented([415]),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["unit_id", "file"],
                        "properties": {
                            "unit_id": {"type": "string", "format": "uuid"},
                            "file": {"type": "string", "format": "binary"},
                        },
                    }
                }
            },
        }
    },
)
async def upload(request: Request, caller: Maker, services: Parts) -> MediaView:
    """Upload one file; it is decoded to the end and measured before it is taken.

    Sounds are WAV, FLAC, Ogg, MP3 or M4A; pictures PNG or JPEG; films MP4 (H.264, AAC) or WebM (VP8, VP9, AV1, Opus).
    """
    # Read here and not by the framework, so that a file of hundreds of megabytes is taken from nobody unknown.
    if not uploads.is_form(request):
        raise UnsupportedContent("form_expected")
    async with request.form(max_files=1, max_fields=4) as form:
        unit_id, file = _unit_id(form), _file(form)
        if not caller.rights.tree.stands(unit_id):
            raise Invalid(Fault("unit_id", "unknown_unit", {"unit": str(unit_id)}))
        caller.demand(Permission.MAKE_BULLETINS, unit_id, field="unit_id")
        media, is_new = await media_uploads.take(
            services.database,
            services.files,
            services.measurer,
            file.file,
            unit_id=unit_id,
            limit=services.media.max_file_mib * 1024 * 1024,
            actor=caller.actor,
            origin=caller.origin,
            now=caller.now,
        )
    return media_view(media, is_new=is_new)


def _unit_id(form: FormData) -> UnitId:
    value = form.get("unit_id")
    if not isinstance(value, str):
        raise Invalid(Fault("unit_id", "field_missing"))
    return UnitId(uuid_of(value, field="unit_id"))


def _file(form: FormData) -> UploadFile:
    value: Any = form.get("file")
    if not isinstance(value, UploadFile):
        raise Invalid(Fault("file", "field_missing"))
    return value


@router.get("/api/v1/media/{sha256}")
async def measured(sha256: str, caller: Reader, services: Parts) -> MediaView:
    """What was measured of a file."""
    del caller
    return media_view(await _known(services, sha256), is_new=False)


@router.get(
    "/media/{sha256}",
    response_class=Response,
    responses={
        200: {"content": _KINDS},
        206: {"content": _KINDS},
        304: {"description": "Not Modified"},
        416: {"description": "Range Not Satisfiable"},
    },
)
@router.head("/media/{sha256}", include_in_schema=False)
async def fetch(sha256: str, request: Request, services: Parts) -> Response:
    """The bytes of a file, whole or one range of them. For devices."""
    media = await _known(services, sha256)
    path = services.files.path(media.sha256)
    if not path.is_file():
        raise NotFound("media_not_found", facts={"sha256": sha256[:64]})
    etag = f'"{media.sha256.hex()}"'
    headers = {
        "ETag": etag,
        "Cache-Control": _CACHE,
        "Accept-Ranges": "bytes",
        # Bytes of strangers are never a page, whatever a browser may make of them.
        "Content-Disposition": "attachment",
        "X-Content-Type-Options": "nosniff",
    }
    if ranges.matches(request.headers.get("if-none-match"), etag):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    # If-Range (RFC 9110): another file under the same name cannot be, but another name can be asked for.
    if_range = request.headers.get("if-range")
    wanted = request.headers.get("range") if if_range is None or if_range == etag else None
    match ranges.requested(wanted, media.size):
        case ranges.Unsatisfiable():
            headers["Content-Range"] = f"bytes */{media.size}"
            return Response(status_code=HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers=headers)
        case ranges.Slice(start, end):
            status = HTTPStatus.PARTIAL_CONTENT
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{media.size}"
        case _:
            status, start, end = HTTPStatus.OK, 0, media.size
    headers["Content-Length"] = str(end - start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=media.measures.mime)
    return StreamingResponse(
        media_files.chunks(path, start, end), status_code=status, headers=headers, media_type=media.measures.mime
    )


async def _known(services: Parts, sha256: str) -> MediaFile:
    name = sha256.lower()
    if len(name) == 64 and not set(name) - set("0123456789abcdef"):
        async with services.database.connection() as connection:
            media = await bulletin_store.media(connection, bytes.fromhex(name))
        if media is not None:
            return media
    raise NotFound("media_not_found", facts={"sha256": sha256[:64]})
