-- Every second factor, and what guards it. The conventions of 0001 hold: no NULL, times in milliseconds, ids as text.

-- --- users -----------------------------------------------------------------------------------------------------------

ALTER TABLE users ADD COLUMN phone_extension   TEXT   NOT NULL DEFAULT '';
-- Proven or typed here: the directory does not overwrite it (FS-23, unless_user_changed).
ALTER TABLE users ADD COLUMN own_phone         TEXT   NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN own_extension     TEXT   NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN backup_phone      TEXT   NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN backup_extension  TEXT   NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN default_method    TEXT   NOT NULL DEFAULT '';
-- Codes of methods, comma separated; empty = no restriction.
ALTER TABLE users ADD COLUMN allowed_methods   TEXT   NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN language_call     TEXT   NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN language_text     TEXT   NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN language_app      TEXT   NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN language_code     TEXT   NOT NULL DEFAULT '';
-- -1 = until somebody unblocks, 0 = not blocked (FV-25).
ALTER TABLE users ADD COLUMN blocked_until_ms  BIGINT NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN blocked_since_ms  BIGINT NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN blocked_by        TEXT   NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN blocked_text      TEXT   NOT NULL DEFAULT '';
-- Names of clients, comma separated; * = all (FV-42).
ALTER TABLE users ADD COLUMN exempt_clients    TEXT   NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN exempt_until_ms   BIGINT NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN exempt_text       TEXT   NOT NULL DEFAULT '';
-- Raised by everything that ends remembered logins (V-52).
ALTER TABLE users ADD COLUMN epoch             BIGINT NOT NULL DEFAULT 1;

-- --- tokens ----------------------------------------------------------------------------------------------------------

-- A token of the stock belongs to nobody (user_id = ''), so the reference to users goes: erasing a user deletes their
-- factors by a trigger-free statement of the store instead.
CREATE TABLE tokens (
    factor_id       TEXT    PRIMARY KEY,
    -- Empty while nobody has it.
    user_id         TEXT    NOT NULL,
    -- totp, hotp
    kind            TEXT    NOT NULL,
    serial          TEXT    NOT NULL,
    serial_key      TEXT    NOT NULL,
    manufacturer    TEXT    NOT NULL,
    model           TEXT    NOT NULL,
    algorithm       TEXT    NOT NULL,
    digits          BIGINT  NOT NULL,
    period_seconds  BIGINT  NOT NULL,
    seed            BYTEA   NOT NULL,
    pending         BOOLEAN NOT NULL,
    -- The last accepted time step or counter, -1 = none (V-11, V-13).
    last_step       BIGINT  NOT NULL,
    drift           BIGINT  NOT NULL,
    failures        BIGINT  NOT NULL,
    open_ms         BIGINT  NOT NULL,
    created_ms      BIGINT  NOT NULL,
    last_used_ms    BIGINT  NOT NULL,
    revision        BIGINT  NOT NULL
);
INSERT INTO tokens (factor_id, user_id, kind, serial, serial_key, manufacturer, model, algorithm, digits, period_seconds, seed,
                    pending, last_step, drift, failures, open_ms, created_ms, last_used_ms, revision)
    SELECT factor_id, user_id, 'totp', '', '', '', '', algorithm, digits, period_seconds, seed, pending, last_step, 0, failures,
           open_ms, created_ms, last_used_ms, revision FROM factors;
DROP TABLE factors;
ALTER TABLE tokens RENAME TO factors;
CREATE INDEX factors_by_user_id ON factors (user_id);
CREATE UNIQUE INDEX factors_by_serial ON factors (serial_key) WHERE serial_key <> '';

-- --- hashed secrets --------------------------------------------------------------------------------------------------

-- PIN, recovery codes, temporary code, answers: argon2id with a salt for each row and a pepper of the seal (V-31).
CREATE TABLE hashed (
    hashed_id   TEXT   PRIMARY KEY,
    user_id     TEXT   NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
    -- pin, pin_history, recovery, temporary, answer
    kind        TEXT   NOT NULL,
    -- The question, for an answer.
    label       TEXT   NOT NULL,
    -- Recovery codes of one set have one salt, so that a try costs one computation.
    salt        BYTEA  NOT NULL,
    hash        BYTEA  NOT NULL,
    uses_left   BIGINT NOT NULL,
    expires_ms  BIGINT NOT NULL,
    created_ms  BIGINT NOT NULL,
    made_by     TEXT   NOT NULL,
    text        TEXT   NOT NULL
);
CREATE INDEX hashed_by_user ON hashed (user_id, kind);

