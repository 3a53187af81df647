-- What changed in the registry, so that whoever holds all of it in memory asks for the changes and not for millions of
-- devices again.
--
-- A reader's version is the snapshot (pg_current_snapshot) it last read with, and the changes since then are the rows
-- that snapshot did not see: exact also for a transaction that drew its number early and committed late, and without
-- waiting for the oldest one still running. Assignments that begin or end as time passes change no row: they are found
-- by their instants (control.assignment_instants).

-- The view as it was, and numbers for those who compute with them. A gateway's number stands there also while the gateway
-- is retired: it may speak for nobody then, because it is not registered itself.
CREATE OR REPLACE VIEW control.device_registry AS
SELECT d.device_id,
       d.device_no,
       d.kind,
       d.unit_id,
       coalesce(g.device_id, d.device_id) AS principal,
       coalesce(a.gateway_no, d.device_no) AS principal_no,
       CASE d.kind WHEN 'cluster' THEN 0 WHEN 'board' THEN 1 WHEN 'sensor' THEN 2 WHEN 'gateway' THEN 3 END AS kind_no
  FROM control.devices d
  LEFT JOIN control.gateway_assignments a
         ON a.device_no = d.device_no AND a.valid_from <= now() AND (a.valid_until IS NULL OR a.valid_until > now())
  LEFT JOIN control.devices g ON g.device_no = a.gateway_no
 WHERE d.retired_at IS NULL;

CREATE TABLE control.registry_changes (
    change_no  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tx         xid8 NOT NULL DEFAULT pg_current_xact_id(),
    at         timestamptz NOT NULL DEFAULT now(),
    -- Devices to look at again. It may hold more than changed (control.ranges_of), never less.
    numbers    int4multirange NOT NULL,
    -- Names that stopped being registered: of devices retired, renamed or deleted. No number leads to them any more.
    names      text[] NOT NULL
);
COMMENT ON TABLE control.registry_changes IS 'Written by triggers. Kept for seven days; readers load everything daily.';
CREATE INDEX registry_changes_by_transaction ON control.registry_changes (tx);

CREATE VIEW control.registry_change_log AS
SELECT change_no, tx, at, numbers, names
  FROM control.registry_changes;

CREATE INDEX gateway_assignments_by_start ON control.gateway_assignments (valid_from);
CREATE INDEX gateway_assignments_by_end ON control.gateway_assignments (valid_until) WHERE valid_until IS NOT NULL;

-- When somebody else begins to speak for which device.
CREATE VIEW control.assignment_instants AS
SELECT valid_from AS at, device_no
  FROM control.gateway_assignments
 UNION ALL
SELECT valid_until, device_no
  FROM control.gateway_assignments
 WHERE valid_until IS NOT NULL;

