-- How hosts keep sites alive among themselves: what each saw of the others, and what it did.

-- +goose Up
ALTER TABLE pins ADD COLUMN active INTEGER NOT NULL DEFAULT 0; -- of a standby: since when it is its turn
ALTER TABLE pins ADD COLUMN holds INTEGER NOT NULL DEFAULT 0;  -- since when it holds the site, in this turn

-- What was seen of each other host, over all sites.
CREATE TABLE presences (
    host     TEXT PRIMARY KEY,
    presence TEXT NOT NULL, -- JSON
    calls    TEXT NOT NULL  -- JSON
) STRICT, WITHOUT ROWID;

-- What was seen of each member of a site's roster.
CREATE TABLE sights (
    site   TEXT NOT NULL,
    host   TEXT NOT NULL,
    asked  INTEGER NOT NULL,
    held   INTEGER NOT NULL,
    absent INTEGER NOT NULL,
    since  INTEGER NOT NULL,
    ask    INTEGER NOT NULL, -- when it is to prove itself next
    gone   INTEGER NOT NULL, -- since when it is presumed gone
    trial  TEXT NOT NULL,    -- JSON
    PRIMARY KEY (site, host)
) STRICT, WITHOUT ROWID;

-- What a host remembers of its own place in a site's roster.
CREATE TABLE watches (
    site    TEXT PRIMARY KEY,
    short   INTEGER NOT NULL, -- since when there were fewer holders than wanted
    jitter  INTEGER NOT NULL, -- microseconds
    failing INTEGER NOT NULL  -- the failure of a take-over that was told last
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    id     INTEGER PRIMARY KEY,
    site   TEXT NOT NULL,
    host   TEXT NOT NULL,
    at     INTEGER NOT NULL,
    kind   TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT;
CREATE INDEX events_by_site ON events (site, at);
CREATE INDEX events_by_kind ON events (kind, at);
