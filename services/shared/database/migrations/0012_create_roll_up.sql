-- One roll-up job for both storage modes. Ingest calls it until it returns NULL; each call does one hour in one
-- transaction, so a long outage is caught up in small steps. Any replica may call; one at a time does the work.

-- Make the hourly rows of one hour anew from what is stored.
CREATE FUNCTION telemetry.roll_up_hour(starts_at timestamptz) RETURNS void
    LANGUAGE sql
    SET search_path = pg_catalog
AS $$
    INSERT INTO telemetry.heartbeats_hourly AS r
           (hour, first_at, last_at, device_no, heartbeats, longest_gap_s, minutes_heard, minutes_playing,
            temperature_min_tenths_c, temperature_max_tenths_c, signal_min_dbm, battery_min_percent)
    SELECT starts_at,
           min(at),
           max(at),
           device_no,
           count(*),
           ceil(extract(epoch FROM greatest(min(at) - starts_at, max(silence), starts_at + interval '1 hour' - max(at)))),
           count(DISTINCT date_trunc('minute', at)),
           count(DISTINCT date_trunc('minute', at)) FILTER (WHERE playing_id IS NOT NULL),
           min(temperature_tenths_c),
           max(temperature_tenths_c),
           min(signal_dbm),
           min(battery_percent)
      FROM (SELECT h.*, at - lag(at) OVER (PARTITION BY device_no ORDER BY at) AS silence
              FROM telemetry.heartbeats h
             WHERE at >= starts_at AND at < starts_at + interval '1 hour') of_this_hour
     GROUP BY device_no
        ON CONFLICT (device_no, hour) DO UPDATE
       SET first_at = excluded.first_at,
           last_at = excluded.last_at,
           heartbeats = excluded.heartbeats,
           longest_gap_s = excluded.longest_gap_s,
           minutes_heard = excluded.minutes_heard,
           minutes_playing = excluded.minutes_playing,
           temperature_min_tenths_c = excluded.temperature_min_tenths_c,
           temperature_max_tenths_c = excluded.temperature_max_tenths_c,
           signal_min_dbm = excluded.signal_min_dbm,
           battery_min_percent = excluded.battery_min_percent;

    INSERT INTO telemetry.readings_hourly AS r
           (hour, mean, minimum, maximum, device_no, samples, quantity, unit)
    SELECT starts_at, avg(value), min(value), max(value), device_no, count(*), quantity, max(unit)
      FROM telemetry.readings
     WHERE at >= starts_at
       AND at < starts_at + interval '1 hour'
       AND quality <> 2 -- what the sensor itself calls bad is kept raw and left out of means
     GROUP BY device_no, quantity
        ON CONFLICT (device_no, quantity, hour) DO UPDATE
       SET mean = excluded.mean,
           minimum = excluded.minimum,
           maximum = excluded.maximum,
           samples = excluded.samples,
           unit = excluded.unit;
$$;

-- Roll up the next hour that is due at `now_at` and return it; NULL when none is, or another replica is at it. An hour
-- is due five minutes after its end (longer than any batch takes to commit), and again when rows arrive later.
CREATE FUNCTION telemetry.roll_up_next(now_at timestamptz) RETURNS timestamptz
    LANGUAGE plpgsql
    SET search_path = pg_catalog
AS $$
DECLARE
    complete_until  timestamptz := date_trunc('hour', now_at - interval '5 minutes', 'UTC');
    rolled_until    timestamptz;
    due             timestamptz;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext('telemetry.roll_up')) THEN
        RETURN NULL;
    END IF;
    INSERT INTO telemetry.roll_up_watermark (until) VALUES (complete_until) ON CONFLICT DO NOTHING;
    SELECT until INTO rolled_until FROM telemetry.roll_up_watermark;
    IF rolled_until < complete_until THEN
        due := rolled_until;
        UPDATE telemetry.roll_up_watermark SET until = rolled_until + interval '1 hour';
    ELSE
        SELECT min(hour) INTO due FROM telemetry.late_hours WHERE hour < complete_until;
        IF due IS NULL THEN
            RETURN NULL;
        END IF;
    END IF;
    -- Entries that appear after this statement stay for the next round, whether the roll-up sees their rows already or
    -- not: an hour too many is rolled up, never one too few.
    DELETE FROM telemetry.late_hours WHERE hour = due;
    PERFORM telemetry.roll_up_hour(due);
    RETURN due;
END
$$;

GRANT EXECUTE ON FUNCTION telemetry.roll_up_hour(timestamptz), telemetry.roll_up_next(timestamptz) TO loa_ingest;
