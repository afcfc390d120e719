-- Synchronisation by directory instead of by item: where a feed continues, what is to be read again, who left and how.
-- Users keep their ids, factors and states. Runs and approvals of before were of items and are gone: the next run makes
-- its own.

-- --- users -----------------------------------------------------------------------------------------------------------

-- The directory's SID of the user, and of the primary group (S-52); '' = it has none.
ALTER TABLE users ADD COLUMN sid                  TEXT    NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN primary_group        TEXT    NOT NULL DEFAULT '';
-- Items the user may belong to, in their order, comma separated: of groups all whose filter fits.
ALTER TABLE users ADD COLUMN items                TEXT    NOT NULL DEFAULT '';
-- missed (by one full run), absent (by two), deleted, outside; '' = there. And the run that said so.
ALTER TABLE users ADD COLUMN left_how             TEXT    NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN left_run             TEXT    NOT NULL DEFAULT '';
-- What the end of a complete run decides about: leave, exempt; '' = nothing.
ALTER TABLE users ADD COLUMN due                  TEXT    NOT NULL DEFAULT '';
-- The item that exempts the user from the second factor, once that was decided (S-46).
ALTER TABLE users ADD COLUMN exempt_item          TEXT    NOT NULL DEFAULT '';
-- Ids of groups that exempt and do not count for the user yet, comma separated (S-46).
ALTER TABLE users ADD COLUMN exempt_wait          TEXT    NOT NULL DEFAULT '';
-- Fields that a hand wrote, comma separated: mail, backup_phone, language_call ... (FS-23).
ALTER TABLE users ADD COLUMN by_hand              TEXT    NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN description          TEXT    NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN user_group           TEXT    NOT NULL DEFAULT '';
-- Until then the number that sync changed gets neither text nor call (S-58).
ALTER TABLE users ADD COLUMN phone_hold_until_ms  BIGINT  NOT NULL DEFAULT 0;
-- Nobody passes before a method is enrolled (FS-24).
ALTER TABLE users ADD COLUMN must_enrol           BOOLEAN NOT NULL DEFAULT FALSE;

CREATE INDEX users_by_sid ON users (sid, directory) WHERE sid <> '';
CREATE INDEX users_by_primary_group ON users (primary_group, directory) WHERE primary_group <> '';
-- The directory comes last: of a store with one it says nothing, and a database that knows no better would go by it.
CREATE INDEX users_due ON users (due, directory) WHERE due <> '';
CREATE INDEX users_by_state ON users (state, directory);

-- --- groups and containers -------------------------------------------------------------------------------------------

-- Groups belong to the directory.
DROP INDEX user_groups_by_item;
ALTER TABLE user_groups DROP COLUMN sync_item;
ALTER TABLE user_groups ADD COLUMN sid       TEXT NOT NULL DEFAULT '';
ALTER TABLE user_groups ADD COLUMN left_run  TEXT NOT NULL DEFAULT '';
CREATE INDEX user_groups_by_sid ON user_groups (sid, directory) WHERE sid <> '';

CREATE TABLE sync_containers (
    directory           TEXT NOT NULL,
    object_id           TEXT NOT NULL,
    distinguished_name  TEXT NOT NULL,
    dn_key              TEXT NOT NULL,
    PRIMARY KEY (directory, object_id)
);

-- --- where it stands -------------------------------------------------------------------------------------------------

CREATE TABLE sync_sources (
    directory       TEXT   PRIMARY KEY,
    position        BYTEA  NOT NULL,
    feed            TEXT   NOT NULL,
    -- A line each.
    offers          TEXT   NOT NULL,
    -- Of the last complete full run, and when it began; '' and 0 = there was none.
    items_digest    TEXT   NOT NULL,
    identity        TEXT   NOT NULL,
    full_ms         BIGINT NOT NULL,
    complete_ms     BIGINT NOT NULL
);

-- What is to be read again, and the run that found it doubtful.
CREATE TABLE sync_pending (
    pending_id  TEXT PRIMARY KEY,
    directory   TEXT NOT NULL,
    -- object_id, dn, below, sid
    kind        TEXT NOT NULL,
    value       TEXT NOT NULL,
    run_id      TEXT NOT NULL
);
CREATE UNIQUE INDEX sync_pending_once ON sync_pending (directory, value, kind);

