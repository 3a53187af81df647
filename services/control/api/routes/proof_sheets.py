"""The proof sheet of a unit and a month: to be printed and signed, counted on with, and checked."""

from __future__ import annotations

import enum
import uuid
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from schemas.identifiers import UnitId
from services.control import proof_sheet_files, proof_sheet_store, proofs
from services.control.api.access import Scope, requires
from services.control.api.context import Caller, Parts
from services.control.api.fields import Answer
from services.control.catalogue.texts import preferred
from services.control.pages.rendering import render
from services.control.pages.wording import Wording
from services.control.permissions import Permission
from services.control.proof_sheets import Month

router = APIRouter(prefix="/api/v1/units", tags=["units"])

Reader = Annotated[Caller, requires(Permission.SEE_BROADCASTS, Scope.UNIT)]
MonthText = Annotated[str, Query(pattern=r"^20\d\d-(0[1-9]|1[0-2])$", description="a month of local days: 2026-10")]


class Format(enum.StrEnum):
    """What a sheet is written as."""

    HTML = "html"
    CSV = "csv"
    XLSX = "xlsx"


class CheckView(Answer):
    """What is known of a sheet with this digest."""

    is_on_record: bool = Field(description="whether the platform ever made such a sheet of this unit and month")
    made_at: datetime | None = Field(description="when it did for the first time")
    is_current: bool = Field(description="whether the figures are still the same; late reports may have changed them")
    digest: str = Field(description="SHA-256 of the figures as they are now")


@router.get(
    "/{unit_id}/proof-sheet",
    responses={
        200: {
            "content": {
                "text/html": {},
                "text/csv": {},
                proof_sheet_files.XLSX_TYPE: {"schema": {"type": "string", "format": "binary"}},
            }
        },
    },
    response_class=Response,
)
async def proof_sheet(
    unit_id: uuid.UUID,
    request: Request,
    caller: Reader,
    services: Parts,
    month: MonthText,
    form: Annotated[Format, Query(alias="format")] = Format.HTML,
    lang: Annotated[Literal["vi", "en"] | None, Query(description="default: as Accept-Language says")] = None,
) -> Response:
    """What was planned in a unit in a month and what of it is proven: by day, broadcast and device, and what was not planned.

    Also for units of a tree of the past. HTML is made to be printed on A4 and signed. What only a gateway vouches for
    stands apart (R-28). The digest on it is of the figures; ask `…/proof-sheet/check` whether a sheet is genuine.
    """
    parts = _month(month)
    async with services.database.transaction() as connection:
        history = await services.directory.history(connection)
        sheet = await proofs.sheet_of(connection, UnitId(unit_id), parts, history=history, zone=services.directory.zone)
        await proof_sheet_store.remember(
            connection,
            UnitId(unit_id),
            parts.first,
            bytes.fromhex(sheet.digest),
            at=caller.now,
            by=caller.actor.account_id,
        )
    wording = Wording(
        language=preferred(lang or request.headers.get("accept-language")), zone=services.directory.zone, now=caller.now
    )
    made_at = caller.now.astimezone(services.directory.zone)
    name = f"loa-{sheet.code}-{month}"
    match form:
        case Format.HTML:
            is_over = proofs.is_over(parts, services.directory.zone, now=caller.now)
            return Response(
                render("proof_sheet.html", wording, sheet=sheet, total=sheet.total, is_over=is_over),
                media_type="text/html; charset=utf-8",
            )
        case Format.CSV:
            content = proof_sheet_files.as_csv(sheet, made_at=made_at, words=wording.text)
            return _file(content, f"{name}.csv", proof_sheet_files.CSV_TYPE)
        case Format.XLSX:
            content = proof_sheet_files.as_xlsx(sheet, made_at=made_at, words=wording.text)
            return _file(content, f"{name}.xlsx", proof_sheet_files.XLSX_TYPE)


@router.get("/{unit_id}/proof-sheet/check")
async def check_proof_sheet(
    unit_id: uuid.UUID,
    caller: Reader,
    services: Parts,
    month: MonthText,
    digest: Annotated[str, Query(max_length=100, description="SHA-256 as printed on the sheet, in hex")],
) -> CheckView:
    """Whether the platform made a sheet with this digest, and whether its figures still hold."""
    del caller
    wanted, parts = proofs.check_digest(digest), _month(month)
    async with services.database.connection() as connection:
        history = await services.directory.history(connection)
        sheet = await proofs.sheet_of(connection, UnitId(unit_id), parts, history=history, zone=services.directory.zone)
        made_at = await proof_sheet_store.made_at(connection, UnitId(unit_id), parts.first, wanted)
    return CheckView(
        is_on_record=made_at is not None,
        made_at=made_at,
        is_current=sheet.digest == wanted.hex(),
        digest=sheet.digest,
    )


def _month(text: str) -> Month:
    year, month = text.split("-")
    return Month(year=int(year), month=int(month))


def _file(content: bytes, name: str, media_type: str) -> Response:
    return Response(content, media_type=media_type, headers={"Content-Disposition": f'attachment; filename="{name}"'})
