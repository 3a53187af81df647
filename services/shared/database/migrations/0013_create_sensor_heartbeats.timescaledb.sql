SELECT create_hypertable('telemetry.sensor_heartbeats', by_range('at', interval '1 hour'), create_default_indexes => false);
SELECT create_hypertable('telemetry.sensor_heartbeats_hourly', by_range('hour', interval '7 days'),
                         create_default_indexes => false);

-- What removes a redelivered heartbeat, and finds those of one device: (device_no, at), behind the ten seconds it falls
-- into. Millions of devices send in turn, so with the device first every row goes to a place of its own in an index
-- larger than memory; with the time alone first, nobody finds a device. A slot's entries fit a processor's cache, and a
-- reader of one device steps from slot to slot. Unique as (device_no, at) is, for the slot follows from the time.
CREATE UNIQUE INDEX sensor_heartbeats_once_per_instant ON telemetry.sensor_heartbeats
       (((date_part('epoch', at - timestamptz '2024-01-01 00:00:00+00') / 10)::integer), device_no, at);

-- A chunk has sixty rows of a device, too few to be a segment: 27 bytes a row. In order of device and time, sixteen
-- devices share one: 13 bytes, and what is asked for is found by the least and greatest device of each segment. Wider
-- chunks save no disk: three hours take 10 bytes, and as much more for what waits uncompressed.
ALTER TABLE telemetry.sensor_heartbeats
    SET (timescaledb.compress, timescaledb.compress_segmentby = '', timescaledb.compress_orderby = 'device_no, at');
-- A week of hours makes a segment, and many devices are asked for at once.
ALTER TABLE telemetry.sensor_heartbeats_hourly
    SET (timescaledb.compress, timescaledb.compress_segmentby = 'device_no', timescaledb.compress_orderby = 'hour');
SELECT add_compression_policy('telemetry.sensor_heartbeats', interval '1 hour',
                              schedule_interval => interval '15 minutes');
SELECT add_compression_policy('telemetry.sensor_heartbeats_hourly', interval '2 days');

-- Remove chunks of a table that are wholly older; returns how many went. Chunks of sensors' rows that are not rolled up
-- stay for another time.
CREATE FUNCTION telemetry.drop_before(cut_table text, before_at timestamptz) RETURNS integer
    LANGUAGE plpgsql
    SECURITY DEFINER
    SET search_path = pg_catalog, public, pg_temp
    SET lock_timeout = '5s'
AS $$
DECLARE
    part     record;
    dropped  integer := 0;
BEGIN
    IF cut_table NOT IN ('heartbeats', 'sensor_heartbeats', 'readings', 'events', 'sensor_heartbeats_hourly') THEN
        RAISE EXCEPTION 'nothing is dropped of %', cut_table;
    END IF;
    IF cut_table <> 'sensor_heartbeats' THEN
        RETURN (SELECT count(*) FROM drop_chunks(format('telemetry.%I', cut_table)::regclass, older_than => before_at));
    END IF;
    FOR part IN
        SELECT format('%I.%I', chunk_schema, chunk_name) AS name, range_start, range_end
          FROM timescaledb_information.chunks
         WHERE hypertable_schema = 'telemetry'
           AND hypertable_name = cut_table
           AND range_end <= before_at
         ORDER BY range_end
    LOOP
        CONTINUE WHEN NOT telemetry.sensors_rolled_up(part.range_start, part.range_end);
        EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', part.name);
        CONTINUE WHEN NOT telemetry.sensors_rolled_up(part.range_start, part.range_end); -- who was just writing is done
        PERFORM drop_chunks('telemetry.sensor_heartbeats', older_than => part.range_end, newer_than => part.range_start);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END
$$;
GRANT EXECUTE ON FUNCTION telemetry.drop_before(text, timestamptz) TO loa_ingest;
