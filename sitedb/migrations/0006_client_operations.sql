-- Times are microseconds since 1970 in UTC, 0 for none.

ALTER TABLE clients ADD COLUMN last_policy INTEGER NOT NULL DEFAULT 0;     -- its last policy request, to the minute
ALTER TABLE clients ADD COLUMN blocked INTEGER NOT NULL DEFAULT 0;         -- when an administrator blocked it
ALTER TABLE clients ADD COLUMN blocked_by TEXT NOT NULL DEFAULT '';
ALTER TABLE clients ADD COLUMN block_reason TEXT NOT NULL DEFAULT '';
ALTER TABLE clients ADD COLUMN approval_before INTEGER NOT NULL DEFAULT 0; -- it had when it was blocked

-- The orders of a list beside the name, with all that a search looks at.
CREATE INDEX clients_last_seen ON clients (last_seen, id, search_text, auth, approval, group_name);
CREATE INDEX clients_registered ON clients (registered, id, search_text, auth, approval, group_name);
-- By what a blocked device is known again.
CREATE INDEX clients_device ON clients (device_id);
CREATE INDEX clients_subject ON clients (subject);

-- 1: blocked together with its client, and accepted again together with it.
ALTER TABLE tokens ADD COLUMN blocked_with_client INTEGER NOT NULL DEFAULT 0;
CREATE INDEX tokens_issued ON tokens (issued, id);
CREATE INDEX tokens_blocked ON tokens (expires) WHERE blocked = 1;

-- What an administrator asked many clients to do; each of them has a
-- notification.
CREATE TABLE client_operations (
    id           INTEGER NOT NULL PRIMARY KEY,
    task_type    INTEGER NOT NULL,
    param        TEXT NOT NULL,
    target       TEXT NOT NULL,                -- in words: which clients were asked
    account      TEXT NOT NULL,
    created      INTEGER NOT NULL,
    clients      INTEGER NOT NULL,             -- how many were asked
    cancelled    INTEGER NOT NULL,             -- 0: not cancelled
    cancelled_by TEXT NOT NULL
);
CREATE INDEX client_operations_created ON client_operations (created, id);

ALTER TABLE notifications ADD COLUMN operation_id INTEGER NOT NULL DEFAULT 0; -- 0: of none
ALTER TABLE notifications ADD COLUMN cancelled INTEGER NOT NULL DEFAULT 0;    -- 1: is sent no more
CREATE INDEX notifications_operation ON notifications (operation_id, answered, delivered, return_code, cancelled);
CREATE INDEX notifications_created ON notifications (created, answered, cancelled, client_id);
