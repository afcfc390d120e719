-- New users who are to be given a first PIN, until it is made (FS-31): hashing takes longer than a batch may. Whoever makes it takes
-- it for a while: it is due again then, if it is not made.
CREATE TABLE pins_owed (
    user_id     TEXT   PRIMARY KEY REFERENCES users (user_id) ON DELETE CASCADE,
    sync_item   TEXT   NOT NULL,
    due_ms      BIGINT NOT NULL
);
CREATE INDEX pins_owed_by_time ON pins_owed (due_ms);

-- Of the portal's pages (FS-32).
ALTER TABLE users ADD COLUMN language_portal TEXT NOT NULL DEFAULT '';

-- What items name by a DN, by its id since it was found (FS-21).
CREATE TABLE sync_pins (
    directory           TEXT NOT NULL,
    sync_item           TEXT NOT NULL,
    kind                TEXT NOT NULL,
    distinguished_name  TEXT NOT NULL,
    object_id           TEXT NOT NULL,
    -- Of the source it was found in: another one has other ids (S-44).
    identity            TEXT NOT NULL,
    PRIMARY KEY (directory, sync_item)
);

-- When the account ends in the directory, where that disables (FD-42, FS-26); 0 = never.
ALTER TABLE users ADD COLUMN account_expires_ms BIGINT NOT NULL DEFAULT 0;
CREATE INDEX users_by_expiry ON users (account_expires_ms) WHERE account_expires_ms > 0 AND state = 'enabled';
