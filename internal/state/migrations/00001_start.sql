-- Times are microseconds since 1970 UTC, 0 for none. CIDs, names and peer ids are text in their one
-- spelling, '' for none.

-- +goose Up
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE records (
    name     TEXT PRIMARY KEY,
    sequence INTEGER NOT NULL,
    bytes    BLOB NOT NULL
) STRICT;

CREATE TABLE sites (
    name         TEXT PRIMARY KEY,
    alias        TEXT NOT NULL UNIQUE,
    root         TEXT NOT NULL,
    release      TEXT NOT NULL,
    policy       TEXT NOT NULL,
    number       INTEGER NOT NULL,
    sequence     INTEGER NOT NULL,
    files        INTEGER NOT NULL,
    bytes        INTEGER NOT NULL,
    copies       INTEGER NOT NULL,
    published_at INTEGER NOT NULL,
    valid_until  INTEGER NOT NULL,
    live         INTEGER NOT NULL,
    live_at      INTEGER NOT NULL,
    dir          TEXT NOT NULL
) STRICT;

CREATE TABLE releases (
    site     TEXT NOT NULL,
    cid      TEXT NOT NULL,
    number   INTEGER NOT NULL,
    root     TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    time     INTEGER NOT NULL,
    message  TEXT NOT NULL,
    files    INTEGER NOT NULL,
    bytes    INTEGER NOT NULL,
    PRIMARY KEY (site, cid)
) STRICT;

CREATE TABLE hosts (
    id            TEXT PRIMARY KEY,
    name          TEXT NOT NULL,
    url           TEXT NOT NULL,
    token         TEXT NOT NULL,
    addrs         TEXT NOT NULL,
    labels        TEXT NOT NULL,
    gateways      TEXT NOT NULL,
    free_bytes    INTEGER NOT NULL,
    max_pin_bytes INTEGER NOT NULL,
    added_at      INTEGER NOT NULL,
    seen_at       INTEGER NOT NULL
) STRICT;

CREATE TABLE holdings (
    site        TEXT NOT NULL,
    host        TEXT NOT NULL,
    root        TEXT NOT NULL,
    name_pin    TEXT NOT NULL,
    temp_pin    TEXT NOT NULL,
    state       TEXT NOT NULL,
    error       TEXT NOT NULL,
    verified_at INTEGER NOT NULL,
    PRIMARY KEY (site, host)
) STRICT;

CREATE TABLE evidence (
    id      INTEGER PRIMARY KEY,
    kind    TEXT NOT NULL,
    site    TEXT NOT NULL,
    host    TEXT NOT NULL,
    root    TEXT NOT NULL,
    at      INTEGER NOT NULL,
    ok      INTEGER NOT NULL,
    verdict TEXT NOT NULL,
    detail  TEXT NOT NULL,
    signed  BLOB NOT NULL
) STRICT;
CREATE INDEX evidence_by_site ON evidence (site, host, at);

CREATE TABLE tokens (
    id      TEXT PRIMARY KEY,
    label   TEXT NOT NULL,
    hash    BLOB NOT NULL UNIQUE,
    created INTEGER NOT NULL
) STRICT;

CREATE TABLE pins (
    id           TEXT PRIMARY KEY,
    tenant       TEXT NOT NULL,
    cid          TEXT NOT NULL, -- as it was given
    hash         TEXT NOT NULL, -- the same as CIDv1, by which it is found
    name         TEXT NOT NULL,
    name_folded  TEXT NOT NULL,
    origins      TEXT NOT NULL, -- JSON
    created      INTEGER NOT NULL,
    replaces     TEXT NOT NULL,
    follow       TEXT NOT NULL, -- the name of a name pin
    auditor      TEXT NOT NULL, -- a peer id
    status       TEXT NOT NULL,
    done_blocks  INTEGER NOT NULL,
    done_bytes   INTEGER NOT NULL,
    attempts     INTEGER NOT NULL,
    failing      INTEGER NOT NULL,
    last_error   TEXT NOT NULL,
    due          INTEGER NOT NULL,
    root         TEXT NOT NULL,
    sequence     INTEGER NOT NULL,
    kept         TEXT NOT NULL, -- CIDs, comma-separated
    release      TEXT NOT NULL,
    policy       TEXT NOT NULL,
    fetching     TEXT NOT NULL,
    dropping     TEXT NOT NULL, -- CIDs, comma-separated
    refused      TEXT NOT NULL,
    removed      INTEGER NOT NULL,
    leased_by    TEXT NOT NULL,
    leased_until INTEGER NOT NULL,
    UNIQUE (tenant, created)
) STRICT;
CREATE INDEX pins_due ON pins (due) WHERE due <> 0;
CREATE INDEX pins_follow ON pins (follow) WHERE follow <> '';
CREATE INDEX pins_auditor ON pins (auditor) WHERE auditor <> '';
CREATE INDEX pins_hash ON pins (hash);

CREATE TABLE pin_meta (
    pin   TEXT NOT NULL REFERENCES pins (id) ON DELETE CASCADE,
    key   TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (pin, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX pin_meta_by_value ON pin_meta (key, value);
