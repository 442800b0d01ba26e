-- Times are microseconds since 1970 in UTC, 0 for none.

-- What a console searches in: name, DNS name and ID in capitals, one per line.
-- With it in the indexes, a search reads no client whole.
ALTER TABLE clients ADD COLUMN search_text TEXT NOT NULL DEFAULT '';
UPDATE clients SET search_text = UPPER(netbios_name || '
' || fqdn || '
' || id);
CREATE INDEX clients_search ON clients (netbios_name, id, search_text, auth, approval);
CREATE INDEX clients_auth ON clients (auth, netbios_name, id, search_text, approval);
CREATE INDEX clients_approval ON clients (approval, netbios_name, id, search_text, auth);

-- The number of announced changes, in the only row: who watches compares it.
CREATE TABLE revision (
    id     INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    number INTEGER NOT NULL
);
INSERT INTO revision (id, number) VALUES (1, 0);

CREATE TABLE objects (
    kind     TEXT NOT NULL,
    id       TEXT NOT NULL,
    name     TEXT NOT NULL,
    name_key TEXT NOT NULL,                    -- the name in lower case
    version  INTEGER NOT NULL,                 -- 1, 2, ...
    created  INTEGER NOT NULL,
    changed  INTEGER NOT NULL,
    body     TEXT NOT NULL,                    -- JSON
    PRIMARY KEY (kind, id)
);
CREATE UNIQUE INDEX objects_name ON objects (kind, name_key) WHERE name_key <> '';

CREATE TABLE counters (
    name  TEXT NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL                     -- the last one given out
);

-- The row with the empty name holds no secret: it says under which key all
-- rows are encrypted.
CREATE TABLE secrets (
    name    TEXT NOT NULL PRIMARY KEY,
    key_id  TEXT NOT NULL,
    sealed  BLOB NOT NULL,                     -- nonce and AES-256-GCM, the name as additional data
    changed INTEGER NOT NULL
);

CREATE TABLE operations (
    id           TEXT NOT NULL PRIMARY KEY,
    kind         TEXT NOT NULL,
    subject_kind TEXT NOT NULL,
    subject_id   TEXT NOT NULL,
    state        TEXT NOT NULL,                -- created, in-progress, completed, failed
    step         TEXT NOT NULL,
    percent      INTEGER NOT NULL,
    text         TEXT NOT NULL,
    error        TEXT NOT NULL,                -- JSON, or empty
    account      TEXT NOT NULL,
    created      INTEGER NOT NULL,
    changed      INTEGER NOT NULL
);
CREATE INDEX operations_created ON operations (created, id);
CREATE INDEX operations_subject ON operations (subject_kind, subject_id, created);
CREATE INDEX operations_state ON operations (state, changed);

CREATE TABLE operation_log (
    id           INTEGER NOT NULL PRIMARY KEY,
    operation_id TEXT NOT NULL REFERENCES operations (id) ON DELETE CASCADE,
    at           INTEGER NOT NULL,
    step         TEXT NOT NULL,
    percent      INTEGER NOT NULL,
    text         TEXT NOT NULL
);
CREATE INDEX operation_log_operation ON operation_log (operation_id, id);

CREATE TABLE site_messages (
    id           INTEGER NOT NULL PRIMARY KEY,
    at           INTEGER NOT NULL,
    component    TEXT NOT NULL,
    severity     TEXT NOT NULL,                -- info, warning, error
    message_id   INTEGER NOT NULL,
    account      TEXT NOT NULL,
    subject_kind TEXT NOT NULL,
    subject_id   TEXT NOT NULL,
    text         TEXT NOT NULL,
    properties   TEXT NOT NULL                 -- JSON object of text
);
CREATE INDEX site_messages_at ON site_messages (at, id);
CREATE INDEX site_messages_component ON site_messages (component, id);
CREATE INDEX site_messages_severity ON site_messages (severity, id);
CREATE INDEX site_messages_subject ON site_messages (subject_kind, subject_id, id);

CREATE TABLE alerts (
    id              INTEGER NOT NULL PRIMARY KEY,
    kind            TEXT NOT NULL,
    subject_kind    TEXT NOT NULL,
    subject_id      TEXT NOT NULL,
    severity        TEXT NOT NULL,             -- warning, critical
    text            TEXT NOT NULL,
    next_step       TEXT NOT NULL,
    opened          INTEGER NOT NULL,
    changed         INTEGER NOT NULL,
    closed          INTEGER NOT NULL,          -- 0: open
    acknowledged_by TEXT NOT NULL
);
CREATE UNIQUE INDEX alerts_open ON alerts (kind, subject_kind, subject_id) WHERE closed = 0;
CREATE INDEX alerts_closed ON alerts (closed, id);

-- A row counts what began in [start, start + width); each request is in one
-- row. Old rows are added up into wider ones.
CREATE TABLE traffic (
    gateway_id       TEXT NOT NULL,
    start            INTEGER NOT NULL,
    width            INTEGER NOT NULL,         -- microseconds: 5 minutes, an hour, a day
    instance         TEXT NOT NULL,
    endpoint         TEXT NOT NULL,
    connection_point TEXT NOT NULL,
    requests         INTEGER NOT NULL,
    failed           INTEGER NOT NULL,
    request_bytes    INTEGER NOT NULL,
    response_bytes   INTEGER NOT NULL,
    PRIMARY KEY (gateway_id, start, width, instance, endpoint, connection_point)
);
CREATE INDEX traffic_age ON traffic (width, start);

-- Gauges: how much of something there was at a time.
CREATE TABLE samples (
    name    TEXT NOT NULL,
    subject TEXT NOT NULL,
    at      INTEGER NOT NULL,
    value   REAL NOT NULL,
    PRIMARY KEY (name, subject, at)
);
CREATE INDEX samples_at ON samples (at);
