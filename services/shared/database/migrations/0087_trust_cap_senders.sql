-- Who may deliver CAP messages of a sender to a unit: they are laid before people as proposals. Nobody was named so far.

ALTER TABLE control.cap_senders
    ADD COLUMN account_id uuid NOT NULL REFERENCES control.accounts;

ALTER TABLE control.role_grants
    DROP CONSTRAINT IF EXISTS role_grants_role_check,
    ADD CONSTRAINT role_grants_role_check
    CHECK (role IN ('viewer', 'officer', 'approver', 'operator', 'administrator', 'cap_source'));

-- A message is known where it was taken in: a commune that takes one first must not keep the province from taking it.
ALTER TABLE control.cap_messages
    DROP CONSTRAINT cap_messages_pkey,
    ADD PRIMARY KEY (unit_id, sender, identifier, sent);
