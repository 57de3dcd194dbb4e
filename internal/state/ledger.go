package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/holdfast-sites/holdfast/replicate"
)

// The books: tenants has what each one's pins keep, pins what each has reserved. Sums over pins leave out the
// removed ones, whose reservations have ended.

const accountColumns = `id, label, quota, used, exact, version,
	(SELECT coalesce(sum(reserved), 0) FROM pins WHERE removed = 0 AND (tenant = tenants.id OR tenants.id = '')),
	(SELECT coalesce(sum(min(stored, reserved)), 0) FROM pins WHERE removed = 0 AND (tenant = tenants.id OR tenants.id = '')),
	(SELECT count(*) FROM pins WHERE removed = 0 AND (tenant = tenants.id OR tenants.id = ''))`

func scanAccount(r scanner) (a replicate.Account, err error) {
	return a, r.Scan(&a.Tenant, &a.Label, &a.Quota, &a.Used, &a.Exact, &a.Version, &a.Reserved, &a.Stored, &a.Pins)
}

// Account implements replicate.Ledger.
func (db *DB) Account(ctx context.Context, tenant string) (replicate.Account, error) {
	a, err := scanAccount(db.sql.QueryRowContext(ctx, `SELECT `+accountColumns+` FROM tenants WHERE id = ?`, tenant))
	if errors.Is(err, sql.ErrNoRows) {
		return replicate.Account{Tenant: tenant, Exact: true}, nil
	}
	return a, db.fail("account", err)
}

// Accounts implements replicate.Ledger.
func (db *DB) Accounts(ctx context.Context) ([]replicate.Account, error) {
	return all(ctx, db, "accounts", scanAccount, `SELECT `+accountColumns+` FROM tenants WHERE id <> ''
		AND (EXISTS (SELECT 1 FROM tokens WHERE tokens.id = tenants.id) OR EXISTS (SELECT 1 FROM pins WHERE tenant = tenants.id AND removed = 0))
		ORDER BY coalesce((SELECT created FROM tokens WHERE tokens.id = tenants.id), 0), id`)
}

// claimant is a pin among those who share its tenant's quota and the host's room.
type claimant struct {
	tenant, replaces       string
	reserved, stored, held int64

	quota, used, version int64 // of the tenant
	exact                bool
	hostVersion          int64
	replaced             int64 // held by the pin that this one replaces
	// Reserved by the others, without the one that this replaces:
	tenants, waiting int64 // the tenant's; of them by pins that are not pinned yet
	hosts, unstored  int64 // everybody's; of them not on the disk yet
}

// readClaimant is a row that by has claimed; by is empty for one that was just made.
func (db *DB) readClaimant(ctx context.Context, tx *sql.Tx, id, by string) (c claimant, err error) {
	err = tx.QueryRowContext(ctx, `SELECT p.tenant, p.replaces, p.reserved, p.stored, max(p.held, 0), t.quota, t.used, t.exact, t.version,
			(SELECT version FROM tenants WHERE id = ''),
			coalesce((SELECT max(held, 0) FROM pins r WHERE r.id = p.replaces AND r.tenant = p.tenant AND r.removed = 0), 0)
		FROM pins p JOIN tenants t ON t.id = p.tenant WHERE p.id = ? AND p.leased_by = ? AND p.removed = 0`, id, by).
		Scan(&c.tenant, &c.replaces, &c.reserved, &c.stored, &c.held, &c.quota, &c.used, &c.exact, &c.version, &c.hostVersion, &c.replaced)
	if errors.Is(err, sql.ErrNoRows) {
		return c, fmt.Errorf("reserve: %s: %w", id, replicate.ErrLeased)
	}
	if err != nil {
		return c, db.fail("reserve", err)
	}
	err = tx.QueryRowContext(ctx, `SELECT
			coalesce(sum(CASE WHEN tenant = ? THEN reserved ELSE 0 END), 0),
			coalesce(sum(CASE WHEN tenant = ? AND status IN ('queued', 'pinning') THEN reserved ELSE 0 END), 0),
			coalesce(sum(reserved), 0), coalesce(sum(max(reserved - stored, 0)), 0)
		FROM pins WHERE reserved > 0 AND removed = 0 AND id <> ? AND NOT (id = ? AND tenant = ?)`,
		c.tenant, c.tenant, id, c.replaces, c.tenant).Scan(&c.tenants, &c.waiting, &c.hosts, &c.unstored)
	return c, db.fail("reserve", err)
}

// fit is how much of want the pin may have reserved for it in all, at least least: beyond that no more than half of
// what is left, since others may come. QuotaError.
func (c claimant) fit(least, want, stored int64, room replicate.Room) (int64, error) {
	limit := func(of string, limit, used, reserved, left, waiting int64, exact bool) error {
		if left < least {
			return &replicate.QuotaError{Of: of, Limit: limit, Used: used, Reserved: reserved, Need: least, Exact: exact, Waits: left+waiting >= least}
		}
		want = min(want, least+(left-least)/2)
		return nil
	}
	if c.quota > 0 {
		used := max(c.used-c.replaced, 0)
		if err := limit("the token's quota", c.quota, used, c.tenants, c.quota-used-c.tenants, c.waiting, c.exact); err != nil {
			return 0, err
		}
	}
	if room.Capacity > 0 {
		if err := limit("this host", room.Capacity, room.Used, c.hosts, room.Capacity-room.Used-c.hosts, 0, true); err != nil {
			return 0, err
		}
	}
	if room.Free != 0 {
		free := max(room.Free, 0)
		if err := limit("what is free on this host's disk", free, 0, c.unstored, free-c.unstored+stored, 0, true); err != nil {
			return 0, err
		}
	}
	return want, nil
}

