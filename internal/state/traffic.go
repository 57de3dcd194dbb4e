package state

import (
	"context"
	"time"

	"github.com/holdfast-sites/holdfast/replicate"
)

// trafficKept is how many days are remembered.
const trafficKept = 400

func utcDay(t time.Time) int64 { return t.Unix() / int64(24*time.Hour/time.Second) }

// AddTraffic counts bytes for the day of at. What was added last may be lost in a power cut.
func (db *DB) AddTraffic(ctx context.Context, at time.Time, more replicate.Traffic) error {
	day := utcDay(at)
	_, err := db.quick.ExecContext(ctx, `INSERT INTO traffic (day, ingress, egress) VALUES (?, ?, ?)
		ON CONFLICT (day) DO UPDATE SET ingress = ingress + excluded.ingress, egress = egress + excluded.egress`, day, more.Ingress, more.Egress)
	if err == nil {
		_, err = db.quick.ExecContext(ctx, `DELETE FROM traffic WHERE day < ?`, day-trafficKept)
	}
	return db.fail("traffic", err)
}

// Traffic is the bytes that were counted for the day of at.
func (db *DB) Traffic(ctx context.Context, at time.Time) (t replicate.Traffic, err error) {
	err = db.sql.QueryRowContext(ctx, `SELECT coalesce(sum(ingress), 0), coalesce(sum(egress), 0) FROM traffic WHERE day = ?`, utcDay(at)).
		Scan(&t.Ingress, &t.Egress)
	return t, db.fail("traffic", err)
}
