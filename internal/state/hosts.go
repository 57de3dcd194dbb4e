package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

// Host is somebody who keeps sites for us.
type Host struct {
	ID          peer.ID
	Name        string // how it calls itself, or we call it; not unique
	URL         string // base of its services
	Token       string `json:"-"` // a secret: it never shows in JSON, logs or with fmt
	Addrs       []string
	Labels      map[string]string // ours, not what it says of itself
	Gateways    []string          // its public gateways
	FreeBytes   int64             // room for us, as it said last; negative: not known
	MaxPinBytes int64             // likewise; 0: no limit
	Quota       int64             // what our token is good for in all, as it said last; 0: no limit known
	Until       time.Time         // when our token or its terms end, whichever is first; zero: never
	Draining    bool              // it says that it wants to be empty
	Leaving     bool              // we want to leave it; written by LeaveHost
	Software    string            // as it said last
	AddedAt     time.Time
	SeenAt      time.Time // when it last described itself

	Presence replicate.Presence // what we saw of its comings and goings; written by SawHost
	Trial    replicate.Trial    // what its failures to prove itself say; written by TriedHost
}

// String is the host without its token.
func (h Host) String() string { return fmt.Sprintf("host %s (%s, %s)", h.Name, h.ID, h.URL) }

// GoString is String: %#v would show the token.
func (h Host) GoString() string { return h.String() }

// LogValue is the host without its token.
func (h Host) LogValue() slog.Value {
	return slog.GroupValue(slog.String("id", h.ID.String()), slog.String("name", h.Name), slog.String("url", h.URL))
}

type peerCol struct{ to *peer.ID }

func (c peerCol) Scan(v any) error {
	s, _ := v.(string)
	*c.to = ""
	if s == "" {
		return nil
	}
	id, err := peer.Decode(s)
	if err != nil {
		return fmt.Errorf("%w: peer id %q: %v", ErrCorrupt, s, err)
	}
	*c.to = id
	return nil
}

func peerText(id peer.ID) string {
	if id == "" {
		return ""
	}
	return id.String()
}

const (
	hostPutColumns = `id, name, url, token, addrs, labels, gateways, free_bytes, max_pin_bytes, quota_bytes, until, draining, software, added_at, seen_at`
	hostColumns    = hostPutColumns + `, leaving, presence, trial`
)

func scanHost(r scanner) (h Host, err error) {
	return h, r.Scan(peerCol{&h.ID}, &h.Name, &h.URL, &h.Token, jsonCol{&h.Addrs}, jsonCol{&h.Labels}, jsonCol{&h.Gateways},
		&h.FreeBytes, &h.MaxPinBytes, &h.Quota, timeCol{&h.Until}, &h.Draining, &h.Software, timeCol{&h.AddedAt}, timeCol{&h.SeenAt},
		&h.Leaving, jsonCol{&h.Presence}, jsonCol{&h.Trial})
}

