package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

const pinColumns = `id, tenant, cid, name, origins, created, replaces, status, done_blocks, done_bytes, attempts, failing,
	last_error, due, root, sequence, switched, kept, release, policy, fetching, dropping, refused, removed, active, holds, leased_by, leased_until,
	max_bytes, reserved, stored, max(held, 0), refused_need, sources,
	(SELECT json_group_object(key, value) FROM pin_meta WHERE pin = pins.id)`

func scanPin(r scanner) (p replicate.PinRow, err error) {
	err = r.Scan(&p.ID, &p.Tenant, cidCol{&p.Pin.CID}, &p.Pin.Name, jsonCol{&p.Pin.Origins}, timeCol{&p.Created}, &p.Replaces,
		&p.Status, &p.Done.Blocks, &p.Done.Bytes, &p.Attempts, timeCol{&p.Failing}, &p.LastError, timeCol{&p.Due},
		cidCol{&p.Root}, &p.Sequence, timeCol{&p.Switched}, cidsCol{&p.Kept}, cidCol{&p.Release}, cidCol{&p.Policy}, cidCol{&p.Fetching},
		cidsCol{&p.Dropping}, cidCol{&p.Refused}, &p.Removed, timeCol{&p.Active}, timeCol{&p.Holds}, &p.LeasedBy, timeCol{&p.LeasedUntil},
		&p.MaxBytes, &p.Reserved, &p.Stored, &p.Held, &p.RefusedNeed, &p.Sources, jsonCol{&p.Pin.Meta})
	if err == nil && !p.Pin.CID.Defined() {
		err = fmt.Errorf("%w: pin %s has no CID", ErrCorrupt, p.ID)
	}
	if len(p.Pin.Meta) == 0 {
		p.Pin.Meta = nil
	}
	return p, err
}

func noPin(id string) error { return fmt.Errorf("%s: %w", id, replicate.ErrNotFound) }

// hashText is a CID in the spelling by which pins are found, whatever version they were asked for in.
func hashText(c cid.Cid) string { return cid.NewCidV1(c.Prefix().Codec, c.Hash()).String() }

