-- Two officers let what a rule proposes be released by the platform at once. Void as soon as the rule or its template is
-- another one, or one of the two may not release it any more: that is asked whenever the rule fires.

CREATE TABLE control.release_authorisations (
    authorisation_id  uuid PRIMARY KEY,
    rule_id           uuid NOT NULL REFERENCES control.sensor_rules,
    rule_version      integer NOT NULL,            -- what they have read
    template_id       uuid NOT NULL REFERENCES control.alert_templates,
    template_version  integer NOT NULL,
    asked_at          timestamptz NOT NULL,
    asked_by          uuid NOT NULL REFERENCES control.accounts,
    confirmed_at      timestamptz,                 -- NULL: it holds nothing yet
    confirmed_by      uuid REFERENCES control.accounts,
    expires_at        timestamptz NOT NULL,
    ended_at          timestamptz,
    ended_by          uuid REFERENCES control.accounts,  -- NULL: the platform, which found it void
    end_reason        text,
    CONSTRAINT release_authorisations_are_of_two
    CHECK ((confirmed_at IS NULL) = (confirmed_by IS NULL) AND confirmed_by <> asked_by),
    CONSTRAINT release_authorisations_last_a_year CHECK (expires_at > asked_at AND expires_at <= asked_at + interval '366 days'),
    CONSTRAINT release_authorisations_end_is_whole CHECK ((ended_at IS NULL) = (end_reason IS NULL))
);
CREATE UNIQUE INDEX release_authorisations_one ON control.release_authorisations (rule_id) WHERE ended_at IS NULL;

GRANT SELECT, INSERT, UPDATE, DELETE ON control.release_authorisations TO loa_control;
