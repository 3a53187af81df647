-- Without TimescaleDB the three big tables are cut by time with PostgreSQL's own partitions. They take the columns and
-- keys of the plain tables just made, so that both storage modes have one definition.

-- Which tables are cut, by which column and how wide.
CREATE TABLE telemetry.partitioned_tables (
    table_name   text PRIMARY KEY,
    time_column  text NOT NULL,
    width        interval NOT NULL           -- whole days
);
INSERT INTO telemetry.partitioned_tables (table_name, time_column, width)
VALUES ('heartbeats', 'at', interval '1 day'),
       ('readings', 'at', interval '1 day'),
       ('events', 'received_at', interval '7 days');

DO $$
DECLARE
    cut telemetry.partitioned_tables;
BEGIN
    FOR cut IN SELECT * FROM telemetry.partitioned_tables LOOP
        EXECUTE format('ALTER TABLE telemetry.%I RENAME TO %I', cut.table_name, cut.table_name || '_plain');
        EXECUTE format(
            'CREATE TABLE telemetry.%I (LIKE telemetry.%I INCLUDING ALL) PARTITION BY RANGE (%I)',
            cut.table_name, cut.table_name || '_plain', cut.time_column
        );
        EXECUTE format('DROP TABLE telemetry.%I', cut.table_name || '_plain');
    END LOOP;
END
$$;
-- LIKE gives keys names of its own making; ours say what they are for.
ALTER TABLE telemetry.heartbeats RENAME CONSTRAINT heartbeats_pkey TO heartbeats_once_per_instant;
ALTER TABLE telemetry.readings RENAME CONSTRAINT readings_pkey TO readings_once_per_instant;
GRANT SELECT, INSERT ON telemetry.heartbeats, telemetry.readings, telemetry.events TO loa_ingest;

-- By time alone: an hour to roll up, a partition to look through. BRIN, because rows arrive nearly in order of time and
-- a B-tree would cost more than the table's own key.
CREATE INDEX heartbeats_by_time ON telemetry.heartbeats USING brin (at) WITH (pages_per_range = 32);
CREATE INDEX readings_by_time ON telemetry.readings USING brin (at) WITH (pages_per_range = 32);
CREATE INDEX events_by_transaction ON telemetry.events (tx, event_no);
CREATE INDEX events_by_device ON telemetry.events (device_no, at DESC);

-- Partitions for every instant from `from_at` to `until_at`; returns how many were made. Ingest may not create tables,
-- so this runs with the owner's rights and takes nothing but instants.
CREATE FUNCTION telemetry.ensure_partitions(from_at timestamptz, until_at timestamptz) RETURNS integer
    LANGUAGE plpgsql
    SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET lock_timeout = '5s'
AS $$
DECLARE
    cut        telemetry.partitioned_tables;
    starts_at  timestamptz;
    part_name  text;
    made       integer := 0;
BEGIN
    IF until_at - from_at > interval '400 days' THEN
        RAISE EXCEPTION 'a span of % is too wide for partitions', until_at - from_at;
    END IF;
    -- Two replicas, or a replica and a migration, take turns.
    PERFORM pg_advisory_xact_lock(hashtext('telemetry.partitions'));
    FOR cut IN SELECT * FROM telemetry.partitioned_tables LOOP
        -- Monday 2024-01-01 is where weeks and days are counted from.
        starts_at := date_bin(cut.width, from_at, timestamptz '2024-01-01 00:00:00+00');
        WHILE starts_at <= until_at LOOP
            part_name := format('%s_%s', cut.table_name, to_char(starts_at, 'YYYYMMDD'));
            IF to_regclass(format('telemetry.%I', part_name)) IS NULL THEN
                -- Made apart and attached: CREATE TABLE … PARTITION OF would stop every reader and writer of the table.
                EXECUTE format('CREATE TABLE telemetry.%I (LIKE telemetry.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)',
                               part_name, cut.table_name);
                EXECUTE format('ALTER TABLE telemetry.%I ATTACH PARTITION telemetry.%I FOR VALUES FROM (%L) TO (%L)',
                               cut.table_name, part_name, starts_at, starts_at + cut.width);
                made := made + 1;
            END IF;
            starts_at := starts_at + cut.width;
        END LOOP;
    END LOOP;
    RETURN made;
END
$$;

-- Remove what is wholly older than the given instants; returns how many partitions went.
CREATE FUNCTION telemetry.drop_older(heartbeats_before timestamptz, readings_before timestamptz, events_before timestamptz)
    RETURNS integer
    LANGUAGE plpgsql
    SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET lock_timeout = '5s'
AS $$
DECLARE
    cut        telemetry.partitioned_tables;
    part_name  text;
    before_at  timestamptz;
    dropped    integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('telemetry.partitions'));
    FOR cut IN SELECT * FROM telemetry.partitioned_tables LOOP
        before_at := CASE cut.table_name
            WHEN 'heartbeats' THEN heartbeats_before
            WHEN 'readings' THEN readings_before
            ELSE events_before
        END;
        FOR part_name IN
            SELECT c.relname
              FROM pg_inherits i
              JOIN pg_class c ON c.oid = i.inhrelid
             WHERE i.inhparent = format('telemetry.%I', cut.table_name)::regclass
               -- CASE, because the planner may look at names before it has found out whose children they are.
               AND CASE WHEN c.relname ~ '_[0-9]{8}$' THEN to_timestamp(right(c.relname, 8), 'YYYYMMDD') END
                   + cut.width <= before_at
             ORDER BY c.relname
        LOOP
            EXECUTE format('DROP TABLE telemetry.%I', part_name);
            dropped := dropped + 1;
        END LOOP;
    END LOOP;
    RETURN dropped;
END
$$;

GRANT EXECUTE
   ON FUNCTION telemetry.ensure_partitions(timestamptz, timestamptz),
               telemetry.drop_older(timestamptz, timestamptz, timestamptz)
   TO loa_ingest;

-- Enough to begin with; ingest makes the rest when it starts and from then on.
SELECT telemetry.ensure_partitions(now() - interval '2 days', now() + interval '3 days');