// Reserve implements replicate.Ledger.
func (db *DB) Reserve(ctx context.Context, id, by string, cl replicate.Claim, room replicate.Room) (slack int64, err error) {
	err = db.tx(ctx, "reserve", func(tx *sql.Tx) error {
		c, err := db.readClaimant(ctx, tx, id, by)
		if err != nil {
			return err
		}
		if room.Version != c.hostVersion && room.Capacity > 0 {
			return replicate.ErrStale
		}
		if cl.Fresh {
			c.stored = 0
		}
		c.stored += cl.Since
		if cl.Declared { // quota and capacity were reserved when the pin came
			c.quota, room.Capacity = 0, 0
		}
		grant, err := c.fit(c.stored+cl.Need, c.stored+max(cl.Want, cl.Need), c.stored, room)
		if err != nil {
			return err
		}
		slack = grant - c.stored
		if cl.Declared {
			grant = c.reserved
		}
		_, err = tx.ExecContext(ctx, `UPDATE pins SET reserved = ?, stored = ? WHERE id = ?`, grant, c.stored, id)
		return db.fail("reserve", err)
	})
	return slack, err
}

// reserveNew reserves what a row that is being added declares.
func (db *DB) reserveNew(ctx context.Context, tx *sql.Tx, row replicate.PinRow, room replicate.Room) error {
	if row.Reserved <= 0 {
		return nil
	}
	c, err := db.readClaimant(ctx, tx, row.ID, "")
	if err != nil {
		return err
	}
	if room.Version != c.hostVersion && room.Capacity > 0 {
		return replicate.ErrStale
	}
	if _, err := c.fit(row.Reserved, row.Reserved, 0, room); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `UPDATE pins SET reserved = ? WHERE id = ?`, row.Reserved, row.ID)
	return db.fail("reserve", err)
}

// Settle implements replicate.Ledger.
func (db *DB) Settle(ctx context.Context, id, by string, st replicate.Settlement, room replicate.Room) error {
	return db.tx(ctx, "settle", func(tx *sql.Tx) error {
		c, err := db.readClaimant(ctx, tx, id, by)
		if err != nil {
			return err
		}
		grown := max(st.Held-c.held, 0)
		used, after, exact := c.used+grown, c.used+grown, c.exact && st.Held == c.held
		if m := st.Measured; m != nil {
			if m.Version != c.version {
				return replicate.ErrStale
			}
			used, after, exact = m.Used, m.After, true
		}
		if st.Check && grown > 0 {
			if room.Version != c.hostVersion && room.Capacity > 0 {
				return replicate.ErrStale
			}
			if err := c.settled(after, st, room); err != nil {
				return err
			}
		}
		if _, err := tx.ExecContext(ctx, `UPDATE pins SET held = ?, reserved = ?, stored = 0 WHERE id = ?`, st.Held, st.Reserved, id); err != nil {
			return db.fail("settle", err)
		}
		if _, err := tx.ExecContext(ctx, `UPDATE tenants SET used = ?, exact = ? WHERE id = ?`, used, exact, c.tenant); err != nil {
			return db.fail("settle", err)
		}
		_, err = tx.ExecContext(ctx, `UPDATE tenants SET version = version + 1 WHERE id IN (?, '')`, c.tenant)
		return db.fail("settle", err)
	})
}

// settled refuses what a pin has come to keep where that is too much. used is what the tenant keeps with it; the
// host's room has it in already.
func (c claimant) settled(used int64, st replicate.Settlement, room replicate.Room) error {
	grown := max(st.Held-c.held, 0)
	need := grown + st.Reserved
	if c.quota > 0 && used+c.tenants+st.Reserved > c.quota {
		return &replicate.QuotaError{Of: "the token's quota", Limit: c.quota, Used: used - grown, Reserved: c.tenants, Need: need, Exact: st.Measured != nil,
			Waits: used+c.tenants-c.waiting+st.Reserved <= c.quota}
	}
	if room.Capacity > 0 && room.Used+c.hosts+st.Reserved > room.Capacity {
		return &replicate.QuotaError{Of: "this host", Limit: room.Capacity, Used: room.Used - grown, Reserved: c.hosts, Need: need, Exact: true}
	}
	return nil
}

// Measure implements replicate.Ledger.
func (db *DB) Measure(ctx context.Context, tenant string, m replicate.Measured) error {
	res, err := db.sql.ExecContext(ctx, `UPDATE tenants SET used = ?, exact = 1 WHERE id = ? AND version = ?`, m.Used, tenant, m.Version)
	if err != nil {
		return db.fail("measure", err)
	}
	if n, _ := res.RowsAffected(); n == 0 {
		return replicate.ErrStale
	}
	return nil
}

func scanID(r scanner) (id string, err error) { return id, r.Scan(&id) }

// PinIDs implements replicate.Ledger.
func (db *DB) PinIDs(ctx context.Context, tenant string) ([]string, error) {
	return all(ctx, db, "pins", scanID, `SELECT id FROM pins WHERE tenant = ?`, tenant)
}

// Unbooked implements replicate.Ledger.
func (db *DB) Unbooked(ctx context.Context) ([]string, error) {
	return all(ctx, db, "pins", scanID, `SELECT id FROM pins WHERE held < 0 AND removed = 0`)
}
