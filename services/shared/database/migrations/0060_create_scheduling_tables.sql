-- What scheduling needs beyond a daily time: recurrence by RFC 5545, slots, relays, groups, policies, offers, the order
-- of priority content, requisitions of private boards, drafts, and what a rank was when something was planned.

-- --- media and bulletins ---------------------------------------------------------------------------------------------

-- Pictures have no duration and no sound; films may have both.
ALTER TABLE control.media
    ALTER COLUMN duration_ms DROP NOT NULL,
    ALTER COLUMN sample_rate_hz DROP NOT NULL,
    ALTER COLUMN channels DROP NOT NULL,
    ADD COLUMN width integer CHECK (width > 0),
    ADD COLUMN height integer CHECK (height > 0),
    ADD CONSTRAINT media_is_heard_or_seen CHECK (sample_rate_hz IS NOT NULL OR width IS NOT NULL);

-- R-12: draft → submitted → approved or rejected; content changes only in a draft, and what was decided on is opened
-- again only as a new version that names the one it supersedes.
ALTER TABLE control.bulletins
    DROP CONSTRAINT bulletins_state_check,
    DROP CONSTRAINT bulletins_have_content,
    ADD CONSTRAINT bulletins_state_check
        CHECK (state IN ('draft', 'submitted', 'approved', 'rejected', 'withdrawn')),
    ADD COLUMN version integer NOT NULL DEFAULT 1,         -- optimistic concurrency: the ETag of the resource
    ADD COLUMN kind text NOT NULL DEFAULT 'bulletin' CHECK (kind IN ('bulletin', 'jingle')),
    ADD COLUMN origin text NOT NULL DEFAULT 'commune'
        CHECK (origin IN ('commune', 'district', 'province', 'centre', 'relay')),       -- R-09
    ADD COLUMN supersedes uuid REFERENCES control.bulletins,
    ADD COLUMN content_form smallint NOT NULL DEFAULT 1,   -- which canonical form `content_hash` was taken over
    ADD COLUMN edited_by uuid[] NOT NULL DEFAULT '{}',     -- everybody who had a hand in the content
    ADD COLUMN submitted_at timestamptz,
    ADD COLUMN submitted_by uuid REFERENCES control.accounts,
    ADD COLUMN board_style text NOT NULL DEFAULT 'text' CHECK (board_style IN ('text', 'ticker')),
    ADD COLUMN board_media_sha256 bytea REFERENCES control.media,   -- a picture or a film, R-14
    ADD COLUMN board_length_ms integer CHECK (board_length_ms > 0), -- how long a board shows what has no length
    ADD COLUMN expires_at timestamptz,                     -- stale news: not planned from here on
    ADD COLUMN max_plays smallint CHECK (max_plays > 0),   -- occurrences of one broadcast that may hold it
    ADD CONSTRAINT bulletins_have_content CHECK (
        state = 'draft' OR media_sha256 IS NOT NULL OR board_text IS NOT NULL OR board_media_sha256 IS NOT NULL),
    ADD CONSTRAINT bulletins_board_shows_one_thing CHECK (board_text IS NULL OR board_media_sha256 IS NULL);

-- Until now a bulletin was submitted as it was made.
UPDATE control.bulletins SET submitted_at = created_at, submitted_by = created_by, edited_by = ARRAY[created_by];

-- One successor at a time; another one may be tried when that was rejected or given up.
CREATE UNIQUE INDEX bulletins_one_successor ON control.bulletins (supersedes)
    WHERE state NOT IN ('rejected', 'withdrawn');
CREATE INDEX broadcast_items_by_bulletin ON control.broadcast_items (bulletin_id) WHERE bulletin_id IS NOT NULL;

-- --- relays (R-21) ---------------------------------------------------------------------------------------------------

