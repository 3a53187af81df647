-- Who speaks live goes before priority content (regulation section 5): said of a relay of a broadcast, and kept of each
-- emission with the rest of its rank.
ALTER TABLE control.broadcast_items
    ADD COLUMN is_live boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT broadcast_items_relays_are_live CHECK (relay_source_id IS NOT NULL OR NOT is_live);
ALTER TABLE control.emissions ADD COLUMN is_live boolean NOT NULL DEFAULT false;
