-- Times are microseconds since 1970 in UTC, 0 for none.

-- Counts by time. Every request is counted in one row of each width: minutes,
-- five minutes, hours and days, each kept for its own time, so that a question
-- about any span reads few rows. width is in microseconds, and a row counts
-- what began in [start, start + width). For the same reason there are totals:
-- part says by how many of the keys a row is told apart, and the others are
-- empty. Rows lie in the order of the key, for every question is about a part,
-- a width and a span of time.

CREATE TABLE counted_traffic (
    part             INTEGER NOT NULL,         -- 0: the gateway, 1: by endpoint, 2: by instance and connection point too, 3: all gateways by endpoint
    width            INTEGER NOT NULL,
    start            INTEGER NOT NULL,
    gateway_id       TEXT NOT NULL,
    endpoint         TEXT NOT NULL,
    instance         TEXT NOT NULL,
    connection_point TEXT NOT NULL,
    requests         INTEGER NOT NULL,
    failed           INTEGER NOT NULL,
    request_bytes    INTEGER NOT NULL,
    response_bytes   INTEGER NOT NULL,
    PRIMARY KEY (part, width, start, gateway_id, endpoint, instance, connection_point)
) WITHOUT ROWID;
INSERT INTO counted_traffic (part, width, start, gateway_id, endpoint, instance, connection_point, requests, failed, request_bytes, response_bytes)
SELECT s.part, s.width, t.start - t.start % s.width,
    CASE WHEN s.part <= 2 THEN t.gateway_id ELSE '' END,
    CASE WHEN s.part >= 1 THEN t.endpoint ELSE '' END,
    CASE WHEN s.part = 2 THEN t.instance ELSE '' END,
    CASE WHEN s.part = 2 THEN t.connection_point ELSE '' END,
    SUM(t.requests), SUM(t.failed), SUM(t.request_bytes), SUM(t.response_bytes)
FROM traffic t JOIN (
    SELECT 0 AS part, 300000000 AS width UNION ALL SELECT 0, 3600000000 UNION ALL SELECT 0, 86400000000
    UNION ALL SELECT 1, 300000000 UNION ALL SELECT 1, 3600000000 UNION ALL SELECT 1, 86400000000
    UNION ALL SELECT 2, 3600000000 UNION ALL SELECT 2, 86400000000
    UNION ALL SELECT 3, 300000000 UNION ALL SELECT 3, 3600000000 UNION ALL SELECT 3, 86400000000
) s ON t.width <= s.width
GROUP BY 1, 2, 3, 4, 5, 6, 7;
DROP TABLE traffic;
ALTER TABLE counted_traffic RENAME TO traffic;

CREATE TABLE refusals (
    part       INTEGER NOT NULL,               -- 0: by cause, 1: by instance too, 2: all gateways by cause
    width      INTEGER NOT NULL,
    start      INTEGER NOT NULL,
    gateway_id TEXT NOT NULL,
    cause      TEXT NOT NULL,
    instance   TEXT NOT NULL,
    requests   INTEGER NOT NULL,
    PRIMARY KEY (part, width, start, gateway_id, cause, instance)
) WITHOUT ROWID;

-- Answers by how long they took: upto_0 within a millisecond, each column after
-- it within twice the time of the one before, and the last all that took longer.
CREATE TABLE latencies (
    part       INTEGER NOT NULL,               -- 0: the gateway, 1: by endpoint
    width      INTEGER NOT NULL,
    start      INTEGER NOT NULL,
    gateway_id TEXT NOT NULL,
    endpoint   TEXT NOT NULL,
    upto_0     INTEGER NOT NULL,
    upto_1     INTEGER NOT NULL,
    upto_2     INTEGER NOT NULL,
    upto_3     INTEGER NOT NULL,
    upto_4     INTEGER NOT NULL,
    upto_5     INTEGER NOT NULL,
    upto_6     INTEGER NOT NULL,
    upto_7     INTEGER NOT NULL,
    upto_8     INTEGER NOT NULL,
    upto_9     INTEGER NOT NULL,
    upto_10    INTEGER NOT NULL,
    upto_11    INTEGER NOT NULL,
    upto_12    INTEGER NOT NULL,
    upto_13    INTEGER NOT NULL,
    upto_14    INTEGER NOT NULL,
    upto_15    INTEGER NOT NULL,
    upto_16    INTEGER NOT NULL,
    upto_17    INTEGER NOT NULL,
    PRIMARY KEY (part, width, start, gateway_id, endpoint)
) WITHOUT ROWID;

-- Gauges: how much of something there was at a time. The rows of width 0 are the
-- samples as they were taken, kept for some hours; the others are the last of
-- each interval of a width, which begins at that time.
CREATE TABLE gauges (
    name    TEXT NOT NULL,
    width   INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    subject TEXT NOT NULL,
    value   REAL NOT NULL,
    PRIMARY KEY (name, width, at, subject)
) WITHOUT ROWID;
INSERT INTO gauges (name, width, at, subject, value) SELECT name, 0, at, subject, value FROM samples;
INSERT INTO gauges (name, width, at, subject, value)
SELECT t.name, s.width, t.at - t.at % s.width, t.subject, t.value
FROM samples t JOIN (SELECT 300000000 AS width UNION ALL SELECT 3600000000 UNION ALL SELECT 86400000000) s
    ON NOT EXISTS (SELECT 1 FROM samples l WHERE l.name = t.name AND l.subject = t.subject AND l.at > t.at AND l.at < t.at - t.at % s.width + s.width);
DROP TABLE samples;
ALTER TABLE gauges RENAME TO samples;
