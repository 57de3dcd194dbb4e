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

// Service is a pinning service that is no host of this network: it speaks the Pinning Service API and nothing more. It has
// no peer id, proves nothing, and keeps no name alive.
type Service struct {
	URL      string            // base of its API; what it is known by
	Name     string            // ours; not unique
	Token    string            `json:"-"` // a secret, as a Host's
	Labels   map[string]string // ours
	Gateways []string          // base URLs at which its content can be asked for
	Leaving  bool              // its copies are to go, then it is forgotten
	AddedAt  time.Time
	SeenAt   time.Time // when it last answered
}

// PlanID is what the service is called in a plan, which calls hosts by their peer ids. It is no peer's: its text decodes to none.
func (s Service) PlanID() peer.ID { return peer.ID("pinning service " + s.URL) }

// String is the service without its token.
func (s Service) String() string { return fmt.Sprintf("pinning service %s (%s)", s.Name, s.URL) }

// GoString is String: %#v would show the token.
func (s Service) GoString() string { return s.String() }

// LogValue is the service without its token.
func (s Service) LogValue() slog.Value {
	return slog.GroupValue(slog.String("url", s.URL), slog.String("name", s.Name))
}

const serviceColumns = `url, name, token, labels, gateways, leaving, added_at, seen_at`

func scanService(r scanner) (s Service, err error) {
	return s, r.Scan(&s.URL, &s.Name, &s.Token, jsonCol{&s.Labels}, jsonCol{&s.Gateways}, &s.Leaving, timeCol{&s.AddedAt}, timeCol{&s.SeenAt})
}

// PutService keeps a service under its URL, in place of what was there.
func (db *DB) PutService(ctx context.Context, s Service) error {
	_, err := db.sql.ExecContext(ctx, `INSERT INTO services (`+serviceColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (url) DO UPDATE SET name = excluded.name, token = excluded.token, labels = excluded.labels,
			gateways = excluded.gateways, leaving = excluded.leaving, added_at = excluded.added_at, seen_at = excluded.seen_at`,
		s.URL, s.Name, s.Token, jsonText(s.Labels), jsonText(s.Gateways), s.Leaving, micros(s.AddedAt), micros(s.SeenAt))
	return db.fail("service "+s.Name, err)
}

// SawService notes that a service has answered; nothing where there is none.
func (db *DB) SawService(ctx context.Context, url string, at time.Time) error {
	_, err := db.sql.ExecContext(ctx, `UPDATE services SET seen_at = ? WHERE url = ?`, micros(at), url)
	return db.fail("service "+url, err)
}

// Services lists all, in the order in which they were added.
func (db *DB) Services(ctx context.Context) ([]Service, error) {
	return all(ctx, db, "services", scanService, `SELECT `+serviceColumns+` FROM services ORDER BY added_at, url`)
}

// ServiceByName finds a service by its URL or name. ErrNotFound; ErrConflict where several have that name.
func (db *DB) ServiceByName(ctx context.Context, nameOrURL string) (Service, error) {
	what := "service " + nameOrURL
	s, err := scanService(db.sql.QueryRowContext(ctx, `SELECT `+serviceColumns+` FROM services WHERE url = ?`, nameOrURL))
	if !errors.Is(err, sql.ErrNoRows) {
		return s, db.fail(what, err)
	}
	found, err := all(ctx, db, what, scanService, `SELECT `+serviceColumns+` FROM services WHERE name = ? LIMIT 2`, nameOrURL)
	switch {
	case err != nil:
		return Service{}, err
	case len(found) == 0:
		return Service{}, fmt.Errorf("%s: %w", what, ErrNotFound)
	case len(found) > 1:
		return Service{}, fmt.Errorf("%s: %w: %s and %s both have this name", what, ErrConflict, found[0].URL, found[1].URL)
	}
	return found[0], nil
}

// RemoveService forgets a service and our pins there. ErrNotFound.
func (db *DB) RemoveService(ctx context.Context, url string) error {
	what := "service " + url
	return db.tx(ctx, what, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `DELETE FROM services WHERE url = ?`, url)
		if err != nil {
			return db.fail(what, err)
		}
		if n, _ := res.RowsAffected(); n == 0 {
			return fmt.Errorf("%s: %w", what, ErrNotFound)
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM service_pins WHERE service = ?`, url)
		return db.fail(what, err)
	})
}

// ServicePin is a pin of one of our sites' roots at a service.
type ServicePin struct {
	Service  string // its URL
	Site     naming.Name
	Root     cid.Cid
	Request  string           // its id there; empty until the service has answered
	Status   replicate.Status // what the service says, which nobody checks; Queued before it said anything
	Error    string           // what went wrong last; empty where the last try went well
	AskedAt  time.Time        // when the service last said Status
	Attempts int              // failures in a row
	Due      time.Time        // after a failure: not before

	Sampled   replicate.Verdict // what the last random leaves showed; empty: never asked
	SampledAt time.Time
	Detail    string // of Sampled
}

const servicePinColumns = `service, site, root, request, status, error, asked_at, attempts, due, sampled, sampled_at, detail`

func scanServicePin(r scanner) (p ServicePin, err error) {
	return p, r.Scan(&p.Service, nameCol{&p.Site}, cidCol{&p.Root}, &p.Request, &p.Status, &p.Error, timeCol{&p.AskedAt},
		&p.Attempts, timeCol{&p.Due}, &p.Sampled, timeCol{&p.SampledAt}, &p.Detail)
}

// PutServicePin keeps a pin under its service, site and root, in place of what was there.
func (db *DB) PutServicePin(ctx context.Context, p ServicePin) error {
	_, err := db.sql.ExecContext(ctx, `INSERT INTO service_pins (`+servicePinColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (service, site, root) DO UPDATE SET request = excluded.request, status = excluded.status, error = excluded.error,
			asked_at = excluded.asked_at, attempts = excluded.attempts, due = excluded.due,
			sampled = excluded.sampled, sampled_at = excluded.sampled_at, detail = excluded.detail`,
		p.Service, nameText(p.Site), cidText(p.Root), p.Request, p.Status, p.Error, micros(p.AskedAt), p.Attempts, micros(p.Due),
		p.Sampled, micros(p.SampledAt), p.Detail)
	return db.fail("service pin", err)
}

// ServicePins is a site's pins at all services; of the zero name those of all sites.
func (db *DB) ServicePins(ctx context.Context, site naming.Name) ([]ServicePin, error) {
	return all(ctx, db, "service pins", scanServicePin,
		`SELECT `+servicePinColumns+` FROM service_pins WHERE site = ? OR ? = '' ORDER BY service, site, root`, nameText(site), nameText(site))
}

// RemoveServicePin forgets a pin; none there is no error.
func (db *DB) RemoveServicePin(ctx context.Context, p ServicePin) error {
	_, err := db.sql.ExecContext(ctx, `DELETE FROM service_pins WHERE service = ? AND site = ? AND root = ?`,
		p.Service, nameText(p.Site), cidText(p.Root))
	return db.fail("service pin", err)
}
