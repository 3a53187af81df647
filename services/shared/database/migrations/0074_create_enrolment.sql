-- How devices come by their certificates: claim codes, what was issued to whom, and the lists of what no longer holds.

-- One code a device at a time, for one use. Stored as SHA-256 only: the code has 100 random bits.
CREATE TABLE control.device_claims (
    device_no   integer PRIMARY KEY REFERENCES control.devices,
    code_hash   bytea NOT NULL UNIQUE CHECK (length(code_hash) = 32),
    made_at     timestamptz NOT NULL,
    made_by     uuid REFERENCES control.accounts,
    expires_at  timestamptz NOT NULL CHECK (expires_at > made_at),
    used_at     timestamptz,
    used_for    bytea CHECK (length(used_for) = 32),   -- SHA-256 of the public key it was used for: a lost answer is given again
    CONSTRAINT device_claims_use_is_whole CHECK ((used_at IS NULL) = (used_for IS NULL))
);

-- Every certificate control has issued; its history is the device's, whatever hardware stands there now.
CREATE TABLE control.device_certificates (
    serial         bytea PRIMARY KEY CHECK (length(serial) BETWEEN 1 AND 20),
    device_no      integer NOT NULL REFERENCES control.devices,
    issuer_key     bytea NOT NULL,                     -- key identifier of the authority
    public_key     bytea NOT NULL CHECK (length(public_key) = 32),  -- SHA-256 of its SubjectPublicKeyInfo
    certificate    bytea NOT NULL,                     -- DER
    origin         text NOT NULL CHECK (origin IN ('claim', 'renewal')),
    issued_at      timestamptz NOT NULL,
    not_after      timestamptz NOT NULL,
    renews         bytea REFERENCES control.device_certificates,  -- the certificate whose key asked for this one
    replaced_at    timestamptz,                        -- a newer one was issued
    revoked_at     timestamptz,                        -- from here on it goes on the list
    revoked_by     uuid REFERENCES control.accounts,
    reason         text CHECK (reason IN ('stolen', 'lost', 'replaced', 'superseded', 'retired', 'other')),
    in_force_at    timestamptz,                        -- the broker refuses it
    thrown_out_at  timestamptz,                        -- its live session was ended
    CONSTRAINT device_certificates_revocation_is_whole CHECK ((revoked_at IS NULL) = (reason IS NULL)),
    CONSTRAINT device_certificates_stages CHECK (
        (in_force_at IS NULL OR revoked_at IS NOT NULL) AND (thrown_out_at IS NULL OR in_force_at IS NOT NULL))
);
CREATE INDEX device_certificates_by_device ON control.device_certificates (device_no, issued_at DESC);
CREATE INDEX device_certificates_revoked ON control.device_certificates (revoked_at) WHERE revoked_at IS NOT NULL;
CREATE UNIQUE INDEX device_certificates_renewed_once ON control.device_certificates (renews);

-- Lists of revoked certificates, as signed. Each names a certificate made for it alone and revoked from birth: when the
-- broker refuses that one as revoked, the list is in force there. Its key is worth nothing and may stand here.
CREATE TABLE control.revocation_lists (
    issuer_key   bytea NOT NULL,
    number       integer NOT NULL CHECK (number > 0),
    list         text NOT NULL,                        -- PEM
    issued_at    timestamptz NOT NULL,
    next_update  timestamptz NOT NULL CHECK (next_update > issued_at),
    canary_serial       bytea NOT NULL,
    canary_certificate  text NOT NULL,
    canary_key          text NOT NULL,
    in_force_at  timestamptz,
    PRIMARY KEY (issuer_key, number)
);

ALTER TABLE control.login_attempts
    DROP CONSTRAINT IF EXISTS login_attempts_scope_check,
    ADD CONSTRAINT login_attempts_scope_check CHECK (scope <> '');

GRANT SELECT, INSERT, UPDATE, DELETE ON control.device_claims, control.revocation_lists TO loa_control;
GRANT SELECT, INSERT, UPDATE ON control.device_certificates TO loa_control;
