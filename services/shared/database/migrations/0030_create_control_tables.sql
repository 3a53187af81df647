-- Tables of control: who may do what where, what shall sound, what was planned, sent and proven.
-- One writer: role loa_control. Ingest reads the view control.device_registry and nothing else.
-- Intervals are half-open; dates of validity are local days; instants are timestamptz.

-- Units (administrative units): an opaque identity and dated versions. Codes are reused by law and practice (2025
-- reform), so a code is an attribute of a version, never an identity.
CREATE TABLE control.units (
    unit_id     uuid PRIMARY KEY,
    created_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE control.unit_versions (
    unit_id      uuid NOT NULL REFERENCES control.units,
    valid_from   date NOT NULL,
    valid_until  date,
    parent_id    uuid REFERENCES control.units,
    code         text NOT NULL,
    level        text NOT NULL,                  -- the word of the source file: province, district, commune, ...
    name         text NOT NULL,
    sort_key     text NOT NULL,                  -- computed by us: the embedded server has no ICU collation
    search_text  text NOT NULL,                  -- lower case, without diacritics
    PRIMARY KEY (unit_id, valid_from),
    CONSTRAINT unit_versions_window_is_not_empty CHECK (valid_until IS NULL OR valid_until > valid_from),
    CONSTRAINT unit_versions_not_its_own_parent CHECK (parent_id <> unit_id)
);
CREATE INDEX unit_versions_by_parent ON control.unit_versions (parent_id);
CREATE INDEX unit_versions_by_code ON control.unit_versions (code);

-- People (S-06): one account per officer, roles bound to a unit and valid for its whole subtree.
CREATE TABLE control.accounts (
    account_id     uuid PRIMARY KEY,
    unit_id        uuid NOT NULL REFERENCES control.units,  -- whose administrators answer for the account
    login          text NOT NULL CHECK (login = lower(login)),
    display_name   text NOT NULL,
    password_hash  text NOT NULL,                -- argon2id
    created_at     timestamptz NOT NULL,
    disabled_at    timestamptz,
    CONSTRAINT accounts_login_is_unique UNIQUE (login)
);

CREATE TABLE control.role_grants (
    account_id  uuid NOT NULL REFERENCES control.accounts,
    unit_id     uuid NOT NULL REFERENCES control.units,
    role        text NOT NULL CHECK (role IN ('viewer', 'officer', 'approver', 'operator', 'administrator')),
    granted_at  timestamptz NOT NULL,
    granted_by  uuid REFERENCES control.accounts,
    expires_at  timestamptz,
    PRIMARY KEY (account_id, unit_id, role)
);

CREATE TABLE control.sessions (
    session_id    uuid PRIMARY KEY,              -- the name a person ends it by; knowing it opens nothing
    token_hash    bytea NOT NULL UNIQUE,         -- SHA-256 of the cookie; the cookie itself is stored nowhere
    account_id    uuid NOT NULL REFERENCES control.accounts,
    origin        text,                          -- network address it began from
    user_agent    text,
    created_at    timestamptz NOT NULL,
    last_seen_at  timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL,
    ended_at      timestamptz
);
CREATE INDEX sessions_by_account ON control.sessions (account_id, created_at DESC);

CREATE TABLE control.api_tokens (
    token_id     uuid PRIMARY KEY,
    account_id   uuid NOT NULL REFERENCES control.accounts,
    token_hash   bytea NOT NULL UNIQUE,
    name         text NOT NULL,
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    revoked_at   timestamptz
);
CREATE INDEX api_tokens_by_account ON control.api_tokens (account_id);

-- Devices. device_no is the short name telemetry rows use; device_id is the name on the wire and in the certificate.
CREATE TABLE control.devices (
    device_no               integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    device_id               text NOT NULL,
    kind                    text NOT NULL CHECK (kind IN ('cluster', 'board', 'sensor', 'gateway')),
    unit_id                 uuid NOT NULL REFERENCES control.units,
    name                    text NOT NULL,
    technology              text NOT NULL DEFAULT 'ip' CHECK (technology IN ('ip', 'fm', 'wired', 'lora')),
    ownership               text NOT NULL DEFAULT 'public'
                            CHECK (ownership IN ('public', 'private', 'private_with_public_share')),
    latitude                double precision CHECK (latitude BETWEEN -90 AND 90),
    longitude               double precision CHECK (longitude BETWEEN -180 AND 180),
    volume_percent          smallint NOT NULL DEFAULT 30 CHECK (volume_percent BETWEEN 0 AND 100),
    volume_cap_percent      smallint NOT NULL DEFAULT 80 CHECK (volume_cap_percent BETWEEN 0 AND 100),
    heartbeat_interval      interval NOT NULL DEFAULT interval '60 seconds',
    registered_at           timestamptz NOT NULL,
    retired_at              timestamptz,
    CONSTRAINT devices_id_is_unique UNIQUE (device_id),
    CONSTRAINT devices_volume_respects_cap CHECK (volume_percent <= volume_cap_percent)
);
CREATE INDEX devices_by_unit ON control.devices (unit_id);

-- Which gateway speaks for a device, since when and until when. A device without a current row speaks for itself.
CREATE TABLE control.gateway_assignments (
    device_no    integer NOT NULL REFERENCES control.devices,
    gateway_no   integer NOT NULL REFERENCES control.devices,
    valid_from   timestamptz NOT NULL,
    valid_until  timestamptz,
    PRIMARY KEY (device_no, valid_from),
    CONSTRAINT gateway_assignments_window_is_not_empty CHECK (valid_until IS NULL OR valid_until > valid_from),
    CONSTRAINT gateway_assignments_not_itself CHECK (device_no <> gateway_no)
);
CREATE UNIQUE INDEX gateway_assignments_one_open ON control.gateway_assignments (device_no) WHERE valid_until IS NULL;

-- Content. A media file is its SHA-256; the bytes lie in control's media directory under that name.
CREATE TABLE control.media (
    sha256            bytea PRIMARY KEY CHECK (length(sha256) = 32),
    size              bigint NOT NULL CHECK (size > 0),
    mime              text NOT NULL,
    duration_ms       integer NOT NULL CHECK (duration_ms > 0),
    sample_rate_hz    integer NOT NULL,
    channels          smallint NOT NULL,
    loudness_lufs     real,                      -- integrated, EBU R 128; NULL for silence
    true_peak_dbtp    real,
    stored_at         timestamptz NOT NULL,
    stored_by         uuid REFERENCES control.accounts
);

-- A bulletin version never changes once stored (R-12); what changes is its state.
CREATE TABLE control.bulletins (
    bulletin_id    uuid PRIMARY KEY,
    unit_id        uuid NOT NULL REFERENCES control.units,
    title          text NOT NULL,
    subject_field  text NOT NULL,                -- essential-information category (R-08)
    language       text NOT NULL DEFAULT 'vi',   -- R-10
    author         text,
    media_sha256   bytea REFERENCES control.media,
    board_text     text,
    content_hash   bytea NOT NULL,
    state          text NOT NULL CHECK (state IN ('submitted', 'approved', 'rejected', 'withdrawn')),
    created_at     timestamptz NOT NULL,
    created_by     uuid NOT NULL REFERENCES control.accounts,
    decided_at     timestamptz,
    decided_by     uuid REFERENCES control.accounts,
    decision_note  text,
    CONSTRAINT bulletins_have_content CHECK (media_sha256 IS NOT NULL OR board_text IS NOT NULL)
);
CREATE INDEX bulletins_by_unit ON control.bulletins (unit_id, created_at DESC);

-- Broadcasts: what somebody asked for.
CREATE TABLE control.broadcasts (
    broadcast_id  uuid PRIMARY KEY,
    unit_id       uuid NOT NULL REFERENCES control.units,    -- the issuing unit
    title         text NOT NULL,
    level         text NOT NULL CHECK (level IN ('normal', 'priority', 'emergency')),
    recurrence    text NOT NULL CHECK (recurrence IN ('once', 'daily')),
    time_zone     text NOT NULL,
    starts_on     date NOT NULL,
    ends_on       date,                                      -- first local day on which it no longer starts
    local_times   time[] NOT NULL CHECK (cardinality(local_times) BETWEEN 1 AND 24),
    volume_percent smallint CHECK (volume_percent BETWEEN 0 AND 100),
    resume        text NOT NULL DEFAULT 'resume' CHECK (resume IN ('resume', 'restart', 'drop')),
    state         text NOT NULL CHECK (state IN ('scheduled', 'withdrawn')),
    version       integer NOT NULL DEFAULT 1,                -- optimistic concurrency: the ETag of the resource
    issued_at     timestamptz NOT NULL,
    created_by    uuid NOT NULL REFERENCES control.accounts,
    withdrawn_at  timestamptz,
    withdrawn_by  uuid REFERENCES control.accounts,
    CONSTRAINT broadcasts_window_is_not_empty CHECK (ends_on IS NULL OR ends_on > starts_on)
);
CREATE INDEX broadcasts_by_unit ON control.broadcasts (unit_id, issued_at DESC);

CREATE TABLE control.broadcast_items (
    broadcast_id  uuid NOT NULL REFERENCES control.broadcasts ON DELETE CASCADE,
    item          smallint NOT NULL CHECK (item BETWEEN 0 AND 255),
    bulletin_id   uuid REFERENCES control.bulletins,
    pause_ms      integer CHECK (pause_ms > 0),
    PRIMARY KEY (broadcast_id, item),
    CONSTRAINT broadcast_items_are_one_thing CHECK ((bulletin_id IS NULL) <> (pause_ms IS NULL))
);

CREATE TABLE control.broadcast_targets (
    broadcast_id  uuid NOT NULL REFERENCES control.broadcasts ON DELETE CASCADE,
    position      smallint NOT NULL,
    unit_id       uuid REFERENCES control.units,
    device_no     integer REFERENCES control.devices,
    is_excluded   boolean NOT NULL DEFAULT false,
    PRIMARY KEY (broadcast_id, position),
    CONSTRAINT broadcast_targets_are_one_thing CHECK ((unit_id IS NULL) <> (device_no IS NULL))
);

-- Emissions: one item of one occurrence on one device, and what became of it. Identity is natural. `unit_id` is the
-- device's unit when it was planned, so that proof does not move with a device that is moved later.
CREATE TABLE control.emissions (
    broadcast_id     uuid NOT NULL REFERENCES control.broadcasts,
    occurrence_at    timestamptz NOT NULL,
    item             smallint NOT NULL,
    device_no        integer NOT NULL REFERENCES control.devices,
    unit_id          uuid NOT NULL REFERENCES control.units,
    bulletin_id      uuid NOT NULL REFERENCES control.bulletins,
    content          text NOT NULL CHECK (content IN ('audio', 'text')),
    level            text NOT NULL CHECK (level IN ('normal', 'priority', 'emergency')),
    issuer_depth     smallint NOT NULL,          -- levels below the root; with level and issue time the rank
    starts_at        timestamptz NOT NULL,
    ends_at          timestamptz NOT NULL,
    latest_start_at  timestamptz NOT NULL,
    fingerprint      bytea NOT NULL,             -- of everything a device is told about it: tells whether it changed
    planned_at       timestamptz NOT NULL,       -- when it took its present form
    withdrawn_at     timestamptz,                -- taken back before it began: it never was
    stopped_at       timestamptz,                -- taken back while it sounded: devices lose it, its proof stands
    -- Proof of play. NULL outcome: its slot is not over, or nothing conclusive has arrived yet.
    outcome          text CHECK (outcome IN ('played', 'late', 'cut', 'missed', 'refused', 'unknown')),
    reason           text,
    evidence         text CHECK (evidence IN ('device', 'gateway')),  -- a bridge's word is a class of its own (R-28)
    started_at       timestamptz,
    ended_at         timestamptz,
    sounded_ms       integer,
    cut_by_source    text CHECK (cut_by_source IN ('emission', 'command', 'alert', 'fallback')),
    cut_by           uuid,
    reconciled_at    timestamptz,
    CONSTRAINT emissions_once_per_device PRIMARY KEY (broadcast_id, occurrence_at, item, device_no),
    CONSTRAINT emissions_have_length CHECK (ends_at > starts_at AND latest_start_at >= starts_at),
    CONSTRAINT emissions_say_why CHECK (outcome NOT IN ('cut', 'missed', 'refused', 'unknown') OR reason IS NOT NULL),
    CONSTRAINT emissions_proof_has_evidence CHECK (outcome NOT IN ('played', 'late', 'cut') OR evidence IS NOT NULL)
);
CREATE INDEX emissions_by_device ON control.emissions (device_no, starts_at);
CREATE INDEX emissions_by_unit ON control.emissions (unit_id, starts_at);
CREATE INDEX emissions_by_end ON control.emissions (ends_at) WHERE withdrawn_at IS NULL;
CREATE INDEX emissions_unproven ON control.emissions (ends_at) WHERE outcome IS NULL AND withdrawn_at IS NULL;

-- What stood in the way of an occurrence, or was decided for it, and why. Nothing vanishes.
CREATE TABLE control.planning_problems (
    broadcast_id   uuid NOT NULL REFERENCES control.broadcasts,
    local_day      date,                         -- NULL: the whole broadcast
    occurrence_at  timestamptz,
    item           smallint,
    device_no      integer REFERENCES control.devices,
    problem        text NOT NULL,
    detail         text NOT NULL,
    found_at       timestamptz NOT NULL
);
CREATE INDEX planning_problems_by_broadcast ON control.planning_problems (broadcast_id, local_day);

-- Work for the planner. A row says that a broadcast changed, or a device, or (both NULL) everything may have.
-- Append-only for whoever asks, so asking never waits; the planner takes all rows at once.
CREATE TABLE control.planning_requests (
    request_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    broadcast_id  uuid REFERENCES control.broadcasts,
    device_no     integer REFERENCES control.devices,
    requested_at  timestamptz NOT NULL,
    CONSTRAINT planning_requests_name_at_most_one CHECK (broadcast_id IS NULL OR device_no IS NULL)
);

-- The days on which the horizon was rolled forward, and up to when all was planned then. Whoever inserts the day does it.
CREATE TABLE control.planning_rolls (
    rolled_on      date PRIMARY KEY,
    rolled_at      timestamptz NOT NULL,
    planned_until  timestamptz NOT NULL
);

-- Devices whose orders (plan, configuration, keys) have to be made anew. Claimed in batches with SKIP LOCKED.
CREATE TABLE control.issue_requests (
    device_no     integer PRIMARY KEY REFERENCES control.devices,
    requested_at  timestamptz NOT NULL
);

-- Serials per device and order type: the only source of serials.
CREATE TABLE control.order_serials (
    device_no  integer NOT NULL REFERENCES control.devices,
    kind       text NOT NULL CHECK (kind IN ('plan', 'config', 'command')),
    serial     bigint NOT NULL,
    PRIMARY KEY (device_no, kind)
);

-- The order of each kind that stands for a device. The broker's retained copy is only a cache of `message`.
CREATE TABLE control.issued_orders (
    device_no       integer NOT NULL REFERENCES control.devices,
    kind            text NOT NULL CHECK (kind IN ('plan', 'config', 'keys')),
    serial          bigint NOT NULL,
    issued_at       timestamptz NOT NULL,
    valid_until     timestamptz NOT NULL,
    renew_at        timestamptz NOT NULL,        -- issued again from here on even when nothing changed
    topic           text NOT NULL,
    kid             bytea NOT NULL,              -- of the key that signed it
    content_hash    bytea NOT NULL,              -- of the content without serial and times of issue
    emissions       integer NOT NULL DEFAULT 0,  -- how many a plan holds
    message         bytea NOT NULL,              -- signed, as published
    published_at    timestamptz,                 -- last time the broker took it
    republications  integer NOT NULL DEFAULT 0,  -- times it was sent again because the device did not show it
    PRIMARY KEY (device_no, kind)
);
CREATE INDEX issued_orders_to_renew ON control.issued_orders (renew_at);

-- Every plan ever issued (kept for some weeks), to tell whether a device had the plan that held an emission.
CREATE TABLE control.issued_plans (
    device_no    integer NOT NULL REFERENCES control.devices,
    serial       bigint NOT NULL,
    issued_at    timestamptz NOT NULL,
    valid_until  timestamptz NOT NULL,
    PRIMARY KEY (device_no, serial)
);

-- Outbox: publishes that a committed transaction has decided on. At least once; devices ignore what they have.
-- A retained topic has one row: a newer message takes the place of an older one that was not sent yet.
CREATE TABLE control.outbox (
    outbox_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic         text NOT NULL,
    payload       bytea NOT NULL,                -- empty and retained: clears the topic
    is_retained   boolean NOT NULL,
    expires_at    timestamptz,                   -- worthless from here on (third of the three instants)
    device_no     integer REFERENCES control.devices,
    kind          text NOT NULL,
    serial        bigint,
    revision      integer NOT NULL DEFAULT 1,    -- grows when a newer message takes the row over
    created_at    timestamptz NOT NULL,
    dispatch_at   timestamptz NOT NULL,          -- not before
    leased_until  timestamptz,
    leased_by     text,
    attempts      integer NOT NULL DEFAULT 0,
    last_error    text
);
CREATE UNIQUE INDEX outbox_one_per_retained_topic ON control.outbox (topic) WHERE is_retained;
CREATE INDEX outbox_due ON control.outbox (dispatch_at);

-- Where a reader of committed telemetry stands: (transaction, event number) of the last row it has taken.
CREATE TABLE control.cursors (
    name      text PRIMARY KEY,
    tx        xid8 NOT NULL,
    event_no  bigint NOT NULL
);

-- What devices reported about plays, kept apart from the emission so that late journals can be weighed again.
-- `standing`: the device's own word, the word of the gateway it is assigned to, or a foreign principal's (not counted).
CREATE TABLE control.play_reports (
    event_no       bigint PRIMARY KEY,
    device_no      integer NOT NULL REFERENCES control.devices,
    principal      text NOT NULL,
    standing       text NOT NULL CHECK (standing IN ('device', 'gateway', 'foreign')),
    broadcast_id   uuid NOT NULL,
    occurrence_at  timestamptz NOT NULL,
    item           smallint NOT NULL,
    type           text NOT NULL CHECK (type IN ('play_started', 'play_ended', 'play_missed')),
    is_clock_trusted boolean NOT NULL,
    body           jsonb NOT NULL,
    received_at    timestamptz NOT NULL
);
CREATE INDEX play_reports_by_emission ON control.play_reports (broadcast_id, occurrence_at, item, device_no);
CREATE INDEX play_reports_by_device ON control.play_reports (device_no, received_at);

-- What devices said to plans: accepted with a serial, or refused and why.
CREATE TABLE control.plan_answers (
    event_no     bigint PRIMARY KEY,
    device_no    integer NOT NULL REFERENCES control.devices,
    principal    text NOT NULL,
    standing     text NOT NULL CHECK (standing IN ('device', 'gateway', 'foreign')),
    serial       bigint,
    is_accepted  boolean NOT NULL,
    reason       text,
    at           timestamptz NOT NULL,
    received_at  timestamptz NOT NULL,
    CONSTRAINT plan_answers_refusal_has_reason CHECK (is_accepted OR reason IS NOT NULL)
);
CREATE INDEX plan_answers_by_device ON control.plan_answers (device_no, at);

-- Append-only record of who did what (S-08).
CREATE TABLE control.audit (
    audit_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at          timestamptz NOT NULL,
    account_id  uuid,
    origin      text,
    action      text NOT NULL,
    unit_id     uuid,
    subject     text NOT NULL,
    before      jsonb,
    after       jsonb
);

-- What ingest may know of the registry: one row per (device, principal that may speak for it now).
CREATE VIEW control.device_registry AS
SELECT d.device_id,
       d.device_no,
       d.kind,
       d.unit_id,
       coalesce(g.device_id, d.device_id) AS principal
  FROM control.devices d
  LEFT JOIN control.gateway_assignments a
         ON a.device_no = d.device_no AND a.valid_from <= now() AND (a.valid_until IS NULL OR a.valid_until > now())
  LEFT JOIN control.devices g ON g.device_no = a.gateway_no
 WHERE d.retired_at IS NULL;

CREATE FUNCTION control.announce_registry() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('registry_changed', '');
    RETURN NULL;
END
$$;
CREATE TRIGGER devices_changed AFTER INSERT OR UPDATE OR DELETE ON control.devices
    FOR EACH STATEMENT EXECUTE FUNCTION control.announce_registry();
CREATE TRIGGER gateway_assignments_changed AFTER INSERT OR UPDATE OR DELETE ON control.gateway_assignments
    FOR EACH STATEMENT EXECUTE FUNCTION control.announce_registry();

GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA control TO loa_control;
REVOKE UPDATE, DELETE ON control.audit FROM loa_control;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA control TO loa_control;
GRANT SELECT ON control.device_registry TO loa_ingest;
