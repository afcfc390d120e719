-- One schema for SQLite and PostgreSQL. Times are milliseconds since 1970, ids are UUIDs as text, nothing is NULL: an
-- empty text, 0 or -1 says "not there", so that both databases and Rust read the same.

-- --- keys ------------------------------------------------------------------------------------------------------------

-- Keys that seal the fields of records, each wrapped by the master key (V-30).
CREATE TABLE data_keys (
    key_id      BIGINT PRIMARY KEY,
    master      TEXT   NOT NULL,
    wrapped     BYTEA  NOT NULL,
    created_ms  BIGINT NOT NULL
);

-- A known text, sealed: a wrong master key is found before anything else is read.
CREATE TABLE canary (
    id          BIGINT PRIMARY KEY,
    sealed      BYTEA  NOT NULL
);

-- Keys that the parts seal their short-lived shared state with.
CREATE TABLE key_rings (
    purpose     TEXT   NOT NULL,
    key_id      BIGINT NOT NULL,
    sealed      BYTEA  NOT NULL,
    created_ms  BIGINT NOT NULL,
    PRIMARY KEY (purpose, key_id)
);

-- --- settings --------------------------------------------------------------------------------------------------------

CREATE TABLE settings (
    id          BIGINT PRIMARY KEY,
    revision    BIGINT NOT NULL,
    document    TEXT   NOT NULL
);
INSERT INTO settings (id, revision, document) VALUES (1, 1, '{}');

CREATE TABLE secrets (
    name        TEXT   PRIMARY KEY,
    sealed      BYTEA  NOT NULL,
    changed_ms  BIGINT NOT NULL
);

-- What clients with message_authenticator = auto turned out to send (R-10).
CREATE TABLE learned (
    client      TEXT    PRIMARY KEY,
    sends       BOOLEAN NOT NULL,
    learned_ms  BIGINT  NOT NULL
);

-- --- users -----------------------------------------------------------------------------------------------------------

CREATE TABLE users (
    user_id             TEXT   PRIMARY KEY,
    directory           TEXT   NOT NULL,
    object_id           TEXT   NOT NULL,
    username            TEXT   NOT NULL,
    username_key        TEXT   NOT NULL,
    distinguished_name  TEXT   NOT NULL,
    dn_key              TEXT   NOT NULL,
    first_name          TEXT   NOT NULL,
    last_name           TEXT   NOT NULL,
    mail                TEXT   NOT NULL,
    phone               TEXT   NOT NULL,
    -- Everything a search looks at, folded.
    search              TEXT   NOT NULL,
    -- enabled, disabled, removed; since when, by whom and why.
    state               TEXT   NOT NULL,
    state_by            TEXT   NOT NULL,
    state_since_ms      BIGINT NOT NULL,
    state_text          TEXT   NOT NULL,
    -- The item that owns the user, the run that saw it last, and a digest of what it said.
    sync_item           TEXT   NOT NULL,
    first_run           TEXT   NOT NULL,
    last_run            TEXT   NOT NULL,
    content             BYTEA  NOT NULL,
    revision            BIGINT NOT NULL,
    created_ms          BIGINT NOT NULL,
    changed_ms          BIGINT NOT NULL,
    UNIQUE (directory, object_id)
);
CREATE INDEX users_by_username ON users (username_key, user_id);
CREATE INDEX users_by_item ON users (sync_item);
CREATE INDEX users_by_dn ON users (dn_key);

-- Every form of a user's name, NFKC case-folded (FU-01).
CREATE TABLE names (
    user_id     TEXT NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
    name_key    TEXT NOT NULL,
    name        TEXT NOT NULL,
    PRIMARY KEY (user_id, name_key)
);
CREATE INDEX names_by_key ON names (name_key);

CREATE TABLE user_groups (
    directory           TEXT  NOT NULL,
    object_id           TEXT  NOT NULL,
    distinguished_name  TEXT  NOT NULL,
    name                TEXT  NOT NULL,
    sync_item           TEXT  NOT NULL,
    last_run            TEXT  NOT NULL,
    content             BYTEA NOT NULL,
    PRIMARY KEY (directory, object_id)
);
CREATE INDEX user_groups_by_item ON user_groups (sync_item);

-- Members by the name the directory gives them: a group may be read before its members are.
CREATE TABLE group_members (
    directory   TEXT NOT NULL,
    object_id   TEXT NOT NULL,
    member_key  TEXT NOT NULL,
    PRIMARY KEY (directory, object_id, member_key),
    FOREIGN KEY (directory, object_id) REFERENCES user_groups (directory, object_id) ON DELETE CASCADE
);
CREATE INDEX group_members_by_key ON group_members (member_key, directory);

-- --- factors and the counters that guard a decision --------------------------------------------------------------------

CREATE TABLE factors (
    factor_id       TEXT    PRIMARY KEY,
    user_id         TEXT    NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
    kind            TEXT    NOT NULL,
    algorithm       TEXT    NOT NULL,
    digits          BIGINT  NOT NULL,
    period_seconds  BIGINT  NOT NULL,
    seed            BYTEA   NOT NULL,
    pending         BOOLEAN NOT NULL,
    -- The last accepted time step, -1 = none (V-11).
    last_step       BIGINT  NOT NULL,
    -- Tries since the last success, and when the next one is open (V-14).
    failures        BIGINT  NOT NULL,
    open_ms         BIGINT  NOT NULL,
    created_ms      BIGINT  NOT NULL,
    last_used_ms    BIGINT  NOT NULL,
    revision        BIGINT  NOT NULL
);
CREATE INDEX factors_by_user ON factors (user_id);

