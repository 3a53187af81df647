-- Tokens for programs may do less than their account, and show when they were last used.

ALTER TABLE control.api_tokens
    ADD COLUMN permissions       text[] CHECK (cardinality(permissions) > 0),  -- NULL: whatever the account may
    ADD COLUMN unit_id           uuid REFERENCES control.units,                -- NULL: wherever the account may
    ADD COLUMN last_used_at      timestamptz,
    ADD COLUMN last_used_origin  text;

-- What is over is dropped by age.
CREATE INDEX sessions_by_end ON control.sessions (least(expires_at, ended_at));
CREATE INDEX api_tokens_by_end ON control.api_tokens (least(expires_at, revoked_at));