-- One row per statement, and the oldest rows go as new ones come. Locked ones are somebody else's to remove: no change of
-- the registry waits for another one here.
CREATE FUNCTION control.note_registry_change(numbers int4multirange, names text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF isempty(coalesce(numbers, '{}')) AND coalesce(cardinality(names), 0) = 0 THEN
        RETURN;
    END IF;
    INSERT INTO control.registry_changes (numbers, names) VALUES (coalesce(numbers, '{}'), coalesce(names, '{}'));
    DELETE FROM control.registry_changes c
     WHERE c.change_no IN (
           SELECT o.change_no
             FROM control.registry_changes o
            WHERE o.change_no < (SELECT min(m.change_no) + 100 FROM control.registry_changes m)
              AND o.at < now() - interval '7 days'
              FOR UPDATE SKIP LOCKED);
    PERFORM pg_notify('registry_changed', '');
END
$$;

-- Numbers as few ranges, so that millions of them are some bytes and not some megabytes: those of 64 neighbours that
-- changed are taken from the first to the last.
CREATE FUNCTION control.ranges_of(numbers integer[]) RETURNS int4multirange LANGUAGE sql IMMUTABLE
AS $$
    SELECT range_agg(int4range(block.first, block.last, '[]'))
      FROM (SELECT min(number) AS first, max(number) AS last FROM unnest(numbers) AS number GROUP BY number / 64) block
$$;

CREATE FUNCTION control.note_devices_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM control.note_registry_change(
        (SELECT control.ranges_of(array_agg(device_no)) FROM after_it WHERE retired_at IS NULL), '{}'
    );
    RETURN NULL;
END
$$;

CREATE FUNCTION control.note_devices_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM control.note_registry_change(
        (SELECT control.ranges_of(array_agg(changed.device_no))
           FROM (SELECT device_no, device_id, kind FROM after_it WHERE retired_at IS NULL
                 EXCEPT
                 SELECT device_no, device_id, kind FROM before_it WHERE retired_at IS NULL) changed),
        ARRAY(SELECT device_id FROM before_it WHERE retired_at IS NULL
              EXCEPT
              SELECT device_id FROM after_it WHERE retired_at IS NULL)
    );
    RETURN NULL;
END
$$;

CREATE FUNCTION control.note_devices_removed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM control.note_registry_change('{}', ARRAY(SELECT device_id FROM before_it WHERE retired_at IS NULL));
    RETURN NULL;
END
$$;

CREATE FUNCTION control.note_assignments_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM control.note_registry_change((SELECT control.ranges_of(array_agg(device_no)) FROM after_it), '{}');
    RETURN NULL;
END
$$;

CREATE FUNCTION control.note_assignments_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM control.note_registry_change(
        (SELECT control.ranges_of(array_agg(changed.device_no))
           FROM ((TABLE before_it EXCEPT TABLE after_it) UNION ALL (TABLE after_it EXCEPT TABLE before_it)) changed),
        '{}'
    );
    RETURN NULL;
END
$$;

CREATE FUNCTION control.note_assignments_removed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM control.note_registry_change((SELECT control.ranges_of(array_agg(device_no)) FROM before_it), '{}');
    RETURN NULL;
END
$$;

-- Emptied tables tell no rows: everything is to be looked at again.
CREATE FUNCTION control.note_registry_emptied() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM control.note_registry_change('{(,)}', '{}');
    RETURN NULL;
END
$$;

DROP TRIGGER devices_changed ON control.devices;
DROP TRIGGER gateway_assignments_changed ON control.gateway_assignments;
DROP FUNCTION control.announce_registry();

CREATE TRIGGER devices_added AFTER INSERT ON control.devices
    REFERENCING NEW TABLE AS after_it
    FOR EACH STATEMENT EXECUTE FUNCTION control.note_devices_added();
CREATE TRIGGER devices_changed AFTER UPDATE ON control.devices
    REFERENCING OLD TABLE AS before_it NEW TABLE AS after_it
    FOR EACH STATEMENT EXECUTE FUNCTION control.note_devices_changed();
CREATE TRIGGER devices_removed AFTER DELETE ON control.devices
    REFERENCING OLD TABLE AS before_it
    FOR EACH STATEMENT EXECUTE FUNCTION control.note_devices_removed();
CREATE TRIGGER devices_emptied AFTER TRUNCATE ON control.devices
    FOR EACH STATEMENT EXECUTE FUNCTION control.note_registry_emptied();
CREATE TRIGGER gateway_assignments_added AFTER INSERT ON control.gateway_assignments
    REFERENCING NEW TABLE AS after_it
    FOR EACH STATEMENT EXECUTE FUNCTION control.note_assignments_added();
CREATE TRIGGER gateway_assignments_changed AFTER UPDATE ON control.gateway_assignments
    REFERENCING OLD TABLE AS before_it NEW TABLE AS after_it
    FOR EACH STATEMENT EXECUTE FUNCTION control.note_assignments_changed();
CREATE TRIGGER gateway_assignments_removed AFTER DELETE ON control.gateway_assignments
    REFERENCING OLD TABLE AS before_it
    FOR EACH STATEMENT EXECUTE FUNCTION control.note_assignments_removed();
CREATE TRIGGER gateway_assignments_emptied AFTER TRUNCATE ON control.gateway_assignments
    FOR EACH STATEMENT EXECUTE FUNCTION control.note_registry_emptied();

-- UPDATE: to lock the rows to be removed.
GRANT SELECT, INSERT, UPDATE, DELETE ON control.registry_changes TO loa_control;
GRANT EXECUTE ON FUNCTION control.note_registry_change(int4multirange, text[]), control.ranges_of(integer[]) TO loa_control;
GRANT SELECT ON control.registry_change_log, control.assignment_instants TO loa_ingest;
