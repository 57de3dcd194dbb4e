-- Tokens that are good for so much only, and the books of what their tenants take.

-- +goose Up
ALTER TABLE tokens ADD COLUMN sites TEXT NOT NULL DEFAULT '';       -- names, comma-separated; '': any
ALTER TABLE tokens ADD COLUMN max_pin INTEGER NOT NULL DEFAULT 0;   -- bytes of one pin; 0: no limit of its own
ALTER TABLE tokens ADD COLUMN rate INTEGER NOT NULL DEFAULT 0;      -- requests a minute; 0: no limit
ALTER TABLE tokens ADD COLUMN expires INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tokens ADD COLUMN peer TEXT NOT NULL DEFAULT '';        -- the host that gives us room in return
ALTER TABLE tokens ADD COLUMN used INTEGER NOT NULL DEFAULT 0;      -- when it was last accepted, to the minute

-- A tenant outlives its token for as long as it has pins. The one with the empty id is the host: all tenants.
CREATE TABLE tenants (
    id      TEXT PRIMARY KEY,
    label   TEXT NOT NULL,
    quota   INTEGER NOT NULL DEFAULT 0, -- unique bytes over all pins, reserved ones too; 0: no limit
    used    INTEGER NOT NULL DEFAULT 0, -- never less than what its pins keep, each block once
    exact   INTEGER NOT NULL DEFAULT 0, -- used is just that
    version INTEGER NOT NULL DEFAULT 0  -- grows with every change of what its pins keep
) STRICT, WITHOUT ROWID;
INSERT INTO tenants (id, label) VALUES ('', '');
INSERT INTO tenants (id, label) SELECT id, label FROM tokens;
INSERT OR IGNORE INTO tenants (id, label) SELECT DISTINCT tenant, '' FROM pins;

ALTER TABLE pins ADD COLUMN max_bytes INTEGER NOT NULL DEFAULT 0;     -- what its token allows for one pin; 0: the host's limit
ALTER TABLE pins ADD COLUMN reserved INTEGER NOT NULL DEFAULT 0;      -- bytes promised beyond held
ALTER TABLE pins ADD COLUMN stored INTEGER NOT NULL DEFAULT 0;        -- of them on the disk already
ALTER TABLE pins ADD COLUMN held INTEGER NOT NULL DEFAULT -1;         -- bytes that it keeps, as booked; -1: not booked yet
ALTER TABLE pins ADD COLUMN refused_need INTEGER NOT NULL DEFAULT 0;  -- bytes that a root would need that the quota refused; 0: it didn't
ALTER TABLE pins ADD COLUMN sources TEXT NOT NULL DEFAULT '';         -- of the last fetch, for people

-- Bytes that came for pins and that went to peers and readers, by UTC day.
CREATE TABLE traffic (
    day     INTEGER PRIMARY KEY, -- days since 1970
    ingress INTEGER NOT NULL,
    egress  INTEGER NOT NULL
) STRICT;
