-- Operations that waited for a second person (S-07), and those that one person carried out alone, for a reason, at once.

CREATE TABLE control.operation_requests (
    request_id       uuid PRIMARY KEY,
    kind             text NOT NULL
                     CHECK (kind IN ('alert_issue', 'alert_update', 'cap', 'silence', 'silence_release', 'policy', 'claims',
                                     'revocation')),
    unit_id          uuid NOT NULL REFERENCES control.units,  -- that speaks: whose policy asks for a second person
    alert_id         uuid REFERENCES control.alerts,
    summary          text NOT NULL,
    document         jsonb NOT NULL,                -- services.control.operations: what is carried out, whole
    digest           bytea NOT NULL CHECK (length(digest) = 32),      -- of kind and document
    devices          integer NOT NULL,              -- that it touched when it was asked for
    needed_from      integer NOT NULL,              -- devices, as the policy said then
    asked_at         timestamptz NOT NULL,
    asked_by         uuid NOT NULL REFERENCES control.accounts,
    origin           text,
    expires_at       timestamptz NOT NULL,
    state            text NOT NULL CHECK (state IN ('waiting', 'confirmed', 'refused', 'expired', 'alone')),
    decided_at       timestamptz,
    decided_by       uuid REFERENCES control.accounts,
    note             text,                          -- why it was refused, or carried out alone
    acknowledged_at  timestamptz,                   -- of one carried out alone
    acknowledged_by  uuid REFERENCES control.accounts,
    CONSTRAINT operation_requests_are_confirmed_by_another
    CHECK (state <> 'confirmed' OR decided_by IS NOT NULL AND decided_by <> asked_by),
    CONSTRAINT operation_requests_are_acknowledged_by_another CHECK (acknowledged_by <> asked_by),
    CONSTRAINT operation_requests_alone_have_a_reason CHECK (state <> 'alone' OR note IS NOT NULL)
);
CREATE INDEX operation_requests_by_unit ON control.operation_requests (unit_id, asked_at DESC);
CREATE INDEX operation_requests_waiting ON control.operation_requests (expires_at) WHERE state = 'waiting';
CREATE INDEX operation_requests_alone ON control.operation_requests (asked_at) WHERE state = 'alone';

GRANT SELECT, INSERT, UPDATE, DELETE ON control.operation_requests TO loa_control;
