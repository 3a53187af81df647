-- Rules on readings (river level, rain, smoke, temperature): when an alarm is raised, and which alert is proposed to a
-- person then. Alerts that somebody or something proposes stand in control.alerts as 'proposed', version 0.

CREATE TABLE control.sensor_rules (
    rule_id             uuid PRIMARY KEY,
    unit_id             uuid NOT NULL REFERENCES control.units,  -- that keeps it, and speaks
    name                text NOT NULL,
    quantity            text NOT NULL,             -- schemas.readings.UNITS
    direction           text NOT NULL CHECK (direction IN ('above', 'below')),
    raise_at            double precision NOT NULL, -- in the quantity's unit
    clear_at            double precision NOT NULL,
    hold_s              integer NOT NULL CHECK (hold_s BETWEEN 0 AND 86400),  -- how long readings must say so
    silent_after_s      integer NOT NULL CHECK (silent_after_s BETWEEN 10 AND 86400),
    quorum              smallint NOT NULL CHECK (quorum BETWEEN 1 AND 200),
    severity            text NOT NULL CHECK (severity IN ('extreme', 'severe', 'moderate', 'minor', 'unknown')),
    template_id         uuid REFERENCES control.alert_templates,  -- NULL: an alarm and no more
    sensor_unit_ids     uuid[] NOT NULL,           -- every sensor below them that gives the quantity
    sensor_ids          text[] NOT NULL,           -- and these
    alert_unit_ids      uuid[] NOT NULL,           -- the ground the proposed alert is for
    cool_down_s         integer NOT NULL CHECK (cool_down_s BETWEEN 0 AND 604800),  -- from one proposal to the next
    proposal_validity_s integer NOT NULL CHECK (proposal_validity_s BETWEEN 60 AND 86400),
    is_enabled          boolean NOT NULL,
    version             integer NOT NULL DEFAULT 1 CHECK (version > 0),
    created_at          timestamptz NOT NULL,
    created_by          uuid REFERENCES control.accounts,
    changed_at          timestamptz NOT NULL,      -- from here on sensors are waited for
    changed_by          uuid REFERENCES control.accounts,
    retired_at          timestamptz,
    looked_up_at        timestamptz,               -- when its sensors were last looked up in the registry
    CONSTRAINT sensor_rules_hysteresis CHECK (
        (direction = 'above' AND clear_at < raise_at) OR (direction = 'below' AND clear_at > raise_at))
);
CREATE INDEX sensor_rules_by_unit ON control.sensor_rules (unit_id) WHERE retired_at IS NULL;
CREATE INDEX sensor_rules_by_template ON control.sensor_rules (template_id) WHERE retired_at IS NULL;

-- What a rule makes of each of its sensors, from readings up to `settled_at`; newer ones are read again at each turn, so
-- that those which come out of order take their place.
CREATE TABLE control.sensor_states (
    rule_id     uuid NOT NULL REFERENCES control.sensor_rules ON DELETE CASCADE,
    device_no   integer NOT NULL REFERENCES control.devices,
    settled_at  timestamptz NOT NULL,
    joined_at   timestamptz NOT NULL,              -- from here on it is waited for
    is_raised   boolean NOT NULL DEFAULT false,
    since       timestamptz,                       -- of the readings that brought it where it is
    run_since   timestamptz,                       -- since when they have said the opposite
    last_at     timestamptz,
    last_value  double precision,
    PRIMARY KEY (rule_id, device_no)
);
CREATE INDEX sensor_states_by_device ON control.sensor_states (device_no);

CREATE TABLE control.sensor_alarms (
    alarm_id      uuid PRIMARY KEY,
    rule_id       uuid NOT NULL REFERENCES control.sensor_rules,
    rule_version  integer NOT NULL,
    unit_id       uuid NOT NULL REFERENCES control.units,
    kind          text NOT NULL CHECK (kind IN ('sensor_threshold', 'sensor_rule_blind')),
    severity      text NOT NULL,
    raised_at     timestamptz NOT NULL,
    facts         jsonb NOT NULL,                  -- sensors, values, since when
    cleared_at    timestamptz,
    cleared_by    text CHECK (cleared_by IN ('readings', 'change', 'retirement')),
    CONSTRAINT sensor_alarms_end_is_whole CHECK ((cleared_at IS NULL) = (cleared_by IS NULL))
);
CREATE UNIQUE INDEX sensor_alarms_one_at_a_time ON control.sensor_alarms (rule_id, kind) WHERE cleared_at IS NULL;
CREATE INDEX sensor_alarms_by_unit ON control.sensor_alarms (unit_id, raised_at DESC);

-- Why an alert was proposed, and what came of it.
CREATE TABLE control.alert_proposals (
    alert_id      uuid PRIMARY KEY REFERENCES control.alerts,
    version       integer NOT NULL DEFAULT 1 CHECK (version > 0),
    rule_id       uuid REFERENCES control.sensor_rules,      -- NULL: a CAP message
    rule_version  integer,
    alarm_id      uuid REFERENCES control.sensor_alarms,
    reason        jsonb NOT NULL,
    validity_s    integer,                         -- how long the alert holds once it is released; NULL: as it says
    proposed_at   timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL,
    outcome       text CHECK (outcome IN ('released', 'refused', 'expired', 'withdrawn')),
    decided_at    timestamptz,
    decided_by    uuid REFERENCES control.accounts,          -- NULL: the platform
    note          text,
    CONSTRAINT alert_proposals_decision_is_whole CHECK ((outcome IS NULL) = (decided_at IS NULL)),
    CONSTRAINT alert_proposals_of_rules_are_whole CHECK ((rule_id IS NULL) = (alarm_id IS NULL))
);
CREATE UNIQUE INDEX alert_proposals_one_open ON control.alert_proposals (rule_id) WHERE outcome IS NULL;
CREATE INDEX alert_proposals_by_rule ON control.alert_proposals (rule_id, proposed_at DESC);
CREATE INDEX alert_proposals_waiting ON control.alert_proposals (expires_at) WHERE outcome IS NULL;

GRANT SELECT, INSERT, UPDATE, DELETE
   ON control.sensor_rules, control.sensor_states, control.sensor_alarms, control.alert_proposals
   TO loa_control;