-- One row a user and kind: tries, lock, and for the PIN its rules.
CREATE TABLE secret_states (
    user_id         TEXT    NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
    kind            TEXT    NOT NULL,
    required        BOOLEAN NOT NULL,
    must_change     BOOLEAN NOT NULL,
    set_ms          BIGINT  NOT NULL,
    -- Times of wrong tries, eight octets each.
    wrong           BYTEA   NOT NULL,
    -- 0 = open, -1 = until somebody unlocks.
    locked_until_ms BIGINT  NOT NULL,
    PRIMARY KEY (user_id, kind)
);

-- A secret that was right in a transaction: what CommitAllow spends. Ten minutes.
CREATE TABLE secret_proofs (
    handle          TEXT   PRIMARY KEY,
    user_id         TEXT   NOT NULL,
    transaction_id  TEXT   NOT NULL,
    kind            TEXT   NOT NULL,
    hashed_id       TEXT   NOT NULL,
    expires_ms      BIGINT NOT NULL
);

CREATE TABLE bypasses (
    bypass_id   TEXT   PRIMARY KEY,
    user_id     TEXT   NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
    client      TEXT   NOT NULL,
    expires_ms  BIGINT NOT NULL,
    created_ms  BIGINT NOT NULL,
    made_by     TEXT   NOT NULL,
    text        TEXT   NOT NULL
);
CREATE INDEX bypasses_by_user ON bypasses (user_id);

-- --- prompts and sent codes --------------------------------------------------------------------------------------------

CREATE TABLE prompts (
    prompt_id       TEXT    PRIMARY KEY,
    transaction_id  TEXT    NOT NULL,
    user_id         TEXT    NOT NULL,
    method          TEXT    NOT NULL,
    client          TEXT    NOT NULL,
    application     TEXT    NOT NULL,
    username        TEXT    NOT NULL,
    place           TEXT    NOT NULL,
    number          TEXT    NOT NULL,
    device_id       TEXT    NOT NULL,
    pin_asked       BOOLEAN NOT NULL,
    language        TEXT    NOT NULL,
    begun_ms        BIGINT  NOT NULL,
    expires_ms      BIGINT  NOT NULL,
    -- Empty while open.
    outcome         TEXT    NOT NULL,
    answered_by     TEXT    NOT NULL,
    answered_ms     BIGINT  NOT NULL,
    assurance       TEXT    NOT NULL,
    answer_digest   BYTEA   NOT NULL,
    pin_handle      TEXT    NOT NULL,
    spent           BOOLEAN NOT NULL,
    state           TEXT    NOT NULL,
    revision        BIGINT  NOT NULL
);
CREATE INDEX prompts_by_user ON prompts (user_id, begun_ms);
CREATE INDEX prompts_by_transaction ON prompts (transaction_id);
-- V-23: one open prompt a user, whatever goes wrong elsewhere.
CREATE UNIQUE INDEX prompts_one_open ON prompts (user_id) WHERE outcome = '';

CREATE TABLE sent_codes (
    transaction_id  TEXT    PRIMARY KEY,
    user_id         TEXT    NOT NULL,
    kind            TEXT    NOT NULL,
    digest          BYTEA   NOT NULL,
    expires_ms      BIGINT  NOT NULL,
    tries_left      BIGINT  NOT NULL,
    -- open, right, spent, void
    state           TEXT    NOT NULL,
    -- kind = proof: the number, sealed.
    number          BYTEA   NOT NULL,
    extension       TEXT    NOT NULL,
    backup          BOOLEAN NOT NULL,
    sent_ms         BIGINT  NOT NULL
);
CREATE INDEX sent_codes_by_user ON sent_codes (user_id, sent_ms);

