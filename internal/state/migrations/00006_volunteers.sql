-- Copies that are kept of one's own accord, and copies at pinning services of others.

-- +goose Up
ALTER TABLE follows ADD COLUMN keep INTEGER NOT NULL DEFAULT 0;  -- roots whose content is kept too, newest first; 0: the record only
ALTER TABLE follows ADD COLUMN quota INTEGER NOT NULL DEFAULT 0; -- unique bytes; 0: the node's limit for a pin

-- Pinning services that are no hosts: they have no peer id, prove nothing and keep no name alive.
CREATE TABLE services (
    url      TEXT PRIMARY KEY,
    name     TEXT NOT NULL,
    token    TEXT NOT NULL,
    labels   TEXT NOT NULL,    -- JSON
    gateways TEXT NOT NULL,    -- JSON
    leaving  INTEGER NOT NULL, -- its copies are to go, then itself
    added_at INTEGER NOT NULL,
    seen_at  INTEGER NOT NULL  -- when it last answered
) STRICT, WITHOUT ROWID;

-- Our pins there.
CREATE TABLE service_pins (
    service    TEXT NOT NULL,
    site       TEXT NOT NULL,
    root       TEXT NOT NULL,
    request    TEXT NOT NULL,    -- its id there; '' until the service has answered
    status     TEXT NOT NULL,    -- what the service says
    error      TEXT NOT NULL,    -- what went wrong last
    asked_at   INTEGER NOT NULL, -- when the service last said status
    attempts   INTEGER NOT NULL, -- failures in a row
    due        INTEGER NOT NULL, -- after a failure: not before
    sampled_at INTEGER NOT NULL,
    sampled    TEXT NOT NULL,    -- what the last random leaves showed: a verdict
    detail     TEXT NOT NULL,    -- of that
    PRIMARY KEY (service, site, root)
) STRICT, WITHOUT ROWID;