-- --- runs ------------------------------------------------------------------------------------------------------------

DROP TABLE approval_users;
DROP TABLE approvals;
DROP TABLE sync_doubles;
DROP TABLE sync_runs;

CREATE TABLE sync_runs (
    run_id       TEXT   PRIMARY KEY,
    directory    TEXT   NOT NULL,
    mode         TEXT   NOT NULL,
    why          TEXT   NOT NULL,
    feed         TEXT   NOT NULL,
    cause        TEXT   NOT NULL,
    actor        TEXT   NOT NULL,
    items_digest TEXT   NOT NULL,
    identity     TEXT   NOT NULL,
    started_ms   BIGINT NOT NULL,
    finished_ms  BIGINT NOT NULL,
    -- running, done, incomplete, parked, abandoned
    state        TEXT   NOT NULL,
    error        TEXT   NOT NULL,
    added        BIGINT NOT NULL,
    changed      BIGINT NOT NULL,
    unchanged    BIGINT NOT NULL,
    disabled     BIGINT NOT NULL,
    removed      BIGINT NOT NULL,
    parked       BIGINT NOT NULL,
    approval_id  TEXT   NOT NULL,
    -- The number of its last change.
    changes      BIGINT NOT NULL
);
CREATE INDEX sync_runs_by_start ON sync_runs (started_ms);
CREATE INDEX sync_runs_by_directory ON sync_runs (directory, started_ms);

-- Usernames a run found twice: nobody is added under them (FS-14).
CREATE TABLE sync_doubles (
    run_id      TEXT NOT NULL REFERENCES sync_runs (run_id) ON DELETE CASCADE,
    name_key    TEXT NOT NULL,
    PRIMARY KEY (run_id, name_key)
);

-- What a run did, user by user (FS-13).
CREATE TABLE sync_changes (
    run_id      TEXT   NOT NULL REFERENCES sync_runs (run_id) ON DELETE CASCADE,
    number      BIGINT NOT NULL,
    username    TEXT   NOT NULL,
    what        TEXT   NOT NULL,
    detail      TEXT   NOT NULL,
    PRIMARY KEY (run_id, number)
);

-- By item, what the run found there.
CREATE TABLE sync_run_items (
    run_id      TEXT   NOT NULL REFERENCES sync_runs (run_id) ON DELETE CASCADE,
    sync_item   TEXT   NOT NULL,
    users       BIGINT NOT NULL,
    PRIMARY KEY (run_id, sync_item)
);

-- Whom a preview met, because it marks nobody: under which item ('' = of none), and how those it did not meet left.
CREATE TABLE sync_seen (
    run_id      TEXT NOT NULL REFERENCES sync_runs (run_id) ON DELETE CASCADE,
    object_id   TEXT NOT NULL,
    sync_item   TEXT NOT NULL,
    left_how    TEXT NOT NULL,
    PRIMARY KEY (run_id, object_id)
);

-- --- approvals -------------------------------------------------------------------------------------------------------

CREATE TABLE approvals (
    approval_id TEXT   PRIMARY KEY,
    directory   TEXT   NOT NULL,
    created_ms  BIGINT NOT NULL,
    expires_ms  BIGINT NOT NULL,
    -- Who asked for the run that was parked; '' = nobody.
    asked_by    TEXT   NOT NULL,
    -- open, deciding, approved, refused, superseded
    state       TEXT   NOT NULL,
    -- all, some, none
    decision    TEXT   NOT NULL,
    decided_by  TEXT   NOT NULL,
    -- Users disabled, removed or exempted by it so far.
    applied     BIGINT NOT NULL
);
CREATE INDEX approvals_by_directory ON approvals (directory, state);

-- Who waits, for what, and whether they were named by who decided. Written while logins go on, so it locks no user.
CREATE TABLE approval_users (
    approval_id  TEXT    NOT NULL REFERENCES approvals (approval_id) ON DELETE CASCADE,
    username_key TEXT    NOT NULL,
    user_id      TEXT    NOT NULL,
    action       TEXT    NOT NULL,
    why          TEXT    NOT NULL,
    chosen       BOOLEAN NOT NULL,
    PRIMARY KEY (approval_id, username_key, user_id)
);
CREATE INDEX approval_users_by_user_id ON approval_users (user_id);
