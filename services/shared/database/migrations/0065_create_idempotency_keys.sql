-- What clients named once and may send again because no answer reached them: the key is the client's, and the answer
-- that was given is given again for as long as the row is kept.

CREATE TABLE control.idempotency_keys (
    account_id  uuid NOT NULL REFERENCES control.accounts,
    key         text NOT NULL CHECK (length(key) BETWEEN 1 AND 200),
    digest      bytea NOT NULL CHECK (length(digest) = 32),    -- of what was asked for
    answer      jsonb NOT NULL,
    at          timestamptz NOT NULL,
    PRIMARY KEY (account_id, key)
);
CREATE INDEX idempotency_keys_by_age ON control.idempotency_keys (at);

GRANT SELECT, INSERT, UPDATE, DELETE ON control.idempotency_keys TO loa_control;