-- One row a user: tries without proof of the password (L-54) and the last success.
CREATE TABLE guards (
    user_id             TEXT   PRIMARY KEY REFERENCES users (user_id) ON DELETE CASCADE,
    unverified          BYTEA  NOT NULL,
    last_success_ms     BIGINT NOT NULL
);

-- Places a user succeeded from lately, and the tries of their reserve (V-15).
CREATE TABLE sources (
    user_id             TEXT   NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
    source              TEXT   NOT NULL,
    last_success_ms     BIGINT NOT NULL,
    reserve             BYTEA  NOT NULL,
    PRIMARY KEY (user_id, source)
);

-- Codes marked as used before the password was known (L-53).
CREATE TABLE code_spends (
    transaction_id  TEXT   PRIMARY KEY,
    user_id         TEXT   NOT NULL,
    factor_id       TEXT   NOT NULL,
    step            BIGINT NOT NULL,
    spent_ms        BIGINT NOT NULL
);

-- --- audit -------------------------------------------------------------------------------------------------------------

CREATE TABLE audit (
    sequence        BIGINT  PRIMARY KEY,
    at_ms           BIGINT  NOT NULL,
    kind            TEXT    NOT NULL,
    transaction_id  TEXT    NOT NULL,
    client          TEXT    NOT NULL,
    protocol        TEXT    NOT NULL,
    user_id         TEXT    NOT NULL,
    username        TEXT    NOT NULL,
    client_ip       TEXT    NOT NULL,
    calling_station TEXT    NOT NULL,
    result          TEXT    NOT NULL,
    reason          TEXT    NOT NULL,
    method          TEXT    NOT NULL,
    assurance       TEXT    NOT NULL,
    source          TEXT    NOT NULL,
    actor           TEXT    NOT NULL,
    detail          TEXT    NOT NULL,
    -- The last word of its transaction, and a digest of the request that wrote it: the same request asking again gets
    -- the first result, any other finds the transaction spent (V-02).
    final           BOOLEAN NOT NULL,
    request         BYTEA   NOT NULL,
    hash            BYTEA   NOT NULL
);
CREATE UNIQUE INDEX audit_one_final ON audit (transaction_id) WHERE final;
CREATE INDEX audit_by_user ON audit (user_id, sequence);

-- The end of the chain. Whoever appends locks this row first: events have one order over all nodes.
CREATE TABLE audit_head (
    id          BIGINT PRIMARY KEY,
    sequence    BIGINT NOT NULL,
    hash        BYTEA  NOT NULL
);

-- --- synchronisation -----------------------------------------------------------------------------------------------------

CREATE TABLE sync_state (
    id          BIGINT PRIMARY KEY,
    epoch       BIGINT NOT NULL,
    leader      TEXT   NOT NULL
);
INSERT INTO sync_state (id, epoch, leader) VALUES (1, 0, '');

CREATE TABLE sync_runs (
    run_id      TEXT   PRIMARY KEY,
    sync_item   TEXT   NOT NULL,
    directory   TEXT   NOT NULL,
    mode        TEXT   NOT NULL,
    started_ms  BIGINT NOT NULL,
    finished_ms BIGINT NOT NULL,
    state       TEXT   NOT NULL,
    error       TEXT   NOT NULL,
    added       BIGINT NOT NULL,
    changed     BIGINT NOT NULL,
    unchanged   BIGINT NOT NULL,
    disabled    BIGINT NOT NULL,
    removed     BIGINT NOT NULL,
    parked      BIGINT NOT NULL,
    approval_id TEXT   NOT NULL
);
CREATE INDEX sync_runs_by_start ON sync_runs (started_ms);

-- Usernames a run found twice: nobody is added under them (FS-14).
CREATE TABLE sync_doubles (
    run_id      TEXT NOT NULL REFERENCES sync_runs (run_id) ON DELETE CASCADE,
    name_key    TEXT NOT NULL,
    PRIMARY KEY (run_id, name_key)
);

CREATE TABLE approvals (
    approval_id TEXT   PRIMARY KEY,
    sync_item   TEXT   NOT NULL,
    action      TEXT   NOT NULL,
    created_ms  BIGINT NOT NULL,
    expires_ms  BIGINT NOT NULL,
    -- open, approved, refused, superseded
    state       TEXT   NOT NULL
);

-- Who waits, and the run that had seen them last when they were listed: seen again since, they stay.
CREATE TABLE approval_users (
    approval_id TEXT NOT NULL REFERENCES approvals (approval_id) ON DELETE CASCADE,
    user_id     TEXT NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
    last_run    TEXT NOT NULL,
    PRIMARY KEY (approval_id, user_id)
);

-- --- portal ----------------------------------------------------------------------------------------------------------------

CREATE TABLE sessions (
    id_hash     BYTEA  PRIMARY KEY,
    revision    BIGINT NOT NULL,
    sealed      BYTEA  NOT NULL,
    expires_ms  BIGINT NOT NULL
);

CREATE TABLE api_keys (
    name            TEXT   PRIMARY KEY,
    role            TEXT   NOT NULL,
    hash            BYTEA  NOT NULL UNIQUE,
    created_ms      BIGINT NOT NULL,
    expires_ms      BIGINT NOT NULL,
    last_used_ms    BIGINT NOT NULL
);

CREATE TABLE invitations (
    user_id     TEXT   PRIMARY KEY REFERENCES users (user_id) ON DELETE CASCADE,
    code_hash   BYTEA  NOT NULL,
    expires_ms  BIGINT NOT NULL,
    tries_left  BIGINT NOT NULL
);