CREATE TABLE control.relay_sources (
    source_id             uuid PRIMARY KEY,
    unit_id               uuid NOT NULL REFERENCES control.units,
    name                  text NOT NULL,
    kind                  text NOT NULL CHECK (kind IN ('stream', 'encoder', 'fm')),
    url                   text NOT NULL,
    is_direct             boolean NOT NULL,      -- devices take it themselves; nobody signs what it says
    fallback_bulletin_id  uuid REFERENCES control.bulletins,
    silence_dbfs          real NOT NULL DEFAULT -50,
    silence_after_ms      integer NOT NULL DEFAULT 5000 CHECK (silence_after_ms > 0),
    version               integer NOT NULL DEFAULT 1,
    created_at            timestamptz NOT NULL,
    created_by            uuid NOT NULL REFERENCES control.accounts,
    retired_at            timestamptz
);
CREATE INDEX relay_sources_by_unit ON control.relay_sources (unit_id);

-- What the relay point knows of a source now; written by whoever holds its lease.
CREATE TABLE control.relay_health (
    source_id      uuid PRIMARY KEY REFERENCES control.relay_sources,
    state          text NOT NULL CHECK (state IN ('idle', 'connecting', 'on_air', 'silent', 'unreachable')),
    since          timestamptz NOT NULL,
    last_sound_at  timestamptz,
    detail         text,
    leased_by      text,
    leased_until   timestamptz
);

-- --- groups ----------------------------------------------------------------------------------------------------------

CREATE TABLE control.device_groups (
    group_id    uuid PRIMARY KEY,
    unit_id     uuid NOT NULL REFERENCES control.units,
    name        text NOT NULL,
    version     integer NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL,
    created_by  uuid NOT NULL REFERENCES control.accounts,
    closed_at   timestamptz
);
CREATE INDEX device_groups_by_unit ON control.device_groups (unit_id);

CREATE TABLE control.device_group_members (
    group_id   uuid NOT NULL REFERENCES control.device_groups ON DELETE CASCADE,
    device_no  integer NOT NULL REFERENCES control.devices,
    PRIMARY KEY (group_id, device_no)
);
CREATE INDEX device_group_members_by_device ON control.device_group_members (device_no);

-- --- broadcasts ------------------------------------------------------------------------------------------------------

-- RFC 5545: each local time of day is a DTSTART on `starts_on`; `rrule` is its RRULE, `rdates` and `exdates` are local
-- dates (all times of that day) or local date-times. `ends_on` ends it all.
ALTER TABLE control.broadcasts
    DROP CONSTRAINT broadcasts_recurrence_check,
    DROP CONSTRAINT broadcasts_local_times_check,
    DROP CONSTRAINT broadcasts_state_check,
    ADD CONSTRAINT broadcasts_recurrence_check CHECK (recurrence IN ('once', 'daily', 'rule')),
    ADD CONSTRAINT broadcasts_state_check
        CHECK (state IN ('awaiting_approval', 'scheduled', 'rejected', 'withdrawn')),
    ADD COLUMN rrule text,
    ADD COLUMN rdates text[] NOT NULL DEFAULT '{}',
    ADD COLUMN exdates text[] NOT NULL DEFAULT '{}',
    ADD COLUMN sessions text[] NOT NULL DEFAULT '{}',     -- session slots of the issuing unit's policy, by code
    ADD COLUMN active_until date,                         -- no occurrence on this local day or later; NULL: no end
    ADD COLUMN length_ms integer CHECK (length_ms > 0),   -- of one occurrence; NULL: as long as its items
    ADD COLUMN fit text NOT NULL DEFAULT 'whole' CHECK (fit IN ('whole', 'trim', 'drop')),
    ADD COLUMN fill text NOT NULL DEFAULT 'none' CHECK (fill IN ('none', 'repeat')),
    ADD COLUMN patience_ms integer CHECK (patience_ms >= 0), -- how late an item may begin; NULL: half its length
    ADD COLUMN severity smallint NOT NULL DEFAULT 0 CHECK (severity BETWEEN 0 AND 4),
    ADD COLUMN offer_of uuid REFERENCES control.broadcasts,  -- scheduled by a unit out of this offer (R-17)
    ADD CONSTRAINT broadcasts_local_times_check CHECK (cardinality(local_times) <= 24),
    ADD CONSTRAINT broadcasts_begin_at_some_time CHECK (cardinality(local_times) + cardinality(sessions) > 0),
    ADD CONSTRAINT broadcasts_rule_has_rrule CHECK ((recurrence = 'rule') = (rrule IS NOT NULL));

