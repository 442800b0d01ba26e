-- Times are microseconds since 1970 in UTC, 0 for none.

-- Users and groups of directories, as discovery found them.
CREATE TABLE directory_objects (
    tenant_id   TEXT NOT NULL,
    kind        TEXT NOT NULL,                 -- user or group
    id          TEXT NOT NULL,
    name        TEXT NOT NULL,
    name_key    TEXT NOT NULL,                 -- the name in capitals
    search_text TEXT NOT NULL,                 -- what a search looks at, in capitals, one per line
    pass        INTEGER NOT NULL,              -- the last full discovery that saw it
    changed     INTEGER NOT NULL,
    body        TEXT NOT NULL,                 -- JSON
    PRIMARY KEY (tenant_id, kind, id)
);
CREATE INDEX directory_objects_name ON directory_objects (kind, name_key, id, tenant_id, search_text);

CREATE TABLE directory_members (
    tenant_id TEXT NOT NULL,
    group_id  TEXT NOT NULL,
    member_id TEXT NOT NULL,
    type      TEXT NOT NULL,                   -- user, group, device ...
    PRIMARY KEY (tenant_id, group_id, member_id)
);
CREATE INDEX directory_members_member ON directory_members (tenant_id, member_id);
