"""Files that come as the body of a request, or in the field `file` of a form."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from starlette.datastructures import UploadFile

from services.control.errors import Fault, Invalid, TooLarge

_FORM = "multipart/form-data"


def accepts(media_type: str) -> dict[str, Any]:
    """What the OpenAPI document says of such a body (`openapi_extra` of a route)."""
    file = {"type": "string", "format": "binary"}
    form = {"type": "object", "required": ["file"], "properties": {"file": file}}
    return {"requestBody": {"required": True, "content": {media_type: {"schema": file}, _FORM: {"schema": form}}}}


def is_form(request: Request) -> bool:
    """Whether the body is a form with files."""
    return request.headers.get("content-type", "").lower().startswith(_FORM)


async def file_of(request: Request, *, limit: int) -> bytes:
    """The file, of at most `limit` bytes. Raises `Invalid` for a form without it, and `TooLarge`.

    A body that is no form is bounded by its route (`app.body_limits`).
    """
    if not is_form(request):
        return await request.body()
    async with request.form(max_files=1, max_fields=4) as form:
        file: Any = form.get("file")
        if not isinstance(file, UploadFile):
            raise Invalid(Fault("file", "field_missing"))
        content = await file.read(limit + 1)
    if len(content) > limit:
        raise TooLarge("body_too_large", facts={"limit": limit // 1024})
    return content