UPDATE control.broadcasts SET active_until = CASE recurrence WHEN 'once' THEN starts_on + 1 ELSE ends_on END;

ALTER TABLE control.broadcast_items
    DROP CONSTRAINT broadcast_items_are_one_thing,
    ADD COLUMN relay_source_id uuid REFERENCES control.relay_sources,
    ADD COLUMN length_ms integer CHECK (length_ms > 0),           -- of a relay
    ADD COLUMN starts_after_ms integer CHECK (starts_after_ms >= 0), -- a relay that begins at a fixed time of the session
    ADD CONSTRAINT broadcast_items_are_one_thing
        CHECK (num_nonnulls(bulletin_id, pause_ms, relay_source_id) = 1),
    ADD CONSTRAINT broadcast_items_relays_have_length CHECK ((relay_source_id IS NULL) = (length_ms IS NULL)),
    ADD CONSTRAINT broadcast_items_relays_are_pinned CHECK (relay_source_id IS NOT NULL OR starts_after_ms IS NULL);

ALTER TABLE control.broadcast_targets
    DROP CONSTRAINT broadcast_targets_are_one_thing,
    ADD COLUMN group_id uuid REFERENCES control.device_groups,
    ADD COLUMN device_kind text CHECK (device_kind IN ('cluster', 'board')),
    ADD CONSTRAINT broadcast_targets_are_one_thing
        CHECK (num_nonnulls(unit_id, device_no, group_id, device_kind) = 1);

-- --- policies (R-16, R-18): data per unit, inherited downwards, tightened only -----------------------------------------

CREATE TABLE control.policies (
    unit_id     uuid PRIMARY KEY REFERENCES control.units,
    body        jsonb NOT NULL,                  -- services.control.policies.PolicyDocument
    version     integer NOT NULL DEFAULT 1,      -- goes on counting when a unit takes back what it said
    changed_at  timestamptz NOT NULL,
    changed_by  uuid NOT NULL REFERENCES control.accounts
);

-- A named approver let a version of a broadcast pass although a policy stands against it.
CREATE TABLE control.policy_exceptions (
    broadcast_id  uuid NOT NULL REFERENCES control.broadcasts,
    version       integer NOT NULL,              -- of the broadcast
    rules         text[] NOT NULL,               -- the rules it breaks, by name
    unit_ids      uuid[] NOT NULL,               -- whose policies those are
    asked_at      timestamptz NOT NULL,
    asked_by      uuid NOT NULL REFERENCES control.accounts,   -- who made this version
    decided_at    timestamptz,
    decided_by    uuid REFERENCES control.accounts,
    is_allowed    boolean,
    note          text,
    PRIMARY KEY (broadcast_id, version),
    CONSTRAINT policy_exceptions_are_decided_by_somebody
        CHECK ((decided_at IS NULL) = (decided_by IS NULL) AND (decided_at IS NULL) = (is_allowed IS NULL))
);

CREATE INDEX policy_exceptions_by_time ON control.policy_exceptions (asked_at DESC);

-- --- offers and the order of priority content (R-17) -------------------------------------------------------------------

