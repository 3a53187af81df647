-- What a CAP message replaced or took back is not taken in any more, also where it waited or came too late.

ALTER TABLE control.cap_messages
    -- the messages of the same sender that an update or a cancel refers to, by identifier and instant
    ADD COLUMN replaced_identifiers text[] NOT NULL DEFAULT '{}',
    ADD COLUMN replaced_sent timestamptz[] NOT NULL DEFAULT '{}',
    ADD CHECK (cardinality(replaced_identifiers) = cardinality(replaced_sent)),
    -- A cancel of what nobody has confirmed yet becomes no alert.
    DROP CONSTRAINT cap_messages_alert_ids_check;
