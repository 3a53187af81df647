-- Who signed what a device says, and the keys to check it by.

-- The key id that signed, where the signature was right; a wrong one is never admitted. NULL: not signed. An untimely
-- reading was signed by its device and may still be an old one said again: its time is not believed, or it came late. Events
-- go first, as ingest locks them first.
ALTER TABLE telemetry.events ADD COLUMN signer bytea;
ALTER TABLE telemetry.readings ADD COLUMN signature smallint, ADD COLUMN signer bytea;

-- A name of ingest's own enumeration; a test holds it to `services.ingest.rows`.
CREATE FUNCTION telemetry.signature_name(number smallint) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (ARRAY['verified', 'untimely'])[number + 1];
GRANT EXECUTE ON FUNCTION telemetry.signature_name(smallint) TO loa_ingest, loa_control;

CREATE OR REPLACE VIEW telemetry.reading_log AS
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
       telemetry.quality_name(quality) AS quality,
       telemetry.signature_name(signature) AS signature,
       signer
  FROM telemetry.readings;

CREATE OR REPLACE VIEW telemetry.event_log AS
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
       body,
       signer
  FROM telemetry.events;

-- The keys by which devices may sign now: of every certificate that is not revoked, so of two while one is renewed. Whether
-- it has run out is for the reader to say, who knows the instant.
CREATE VIEW control.device_keys AS
SELECT c.device_no,
       d.device_id,
       substring(c.public_key FROM 1 FOR 8) AS kid,
       c.certificate,
       c.not_after
  FROM control.device_certificates c
  JOIN control.devices d USING (device_no)
 WHERE c.revoked_at IS NULL
   AND d.retired_at IS NULL;
GRANT SELECT ON control.device_keys TO loa_ingest, loa_control;

-- A doorbell with the device's number: whoever holds its keys looks them up again.
CREATE FUNCTION control.announce_device_keys() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('device_keys_changed', NEW.device_no::text);
    RETURN NULL;
END
$$;
CREATE TRIGGER device_keys_added AFTER INSERT ON control.device_certificates
    FOR EACH ROW EXECUTE FUNCTION control.announce_device_keys();
CREATE TRIGGER device_keys_changed AFTER UPDATE OF revoked_at ON control.device_certificates
    FOR EACH ROW WHEN (OLD.revoked_at IS DISTINCT FROM NEW.revoked_at) EXECUTE FUNCTION control.announce_device_keys();