-- A normal broadcast from above is offered to each unit that decides; it sounds there once accepted.
CREATE TABLE control.offers (
    broadcast_id  uuid NOT NULL REFERENCES control.broadcasts,
    unit_id       uuid NOT NULL REFERENCES control.units,
    state         text NOT NULL DEFAULT 'offered' CHECK (state IN ('offered', 'accepted', 'declined', 'scheduled')),
    offered_at    timestamptz NOT NULL,
    decided_at    timestamptz,
    decided_by    uuid REFERENCES control.accounts,
    note          text,
    scheduled_as  uuid REFERENCES control.broadcasts,
    PRIMARY KEY (broadcast_id, unit_id),
    CONSTRAINT offers_are_decided_by_somebody CHECK ((state = 'offered') = (decided_at IS NULL)),
    CONSTRAINT offers_are_scheduled_as_something CHECK ((state = 'scheduled') = (scheduled_as IS NOT NULL))
);
CREATE INDEX offers_by_unit ON control.offers (unit_id, offered_at DESC);

-- The order in which a unit wants its priority broadcasts: smaller first; what is not named stands at 128.
CREATE TABLE control.priority_places (
    unit_id       uuid NOT NULL REFERENCES control.units,
    broadcast_id  uuid NOT NULL REFERENCES control.broadcasts,
    place         smallint NOT NULL CHECK (place BETWEEN 0 AND 255),
    set_at        timestamptz NOT NULL,
    set_by        uuid NOT NULL REFERENCES control.accounts,
    PRIMARY KEY (unit_id, broadcast_id)
);

-- --- private boards (R-15) ---------------------------------------------------------------------------------------------

ALTER TABLE control.devices
    ADD COLUMN public_share_minutes smallint CHECK (public_share_minutes BETWEEN 0 AND 1440); -- a day, by agreement

CREATE TABLE control.requisitions (
    requisition_id  uuid PRIMARY KEY,
    unit_id         uuid REFERENCES control.units,           -- every private board below it,
    device_no       integer REFERENCES control.devices,      -- or one
    order_number    text NOT NULL,
    issuer          text NOT NULL,
    valid_from      timestamptz NOT NULL,
    expires_at      timestamptz NOT NULL,
    created_at      timestamptz NOT NULL,
    created_by      uuid NOT NULL REFERENCES control.accounts,
    revoked_at      timestamptz,
    revoked_by      uuid REFERENCES control.accounts,
    CONSTRAINT requisitions_are_of_one_thing CHECK ((unit_id IS NULL) <> (device_no IS NULL)),
    CONSTRAINT requisitions_window_is_not_empty CHECK (expires_at > valid_from)
);

-- --- emissions -------------------------------------------------------------------------------------------------------

-- The rest of the rank, so that what won and why can be told of the past as well; relays have no bulletin.
ALTER TABLE control.emissions
    ALTER COLUMN bulletin_id DROP NOT NULL,
    DROP CONSTRAINT emissions_content_check,
    ADD CONSTRAINT emissions_content_check CHECK (content IN ('audio', 'text', 'ticker', 'image', 'video', 'relay')),
    ADD COLUMN relay_source_id uuid REFERENCES control.relay_sources,
    ADD COLUMN issued_at timestamptz,            -- of the broadcast, as it was then; NULL: planned before this release
    ADD COLUMN severity smallint NOT NULL DEFAULT 0,
    ADD COLUMN place smallint,
    ADD COLUMN resume text CHECK (resume IN ('resume', 'restart', 'drop')),  -- NULL: as issued_at
    ADD COLUMN volume_percent smallint CHECK (volume_percent BETWEEN 0 AND 100),
    ADD COLUMN is_resumed boolean,               -- of what was cut: whether it went on afterwards
    ADD COLUMN fallback_ms integer,              -- of a relay: how much of it the fallback filled
    ADD CONSTRAINT emissions_put_something_out CHECK ((bulletin_id IS NULL) <> (relay_source_id IS NULL));
-- Which sources are wanted now: asked every few seconds.
CREATE INDEX emissions_of_relays ON control.emissions (relay_source_id, starts_at, ends_at)
    WHERE relay_source_id IS NOT NULL AND withdrawn_at IS NULL;

GRANT SELECT, INSERT, UPDATE, DELETE
   ON control.relay_sources, control.relay_health, control.device_groups, control.device_group_members,
      control.policies, control.policy_exceptions, control.offers, control.priority_places, control.requisitions
   TO loa_control;
