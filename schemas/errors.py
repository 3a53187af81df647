"""Errors of the wire contract: one base class, each carrying facts instead of a sentence."""

from __future__ import annotations

import enum


class SchemaError(Exception):
    """Base of everything `schemas` raises on bad input."""


class InvalidIdentifier(SchemaError, ValueError):
    """A text does not follow the grammar of the identifier it claims to be."""


class InvalidTopic(SchemaError, ValueError):
    """A topic is not one of the topics of version 1."""


class DecodeReason(enum.StrEnum):
    """Why bytes are not a message. Stable words: they stand in quarantine rows, metrics and refusals."""

    TOO_LARGE = "too_large"
    TRUNCATED = "truncated"
    NOT_CBOR = "not_cbor"
    FORBIDDEN_TAG = "forbidden_tag"
    DUPLICATE_KEY = "duplicate_key"
    TOO_DEEP = "too_deep"
    INDEFINITE_LENGTH = "indefinite_length"
    TRAILING_BYTES = "trailing_bytes"
    NOT_DETERMINISTIC = "not_deterministic"
    WRONG_TYPE = "wrong_type"
    MISSING_FIELD = "missing_field"
    INVALID_VALUE = "invalid_value"
    UNSUPPORTED_VERSION = "unsupported_version"
    CRITICAL_FIELD = "critical_field"


class DecodeError(SchemaError):
    """Bytes are not the message they should be.

    `field` is the dotted path of the offending field ("" for the whole message), `detail` says what was found.
    """

    def __init__(self, reason: DecodeReason, field: str = "", detail: str = "") -> None:
        super().__init__(": ".join(part for part in (reason.value, field, detail) if part))
        self.reason = reason
        self.field = field
        self.detail = detail

    def inside(self, field: str) -> DecodeError:
        """Return this error as seen from the record whose `field` it happened in."""
        return DecodeError(self.reason, f"{field}.{self.field}" if self.field else field, self.detail)


class EncodeError(SchemaError, ValueError):
    """A message cannot be put on the wire: it exceeds the size limit of its kind."""


class SignatureReason(enum.StrEnum):
    """Why a signed message was not believed."""

    MALFORMED = "malformed"
    DOWNGRADED_ALGORITHM = "downgraded_algorithm"
    WRONG_TYPE = "wrong_type"
    FOREIGN_DEVICE = "foreign_device"  # of what devices sign: another device than the topic names
    UNKNOWN_KEY = "unknown_key"
    BAD_SIGNATURE = "bad_signature"


class SignatureError(SchemaError):
    """A signed message cannot be believed; nothing of its content may be used."""

    def __init__(self, reason: SignatureReason, detail: str = "") -> None:
        super().__init__(": ".join(part for part in (reason.value, detail) if part))
        self.reason = reason
        self.detail = detail
