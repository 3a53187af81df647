-- An order over a unit that a reform closes stands for each of its boards from that day on. Those orders belong to the
-- one they were carried from, and are revoked with it.

ALTER TABLE control.requisitions
    ADD COLUMN carried_from uuid REFERENCES control.requisitions;

UPDATE control.requisitions c
   SET carried_from = o.requisition_id
  FROM control.requisitions o
 WHERE c.device_no IS NOT NULL
   AND o.unit_id IS NOT NULL
   AND (o.order_number, o.issuer, o.created_by, o.expires_at) = (c.order_number, c.issuer, c.created_by, c.expires_at)
   AND c.created_at > o.created_at
   AND c.valid_from > c.created_at;

CREATE UNIQUE INDEX requisitions_carried ON control.requisitions (carried_from, device_no, valid_from);
