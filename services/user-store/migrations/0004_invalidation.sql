-- When the directory says the password was changed, in its own words; '' = never read, '-' = it did not say (V-52).
ALTER TABLE users ADD COLUMN password_changed TEXT NOT NULL DEFAULT '';
-- A group in a group is looked for by its name.
CREATE INDEX user_groups_by_dn ON user_groups (dn_key);
-- Whose session it is, so that a block ends it (V-23, FV-26). '' = of nobody the store knows, or of a node before this version.
ALTER TABLE sessions ADD COLUMN user_id TEXT NOT NULL DEFAULT '';
CREATE INDEX sessions_by_user ON sessions (user_id);

-- Where the chain stood, signed (V-60).
CREATE TABLE audit_checkpoints (
    sequence    BIGINT PRIMARY KEY,
    writer      TEXT   NOT NULL,
    hash        BYTEA  NOT NULL,
    at_ms       BIGINT NOT NULL,
    signature   BYTEA  NOT NULL
);
