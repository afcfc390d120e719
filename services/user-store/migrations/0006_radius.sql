-- What the gateways see of their clients (R-37).
CREATE TABLE client_reports (
    client      TEXT   NOT NULL,
    node        TEXT   NOT NULL,
    at_ms       BIGINT NOT NULL,
    report      BYTEA  NOT NULL,
    PRIMARY KEY (client, node)
);
CREATE INDEX client_reports_by_time ON client_reports (at_ms);

-- When any node saw a client last: a gateway that starts anew knows nothing of it.
CREATE TABLE client_seen (
    client       TEXT   PRIMARY KEY,
    last_seen_ms BIGINT NOT NULL
);

-- The shared secret before the present one, while a rotation lasts (R-71).
CREATE TABLE previous_secrets (
    client      TEXT   PRIMARY KEY,
    sealed      BYTEA  NOT NULL,
    until_ms    BIGINT NOT NULL
);

-- Accounting that nobody else takes (FR-19). The digest makes copies of a packet one record.
CREATE TABLE accounting (
    id              BIGINT PRIMARY KEY,
    digest          BYTEA  NOT NULL UNIQUE,
    recorded_ms     BIGINT NOT NULL,
    at_ms           BIGINT NOT NULL,
    client          TEXT   NOT NULL,
    status          TEXT   NOT NULL,
    session_id      TEXT   NOT NULL,
    username        TEXT   NOT NULL,
    calling_station TEXT   NOT NULL,
    nas             TEXT   NOT NULL,
    framed_address  TEXT   NOT NULL,
    session_seconds BIGINT NOT NULL,
    input_octets    BIGINT NOT NULL,
    output_octets   BIGINT NOT NULL,
    terminate_cause TEXT   NOT NULL
);
CREATE INDEX accounting_by_time ON accounting (recorded_ms);
CREATE INDEX accounting_by_client ON accounting (client, id);
CREATE INDEX accounting_by_username ON accounting (username, id);
CREATE INDEX accounting_by_session ON accounting (session_id, id);
