-- How far each place that security events are sent to has been told: what was sealed, what devices refused, twins.
CREATE TABLE control.security_positions (
    sink          text PRIMARY KEY,
    audit_number  bigint NOT NULL,          -- of the chain
    tx            xid8 NOT NULL,            -- of the events, with event_no
    event_no      bigint NOT NULL,
    twins_at      timestamptz NOT NULL
);

GRANT SELECT, INSERT, UPDATE, DELETE ON control.security_positions TO loa_control;