-- What counts against the caps of V-18: prefix, or everything.
CREATE TABLE message_counts (
    scope       TEXT   NOT NULL,
    window_ms   BIGINT NOT NULL,
    count       BIGINT NOT NULL,
    PRIMARY KEY (scope, window_ms)
);

CREATE TABLE messages (
    message_id      TEXT   PRIMARY KEY,
    channel         TEXT   NOT NULL,
    provider        TEXT   NOT NULL,
    provider_id     TEXT   NOT NULL,
    user_id         TEXT   NOT NULL,
    transaction_id  TEXT   NOT NULL,
    destination     TEXT   NOT NULL,
    state           TEXT   NOT NULL,
    detail          TEXT   NOT NULL,
    at_ms           BIGINT NOT NULL
);
CREATE INDEX messages_by_provider ON messages (provider, provider_id);
CREATE INDEX messages_by_user ON messages (user_id, at_ms);

CREATE TABLE seen (
    scope       TEXT   NOT NULL,
    id          TEXT   NOT NULL,
    expires_ms  BIGINT NOT NULL,
    PRIMARY KEY (scope, id)
);

-- --- devices -----------------------------------------------------------------------------------------------------------

CREATE TABLE devices (
    device_id       TEXT   PRIMARY KEY,
    user_id         TEXT   NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
    -- web, pi, passkey
    kind            TEXT   NOT NULL,
    name            TEXT   NOT NULL,
    -- activation, pending, active
    state           TEXT   NOT NULL,
    public_key      TEXT   NOT NULL,
    -- Sealed, or empty.
    server_key      BYTEA  NOT NULL,
    subscription    BYTEA  NOT NULL,
    serial          TEXT   NOT NULL,
    passkey         TEXT   NOT NULL,
    capabilities    TEXT   NOT NULL,
    -- The activation: its code's hash, until when, wrong tries left, and what the ceremony keeps.
    code_hash       BYTEA  NOT NULL,
    code_expires_ms BIGINT NOT NULL,
    code_tries_left BIGINT NOT NULL,
    ceremony        TEXT   NOT NULL,
    created_ms      BIGINT NOT NULL,
    last_seen_ms    BIGINT NOT NULL
);
CREATE INDEX devices_by_user ON devices (user_id);
CREATE INDEX devices_by_code ON devices (code_hash);
CREATE UNIQUE INDEX devices_by_serial ON devices (serial) WHERE serial <> '';

-- Small secrets of the parts that must survive: the VAPID key.
CREATE TABLE sealed_facts (
    name        TEXT   PRIMARY KEY,
    sealed      BYTEA  NOT NULL
);

-- Where people reach the portal, and the host that passkeys are bound to.
CREATE TABLE portal_address (
    id          BIGINT PRIMARY KEY,
    public_url  TEXT   NOT NULL,
    rp_id       TEXT   NOT NULL
);

-- --- remembered logins, mail -------------------------------------------------------------------------------------------

CREATE TABLE remembered (
    key             BYTEA  PRIMARY KEY,
    user_id         TEXT   NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
    client          TEXT   NOT NULL,
    place           TEXT   NOT NULL,
    epoch           BIGINT NOT NULL,
    created_ms      BIGINT NOT NULL,
    idle_ms         BIGINT NOT NULL,
    idle_until_ms   BIGINT NOT NULL,
    life_until_ms   BIGINT NOT NULL
);
CREATE INDEX remembered_by_user ON remembered (user_id, created_ms);

CREATE TABLE outbox (
    mail_id     TEXT   PRIMARY KEY,
    once_key    TEXT   NOT NULL,
    kind        TEXT   NOT NULL,
    user_id     TEXT   NOT NULL,
    -- The whole message, sealed.
    sealed      BYTEA  NOT NULL,
    tries       BIGINT NOT NULL,
    due_ms      BIGINT NOT NULL,
    expires_ms  BIGINT NOT NULL,
    -- waiting, sent, failed
    state       TEXT   NOT NULL,
    error       TEXT   NOT NULL
);
CREATE UNIQUE INDEX outbox_once ON outbox (once_key) WHERE once_key <> '';
CREATE INDEX outbox_due ON outbox (state, due_ms);
