-- Whom a full run missed and another one is to look for (S-43): asked for at the beginning of every run.
CREATE INDEX users_missed ON users (directory) WHERE left_how = 'missed';
CREATE INDEX user_groups_missed ON user_groups (directory) WHERE left_run <> '';

-- What number a user had before synchronisation changed it, for as long as a way back is worth a word (S-19).
CREATE TABLE phones_before (
    user_id     TEXT   PRIMARY KEY REFERENCES users (user_id) ON DELETE CASCADE,
    number      TEXT   NOT NULL,
    changed_ms  BIGINT NOT NULL
);
CREATE INDEX phones_before_by_time ON phones_before (changed_ms);
