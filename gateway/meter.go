package gateway

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// meter counts answers. Nothing in it says who asked for what.
type meter struct {
	requests *prometheus.CounterVec
	byStatus [600]atomic.Pointer[prometheus.Counter] // of requests: the look-up would cost more than the rest
	seconds  prometheus.Histogram
	sent     prometheus.Counter
}

func newMeter(reg prometheus.Registerer, g *guard) (*meter, error) {
	m := &meter{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_gateway_requests_total", Help: "Answers by status; 0: the client left before there was one.",
		}, []string{"status"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "holdfast_gateway_request_seconds", Help: "Time from a request's arrival to the end of its answer.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
		}),
		sent: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "holdfast_gateway_sent_bytes_total", Help: "Bytes of bodies that were sent.",
		}),
	}
	gauge := func(name, help string, value func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(value()) })
	}
	for _, c := range []prometheus.Collector{
		m.requests, m.seconds, m.sent,
		gauge("holdfast_gateway_open_requests", "Requests that have come and have not ended.", func() int { return int(g.open.Load()) }),
		gauge("holdfast_gateway_queued_requests", "Requests that wait to be worked on.", func() int { _, n := g.hall.work.state(); return n }),
		gauge("holdfast_gateway_retrievals", "Requests that wait for others.", func() int { n, _ := g.hall.retrieval.state(); return n }),
		gauge("holdfast_gateway_queued_retrievals", "Requests that wait for their turn to ask others.", func() int { _, n := g.hall.retrieval.state(); return n }),
	} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// count counts a visit that has ended.
func (m *meter) count(v *visit) {
	m.status(v.status).Inc()
	m.seconds.Observe(time.Since(v.began).Seconds())
	m.sent.Add(float64(v.sent))
}

func (m *meter) status(code int) prometheus.Counter {
	if code < 0 || code >= len(m.byStatus) {
		code = 0
	}
	if c := m.byStatus[code].Load(); c != nil {
		return *c
	}
	c := m.requests.WithLabelValues(strconv.Itoa(code))
	m.byStatus[code].Store(&c)
	return c
}
