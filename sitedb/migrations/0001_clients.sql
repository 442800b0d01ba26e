-- Times are microseconds since 1970 in UTC. Text IDs are stored in one
-- canonical spelling, so that comparing bytes is enough.

CREATE TABLE clients (
    id              TEXT NOT NULL PRIMARY KEY, -- GUID:...
    netbios_name    TEXT NOT NULL,
    fqdn            TEXT NOT NULL,
    agent_version   TEXT NOT NULL,
    approval        INTEGER NOT NULL,
    auth            TEXT NOT NULL,             -- how it registered
    tenant_id       TEXT NOT NULL,
    device_id       TEXT NOT NULL,
    subject         TEXT NOT NULL,             -- of its PKI certificate
    thumbprint      TEXT NOT NULL,             -- SHA-256 of its TLS certificate
    signing_key     TEXT NOT NULL,             -- SHA-256 of the public key
    signing_cert    BLOB NOT NULL,             -- DER
    encryption_cert BLOB,
    registered      INTEGER NOT NULL,
    changed         INTEGER NOT NULL,
    last_seen       INTEGER NOT NULL
);
CREATE UNIQUE INDEX clients_signing_key ON clients (signing_key);
CREATE INDEX clients_netbios_name ON clients (netbios_name);
CREATE INDEX clients_thumbprint ON clients (thumbprint);

CREATE TABLE reports (
    client_id TEXT NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    action    TEXT NOT NULL,                   -- inventory action GUID
    full_report INTEGER NOT NULL,
    written   INTEGER NOT NULL,                -- by the client's clock
    received  INTEGER NOT NULL,
    body      BLOB NOT NULL,                   -- zlib of UTF-8 XML
    PRIMARY KEY (client_id, action, full_report)
);

CREATE TABLE state_messages (
    client_id   TEXT NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    topic_type  INTEGER NOT NULL,
    topic_id    TEXT NOT NULL,
    state_id    INTEGER NOT NULL,
    criticality INTEGER NOT NULL,
    serial      INTEGER NOT NULL,
    parameters  TEXT NOT NULL,                 -- JSON list of text
    written     INTEGER NOT NULL,
    received    INTEGER NOT NULL,
    PRIMARY KEY (client_id, topic_type, topic_id)
);
CREATE INDEX state_messages_received ON state_messages (client_id, received);

CREATE TABLE status_messages (
    id         INTEGER NOT NULL PRIMARY KEY,
    client_id  TEXT NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    type       TEXT NOT NULL,
    properties TEXT NOT NULL,                  -- JSON object of text
    received   INTEGER NOT NULL
);
CREATE INDEX status_messages_client ON status_messages (client_id, id);

CREATE TABLE policies (
    id       TEXT NOT NULL PRIMARY KEY,
    version  TEXT NOT NULL,
    type     TEXT NOT NULL,
    category TEXT NOT NULL,
    flags    INTEGER NOT NULL,
    hash     TEXT NOT NULL,
    body     BLOB NOT NULL
);

-- An assignment with an empty client_id is for all clients. Removed ones stay,
-- so that delta replies can take them away.
CREATE TABLE policy_assignments (
    id        TEXT NOT NULL PRIMARY KEY,       -- {GUID}
    policy_id TEXT NOT NULL,
    client_id TEXT NOT NULL,
    removed   INTEGER NOT NULL,
    changed   INTEGER NOT NULL,                -- grows with every change
    UNIQUE (policy_id, client_id)
);
CREATE INDEX policy_assignments_client ON policy_assignments (client_id, changed);

CREATE TABLE tokens (
    id         TEXT NOT NULL PRIMARY KEY,
    kind       TEXT NOT NULL,
    client_id  TEXT NOT NULL,
    thumbprint TEXT NOT NULL,
    issued     INTEGER NOT NULL,
    expires    INTEGER NOT NULL,
    blocked    INTEGER NOT NULL
);
CREATE INDEX tokens_expires ON tokens (expires);
CREATE INDEX tokens_client ON tokens (client_id);

CREATE TABLE notifications (
    push_id     INTEGER NOT NULL PRIMARY KEY,
    client_id   TEXT NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    task_guid   TEXT NOT NULL,
    task_type   INTEGER NOT NULL,
    param       TEXT NOT NULL,
    created     INTEGER NOT NULL,
    delivered   INTEGER NOT NULL,              -- 0: not yet
    answered    INTEGER NOT NULL,              -- 0: not yet
    return_code INTEGER NOT NULL
);
CREATE INDEX notifications_waiting ON notifications (client_id, answered);
