-- The longest run of minutes not heard, 0 to 60.
CREATE FUNCTION telemetry.longest_silence(minutes bigint) RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog
AS $$
    SELECT coalesce(max(length(run)), 0)::integer
      FROM string_to_table(minutes::bit(60)::text, '1') run
$$;
GRANT EXECUTE ON FUNCTION telemetry.longest_silence(bigint) TO loa_ingest, loa_control;

-- One device is found by its key in both.
CREATE OR REPLACE VIEW telemetry.heartbeat_log AS
SELECT device_no,
       principal_no,
       at,
       coalesce(device_at, at) AS device_at,
       received_at,
       telemetry.kind_name(kind) AS kind,
       telemetry.clock_state_name(clock_state) AS clock_state,
       telemetry.time_source_name(time_source) AS time_source,
       firmware,
       uptime_s,
       telemetry.network_type_name(network_type) AS network_type,
       signal_dbm,
       network_operator,
       telemetry.power_source_name(power_source) AS power_source,
       battery_percent,
       plan_serial,
       config_serial,
       storage_free_mib,
       storage_total_mib,
       journal_pending,
       last_error,
       volume_percent,
       temperature_tenths_c,
       amplifier_power_w,
       faulty_channels,
       telemetry.play_source_name(playing_source) AS playing_source,
       playing_id,
       playing_occurrence_at,
       playing_item,
       playing_since,
       screen_on,
       brightness_percent,
       devices_assigned,
       devices_heard
  FROM telemetry.heartbeats
 UNION ALL
SELECT device_no,
       principal_no,
       at,
       coalesce(device_at, at),
       received_at,
       'sensor',
       telemetry.clock_state_name(clock_state),
       telemetry.time_source_name(time_source),
       firmware,
       uptime_s,
       telemetry.network_type_name(network_type),
       signal_dbm,
       network_operator,
       telemetry.power_source_name(power_source),
       battery_percent,
       plan_serial,
       config_serial,
       storage_free_mib,
       storage_total_mib,
       journal_pending,
       last_error,
       NULL::smallint,
       NULL::smallint,
       NULL::smallint,
       NULL::smallint[],
       NULL::text,
       NULL::uuid,
       NULL::timestamptz,
       NULL::smallint,
       NULL::timestamptz,
       NULL::boolean,
       NULL::smallint,
       NULL::integer,
       NULL::integer
  FROM telemetry.sensor_heartbeats;

-- Of a sensor, silence and first and last time are known to the minute and the second.
CREATE OR REPLACE VIEW telemetry.heartbeat_hours AS
SELECT device_no, hour, heartbeats, minutes_heard, longest_gap_s, first_at, last_at, temperature_min_tenths_c,
       temperature_max_tenths_c, signal_min_dbm, battery_min_percent, minutes_playing
  FROM telemetry.heartbeats_hourly
 UNION ALL
SELECT device_no,
       hour,
       heartbeats,
       bit_count(minutes::bit(60))::smallint,
       60 * telemetry.longest_silence(minutes),
       hour + make_interval(secs => first_s),
       hour + make_interval(secs => last_s),
       NULL::smallint,
       NULL::smallint,
       signal_min_dbm,
       battery_min_percent,
       0::smallint
  FROM telemetry.sensor_heartbeats_hourly;

-- Sum up rows of sensors from `starts_at` to an hour later: of one device, or (NULL) of all. Nothing is sorted: minutes
-- are bits, and bits are gathered in whatever order rows lie.
--
-- What is there already is added to, never taken back: raw rows of the hour may be gone by the time a straggler comes.
-- Then `heartbeats` counts as many as are known together or as there are minutes, whichever is more, and may be too few.
CREATE FUNCTION telemetry.roll_up_sensors(starts_at timestamptz, only_device integer) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog
    SET work_mem = '256MB' -- a group for each sensor, and a province has millions
    SET plan_cache_mode = 'force_custom_plan' -- one device is found by the key, all are read in the order they lie