// PutHost keeps a host under its id, in place of what was there, but for what LeaveHost, SawHost and TriedHost write.
func (db *DB) PutHost(ctx context.Context, h Host) error {
	_, err := db.sql.ExecContext(ctx, `INSERT INTO hosts (`+hostPutColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET name = excluded.name, url = excluded.url, token = excluded.token,
			addrs = excluded.addrs, labels = excluded.labels, gateways = excluded.gateways, free_bytes = excluded.free_bytes,
			max_pin_bytes = excluded.max_pin_bytes, quota_bytes = excluded.quota_bytes, until = excluded.until,
			draining = excluded.draining, software = excluded.software, added_at = excluded.added_at, seen_at = excluded.seen_at`,
		h.ID.String(), h.Name, h.URL, h.Token, jsonText(h.Addrs), jsonText(h.Labels), jsonText(h.Gateways),
		h.FreeBytes, h.MaxPinBytes, h.Quota, micros(h.Until), h.Draining, h.Software, micros(h.AddedAt), micros(h.SeenAt))
	return db.fail("host "+h.Name, err)
}

// DescribedHost writes what a host said of itself: of h, everything but name, URL, token, labels and
// when it was added, which are ours. Nothing where the host was removed meanwhile.
func (db *DB) DescribedHost(ctx context.Context, h Host) error {
	_, err := db.sql.ExecContext(ctx, `UPDATE hosts SET addrs = ?, gateways = ?, free_bytes = ?, max_pin_bytes = ?, quota_bytes = ?,
			until = ?, draining = ?, software = ?, seen_at = ? WHERE id = ?`,
		jsonText(h.Addrs), jsonText(h.Gateways), h.FreeBytes, h.MaxPinBytes, h.Quota, micros(h.Until), h.Draining, h.Software, micros(h.SeenAt), peerText(h.ID))
	return db.fail("host "+h.Name, err)
}

// LabelHost sets the labels that we give a host. ErrNotFound.
func (db *DB) LabelHost(ctx context.Context, id peer.ID, labels map[string]string) error {
	return db.changeHost(ctx, id, `UPDATE hosts SET labels = ? WHERE id = ?`, jsonText(labels))
}

// LeaveHost notes whether we want to leave a host. ErrNotFound.
func (db *DB) LeaveHost(ctx context.Context, id peer.ID, leaving bool) error {
	return db.changeHost(ctx, id, `UPDATE hosts SET leaving = ? WHERE id = ?`, leaving)
}

func (db *DB) changeHost(ctx context.Context, id peer.ID, query string, value any) error {
	what := "host " + peerText(id)
	res, err := db.sql.ExecContext(ctx, query, value, peerText(id))
	if err != nil {
		return db.fail(what, err)
	}
	if n, _ := res.RowsAffected(); n == 0 {
		return fmt.Errorf("%s: %w", what, ErrNotFound)
	}
	return nil
}

// SawHost takes one look into a host's presence. Nothing where the host was removed meanwhile.
func (db *DB) SawHost(ctx context.Context, id peer.ID, at time.Time, up bool) error {
	var p replicate.Presence
	return db.addToHost(ctx, id, "presence", &p, func() { p.Observe(at, up) })
}

// TriedHost takes one audit into a host's trial. Nothing where the host was removed meanwhile.
func (db *DB) TriedHost(ctx context.Context, id peer.ID, at time.Time, v replicate.Verdict) error {
	var t replicate.Trial
	return db.addToHost(ctx, id, "trial", &t, func() { t.Add(v, at) })
}

// addToHost reads a column's JSON into value, and writes it as change leaves it, in one step.
func (db *DB) addToHost(ctx context.Context, id peer.ID, column string, value any, change func()) error {
	what := "host " + peerText(id)
	return db.tx(ctx, what, func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, `SELECT `+column+` FROM hosts WHERE id = ?`, peerText(id)).Scan(jsonCol{value})
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return db.fail(what, err)
		}
		change()
		_, err = tx.ExecContext(ctx, `UPDATE hosts SET `+column+` = ? WHERE id = ?`, jsonText(value), peerText(id))
		return db.fail(what, err)
	})
}

// Host finds a host. ErrNotFound.
func (db *DB) Host(ctx context.Context, id peer.ID) (Host, error) {
	h, err := scanHost(db.sql.QueryRowContext(ctx, `SELECT `+hostColumns+` FROM hosts WHERE id = ?`, peerText(id)))
	return h, db.fail("host "+peerText(id), err)
}

// HostByName finds a host by its id, name or URL. ErrNotFound; ErrConflict
// where several have that name.
func (db *DB) HostByName(ctx context.Context, nameOrIDOrURL string) (Host, error) {
	what := "host " + nameOrIDOrURL
	for _, column := range []string{"id", "name", "url"} {
		hs, err := all(ctx, db, what, scanHost, `SELECT `+hostColumns+` FROM hosts WHERE `+column+` = ? LIMIT 2`, nameOrIDOrURL)
		if err != nil {
			return Host{}, err
		}
		switch len(hs) {
		case 1:
			return hs[0], nil
		case 2:
			return Host{}, fmt.Errorf("%s: %w: %s and %s both have this %s", what, ErrConflict, hs[0].ID, hs[1].ID, column)
		}
	}
	return Host{}, fmt.Errorf("%s: %w", what, ErrNotFound)
}

// Hosts lists all, in the order in which they were added.
func (db *DB) Hosts(ctx context.Context) ([]Host, error) {
	return all(ctx, db, "hosts", scanHost, `SELECT `+hostColumns+` FROM hosts ORDER BY added_at, id`)
}

// RemoveHost forgets a host and what it holds; the evidence stays. ErrNotFound.
func (db *DB) RemoveHost(ctx context.Context, id peer.ID) error {
	what := "host " + peerText(id)
	return db.tx(ctx, what, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `DELETE FROM hosts WHERE id = ?`, peerText(id))
		if err != nil {
			return db.fail(what, err)
		}
		if n, _ := res.RowsAffected(); n == 0 {
			return fmt.Errorf("%s: %w", what, ErrNotFound)
		}
		for _, table := range []string{"holdings", "reports"} {
			if _, err := tx.ExecContext(ctx, `DELETE FROM `+table+` WHERE host = ?`, peerText(id)); err != nil {
				return db.fail(what, err)
			}
		}
		return nil
	})
}

// Holding is what we placed at a host for a site.
type Holding struct {
	Site       naming.Name
	Host       peer.ID
	Root       cid.Cid // what VerifiedAt is about
	NamePin    string  // request ids at the host; empty where there is none
	TempPin    string
	State      string // queued, fetching, proved, failed, unreachable
	Error      string
	VerifiedAt time.Time // of the last full audit that it passed

	StandbyPin   string    // the request id of its standby pin; empty where it doesn't stand by
	StandbyBytes int64     // that the standby pin reserves
	StandbyHolds time.Time // since when it says that it holds the site as a standby; zero: it doesn't; written by SaidHolds

	RecordSequence uint64    // of the site's record that we saw there; written by SawRecord
	RecordAt       time.Time // when
	PutAt          time.Time // when the host says that it last put the record; written by SaidPut
}

// Follows tells whether the host follows the site's name for us, as a holder or as a standby.
func (h Holding) Follows() bool { return h.NamePin != "" || h.StandbyPin != "" }

const holdingColumns = `site, host, root, name_pin, temp_pin, state, error, verified_at, standby_pin, standby_bytes`

func scanHolding(r scanner) (h Holding, err error) {
	return h, r.Scan(nameCol{&h.Site}, peerCol{&h.Host}, cidCol{&h.Root}, &h.NamePin, &h.TempPin, &h.State, &h.Error, timeCol{&h.VerifiedAt},
		&h.StandbyPin, &h.StandbyBytes, timeCol{&h.StandbyHolds}, &h.RecordSequence, timeCol{&h.RecordAt}, timeCol{&h.PutAt})
}

// PutHolding keeps a holding under its site and host, in place of what was there, but for what SawRecord, SaidPut and SaidHolds write.
func (db *DB) PutHolding(ctx context.Context, h Holding) error {
	_, err := db.sql.ExecContext(ctx, `INSERT INTO holdings (`+holdingColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (site, host) DO UPDATE SET root = excluded.root, name_pin = excluded.name_pin,
			temp_pin = excluded.temp_pin, state = excluded.state, error = excluded.error, verified_at = excluded.verified_at,
			standby_pin = excluded.standby_pin, standby_bytes = excluded.standby_bytes`,
		h.Site.String(), h.Host.String(), cidText(h.Root), h.NamePin, h.TempPin, h.State, h.Error, micros(h.VerifiedAt), h.StandbyPin, h.StandbyBytes)
	return db.fail("holding", err)
}

// Holdings lists a site's, by host.
func (db *DB) Holdings(ctx context.Context, n naming.Name) ([]Holding, error) {
	return all(ctx, db, "holdings", scanHolding, `SELECT `+holdingColumns+`, standby_holds, record_sequence, record_at, put_at FROM holdings WHERE site = ? ORDER BY host`, nameText(n))
}

// HeldBy lists what a host holds of all sites, by site.
func (db *DB) HeldBy(ctx context.Context, host peer.ID) ([]Holding, error) {
	return all(ctx, db, "holdings", scanHolding, `SELECT `+holdingColumns+`, standby_holds, record_sequence, record_at, put_at FROM holdings WHERE host = ? ORDER BY site`, peerText(host))
}

// SawRecord notes which record of a site a host showed us. Nothing where it holds nothing of the site.
func (db *DB) SawRecord(ctx context.Context, site naming.Name, host peer.ID, sequence uint64, at time.Time) error {
	_, err := db.sql.ExecContext(ctx, `UPDATE holdings SET record_sequence = ?, record_at = ? WHERE site = ? AND host = ?`,
		int64(sequence), micros(at), nameText(site), peerText(host))
	return db.fail("holding", err)
}

// SaidPut notes when a host says that it last put a site's record.
func (db *DB) SaidPut(ctx context.Context, site naming.Name, host peer.ID, at time.Time) error {
	_, err := db.sql.ExecContext(ctx, `UPDATE holdings SET put_at = ? WHERE site = ? AND host = ?`, micros(at), nameText(site), peerText(host))
	return db.fail("holding", err)
}

// SaidHolds notes since when a standby says that it holds a site; zero: it says that it doesn't.
func (db *DB) SaidHolds(ctx context.Context, site naming.Name, host peer.ID, since time.Time) error {
	_, err := db.sql.ExecContext(ctx, `UPDATE holdings SET standby_holds = ? WHERE site = ? AND host = ?`, micros(since), nameText(site), peerText(host))
	return db.fail("holding", err)
}

// RemoveHolding forgets a holding; none there is no error.
func (db *DB) RemoveHolding(ctx context.Context, site naming.Name, host peer.ID) error {
	_, err := db.sql.ExecContext(ctx, `DELETE FROM holdings WHERE site = ? AND host = ?`, nameText(site), peerText(host))
	return db.fail("holding", err)
}
