-- Users that a run did not take and values that it could not use, and of those values the first ones (FD-36, FD-38, S-57, S-59).
ALTER TABLE sync_runs ADD COLUMN problems BIGINT NOT NULL DEFAULT 0;
CREATE TABLE sync_unusable (
    run_id      TEXT   NOT NULL REFERENCES sync_runs (run_id) ON DELETE CASCADE,
    number      BIGINT NOT NULL,
    entry       TEXT   NOT NULL,
    attribute   TEXT   NOT NULL,
    why         TEXT   NOT NULL,
    PRIMARY KEY (run_id, number)
);

-- How often a run came to the same incomplete end, one time after the other.
ALTER TABLE sync_runs ADD COLUMN repeats BIGINT NOT NULL DEFAULT 0;

-- What numbers a user had before synchronisation changed them, for as long as a way back is worth a word (S-19). Instead of
-- phones_before, which had one of them: nothing is written there any more.
CREATE TABLE numbers_before (
    user_id     TEXT   NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
    -- phone, backup
    kind        TEXT   NOT NULL,
    number      TEXT   NOT NULL,
    changed_ms  BIGINT NOT NULL,
    PRIMARY KEY (user_id, kind, number)
);
CREATE INDEX numbers_before_by_time ON numbers_before (changed_ms);
INSERT INTO numbers_before (user_id, kind, number, changed_ms)
    SELECT user_id, 'phone', number, changed_ms FROM phones_before;
