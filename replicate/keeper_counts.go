package replicate

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// keeperCounts is what a keeper counts, whether somebody looks or not.
type keeperCounts struct {
	calls  *prometheus.CounterVec
	proofs *prometheus.CounterVec
	events *prometheus.CounterVec
	short  prometheus.Gauge
}

func newKeeperCounts(r prometheus.Registerer) (keeperCounts, error) {
	c := keeperCounts{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_repair_calls_total", Help: "Calls to other members of rosters.",
		}, []string{"answered"}),
		proofs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_repair_proofs_total", Help: "Proofs that other members were asked for, by kind (audit, leaves) and verdict.",
		}, []string{"kind", "verdict"}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_repair_events_total", Help: "What was seen and done to keep sites alive.",
		}, []string{"event"}),
		short: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "holdfast_repair_short_sites", Help: "Sites of which fewer holders than wanted are seen, and that this host might take over.",
		}),
	}
	if r == nil {
		return c, nil
	}
	return c, errors.Join(r.Register(c.calls), r.Register(c.proofs), r.Register(c.events), r.Register(c.short))
}

func (c keeperCounts) call(answered bool) {
	if answered {
		c.calls.WithLabelValues("yes").Inc()
	} else {
		c.calls.WithLabelValues("no").Inc()
	}
}

func (c keeperCounts) proof(kind string, v Verdict) { c.proofs.WithLabelValues(kind, string(v)).Inc() }

func (c keeperCounts) event(kind EventKind) { c.events.WithLabelValues(string(kind)).Inc() }
