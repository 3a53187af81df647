-- The audit as a chain (S-08): each entry is sealed with a hash over the one before it, and nothing of it is changed or
-- removed, by nobody: an owner who means it has to disable a trigger first, and the chain and its signed heads tell.

CREATE TABLE control.audit_chain (
    number     bigint PRIMARY KEY CHECK (number > 0),   -- without gaps, in the order of sealing
    audit_id   bigint NOT NULL UNIQUE,
    sealed_at  timestamptz NOT NULL,
    digest     bytea NOT NULL CHECK (length(digest) = 32),  -- SHA-256 of the entry's columns
    hash       bytea NOT NULL CHECK (length(hash) = 32)     -- SHA-256 of the hash before and of this link
);

-- Entries that wait for their seal: filled in their own transaction, so none is forgotten, whenever it commits.
CREATE TABLE control.audit_unsealed (
    audit_id  bigint PRIMARY KEY
);

CREATE TABLE control.audit_heads (
    number     bigint PRIMARY KEY,
    hash       bytea NOT NULL CHECK (length(hash) = 32),
    signed_at  timestamptz NOT NULL,
    kid        bytea NOT NULL,
    message    bytea NOT NULL                            -- COSE_Sign1 by the platform's key
);

-- What stands there already is chained as it is now.
INSERT INTO control.audit_unsealed (audit_id) SELECT audit_id FROM control.audit;

CREATE FUNCTION control.await_seal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO control.audit_unsealed (audit_id) VALUES (NEW.audit_id);
    RETURN NULL;
END
$$;
CREATE TRIGGER audit_awaits_seal AFTER INSERT ON control.audit
    FOR EACH ROW EXECUTE FUNCTION control.await_seal();

CREATE FUNCTION control.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%.% is append-only', TG_TABLE_SCHEMA, TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON control.audit
    FOR EACH STATEMENT EXECUTE FUNCTION control.refuse_change();
CREATE TRIGGER audit_chain_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON control.audit_chain
    FOR EACH STATEMENT EXECUTE FUNCTION control.refuse_change();
CREATE TRIGGER audit_heads_are_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON control.audit_heads
    FOR EACH STATEMENT EXECUTE FUNCTION control.refuse_change();

REVOKE ALL ON control.audit FROM loa_control;
GRANT SELECT, INSERT ON control.audit, control.audit_chain, control.audit_heads TO loa_control;
GRANT SELECT, INSERT, DELETE ON control.audit_unsealed TO loa_control;
