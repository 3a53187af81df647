"""The quarantine inbox: look at what was not admitted, mend it, have it judged anew, or let it go.

What is in quarantine belongs to no unit (its device may be unknown), so all of it asks for rights over the root.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Literal, Self

from fastapi import APIRouter, Path, Query, Request
from pydantic import AwareDatetime, Field, model_validator

from schemas.identifiers import UnitId
from services.control import quarantine, quarantine_store
from services.control.api.access import Scope, requires
from services.control.api.context import Caller, Metered, Parts
from services.control.api.errors import language_of
from services.control.api.faults import FieldFault
from services.control.api.fields import Answer, Body, TopicText, Whole, Why
from services.control.catalogue.texts import Language, text
from services.control.errors import Fault, Invalid, NotFound
from services.control.permissions import Permission
from services.control.quarantine import MAX_AT_ONCE, By, Decided
from services.control.quarantine_corrections import Edit
from services.control.quarantine_forecast import REPLAY_REASONS, Forecast, Reason
from services.control.quarantine_notation import described
from services.control.quarantine_store import Correction, Filter, Inmate, Outcome

router = APIRouter(prefix="/api/v1/quarantine", tags=["quarantine"])

Standing = Literal["open", "waiting", "replayed", "discarded", "all"]
# What the broker calls a client, also one nobody knows. No character the database cannot hold.
Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
QuarantineId = Annotated[int, Path(ge=1, le=2**63 - 1)]

Reader = Annotated[Caller, requires(Permission.SEE_QUARANTINE, Scope.ROOT)]
Decider = Annotated[Caller, requires(Permission.DECIDE_QUARANTINE, Scope.ROOT)]
Corrector = Annotated[Caller, requires(Permission.CORRECT_QUARANTINE, Scope.ROOT)]


class InmateView(Answer):
    """An uplink in quarantine."""

    quarantine_id: int
    standing: Literal["open", "waiting", "replayed", "discarded"]
    reason: str
    explanation: str
    detail: str
    principal: str
    device_id: str | None
    topic: str
    messages: int
    first_seen_at: datetime
    last_seen_at: datetime
    size: int
    is_cut: bool
    is_receipted: bool
    replayed_at: datetime | None


class InmateListView(Answer):
    """A page of the inbox, newest first."""

    inmates: list[InmateView]
    more_after: int | None


class CountView(Answer):
    """What is open for one reason."""

    reason: str
    explanation: str
    inmates: int
    messages: int
    oldest_at: datetime


class ForecastView(Answer):
    """What ingest would say now: `reason` is null when it would let it in."""

    is_admitted: bool
    reason: str | None
    explanation: str
    field: str
    detail: str


class BytesView(Answer):
    """A payload, as bytes and as far as it can be read."""

    topic: str
    hex: str
    diagnostic: str


class CorrectionView(BytesView):
    """A corrected copy, and what would become of it."""

    correction_id: int
    corrected_at: datetime
    corrected_by: str
    why: str


class CorrectedView(Answer):
    """The copy that was made, and what would become of it."""

    correction: CorrectionView
    forecast: ForecastView


class OutcomeView(Answer):
    """What ingest made of it for one request."""

    request_id: int
    replayed_at: datetime
    result: str
    reason: str | None
    explanation: str
    detail: str | None
    is_corrected: bool


class DecisionView(Answer):
    """What was decided, by whom and why."""

    request_id: int
    decision: Literal["replay", "discard"]
    decided_at: datetime
    decided_by: str
    why: str
    inmates: int


class InmateDetailView(InmateView):
    """An inmate with its bytes, what can be done about it, and what was."""

    sha256: str
    mend: str
    original: BytesView
    forecast: ForecastView
    decision: DecisionView | None
    corrections: list[CorrectionView]
    outcomes: list[OutcomeView]


class FilterBody(Body):
    """Which of the open inmates are meant; at least one condition."""

    reason: Reason | None = None
    principal: Name | None = None
    device_id: Name | None = None
    unit_id: uuid.UUID | None = None
    since: AwareDatetime | None = None


class DecisionBody(Body):
    """Inmates by their numbers, or all open ones that match, the oldest first; not both."""

    quarantine_ids: list[Annotated[Whole, Field(ge=1, le=2**63 - 1)]] | None = Field(
        default=None, min_length=1, max_length=MAX_AT_ONCE
    )
    matching: FilterBody | None = None
    limit: Whole = Field(default=MAX_AT_ONCE, ge=1, le=MAX_AT_ONCE, description="of those that match")
    why: Why = Field(description="for whoever reads the audit")

    @model_validator(mode="after")
    def _says_which(self) -> Self:
        conditions = self.matching.model_dump(exclude_none=True) if self.matching is not None else {}
        if (self.quarantine_ids is None) == (not conditions):
            raise FieldFault("ids_or_filter")
        return self


class CorrectionBody(Body):
    """What is to be different in the copy: of the topic one thing, of the payload one thing."""

    device_id: Name | None = Field(default=None, description="the device it is about, behind the same principal")
    topic: TopicText | None = Field(default=None, description="the whole topic, of the same principal")
    version: Literal[1] | None = Field(default=None, description="the major version; an event's body gets it too")
    payload_hex: Annotated[str, Field(max_length=16_384)] | None = None
    payload_diagnostic: Annotated[str, Field(max_length=32_768)] | None = Field(
        default=None, description="CBOR diagnostic notation (RFC 8949, section 8)"
    )
    why: Why = Field(description="for whoever reads the audit")


class RequestedView(Answer):
    """A decision as it was taken."""

    request_id: int
    inmates: int


class ResultView(Answer):
    """How many inmates of a request ended like this."""

    result: str
    reason: str | None
    explanation: str
    inmates: int


class RequestView(DecisionView):
    """How far a replay has come."""

    waiting: int
    results: list[ResultView]


# --- looking ---------------------------------------------------------------------------------------------------------


@router.get("")
async def list_inmates(
    request: Request,
    caller: Reader,
    services: Parts,
    standing: Annotated[Standing, Query()] = "open",
    reason: Annotated[Reason | None, Query()] = None,
    principal: Annotated[Name | None, Query(description="who sent it")] = None,
    device_id: Annotated[Name | None, Query(description="whom it is about")] = None,
    unit_id: Annotated[uuid.UUID | None, Query(description="of devices in this unit and below")] = None,
    since: Annotated[AwareDatetime | None, Query(description="seen last at this instant or later")] = None,
    after: Annotated[int | None, Query(ge=1, le=2**63 - 1, description="number after which to go on")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> InmateListView:
    """What is in quarantine, newest first; by default what nobody has decided about."""
    wanted = Filter(
        standing=None if standing == "all" else standing,
        reason=reason,
        principal=principal,
        device_id=device_id,
        units=_units(caller, unit_id),
        since=since,
    )
    async with services.database.connection() as connection:
        found, more_after = await quarantine_store.inmates(connection, wanted, after=after, limit=limit)
    language = language_of(request)
    return InmateListView(
        inmates=[InmateView.model_validate(_facts(each, language)) for each in found], more_after=more_after
    )


@router.get("/counts")
async def count_inmates(request: Request, caller: Reader, services: Parts) -> list[CountView]:
    """What is open, by reason."""
    del caller
    async with services.database.connection() as connection:
        found = await quarantine_store.counts(connection)
    return [
        CountView(
            reason=each.reason,
            explanation=explained(each.reason, language_of(request)),
            inmates=each.inmates,
            messages=each.messages,
            oldest_at=each.oldest_at,
        )
        for each in found
    ]


@router.get("/requests/{request_id}")
async def get_request(
    request_id: Annotated[int, Path(ge=1, le=2**63 - 1)], request: Request, caller: Reader, services: Parts
) -> RequestView:
    """A decision; of a replay, how far ingest has come with it."""
    del caller
    async with services.database.connection() as connection:
        decision = await quarantine_store.decision(connection, request_id)
        if decision is None:
            raise NotFound("quarantine_request_not_found", facts={"id": request_id})
        results, waiting = await quarantine_store.progress(connection, request_id)
    language = language_of(request)
    return RequestView.model_validate(
        {
            **_decision_facts(decision),
            "waiting": waiting if decision.decision == "replay" else 0,
            "results": [
                ResultView(
                    result=result,
                    reason=reason or None,
                    explanation=_outcome_words(result, reason, language),
                    inmates=count,
                )
                for (result, reason), count in sorted(results.items())
            ],
        }
    )


@router.get("/{quarantine_id}")
async def get_inmate(
    quarantine_id: QuarantineId, request: Request, caller: Reader, services: Parts
) -> InmateDetailView:
    """One inmate: its bytes, what they say, what would become of it now, and what was decided."""
    del caller
    async with services.database.connection() as connection:
        inmate = await quarantine_store.inmate(connection, quarantine_id)
        corrections = await quarantine_store.corrections(connection, quarantine_id)
        outcomes = await quarantine_store.outcomes(connection, quarantine_id)
        foreseen = await quarantine.foresee(connection, inmate, corrections[0] if corrections else None)
        decision = (
            await quarantine_store.decision(connection, inmate.decision_id) if inmate.decision_id is not None else None
        )
    language = language_of(request)
    return InmateDetailView.model_validate(
        {
            **_facts(inmate, language),
            "sha256": inmate.sha256.hex(),
            "mend": text(f"quarantine.mend.{inmate.reason}", language) if inmate.reason in {*Reason} else "",
            "original": bytes_view(inmate.topic, inmate.payload),
            "forecast": forecast_view(foreseen, language),
            "decision": _decision_facts(decision) if decision is not None else None,
            "corrections": [_correction_view(each) for each in corrections],
            "outcomes": [_outcome_view(each, language) for each in outcomes],
        }
    )


# --- deciding --------------------------------------------------------------------------------------------------------


@router.post("/{quarantine_id}/corrections", status_code=201)
async def correct_inmate(
    quarantine_id: QuarantineId,
    body: CorrectionBody,
    request: Request,
    caller: Corrector,
    services: Parts,
    metrics: Metered,
) -> CorrectedView:
    """Keep a corrected copy beside the original. A replay judges the newest copy; the original never changes."""
    edit = Edit(**body.model_dump(exclude={"why"}))
    async with services.database.transaction() as connection:
        made = await quarantine.correct(connection, quarantine_id, edit, why=body.why, by=by(caller))
        inmate = await quarantine_store.inmate(connection, quarantine_id)
        foreseen = await quarantine.foresee(connection, inmate, made)
    metrics.quarantine_decisions.labels("correct").inc()
    return CorrectedView(correction=_correction_view(made), forecast=forecast_view(foreseen, language_of(request)))


@router.post("/replays", status_code=202)
async def replay_inmates(body: DecisionBody, caller: Decider, services: Parts, metrics: Metered) -> RequestedView:
    """Ask ingest to judge inmates anew, by the registry of now and under the time of their receipt."""
    async with services.database.transaction() as connection:
        if body.quarantine_ids is not None:
            ids = list(dict.fromkeys(body.quarantine_ids))
            made = await quarantine.replay(connection, ids, why=body.why, by=by(caller))
        else:
            wanted = _filter(caller, body.matching)
            made = await quarantine.replay_matching(connection, wanted, limit=body.limit, why=body.why, by=by(caller))
    metrics.quarantine_decisions.labels("replay").inc(made.inmates)
    return _requested(made)


@router.post("/discards", status_code=201)
async def discard_inmates(body: DecisionBody, caller: Decider, services: Parts, metrics: Metered) -> RequestedView:
    """Take inmates out of the inbox. They are kept, with their bytes, for as long as all others."""
    async with services.database.transaction() as connection:
        if body.quarantine_ids is not None:
            ids = list(dict.fromkeys(body.quarantine_ids))
            made = await quarantine.discard(connection, ids, why=body.why, by=by(caller))
        else:
            wanted = _filter(caller, body.matching)
            made = await quarantine.discard_matching(connection, wanted, limit=body.limit, why=body.why, by=by(caller))
    metrics.quarantine_decisions.labels("discard").inc(made.inmates)
    return _requested(made)


# --- views -----------------------------------------------------------------------------------------------------------


def by(caller: Caller) -> By:
    """Who decides."""
    return By(actor=caller.actor, rights=caller.rights, origin=caller.origin, now=caller.now)


def explained(reason: str, language: Language) -> str:
    """A reason in words; one this version does not know as it is."""
    known = {*Reason, *REPLAY_REASONS}
    return text(f"quarantine.reason.{reason}", language) if reason in known else reason


def bytes_view(topic: str, payload: bytes) -> BytesView:
    """A payload for people."""
    return BytesView(topic=topic, hex=payload.hex(), diagnostic=described(payload))


def forecast_view(foreseen: Forecast, language: Language) -> ForecastView:
    """What would become of it."""
    is_admitted = foreseen.reason is None
    return ForecastView(
        is_admitted=is_admitted,
        reason=foreseen.reason,
        explanation=text("quarantine.admitted", language) if is_admitted else explained(str(foreseen.reason), language),
        field=foreseen.field,
        detail=foreseen.detail,
    )


def _facts(inmate: Inmate, language: Language) -> dict[str, object]:
    return {
        "quarantine_id": inmate.quarantine_id,
        "standing": inmate.standing,
        "reason": inmate.reason,
        "explanation": explained(inmate.reason, language),
        "detail": inmate.detail,
        "principal": inmate.principal,
        "device_id": inmate.device_id,
        "topic": inmate.topic,
        "messages": inmate.messages,
        "first_seen_at": inmate.first_seen_at,
        "last_seen_at": inmate.last_seen_at,
        "size": inmate.size,
        "is_cut": inmate.is_cut,
        "is_receipted": inmate.is_receipted,
        "replayed_at": inmate.replayed_at,
    }


def _correction_view(correction: Correction) -> CorrectionView:
    return CorrectionView(
        correction_id=correction.correction_id,
        corrected_at=correction.corrected_at,
        corrected_by=correction.corrected_by,
        why=correction.why,
        topic=correction.topic,
        hex=correction.payload.hex(),
        diagnostic=described(correction.payload),
    )


def _outcome_view(outcome: Outcome, language: Language) -> OutcomeView:
    return OutcomeView(
        request_id=outcome.request_no,
        replayed_at=outcome.replayed_at,
        result=outcome.result,
        reason=outcome.reason,
        explanation=_outcome_words(outcome.result, outcome.reason or "", language),
        detail=outcome.detail,
        is_corrected=outcome.is_corrected,
    )


def _outcome_words(result: str, reason: str, language: Language) -> str:
    words = text(f"quarantine.result.{result}", language)
    return f"{words} {explained(reason, language)}" if reason else words


def _decision_facts(decision: quarantine_store.Decision) -> dict[str, object]:
    return {
        "request_id": decision.decision_id,
        "decision": decision.decision,
        "decided_at": decision.decided_at,
        "decided_by": decision.decided_by,
        "why": decision.why,
        "inmates": decision.inmates,
    }


def _requested(made: Decided) -> RequestedView:
    return RequestedView(request_id=made.decision_id, inmates=made.inmates)


def _filter(caller: Caller, matching: FilterBody | None) -> Filter:
    assert matching is not None  # the body has been checked for it
    return Filter(
        reason=matching.reason,
        principal=matching.principal,
        device_id=matching.device_id,
        units=_units(caller, matching.unit_id, field="matching.unit_id"),
        since=matching.since,
    )


def _units(caller: Caller, unit_id: uuid.UUID | None, *, field: str = "unit_id") -> frozenset[UnitId] | None:
    if unit_id is None:
        return None
    if UnitId(unit_id) not in caller.rights.tree:
        raise Invalid(Fault(field, "unknown_unit", {"unit": str(unit_id)}))
    return frozenset(caller.rights.tree.subtree(UnitId(unit_id)))
