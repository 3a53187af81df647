-- What a CAP message says to several grounds is several alerts.

ALTER TABLE control.cap_messages
    ADD COLUMN alert_ids uuid[];
UPDATE control.cap_messages
   SET alert_ids = ARRAY[alert_id];
ALTER TABLE control.cap_messages
    ALTER COLUMN alert_ids SET NOT NULL,
    ADD CHECK (cardinality(alert_ids) > 0),
    DROP COLUMN alert_id;
