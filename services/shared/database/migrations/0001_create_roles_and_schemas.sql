-- Two schemas, one writer each; each side reads the other's views, by grants that the migrations of a view make.
-- Objects belong to the role that migrates. Roles belong to the whole cluster, not to this database, so they may exist.

DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['loa_ingest', 'loa_control'] LOOP
        BEGIN
            -- Without a password nobody logs in; whoever runs the migrations sets it (MIGRATE_INGEST_PASSWORD, …).
            EXECUTE format(
                'CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS', role_name
            );
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN
                NULL; -- another database of this cluster, or another migration running now, was first
        END;
    END LOOP;
END
$$;

DO $$
BEGIN
    -- TEMPORARY: ingest copies batches into a temporary table before it inserts them.
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT, TEMPORARY ON DATABASE %I TO loa_ingest, loa_control', current_database());
END
$$;

REVOKE CREATE ON SCHEMA public FROM PUBLIC;

CREATE SCHEMA telemetry;
CREATE SCHEMA control;
COMMENT ON SCHEMA telemetry IS 'What devices said. Written by ingest only.';
COMMENT ON SCHEMA control IS 'What people decided and what the platform planned. Written by control only.';

GRANT USAGE ON SCHEMA telemetry, control TO loa_ingest, loa_control;

-- Functions may be called by nobody until a migration says who.
ALTER DEFAULT PRIVILEGES IN SCHEMA telemetry, control REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

CREATE FUNCTION telemetry.storage_mode() RETURNS text
    LANGUAGE sql
    STABLE
    SET search_path = pg_catalog
AS $$
    SELECT CASE
        WHEN EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'timescaledb') THEN 'timescaledb'
        ELSE 'partitioned'
    END
$$;
COMMENT ON FUNCTION telemetry.storage_mode() IS 'timescaledb or partitioned; decided by the first migration, for good.';
GRANT EXECUTE ON FUNCTION telemetry.storage_mode() TO loa_ingest, loa_control;
