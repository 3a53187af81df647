-- What control may read of telemetry: these views and nothing else. They are the contract between the two services;
-- the tables behind them may change.

-- Names of the wire contract's enumerations, by number; a test holds them to `schemas.fields`.
CREATE FUNCTION telemetry.kind_name(number smallint) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (ARRAY['cluster', 'board', 'sensor', 'gateway'])[number + 1];
CREATE FUNCTION telemetry.clock_state_name(number smallint) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (ARRAY['synchronised', 'holdover', 'unsynchronised'])[number + 1];
CREATE FUNCTION telemetry.network_type_name(number smallint) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (ARRAY['ethernet', 'wifi', 'cellular_2g', 'cellular_3g', 'cellular_4g', 'cellular_5g', 'lora', 'wired_bus',
                  'fm'])[number + 1];
CREATE FUNCTION telemetry.power_source_name(number smallint) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (ARRAY['mains', 'battery', 'solar'])[number + 1];
CREATE FUNCTION telemetry.play_source_name(number smallint) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (ARRAY['emission', 'command', 'alert', 'fallback'])[number + 1];
CREATE FUNCTION telemetry.quality_name(number smallint) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (ARRAY['good', 'uncertain', 'bad'])[number + 1];
-- Names of ingest's own enumerations; a test holds them to `services.ingest.rows`.
CREATE FUNCTION telemetry.time_source_name(number smallint) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (ARRAY['device', 'clock_unsynchronised', 'clock_absurd'])[number + 1];
CREATE FUNCTION telemetry.heard_kind_name(number smallint) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (ARRAY['heartbeat', 'reading', 'event', 'presence'])[number + 1];
GRANT EXECUTE
   ON FUNCTION telemetry.kind_name(smallint), telemetry.clock_state_name(smallint), telemetry.network_type_name(smallint),
               telemetry.power_source_name(smallint), telemetry.play_source_name(smallint),
               telemetry.quality_name(smallint), telemetry.time_source_name(smallint), telemetry.heard_kind_name(smallint)
   TO loa_ingest, loa_control;

CREATE VIEW telemetry.fleet_states AS
SELECT s.device_no,
       s.principal,
       s.is_through_gateway,
       s.last_heard_at,
       telemetry.heard_kind_name(s.last_heard_kind) AS last_heard_kind,
       s.online,
       s.connection_no,
       s.presence_at,
       s.presence_received_at,
       s.heartbeat_at,
       s.heartbeat_device_at,
       s.heartbeat_received_at,
       n.*,
       jsonb_strip_nulls(to_jsonb(n)) AS state
  FROM telemetry.device_states s
 CROSS JOIN LATERAL (
       SELECT telemetry.kind_name(s.kind) AS kind,
              telemetry.clock_state_name(s.clock_state) AS clock_state,
              telemetry.time_source_name(s.time_source) AS time_source,
              s.firmware,
              s.uptime_s,
              telemetry.network_type_name(s.network_type) AS network_type,
              s.signal_dbm,
              s.network_operator,
              telemetry.power_source_name(s.power_source) AS power_source,
              s.battery_percent,
              s.plan_serial,
              s.config_serial,
              s.storage_free_mib,
              s.storage_total_mib,
              s.journal_pending,
              s.last_error,
              s.volume_percent,
              s.temperature_tenths_c,
              s.amplifier_power_w,
              s.faulty_channels,
              telemetry.play_source_name(s.playing_source) AS playing_source,
              s.playing_id,
              s.playing_occurrence_at,
              s.playing_item,
              s.playing_since,
              s.screen_on,
              s.brightness_percent,
              s.devices_assigned,
              s.devices_heard
       ) n;

CREATE VIEW telemetry.event_log AS
SELECT event_no,
       tx,
       device_no,
       principal,
       principal_no IS NOT NULL AS is_through_gateway,
       encode(int8send(journal), 'hex') AS journal_id,
       sequence,
       kind,
       at,
       coalesce(device_at, at) AS device_at,
       telemetry.clock_state_name(clock_state) AS clock_state,
       telemetry.time_source_name(time_source) AS time_source,
       received_at,
       body
  FROM telemetry.events;

CREATE VIEW telemetry.heartbeat_log AS
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
  FROM telemetry.heartbeats;

CREATE VIEW telemetry.reading_log AS
SELECT device_no,
       principal_no,
       at,
       coalesce(device_at, at) AS device_at,
       received_at,
       telemetry.clock_state_name(clock_state) AS clock_state,
       telemetry.time_source_name(time_source) AS time_source,
       quantity,
       value,
       unit,
       telemetry.quality_name(quality) AS quality
  FROM telemetry.readings;

CREATE VIEW telemetry.quarantine_log AS
SELECT quarantine_id,
       principal,
       device,
       topic,
       reason,
       detail,
       size,
       payload,
       sha256,
       messages,
       first_seen_at,
       last_seen_at,
       is_receipted
  FROM telemetry.quarantine;

CREATE VIEW telemetry.quarantine_counts AS
SELECT day, principal, reason, messages, bytes, kept
  FROM telemetry.quarantine_counters;

CREATE VIEW telemetry.totals AS
SELECT coalesce(sum(heartbeats), 0)::bigint AS heartbeats_stored,
       coalesce(sum(readings), 0)::bigint AS readings_stored,
       coalesce(sum(events), 0)::bigint AS events_stored,
       coalesce(sum(quarantined), 0)::bigint AS quarantined,
       coalesce(sum(duplicates), 0)::bigint AS duplicates,
       coalesce(sum(clock_refused), 0)::bigint AS clock_refused
  FROM telemetry.replica_totals;

CREATE VIEW telemetry.heartbeat_hours AS
SELECT device_no, hour, heartbeats, minutes_heard, longest_gap_s, first_at, last_at, temperature_min_tenths_c,
       temperature_max_tenths_c, signal_min_dbm, battery_min_percent, minutes_playing
  FROM telemetry.heartbeats_hourly;

CREATE VIEW telemetry.reading_hours AS
SELECT device_no, quantity, hour, unit, samples, mean, minimum, maximum
  FROM telemetry.readings_hourly;

GRANT SELECT
   ON telemetry.fleet_states, telemetry.event_log, telemetry.heartbeat_log, telemetry.reading_log,
      telemetry.quarantine_log, telemetry.quarantine_counts, telemetry.totals, telemetry.heartbeat_hours,
      telemetry.reading_hours
   TO loa_ingest, loa_control;