// AddPin implements replicate.PinStore.
func (db *DB) AddPin(ctx context.Context, row replicate.PinRow, room replicate.Room) (replicate.PinRow, error) {
	terms, err := row.Pin.Terms()
	if err != nil {
		return row, err
	}
	err = db.tx(ctx, "pin", func(tx *sql.Tx) error {
		if row.Replaces != "" {
			if found, err := exists(ctx, tx, `SELECT 1 FROM pins WHERE id = ? AND tenant = ? AND removed = 0`, row.Replaces, row.Tenant); err != nil {
				return db.fail("pin", err)
			} else if !found {
				return noPin(row.Replaces)
			}
		}
		created := row.Created.UnixMicro()
		for {
			taken, err := exists(ctx, tx, `SELECT 1 FROM pins WHERE tenant = ? AND created = ?`, row.Tenant, created)
			if err != nil {
				return db.fail("pin", err)
			}
			if !taken {
				break
			}
			created += time.Millisecond.Microseconds()
		}
		row.Created = fromMicros(created)
		if _, err := tx.ExecContext(ctx, `INSERT INTO tenants (id, label, exact) VALUES (?, '', 1) ON CONFLICT DO NOTHING`, row.Tenant); err != nil {
			return db.fail("pin", err)
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO pins (id, tenant, cid, hash, name, name_folded, origins, created, replaces,
				follow, auditor, status, done_blocks, done_bytes, attempts, failing, last_error, due, root, sequence, kept, release, policy,
				fetching, dropping, refused, removed, leased_by, leased_until, max_bytes, held)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, 0, 0, '', ?, '', 0, '', '', '', '', '', '', 0, '', 0, ?, 0)`,
			row.ID, row.Tenant, row.Pin.CID.String(), hashText(row.Pin.CID), row.Pin.Name, strings.ToLower(row.Pin.Name),
			jsonText(row.Pin.Origins), created, row.Replaces, nameText(terms.Follow), peerText(terms.Auditor), row.Status, micros(row.Due), row.MaxBytes); err != nil {
			return db.fail("pin", err)
		}
		for k, v := range row.Pin.Meta {
			if _, err := tx.ExecContext(ctx, `INSERT INTO pin_meta (pin, key, value) VALUES (?, ?, ?)`, row.ID, k, v); err != nil {
				return db.fail("pin", err)
			}
		}
		return db.reserveNew(ctx, tx, row, room)
	})
	return row, err
}

func exists(ctx context.Context, tx *sql.Tx, query string, args ...any) (bool, error) {
	var one int
	err := tx.QueryRowContext(ctx, query, args...).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// GetPin implements replicate.PinStore.
func (db *DB) GetPin(ctx context.Context, tenant, id string) (replicate.PinRow, error) {
	p, err := scanPin(db.sql.QueryRowContext(ctx,
		`SELECT `+pinColumns+` FROM pins WHERE id = ? AND (tenant = ? OR ? = '') AND removed = 0`, id, tenant, tenant))
	if errors.Is(err, sql.ErrNoRows) {
		return p, noPin(id)
	}
	return p, db.fail("pin", err)
}

// ListPins implements replicate.PinStore.
func (db *DB) ListPins(ctx context.Context, tenant string, q replicate.Query) ([]replicate.PinRow, int, error) {
	where, args := pinFilter(tenant, q)
	var total int
	if err := db.sql.QueryRowContext(ctx, `SELECT count(*) FROM pins WHERE `+where, args...).Scan(&total); err != nil {
		return nil, 0, db.fail("pins", err)
	}
	limit := q.Limit
	if limit == 0 {
		limit = replicate.DefaultQueryLimit
	}
	rows, err := all(ctx, db, "pins", scanPin,
		`SELECT `+pinColumns+` FROM pins WHERE `+where+` ORDER BY created DESC, id LIMIT ?`, append(args, limit)...)
	return rows, total, err
}

func pinFilter(tenant string, q replicate.Query) (where string, args []any) {
	cond := []string{"removed = 0"}
	add := func(sql string, a ...any) {
		cond = append(cond, sql)
		args = append(args, a...)
	}
	oneOf := func(column string, vals []any) {
		add(column+" IN (?"+strings.Repeat(", ?", len(vals)-1)+")", vals...)
	}
	if tenant != "" {
		add("tenant = ?", tenant)
	}
	if len(q.CIDs) > 0 {
		var vals []any
		for _, c := range q.CIDs {
			vals = append(vals, hashText(c))
		}
		oneOf("hash", vals)
	}
	if st := q.Statuses(); len(st) > 0 {
		var vals []any
		for _, s := range st {
			vals = append(vals, s)
		}
		oneOf("status", vals)
	}
	if q.Name != "" {
		switch q.Match {
		case replicate.MatchIExact:
			add("name_folded = ?", strings.ToLower(q.Name))
		case replicate.MatchPartial:
			add("instr(name, ?) > 0", q.Name)
		case replicate.MatchIPartial:
			add("instr(name_folded, ?) > 0", strings.ToLower(q.Name))
		default:
			add("name = ?", q.Name)
		}
	}
	if !q.Before.IsZero() {
		// Rounded up: a bound between two microseconds is after the earlier one.
		add("created < ?", q.Before.Add(time.Microsecond-1).UnixMicro())
	}
	if !q.After.IsZero() {
		add("created > ?", q.After.UnixMicro())
	}
	for k, v := range q.Meta {
		add("EXISTS (SELECT 1 FROM pin_meta WHERE pin = pins.id AND key = ? AND value = ?)", k, v)
	}
	return strings.Join(cond, " AND "), args
}

// RemovePin implements replicate.PinStore.
func (db *DB) RemovePin(ctx context.Context, tenant, id string, now time.Time) error {
	res, err := db.sql.ExecContext(ctx,
		`UPDATE pins SET removed = 1, due = ? WHERE id = ? AND tenant = ? AND removed = 0`, micros(now), id, tenant)
	if err != nil {
		return db.fail("pin", err)
	}
	if n, _ := res.RowsAffected(); n == 0 {
		return noPin(id)
	}
	return nil
}

const (
	isNew      = `(removed = 0 AND status IN ('queued', 'pinning'))`
	isStanding = `NOT ` + isNew
)

func workFilter(w replicate.Work) string {
	if w == replicate.WorkNew {
		return isNew
	}
	return isStanding
}

// LeaseNext implements replicate.PinStore.
func (db *DB) LeaseNext(ctx context.Context, w replicate.Work, l replicate.Lease) (replicate.PinRow, error) {
	p, err := scanPin(db.sql.QueryRowContext(ctx, `UPDATE pins SET leased_by = ?, leased_until = ? WHERE id = (
			SELECT id FROM pins WHERE due <> 0 AND due <= ? AND leased_until <= ? AND `+workFilter(w)+`
			ORDER BY attempts > 0, due, id LIMIT 1)
		RETURNING `+pinColumns, l.By, micros(l.Until), micros(l.Now), micros(l.Now)))
	if errors.Is(err, sql.ErrNoRows) {
		return p, replicate.ErrNotFound
	}
	return p, db.fail("lease", err)
}

// LeasePin implements replicate.PinStore.
func (db *DB) LeasePin(ctx context.Context, id string, l replicate.Lease) (replicate.PinRow, error) {
	p, err := scanPin(db.sql.QueryRowContext(ctx, `UPDATE pins SET leased_by = ?, leased_until = ? WHERE id = ? AND leased_until <= ?
		RETURNING `+pinColumns, l.By, micros(l.Until), id, micros(l.Now)))
	if !errors.Is(err, sql.ErrNoRows) {
		return p, db.fail("lease", err)
	}
	var one int
	if err := db.sql.QueryRowContext(ctx, `SELECT 1 FROM pins WHERE id = ?`, id).Scan(&one); errors.Is(err, sql.ErrNoRows) {
		return p, noPin(id)
	} else if err != nil {
		return p, db.fail("lease", err)
	}
	return p, fmt.Errorf("%s: %w", id, replicate.ErrLeased)
}

// held runs a write that needs the lease, and says so when it was lost.
func (db *DB) held(ctx context.Context, what, id, query string, args ...any) error {
	res, err := db.sql.ExecContext(ctx, query, args...)
	return db.heldResult(what, id, res, err)
}

func (db *DB) heldResult(what, id string, res sql.Result, err error) error {
	if err != nil {
		return db.fail(what, err)
	}
	if n, _ := res.RowsAffected(); n == 0 {
		return fmt.Errorf("%s: %s: %w", what, id, replicate.ErrLeased)
	}
	return nil
}

// RenewLease implements replicate.PinStore.
func (db *DB) RenewLease(ctx context.Context, id string, l replicate.Lease, done replicate.Count) error {
	return db.held(ctx, "renew", id, `UPDATE pins SET leased_until = ?, done_blocks = ?, done_bytes = ?
		WHERE id = ? AND leased_by = ? AND leased_until > ? AND removed = 0`,
		micros(l.Until), done.Blocks, done.Bytes, id, l.By, micros(l.Now))
}

// SavePin implements replicate.PinStore.
func (db *DB) SavePin(ctx context.Context, p replicate.PinRow, by string, giveBack bool) error {
	return db.tx(ctx, "pin", func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `UPDATE pins SET status = ?, done_blocks = ?, done_bytes = ?, attempts = ?, failing = ?,
				last_error = ?, due = ?, root = ?, sequence = ?, switched = ?, kept = ?, release = ?, policy = ?, fetching = ?, dropping = ?,
				refused = ?, refused_need = ?, sources = ?, leased_until = CASE WHEN ? THEN 0 ELSE leased_until END, leased_by = CASE WHEN ? THEN '' ELSE leased_by END
			WHERE id = ? AND leased_by = ? AND removed = 0`,
			p.Status, p.Done.Blocks, p.Done.Bytes, p.Attempts, micros(p.Failing), p.LastError, micros(p.Due),
			cidText(p.Root), int64(p.Sequence), micros(p.Switched), cidsText(p.Kept), cidText(p.Release), cidText(p.Policy), cidText(p.Fetching),
			cidsText(p.Dropping), cidText(p.Refused), p.RefusedNeed, p.Sources, giveBack, giveBack, p.ID, by)
		if err := db.heldResult("pin", p.ID, res, err); err != nil {
			return err
		}
		if p.Status != replicate.Pinned || p.Replaces == "" {
			return nil
		}
		// A turn goes on with the pin that takes the other's place.
		if _, err := tx.ExecContext(ctx, `UPDATE pins SET active = old.active, holds = old.holds FROM pins AS old
			WHERE pins.id = ? AND pins.active = 0 AND old.id = ? AND old.tenant = pins.tenant AND old.removed = 0 AND old.active <> 0
				AND old.follow = pins.follow AND `+isStandby,
			p.ID, p.Replaces, replicate.MetaRole, replicate.RoleStandby); err != nil {
			return db.fail("pin", err)
		}
		_, err = tx.ExecContext(ctx, `UPDATE pins SET removed = 1, due = 1 WHERE id = ? AND tenant = ? AND removed = 0`, p.Replaces, p.Tenant)
		return db.fail("pin", err)
	})
}

// GiveBack implements replicate.PinStore.
func (db *DB) GiveBack(ctx context.Context, id, by string) error {
	_, err := db.sql.ExecContext(ctx,
		`UPDATE pins SET leased_by = '', leased_until = 0 WHERE leased_by = ? AND (id = ? OR ? = '')`, by, id, id)
	return db.fail("lease", err)
}

// ForgetPin implements replicate.PinStore.
func (db *DB) ForgetPin(ctx context.Context, id, by string) error {
	return db.tx(ctx, "forget", func(tx *sql.Tx) error {
		var tenant string
		err := tx.QueryRowContext(ctx, `DELETE FROM pins WHERE id = ? AND leased_by = ? AND removed = 1 RETURNING tenant`, id, by).Scan(&tenant)
		if errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("forget: %s: %w", id, replicate.ErrLeased)
		}
		if err != nil {
			return db.fail("forget", err)
		}
		// What came back is known when somebody counts.
		_, err = tx.ExecContext(ctx, `UPDATE tenants SET exact = 0, version = version + 1 WHERE id IN (?, '')`, tenant)
		return db.fail("forget", err)
	})
}

// NextDue implements replicate.PinStore.
func (db *DB) NextDue(ctx context.Context, w replicate.Work) (time.Time, error) {
	var at sql.NullInt64
	err := db.sql.QueryRowContext(ctx, `SELECT min(max(due, leased_until)) FROM pins WHERE due <> 0 AND `+workFilter(w)).Scan(&at)
	return fromMicros(at.Int64), db.fail("due", err)
}

// DueName implements replicate.PinStore.
func (db *DB) DueName(ctx context.Context, n naming.Name, since time.Time) error {
	_, err := db.sql.ExecContext(ctx,
		`UPDATE pins SET due = ? WHERE follow = ? AND follow <> '' AND status = ? AND due > ?`, micros(since), nameText(n), replicate.Pinned, micros(since))
	return db.fail("due", err)
}

// CountPins is how many pins there are by status, and how many of them failed, or failed in their last try.
func (db *DB) CountPins(ctx context.Context) (byStatus map[replicate.Status]int64, failing int64, err error) {
	type count struct {
		status          replicate.Status
		pins, complains int64
	}
	scan := func(r scanner) (c count, err error) { return c, r.Scan(&c.status, &c.pins, &c.complains) }
	counts, err := all(ctx, db, "pins", scan, `SELECT status, count(*), sum(last_error <> '' OR status = 'failed') FROM pins WHERE removed = 0 GROUP BY status`)
	byStatus = map[replicate.Status]int64{}
	for _, c := range counts {
		byStatus[c.status] = c.pins
		failing += c.complains
	}
	return byStatus, failing, err
}

// PinsByTenant is the request ids of every tenant's pins.
func (db *DB) PinsByTenant(ctx context.Context) (map[string][]string, error) {
	type pin struct{ tenant, id string }
	scan := func(r scanner) (p pin, err error) { return p, r.Scan(&p.tenant, &p.id) }
	pins, err := all(ctx, db, "pins", scan, `SELECT tenant, id FROM pins WHERE removed = 0`)
	by := map[string][]string{}
	for _, p := range pins {
		by[p.tenant] = append(by[p.tenant], p.id)
	}
	return by, err
}

// FollowedNames implements replicate.PinStore.
func (db *DB) FollowedNames(ctx context.Context) ([]naming.Name, error) {
	return all(ctx, db, "names", scanName, `SELECT DISTINCT follow FROM pins WHERE follow <> '' AND removed = 0 ORDER BY follow`)
}

// AuditorPins implements replicate.PinStore.
func (db *DB) AuditorPins(ctx context.Context, auditor peer.ID) ([]replicate.PinRow, error) {
	return all(ctx, db, "pins", scanPin, `SELECT `+pinColumns+` FROM pins
		WHERE removed = 0 AND auditor = ? AND auditor <> ''`, peerText(auditor))
}
