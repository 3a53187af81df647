-- Sensors' rows are kept for days, and may be believed for weeks. So the partitions of this table do not reach back as
-- far as a row may: the first one begins at the beginning of time and takes what is older than is kept. It is rolled up
-- from there like any other row, and goes with the partition at the next round, but not before all of it is old enough:
-- at first, and when rows are to be kept for longer than they were, it takes younger ones too.
ALTER TABLE telemetry.partitioned_tables ADD COLUMN older_until timestamptz; -- where the first partition ends
COMMENT ON COLUMN telemetry.partitioned_tables.width IS 'whole hours';
INSERT INTO telemetry.partitioned_tables (table_name, time_column, width, older_until)
VALUES ('sensor_heartbeats', 'at', interval '1 day', date_trunc('day', now() - interval '5 days', 'UTC')),
       ('sensor_heartbeats_hourly', 'hour', interval '28 days', NULL);

DO $$
DECLARE
    cut telemetry.partitioned_tables;
BEGIN
    FOR cut IN SELECT * FROM telemetry.partitioned_tables WHERE table_name LIKE 'sensor%' LOOP
        EXECUTE format('ALTER TABLE telemetry.%I RENAME TO %I', cut.table_name, cut.table_name || '_plain');
        EXECUTE format(
            'CREATE TABLE telemetry.%I (LIKE telemetry.%I INCLUDING ALL) PARTITION BY RANGE (%I)',
            cut.table_name, cut.table_name || '_plain', cut.time_column
        );
        EXECUTE format('DROP TABLE telemetry.%I', cut.table_name || '_plain');
    END LOOP;
END
$$;
ALTER TABLE telemetry.sensor_heartbeats_hourly
    RENAME CONSTRAINT sensor_heartbeats_hourly_pkey TO sensor_heartbeats_hourly_once;
GRANT SELECT, INSERT ON telemetry.sensor_heartbeats TO loa_ingest;
GRANT SELECT, INSERT, UPDATE, DELETE ON telemetry.sensor_heartbeats_hourly TO loa_ingest;

-- What removes a redelivered heartbeat, and finds those of one device: (device_no, at), behind the ten seconds it falls
-- into. Millions of devices send in turn, so with the device first every row goes to a place of its own in an index
-- larger than memory; with the time alone first, nobody finds a device. A slot's entries fit a processor's cache, and a
-- reader of one device steps from slot to slot. Unique as (device_no, at) is, for the slot follows from the time.
CREATE UNIQUE INDEX sensor_heartbeats_once_per_instant ON telemetry.sensor_heartbeats
       (((date_part('epoch', at - timestamptz '2024-01-01 00:00:00+00') / 10)::integer), device_no, at);
-- By time alone: an hour to roll up.
CREATE INDEX sensor_heartbeats_by_time ON telemetry.sensor_heartbeats USING brin (at) WITH (pages_per_range = 32);

-- What a partition is called, and what it begins with by its name; NULL for a name of any other kind.
CREATE FUNCTION telemetry.partition_name(cut telemetry.partitioned_tables, starts_at timestamptz) RETURNS text
    LANGUAGE sql STABLE
    SET search_path = pg_catalog
    SET timezone = 'UTC'
    RETURN format('%s_%s', cut.table_name,
                  to_char(starts_at, CASE WHEN cut.width < interval '1 day' THEN 'YYYYMMDD_HH24' ELSE 'YYYYMMDD' END));
CREATE FUNCTION telemetry.partition_start(part_name text) RETURNS timestamptz
    LANGUAGE sql STABLE
    SET search_path = pg_catalog
    SET timezone = 'UTC'
    RETURN to_timestamp(substring(part_name FROM '_([0-9]{8}(?:_[0-9]{2})?)$'), 'YYYYMMDD_HH24');

-- Make a partition apart and attach it: CREATE TABLE … PARTITION OF would stop every reader and writer of the table.
CREATE FUNCTION telemetry.attach_partition(cut telemetry.partitioned_tables, part_name text, bounds text) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format('CREATE TABLE telemetry.%I (LIKE telemetry.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)',
                   part_name, cut.table_name);
    EXECUTE format('ALTER TABLE telemetry.%I ATTACH PARTITION telemetry.%I FOR VALUES %s',
                   cut.table_name, part_name, bounds);
END
$$;
REVOKE EXECUTE ON FUNCTION telemetry.attach_partition(telemetry.partitioned_tables, text, text) FROM PUBLIC;

