-- What devices said about their own power: it tells, of what nobody reported, whether it could have sounded at all.

CREATE TABLE control.power_events (
    event_no    bigint PRIMARY KEY,
    device_no   integer NOT NULL REFERENCES control.devices,
    at          timestamptz NOT NULL,
    is_boot     boolean NOT NULL,
    is_mains    boolean NOT NULL,                -- of a boot: it came from power; else: mains are there now
    up_until    timestamptz,                     -- of a boot: the last sign of life before
    CONSTRAINT power_events_boots_alone_were_up CHECK (is_boot OR up_until IS NULL)
);
CREATE INDEX power_events_by_device ON control.power_events (device_no, at);

GRANT SELECT, INSERT, DELETE ON control.power_events TO loa_control;
