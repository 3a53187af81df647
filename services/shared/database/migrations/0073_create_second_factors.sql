-- The second factor of people: sealed secrets, codes for the day the app is lost, and until when a session has shown one.

CREATE TABLE control.second_factors (
    account_id    uuid PRIMARY KEY REFERENCES control.accounts,
    sealed        bytea NOT NULL,          -- by a key that is not in the database
    created_at    timestamptz NOT NULL,
    confirmed_at  timestamptz,             -- NULL: not in force before its first code was given
    last_step     bigint NOT NULL DEFAULT 0  -- a code of this step of time or an older one is not taken again
);

CREATE TABLE control.recovery_codes (
    account_id  uuid NOT NULL REFERENCES control.second_factors ON DELETE CASCADE,
    code_hash   bytea NOT NULL CHECK (length(code_hash) = 32),
    used_at     timestamptz,
    PRIMARY KEY (account_id, code_hash)
);

ALTER TABLE control.sessions ADD COLUMN second_factor_at timestamptz;

ALTER TABLE control.login_attempts DROP CONSTRAINT login_attempts_scope_check;
ALTER TABLE control.login_attempts ADD CONSTRAINT login_attempts_scope_check
    CHECK (scope IN ('login_and_origin', 'login', 'origin', 'second_factor'));

GRANT SELECT, INSERT, UPDATE, DELETE ON control.second_factors, control.recovery_codes TO loa_control;