AS $$
BEGIN
    INSERT INTO telemetry.sensor_heartbeats_hourly AS r
           (hour, minutes, device_no, heartbeats, first_s, last_s, signal_min_dbm, battery_min_percent)
    SELECT starts_at,
           bit_or(1::bigint << date_part('minute', at - starts_at)::integer),
           device_no,
           count(*),
           floor(extract(epoch FROM min(at) - starts_at)),
           floor(extract(epoch FROM max(at) - starts_at)),
           min(signal_dbm),
           min(battery_percent)
      FROM telemetry.sensor_heartbeats
     WHERE at >= starts_at
       AND at < starts_at + interval '1 hour'
       AND (only_device IS NULL OR device_no = only_device)
     GROUP BY device_no
     ORDER BY device_no
        ON CONFLICT (hour, device_no) DO UPDATE
       SET minutes = r.minutes | excluded.minutes,
           heartbeats = greatest(r.heartbeats, excluded.heartbeats, bit_count((r.minutes | excluded.minutes)::bit(60))),
           first_s = least(r.first_s, excluded.first_s),
           last_s = greatest(r.last_s, excluded.last_s),
           signal_min_dbm = least(r.signal_min_dbm, excluded.signal_min_dbm),
           battery_min_percent = least(r.battery_min_percent, excluded.battery_min_percent);
END
$$;

-- Roll up the next hour of sensors that is due at `now_at` and return it; NULL when none is, or another replica is at it.
-- As `roll_up_next`, beside it: an hour of a province's sensors may take minutes, and the rest does not wait for it.
-- It reads first and writes last: readers of events wait for the oldest transaction that has begun to write.
CREATE FUNCTION telemetry.roll_up_sensors_next(now_at timestamptz) RETURNS timestamptz
    LANGUAGE plpgsql
    SET search_path = pg_catalog
AS $$
DECLARE
    at_once         CONSTANT integer := 5000; -- entries of one transaction
    many            CONSTANT integer := 2000; -- devices, beyond which reading the whole hour is quicker
    complete_until  timestamptz := date_trunc('hour', now_at - interval '5 minutes', 'UTC');
    rolled_until    timestamptz;
    due             timestamptz;
    taken           tid[];
    late            integer[];
    each            integer;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext('telemetry.roll_up_sensors')) THEN
        RETURN NULL;
    END IF;
    INSERT INTO telemetry.sensor_roll_up_watermark (until) VALUES (complete_until) ON CONFLICT DO NOTHING;
    SELECT until INTO rolled_until FROM telemetry.sensor_roll_up_watermark;
    IF rolled_until < complete_until THEN
        PERFORM telemetry.roll_up_sensors(rolled_until, NULL);
        UPDATE telemetry.sensor_roll_up_watermark SET until = rolled_until + interval '1 hour';
        RETURN rolled_until;
    END IF;
    SELECT min(hour) INTO due FROM telemetry.late_sensor_hours WHERE hour < complete_until;
    IF due IS NULL THEN
        RETURN NULL;
    END IF;
    -- Entries that appear after this statement stay for the next round, as in `roll_up_next`.
    SELECT array_agg(entry), array_agg(DISTINCT device_no) INTO taken, late
      FROM (SELECT ctid AS entry, device_no FROM telemetry.late_sensor_hours WHERE hour = due LIMIT at_once) e;
    IF cardinality(late) > many THEN
        PERFORM telemetry.roll_up_sensors(due, NULL);
    ELSE
        FOREACH each IN ARRAY late LOOP
            PERFORM telemetry.roll_up_sensors(due, each);
        END LOOP;
    END IF;
    DELETE FROM telemetry.late_sensor_hours WHERE ctid = ANY (taken); -- nobody else takes any away
    RETURN due;
END
$$;

GRANT EXECUTE
   ON FUNCTION telemetry.roll_up_sensors(timestamptz, integer), telemetry.roll_up_sensors_next(timestamptz)
   TO loa_ingest;
