-- What units said about a broadcast before it was changed: it stands no more, and the month it was said in counts it.
CREATE TABLE control.past_offers (
    broadcast_id  uuid NOT NULL REFERENCES control.broadcasts,
    unit_id       uuid NOT NULL REFERENCES control.units,
    state         text NOT NULL CHECK (state IN ('accepted', 'declined')),
    offered_at    timestamptz NOT NULL,
    decided_at    timestamptz NOT NULL
);
CREATE INDEX past_offers_by_unit ON control.past_offers (unit_id, offered_at);

CREATE VIEW control.uptake AS
SELECT unit_id, state, offered_at
  FROM control.offers
 UNION ALL
SELECT unit_id, state, offered_at
  FROM control.past_offers;

GRANT SELECT, INSERT ON control.past_offers TO loa_control;
GRANT SELECT ON control.uptake TO loa_control;
