-- Passwords of a person that are tried at a directory which locks accounts (L-56). Kept while something counts.
CREATE TABLE password_tries (
    directory   TEXT   NOT NULL,
    object_id   TEXT   NOT NULL,
    wrong       BIGINT NOT NULL,
    last_ms     BIGINT NOT NULL,
    -- When those began that nobody has told the end of, eight octets each.
    open        BYTEA  NOT NULL,
    touched_ms  BIGINT NOT NULL,
    PRIMARY KEY (directory, object_id)
);
CREATE INDEX password_tries_by_time ON password_tries (touched_ms);
