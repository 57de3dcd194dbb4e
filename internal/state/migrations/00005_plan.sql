-- What an author wants of each site, what was seen of each host, and which plans were shown.

-- +goose Up
ALTER TABLE sites ADD COLUMN wants TEXT NOT NULL DEFAULT '{}';       -- JSON
ALTER TABLE sites ADD COLUMN dag_bytes INTEGER NOT NULL DEFAULT 0;   -- unique bytes of the root's blocks; 0: not known

ALTER TABLE hosts ADD COLUMN quota_bytes INTEGER NOT NULL DEFAULT 0; -- what our token is good for in all; 0: not known
ALTER TABLE hosts ADD COLUMN until INTEGER NOT NULL DEFAULT 0;       -- when token or terms end, whichever is first
ALTER TABLE hosts ADD COLUMN draining INTEGER NOT NULL DEFAULT 0;    -- it says that it wants to be empty
ALTER TABLE hosts ADD COLUMN leaving INTEGER NOT NULL DEFAULT 0;     -- we want to leave it
ALTER TABLE hosts ADD COLUMN software TEXT NOT NULL DEFAULT '';
ALTER TABLE hosts ADD COLUMN presence TEXT NOT NULL DEFAULT '{}';    -- JSON
ALTER TABLE hosts ADD COLUMN trial TEXT NOT NULL DEFAULT '{}';       -- JSON

ALTER TABLE holdings ADD COLUMN standby_pin TEXT NOT NULL DEFAULT '';
ALTER TABLE holdings ADD COLUMN standby_bytes INTEGER NOT NULL DEFAULT 0; -- that it reserves
ALTER TABLE holdings ADD COLUMN standby_holds INTEGER NOT NULL DEFAULT 0; -- since when it says that it holds the site

-- Plans that were shown, by the digest with which they can be carried out.
CREATE TABLE plans (
    digest TEXT PRIMARY KEY,
    at     INTEGER NOT NULL,
    plan   TEXT NOT NULL -- JSON
) STRICT;

-- Bytes that were moved between hosts beyond what a release needs, for budgets.
CREATE TABLE moves (
    site  TEXT NOT NULL,
    at    INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) STRICT;
CREATE INDEX moves_by_site ON moves (site, at);

-- The last that each host reported of each site: hearsay, for people.
CREATE TABLE reports (
    site   TEXT NOT NULL,
    host   TEXT NOT NULL,
    at     INTEGER NOT NULL,
    report TEXT NOT NULL, -- JSON
    PRIMARY KEY (site, host)
) STRICT;

-- The policies that our sites' records name, so that status needs no block store.
CREATE TABLE policies (
    cid   TEXT PRIMARY KEY,
    at    INTEGER NOT NULL,
    block BLOB NOT NULL
) STRICT;
