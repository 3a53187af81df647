-- Sheets of proof that were made, by the digest of their figures: a printed one can be told from a forged one also after
-- late reports have changed the figures.
CREATE TABLE control.proof_sheets (
    unit_id      uuid NOT NULL REFERENCES control.units,
    month        date NOT NULL,                  -- its first day
    digest       bytea NOT NULL CHECK (length(digest) = 32),
    made_at      timestamptz NOT NULL,           -- for the first time
    made_by      uuid REFERENCES control.accounts,
    PRIMARY KEY (unit_id, month, digest)
);

GRANT SELECT, INSERT ON control.proof_sheets TO loa_control;
