-- What names that live long need: where records lead, who keeps them alive, and
-- how long the roots before stay.

-- +goose Up
ALTER TABLE records ADD COLUMN target TEXT; -- the name that the value leads to; NULL until it was read out of older rows
ALTER TABLE records ADD COLUMN recovery TEXT NOT NULL DEFAULT ''; -- the commitment, in hex; it holds like the sequence
ALTER TABLE records ADD COLUMN used INTEGER NOT NULL DEFAULT 0; -- when it was last accepted or asked for
CREATE INDEX records_target ON records (target);
CREATE INDEX records_used ON records (used);

-- Names whose records are kept alive here beside those of sites and pins.
CREATE TABLE follows (
    name  TEXT PRIMARY KEY,
    added INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The last time that each record was put to each place, and how that went.
CREATE TABLE puts (
    name     TEXT NOT NULL,
    sink     TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    done_at  INTEGER NOT NULL, -- when one last succeeded
    error    TEXT NOT NULL,
    PRIMARY KEY (name, sink)
) STRICT, WITHOUT ROWID;

ALTER TABLE holdings ADD COLUMN record_sequence INTEGER NOT NULL DEFAULT 0; -- of the record that we saw there
ALTER TABLE holdings ADD COLUMN record_at INTEGER NOT NULL DEFAULT 0;       -- when we saw it
ALTER TABLE holdings ADD COLUMN put_at INTEGER NOT NULL DEFAULT 0;          -- when the host says it last put it

ALTER TABLE pins ADD COLUMN switched INTEGER NOT NULL DEFAULT 0; -- when a name pin's root last changed
