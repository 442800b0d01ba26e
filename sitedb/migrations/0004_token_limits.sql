-- Times are microseconds since 1970 in UTC, 0 for none.

-- What a bulk registration token is for, and how often clients registered with
-- it.
ALTER TABLE tokens ADD COLUMN max_uses INTEGER NOT NULL DEFAULT 0;     -- 0: any number
ALTER TABLE tokens ADD COLUMN sources TEXT NOT NULL DEFAULT '';        -- CIDR prefixes with spaces between; empty: from everywhere
ALTER TABLE tokens ADD COLUMN group_name TEXT NOT NULL DEFAULT '';
ALTER TABLE tokens ADD COLUMN description TEXT NOT NULL DEFAULT '';
ALTER TABLE tokens ADD COLUMN used INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tokens ADD COLUMN last_used INTEGER NOT NULL DEFAULT 0;

-- The keys that registered with a token: each counts once.
CREATE TABLE token_uses (
    token_id    TEXT NOT NULL REFERENCES tokens (id) ON DELETE CASCADE,
    signing_key TEXT NOT NULL,                 -- SHA-256 of the public key
    at          INTEGER NOT NULL,
    PRIMARY KEY (token_id, signing_key)
);

-- The group of the token that a client registered with last.
ALTER TABLE clients ADD COLUMN group_name TEXT NOT NULL DEFAULT '';
CREATE INDEX clients_group ON clients (group_name, netbios_name, id, search_text, auth, approval);
