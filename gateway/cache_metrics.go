package gateway

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// tally counts what a cache was asked for.
type tally struct{ hits, misses atomic.Int64 }

func (t *tally) count(hit bool) {
	if hit {
		t.hits.Add(1)
	} else {
		t.misses.Add(1)
	}
}

// cacheMetrics tells of the caches; it looks when it is asked.
type cacheMetrics struct{ g *gateway }

var (
	cacheAskedDesc = prometheus.NewDesc("holdfast_gateway_cache_total", "What caches were asked for: leaves of large files, compressed bodies; by hit or miss.", []string{"cache", "result"}, nil)
	cacheBytesDesc = prometheus.NewDesc("holdfast_gateway_cache_bytes", "Bytes that caches hold, about: finished answers, leaves of large files, decoded folders, compressed bodies.", []string{"cache"}, nil)
)

// Describe implements prometheus.Collector.
func (m cacheMetrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- cacheAskedDesc
	ch <- cacheBytesDesc
}

// Collect implements prometheus.Collector.
func (m cacheMetrics) Collect(ch chan<- prometheus.Metric) {
	c := m.g.content
	for cache, t := range map[string]*tally{"leaves": &c.leaves.asked, "compressed": &c.packer.asked} {
		ch <- prometheus.MustNewConstMetric(cacheAskedDesc, prometheus.CounterValue, float64(t.hits.Load()), cache, "hit")
		ch <- prometheus.MustNewConstMetric(cacheAskedDesc, prometheus.CounterValue, float64(t.misses.Load()), cache, "miss")
	}
	for cache, bytes := range map[string]float64{
		"answers": float64(m.g.ready.answers.WeightedSize()), "leaves": float64(c.leaves.kept.WeightedSize()),
		"folders": float64(c.backend.paths.Kept()), "compressed": float64(c.packer.done.WeightedSize()),
	} {
		ch <- prometheus.MustNewConstMetric(cacheBytesDesc, prometheus.GaugeValue, bytes, cache)
	}
}
