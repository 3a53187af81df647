"""Which happenings are security events, what they are called, how grave they are, and what they tell. Pure.

Three sources: entries of the audit, once sealed (`AUDITED`); refusals of requests, as they are answered (`REFUSED`);
what devices refused, certificates used twice, and uplinks whose signature is wrong, as ingest has committed it. A new action of the audit becomes an
event by a line in `AUDITED`; every action that ends in `_refused` is one without.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schemas.events import RefusalReason

LONGEST_VALUE = 512  # characters of one field


class Severity(enum.IntEnum):
    """Of RFC 5424, section 6.2.1."""

    ALERT = 1
    CRITICAL = 2
    ERROR = 3
    WARNING = 4
    NOTICE = 5
    INFO = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityEvent:
    """One event: its constant name, and facts by name."""

    at: datetime
    name: str
    severity: Severity
    facts: Mapping[str, str | int | None]

    def as_dict(self) -> dict[str, str | int]:
        """What a line of JSON holds."""
        return {
            "time": self.at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "event": self.name,
            "severity": self.severity.name.lower(),
            **{name: each for name, each in self.facts.items() if each is not None},
        }


_Kind = tuple[str, Severity]

AUDITED: Mapping[str, _Kind] = {
    # people
    "logged_in": ("LOGGED_IN", Severity.INFO),
    "logged_out": ("LOGGED_OUT", Severity.INFO),
    "password_changed": ("PASSWORD_CHANGED", Severity.NOTICE),
    "account_created": ("ACCOUNT_CREATED", Severity.NOTICE),
    "account_disabled": ("ACCOUNT_DISABLED", Severity.NOTICE),
    "account_enabled": ("ACCOUNT_ENABLED", Severity.NOTICE),
    "role_granted": ("ROLE_GRANTED", Severity.NOTICE),
    "role_revoked": ("ROLE_REVOKED", Severity.NOTICE),
    "token_created": ("TOKEN_CREATED", Severity.NOTICE),
    "token_revoked": ("TOKEN_REVOKED", Severity.NOTICE),
    "sessions_ended": ("SESSIONS_ENDED", Severity.NOTICE),
    "second_factor_enrolled": ("SECOND_FACTOR_ENROLLED", Severity.NOTICE),
    "second_factor_removed": ("SECOND_FACTOR_REMOVED", Severity.WARNING),
    "recovery_code_used": ("RECOVERY_CODE_USED", Severity.WARNING),
    # alerts and the kill switch
    "alert_issued": ("ALERT_ISSUED", Severity.NOTICE),
    "alert_released_automatically": ("ALERT_RELEASED_AUTOMATICALLY", Severity.WARNING),
    "alert_not_released_automatically": ("ALERT_NOT_RELEASED_AUTOMATICALLY", Severity.WARNING),
    "release_authorisation_asked": ("RELEASE_AUTHORISATION_ASKED", Severity.NOTICE),
    "release_authorisation_confirmed": ("RELEASE_AUTHORISED", Severity.WARNING),
    "release_authorisation_ended": ("RELEASE_AUTHORISATION_ENDED", Severity.NOTICE),
    "alert_proposal_rejected": ("ALERT_PROPOSAL_REJECTED", Severity.WARNING),
    "alert_proposal_withdrawn": ("ALERT_PROPOSAL_WITHDRAWN", Severity.NOTICE),
    "alert_proposal_expired": ("ALERT_PROPOSAL_EXPIRED", Severity.WARNING),
    "alert_updated": ("ALERT_UPDATED", Severity.NOTICE),
    "alert_cancelled": ("ALERT_CANCELLED", Severity.NOTICE),
    "alert_timetable_set": ("ALERT_TESTS_SET", Severity.NOTICE),
    "alert_test_weighed": ("ALERT_TEST_WEIGHED", Severity.INFO),
    "alert_stopped": ("ALERT_STOPPED", Severity.WARNING),
    "alert_signed_anew": ("ALERT_SIGNED_ANEW", Severity.WARNING),
    "silence_issued": ("SILENCE_ISSUED", Severity.WARNING),
    "silence_updated": ("SILENCE_UPDATED", Severity.WARNING),
    "silence_cancelled": ("SILENCE_RELEASED", Severity.WARNING),
    "cap_sender_trusted": ("CAP_SENDER_TRUSTED", Severity.WARNING),
    "cap_sender_removed": ("CAP_SENDER_REMOVED", Severity.NOTICE),
    "second_person_asked": ("SECOND_PERSON_ASKED", Severity.NOTICE),
    "second_person_confirmed": ("SECOND_PERSON_CONFIRMED", Severity.NOTICE),
    "second_person_refused": ("SECOND_PERSON_REFUSED", Severity.WARNING),
    "second_person_missing": ("SECOND_PERSON_MISSING", Severity.WARNING),
    "glass_broken": ("BREAK_GLASS", Severity.ALERT),
    "broken_glass_acknowledged": ("BREAK_GLASS_ACKNOWLEDGED", Severity.NOTICE),
    # what warns, how loudly, and by whose word: whoever disarms does it here
    "sensor_rule_changed": ("SENSOR_RULE_CHANGED", Severity.NOTICE),
    "sensor_rule_retired": ("SENSOR_RULE_RETIRED", Severity.WARNING),
    "alert_template_changed": ("ALERT_TEMPLATE_CHANGED", Severity.NOTICE),
    "alert_template_retired": ("ALERT_TEMPLATE_RETIRED", Severity.NOTICE),
    "policy_set": ("POLICY_SET", Severity.WARNING),
    "policy_removed": ("POLICY_REMOVED", Severity.WARNING),
    "area_volume_set": ("AREA_VOLUME_SET", Severity.WARNING),
    "relay_source_created": ("RELAY_SOURCE_CREATED", Severity.NOTICE),
    "relay_source_changed": ("RELAY_SOURCE_CHANGED", Severity.WARNING),
    "relay_source_retired": ("RELAY_SOURCE_RETIRED", Severity.NOTICE),
    "units_imported": ("UNITS_IMPORTED", Severity.WARNING),
    "units_reformed": ("UNITS_REFORMED", Severity.WARNING),
    # devices, their certificates, and what they said that could not be admitted
    "device_registered": ("DEVICE_REGISTERED", Severity.INFO),
    "device_changed": ("DEVICE_CHANGED", Severity.NOTICE),
    "device_moved": ("DEVICE_MOVED", Severity.WARNING),
    "gateway_assigned": ("GATEWAY_ASSIGNED", Severity.WARNING),
    "device_retired": ("DEVICE_RETIRED", Severity.WARNING),
    "quarantine_corrected": ("QUARANTINE_CORRECTED", Severity.WARNING),
    "quarantine_replay_requested": ("QUARANTINE_REPLAYED", Severity.NOTICE),
    "quarantine_discarded": ("QUARANTINE_DISCARDED", Severity.NOTICE),
    "claim_code_withdrawn": ("CLAIM_CODE_WITHDRAWN", Severity.NOTICE),
    "claim_code_made": ("CLAIM_CODE_MADE", Severity.INFO),
    "device_enrolled": ("DEVICE_ENROLLED", Severity.NOTICE),
    "certificate_renewed": ("CERTIFICATE_RENEWED", Severity.INFO),
    "certificate_revoked": ("CERTIFICATE_REVOKED", Severity.WARNING),
    # keys and the audit itself
    "signing_key_changed": ("SIGNING_KEY_CHANGED", Severity.WARNING),
    "audit_head_signed": ("AUDIT_HEAD", Severity.INFO),
    "audit_seal_broken": ("AUDIT_SEAL_BROKEN", Severity.ALERT),
}
_ATTEMPT: _Kind = ("ATTEMPT_REFUSED", Severity.WARNING)

# By the code of a refusal, or of a fault in it.
REFUSED: Mapping[str, _Kind] = {
    "wrong_login_or_password": ("LOGIN_FAILED", Severity.WARNING),
    "too_many_logins": ("LOGIN_LOCKED", Severity.WARNING),
    "code_not_taken": ("SECOND_FACTOR_WRONG", Severity.WARNING),
    "too_many_codes": ("SECOND_FACTOR_LOCKED", Severity.WARNING),
    "second_factor_needed": ("STEP_UP_REFUSED", Severity.NOTICE),
    "second_factor_not_enrolled": ("STEP_UP_REFUSED", Severity.WARNING),
    "token_not_valid": ("TOKEN_REFUSED", Severity.WARNING),
    "token_out_of_scope": ("TOKEN_REFUSED", Severity.WARNING),
    "csrf_token_missing": ("CSRF_REFUSED", Severity.WARNING),
    "cross_site": ("CSRF_REFUSED", Severity.WARNING),
    "not_permitted": ("PERMISSION_REFUSED", Severity.WARNING),
    "not_permitted_here": ("PERMISSION_REFUSED", Severity.WARNING),
    "not_permitted_in_root": ("PERMISSION_REFUSED", Severity.WARNING),
    "target_outside_own_subtree": ("PERMISSION_REFUSED", Severity.WARNING),
    "grant_above_own_rights": ("PERMISSION_REFUSED", Severity.WARNING),
    "account_beyond_own_rights": ("PERMISSION_REFUSED", Severity.WARNING),
    "own_rights_untouchable": ("PERMISSION_REFUSED", Severity.WARNING),
    "own_bulletin": ("PERMISSION_REFUSED", Severity.NOTICE),
    "own_broadcast": ("PERMISSION_REFUSED", Severity.NOTICE),
    "cap_sender_not_trusted": ("PERMISSION_REFUSED", Severity.WARNING),
    "alert_from_above": ("PERMISSION_REFUSED", Severity.WARNING),
    "claim_code_not_valid": ("ENROLMENT_REFUSED", Severity.WARNING),
    "certificate_not_good": ("ENROLMENT_REFUSED", Severity.WARNING),
    "renewal_not_proven": ("ENROLMENT_REFUSED", Severity.WARNING),
    "too_many_enrolments": ("ENROLMENT_LOCKED", Severity.WARNING),
}

# What a device refuses that nobody honest sends; the rest happens to honest senders with a slow line or a wrong clock.
FORGED = frozenset(
    {
        RefusalReason.DOWNGRADED_ALGORITHM,
        RefusalReason.WRONG_TYPE,
        RefusalReason.UNKNOWN_KEY,
        RefusalReason.BAD_SIGNATURE,
        RefusalReason.FOREIGN_AUDIENCE,
        RefusalReason.REPLAYED,
        RefusalReason.WRONG_HASH,
        RefusalReason.UNSIGNED_CONTENT,
    }
)


def of_audit(action: str, *, at: datetime, facts: Mapping[str, str | int | None]) -> SecurityEvent | None:
    """The event that a sealed entry is, or None. The kill switch is an alert of another purpose, and told by its name."""
    named = action.replace("alert_", "silence_", 1) if facts.get("purpose") == "silence" else action
    kind = AUDITED.get(named) or (_ATTEMPT if action.endswith("_refused") else None)
    if kind is None:
        return None
    return SecurityEvent(at=at, name=kind[0], severity=kind[1], facts={"action": action, **_short(facts)})


def of_refusal(codes: tuple[str, ...], *, at: datetime, facts: Mapping[str, str | int | None]) -> SecurityEvent | None:
    """The event that the refusal of a request with these codes is (its own, then its faults'), or None."""
    for code in codes:
        if (kind := REFUSED.get(code)) is not None:
            return SecurityEvent(at=at, name=kind[0], severity=kind[1], facts={"code": code, **_short(facts)})
    return None


def of_device(
    body: Mapping[str, Any], *, at: datetime, device: str | None, principal: str, event_no: int
) -> SecurityEvent:
    """The event that a device's refusal of a downlink is (S-11)."""
    reason = str(body.get("reason", "unknown"))
    is_forged = reason in {each.name.lower() for each in FORGED}
    facts = {
        "device": device,
        "principal": principal,
        "refused": body.get("refused"),
        "reason": reason,
        "serial": body.get("serial"),
        "detail": body.get("detail"),
        "event_no": event_no,
    }
    severity = Severity.WARNING if is_forged else Severity.NOTICE
    return SecurityEvent(at=at, name="DOWNLINK_REFUSED", severity=severity, facts=_short(facts))


def of_twin(*, at: datetime, device: str | None, proof: str, detail: str) -> SecurityEvent:
    """The event that a certificate is which two devices use."""
    facts = _short({"device": device, "proof": proof, "detail": detail})
    return SecurityEvent(at=at, name="CERTIFICATE_SHARED", severity=Severity.ALERT, facts=facts)


def of_signature(
    *, at: datetime, device: str | None, principal: str, reason: str, detail: str, quarantine_id: int
) -> SecurityEvent:
    """The event that an uplink is which claims to be signed by a device and is not: somebody speaks in its place."""
    facts = {
        "device": device,
        "principal": principal,
        "reason": reason,
        "detail": detail,
        "quarantine_id": quarantine_id,
    }
    return SecurityEvent(at=at, name="UPLINK_SIGNATURE_WRONG", severity=Severity.WARNING, facts=_short(facts))


def of_loss(count: int, *, at: datetime) -> SecurityEvent:
    """The event that events were not sent."""
    return SecurityEvent(at=at, name="EVENTS_DROPPED", severity=Severity.ERROR, facts={"events": count})


def _short(facts: Mapping[str, Any]) -> dict[str, str | int | None]:
    found: dict[str, str | int | None] = {}
    for name, value in facts.items():
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            found[name] = value
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            found[name] = text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"
    return found
