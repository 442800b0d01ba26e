-- Bulk registration tokens are few among the tokens of clients.
CREATE INDEX tokens_bulk ON tokens (issued, id) WHERE kind = 'bulk-token';
