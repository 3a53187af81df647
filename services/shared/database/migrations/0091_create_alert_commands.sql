-- An alert told once more to one device, by a command: which one, and of what version.
ALTER TABLE control.alert_reach
  ADD COLUMN command_id        uuid,
  ADD COLUMN commanded_version integer;
CREATE UNIQUE INDEX alert_reach_by_command ON control.alert_reach (command_id) WHERE command_id IS NOT NULL;

-- The last serial of a command for a device: devices refuse one that does not grow, whichever replica made it.
CREATE TABLE control.command_serials (
    device_no  integer PRIMARY KEY REFERENCES control.devices,
    serial     bigint NOT NULL
);

GRANT SELECT, INSERT, UPDATE, DELETE ON control.command_serials TO loa_control;