CREATE OR REPLACE FUNCTION telemetry.ensure_partitions(from_at timestamptz, until_at timestamptz) RETURNS integer
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
        part_name := format('%s_older', cut.table_name);
        IF cut.older_until IS NOT NULL AND to_regclass(format('telemetry.%I', part_name)) IS NULL THEN
            PERFORM telemetry.attach_partition(cut, part_name, format('FROM (MINVALUE) TO (%L)', cut.older_until));
            made := made + 1;
        END IF;
        -- Monday 2024-01-01 is where widths are counted from.
        starts_at := date_bin(cut.width, greatest(from_at, cut.older_until), timestamptz '2024-01-01 00:00:00+00');
        WHILE starts_at <= until_at LOOP
            part_name := telemetry.partition_name(cut, starts_at);
            IF to_regclass(format('telemetry.%I', part_name)) IS NULL THEN
                PERFORM telemetry.attach_partition(
                    cut, part_name, format('FROM (%L) TO (%L)', starts_at, starts_at + cut.width)
                );
                made := made + 1;
            END IF;
            starts_at := starts_at + cut.width;
        END LOOP;
    END LOOP;
    RETURN made;
END
$$;

-- Remove partitions of a table that are wholly older; returns how many went. Those of sensors' rows that are not rolled
-- up stay for another time.
CREATE FUNCTION telemetry.drop_before(cut_table text, before_at timestamptz) RETURNS integer
    LANGUAGE plpgsql
    SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET lock_timeout = '5s'
AS $$
DECLARE
    cut         telemetry.partitioned_tables;
    part_name   text;
    starts_at   timestamptz;
    kept_from   timestamptz; -- where the first partition may end from now on
    is_sensors  CONSTANT boolean := cut_table = 'sensor_heartbeats';
    dropped     integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('telemetry.partitions'));
    SELECT * INTO cut FROM telemetry.partitioned_tables WHERE table_name = cut_table;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'nothing is dropped of %', cut_table;
    END IF;
    FOR part_name, starts_at IN
        SELECT c.relname, telemetry.partition_start(c.relname)
          FROM pg_inherits i
          JOIN pg_class c ON c.oid = i.inhrelid
         WHERE i.inhparent = format('telemetry.%I', cut.table_name)::regclass
           AND telemetry.partition_start(c.relname) + cut.width <= before_at
         ORDER BY c.relname
    LOOP
        IF is_sensors THEN
            CONTINUE WHEN NOT telemetry.sensors_rolled_up(starts_at, starts_at + cut.width);
            -- Dropping takes this lock anyway; with it, who was just writing is done.
            LOCK TABLE ONLY telemetry.sensor_heartbeats IN ACCESS EXCLUSIVE MODE;
            CONTINUE WHEN NOT telemetry.sensors_rolled_up(starts_at, starts_at + cut.width);
        END IF;
        EXECUTE format('DROP TABLE telemetry.%I', part_name);
        dropped := dropped + 1;
    END LOOP;
    -- What came for the time before has been rolled up since: it is let go, and the time just dropped joins it.
    IF cut.older_until <= before_at AND telemetry.sensors_rolled_up('-infinity', cut.older_until) THEN
        SELECT least(min(telemetry.partition_start(c.relname)),
                     date_bin(cut.width, before_at, timestamptz '2024-01-01 00:00:00+00'))
          INTO kept_from
          FROM pg_inherits i
          JOIN pg_class c ON c.oid = i.inhrelid
         WHERE i.inhparent = format('telemetry.%I', cut.table_name)::regclass;
        part_name := format('%s_older', cut.table_name);
        IF kept_from = cut.older_until AND pg_relation_size(to_regclass(format('telemetry.%I', part_name))) = 0 THEN
            RETURN dropped;
        END IF;
        LOCK TABLE ONLY telemetry.sensor_heartbeats IN ACCESS EXCLUSIVE MODE;
        IF NOT telemetry.sensors_rolled_up('-infinity', cut.older_until) THEN
            RETURN dropped;
        END IF;
        UPDATE telemetry.partitioned_tables t
           SET older_until = kept_from
         WHERE t.table_name = cut.table_name
        RETURNING * INTO cut;
        EXECUTE format('DROP TABLE IF EXISTS telemetry.%I', part_name);
        PERFORM telemetry.attach_partition(cut, part_name, format('FROM (MINVALUE) TO (%L)', cut.older_until));
    END IF;
    RETURN dropped;
END
$$;
GRANT EXECUTE ON FUNCTION telemetry.drop_before(text, timestamptz) TO loa_ingest;

-- For an ingest of the version before.
CREATE OR REPLACE FUNCTION telemetry.drop_older(
    heartbeats_before timestamptz, readings_before timestamptz, events_before timestamptz
) RETURNS integer
    LANGUAGE sql
    SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT telemetry.drop_before('heartbeats', heartbeats_before)
         + telemetry.drop_before('readings', readings_before)
         + telemetry.drop_before('events', events_before)
$$;

SELECT telemetry.ensure_partitions(now() - interval '5 days', now() + interval '3 days');
