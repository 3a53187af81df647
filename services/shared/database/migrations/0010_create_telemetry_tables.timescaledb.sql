-- With TimescaleDB the three big tables are hypertables. Their own keys are the only B-trees; time alone is served by
-- the chunks.
SELECT create_hypertable('telemetry.heartbeats', by_range('at', interval '1 day'), create_default_indexes => false);
SELECT create_hypertable('telemetry.readings', by_range('at', interval '1 day'), create_default_indexes => false);
SELECT create_hypertable('telemetry.events', by_range('received_at', interval '7 days'), create_default_indexes => false);

CREATE INDEX heartbeats_by_time ON telemetry.heartbeats USING brin (at) WITH (pages_per_range = 32);
CREATE INDEX readings_by_time ON telemetry.readings USING brin (at) WITH (pages_per_range = 32);
CREATE INDEX events_by_transaction ON telemetry.events (tx, event_no);
CREATE INDEX events_by_device ON telemetry.events (device_no, at DESC);

-- Compressed once a day is over and the usual stragglers are in. Later rows still find their way: they are laid beside
-- and merged by the policy. Events stay as they are: they are few, and readers follow them by transaction.
ALTER TABLE telemetry.heartbeats
    SET (timescaledb.compress, timescaledb.compress_segmentby = 'device_no', timescaledb.compress_orderby = 'at DESC');
ALTER TABLE telemetry.readings
    SET (timescaledb.compress, timescaledb.compress_segmentby = 'device_no, quantity', timescaledb.compress_orderby = 'at DESC');
SELECT add_compression_policy('telemetry.heartbeats', interval '2 days');
SELECT add_compression_policy('telemetry.readings', interval '2 days');

-- The same two functions as with native partitions, so that ingest has one maintenance job.
CREATE FUNCTION telemetry.ensure_partitions(from_at timestamptz, until_at timestamptz) RETURNS integer
    LANGUAGE sql
    SET search_path = pg_catalog
AS $$
    SELECT 0 -- chunks are made by the first row that needs one
$$;

CREATE FUNCTION telemetry.drop_older(heartbeats_before timestamptz, readings_before timestamptz, events_before timestamptz)
    RETURNS integer
    LANGUAGE plpgsql
    SECURITY DEFINER
    SET search_path = pg_catalog, public, pg_temp
    SET lock_timeout = '5s'
AS $$
BEGIN
    RETURN (SELECT count(*) FROM drop_chunks('telemetry.heartbeats', older_than => heartbeats_before))
         + (SELECT count(*) FROM drop_chunks('telemetry.readings', older_than => readings_before))
         + (SELECT count(*) FROM drop_chunks('telemetry.events', older_than => events_before));
END
$$;

GRANT EXECUTE
   ON FUNCTION telemetry.ensure_partitions(timestamptz, timestamptz),
               telemetry.drop_older(timestamptz, timestamptz, timestamptz)
   TO loa_ingest;
