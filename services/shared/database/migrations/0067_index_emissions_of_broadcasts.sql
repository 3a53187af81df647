-- A page of a broadcast's emissions in order of start: without it, each page reads and sorts all there ever were.

CREATE INDEX emissions_of_broadcast ON control.emissions (broadcast_id, starts_at, device_no, item)
    WHERE withdrawn_at IS NULL;
