-- Alerts prepared beforehand (regulation, section 5): words in every language, the sound rendered when they are saved,
-- what stands on boards. The sound lies on the devices before anything happens.

CREATE TABLE control.alert_templates (
    template_id       uuid PRIMARY KEY,
    unit_id           uuid NOT NULL REFERENCES control.units,  -- that keeps it; it holds there and everywhere below
    name              text NOT NULL,
    purpose           text NOT NULL CHECK (purpose IN ('alert', 'audible_test')),
    event             text NOT NULL,
    category          text NOT NULL
                      CHECK (category IN ('geo', 'met', 'safety', 'security', 'rescue', 'fire', 'health', 'env',
                                          'transport', 'infra', 'cbrne', 'other')),
    urgency           text NOT NULL CHECK (urgency IN ('immediate', 'expected', 'future', 'past', 'unknown')),
    severity          text NOT NULL CHECK (severity IN ('extreme', 'severe', 'moderate', 'minor', 'unknown')),
    certainty         text NOT NULL CHECK (certainty IN ('observed', 'likely', 'possible', 'unlikely', 'unknown')),
    tone              text NOT NULL CHECK (tone IN ('none', 'notice', 'warning', 'evacuate', 'test')),
    repeat_interval_s integer CHECK (repeat_interval_s BETWEEN 1 AND 86400),  -- pause; NULL: it sounds once
    validity_s        integer NOT NULL CHECK (validity_s BETWEEN 10 AND 604800),
    volume_percent    smallint CHECK (volume_percent BETWEEN 0 AND 100),      -- NULL: full
    resume            text NOT NULL CHECK (resume IN ('resume', 'restart', 'drop')),
    place             smallint NOT NULL DEFAULT 0 CHECK (place BETWEEN 0 AND 999),  -- order in lists, and on devices
    version           integer NOT NULL DEFAULT 1 CHECK (version > 0),
    created_at        timestamptz NOT NULL,
    created_by        uuid REFERENCES control.accounts,        -- NULL: came with the installation
    changed_at        timestamptz NOT NULL,
    changed_by        uuid REFERENCES control.accounts,
    retired_at        timestamptz
);
CREATE INDEX alert_templates_by_unit ON control.alert_templates (unit_id) WHERE retired_at IS NULL;

CREATE TABLE control.alert_template_texts (
    template_id       uuid NOT NULL REFERENCES control.alert_templates ON DELETE CASCADE,
    position          smallint NOT NULL CHECK (position BETWEEN 0 AND 7),     -- order in which it sounds
    language          text NOT NULL,
    headline          text NOT NULL,
    description       text,
    instruction       text,
    board_text        text,
    spoken            text,                                    -- NULL: headline, description and instruction
    recording_sha256  bytea REFERENCES control.media,          -- a person's voice, in place of the speech engine
    media_sha256      bytea REFERENCES control.media,          -- what sounds; NULL: boards only
    PRIMARY KEY (template_id, position)
);

-- Tones without words, on every device: what sounds first when somebody writes an alert that is in no template.
CREATE TABLE control.alert_tones (
    tone              text PRIMARY KEY CHECK (tone IN ('notice', 'warning', 'evacuate', 'test')),
    media_sha256      bytea NOT NULL REFERENCES control.media
);

-- CAP messages that were taken in, as they came: what updates and cancels refer to, and why one is not taken twice.
CREATE TABLE control.cap_messages (
    sender            text NOT NULL,
    identifier        text NOT NULL,
    sent              timestamptz NOT NULL,
    alert_id          uuid NOT NULL REFERENCES control.alerts,
    message_type      text NOT NULL CHECK (message_type IN ('Alert', 'Update', 'Cancel')),
    unit_id           uuid NOT NULL REFERENCES control.units,  -- that speaks
    received_at       timestamptz NOT NULL,
    received_by       uuid REFERENCES control.accounts,
    document          bytea NOT NULL,
    PRIMARY KEY (sender, identifier, sent)
);
CREATE INDEX cap_messages_by_alert ON control.cap_messages (alert_id);

-- Senders whose messages a unit lets pass without a person's word.
CREATE TABLE control.cap_senders (
    unit_id           uuid NOT NULL REFERENCES control.units,
    sender            text NOT NULL,
    trusted_since     timestamptz NOT NULL,
    trusted_by        uuid REFERENCES control.accounts,
    PRIMARY KEY (unit_id, sender)
);

GRANT SELECT, INSERT, UPDATE, DELETE
   ON control.alert_templates, control.alert_template_texts, control.alert_tones, control.cap_messages,
      control.cap_senders
   TO loa_control;
