-- What holds on the ground of a unit changed: plan for the devices there anew, and for nobody else.

ALTER TABLE control.planning_requests
    ADD COLUMN unit_id uuid REFERENCES control.units,
    DROP CONSTRAINT planning_requests_name_at_most_one,
    ADD CONSTRAINT planning_requests_name_at_most_one CHECK (num_nonnulls(broadcast_id, device_no, unit_id) <= 1);
