-- Reforms of units (2025: 209 communes became 58): who follows whom from which day on. Dated data that every question
-- about a day is answered by; nothing is rewritten on the day itself (services.control.units).

CREATE TABLE control.unit_reforms (
    reform_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    valid_from      date NOT NULL,
    tree_sha256     bytea NOT NULL,
    mapping_sha256  bytea NOT NULL,
    registered_at   timestamptz NOT NULL,
    registered_by   uuid REFERENCES control.accounts
);

-- From `valid_from` until `valid_until` the closed unit is taken for its heir, also when that was closed in its turn: rows
-- say where a unit leads in the end, so nobody follows chains.
CREATE TABLE control.unit_heirs (
    unit_id       uuid NOT NULL REFERENCES control.units,
    heir_id       uuid NOT NULL REFERENCES control.units,
    valid_from    date NOT NULL,
    valid_until   date,
    begins_at     timestamptz NOT NULL,          -- of `valid_from` and `valid_until` in the province's zone,
    ends_at       timestamptz,                   -- for statements that know instants only
    keeps_rights  boolean NOT NULL,              -- of one level: rights over the unit are rights over the heir
    PRIMARY KEY (unit_id, valid_from),
    CONSTRAINT unit_heirs_window_is_not_empty CHECK (valid_until IS NULL OR valid_until > valid_from),
    CONSTRAINT unit_heirs_end_on_a_day CHECK ((valid_until IS NULL) = (ends_at IS NULL)),
    CONSTRAINT unit_heirs_not_itself CHECK (unit_id <> heir_id)
);
CREATE INDEX unit_heirs_by_heir ON control.unit_heirs (heir_id);

-- Units that hold what of an old unit goes elsewhere than the rest of it.
CREATE TABLE control.unit_parts (
    part_id     uuid PRIMARY KEY REFERENCES control.units,
    unit_id     uuid NOT NULL REFERENCES control.units,
    valid_from  date NOT NULL                    -- the day of the reform
);
CREATE INDEX unit_parts_by_day ON control.unit_parts (valid_from);

CREATE TRIGGER unit_heirs_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON control.unit_heirs
    FOR EACH STATEMENT EXECUTE FUNCTION control.count_units_revision();

GRANT SELECT, INSERT ON control.unit_reforms TO loa_control;
GRANT SELECT, INSERT, UPDATE, DELETE ON control.unit_heirs, control.unit_parts TO loa_control;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA control TO loa_control;
