package gateway

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestMetricsTellHowWellTheCachesDo(t *testing.T) {
	reg := prometheus.NewRegistry()
	w := newWorld(t, func(c *Config) { c.Metrics = reg })
	w.publish("blog", w.build(map[string]string{"index.html": strings.Repeat("a page ", 1000), "film.mp4": strings.Repeat("0123456789abcdef", 100_000)}))
	for range 3 {
		w.get("http://blog.localhost/", "Accept-Encoding", "gzip").want(t, 200, "")
		w.get("http://blog.localhost/film.mp4")
	}
	w.get("http://blog.localhost/", "Accept-Encoding", "zstd")
	families, err := reg.Gather()
	must(t, err)
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := strings.TrimPrefix(f.GetName(), "holdfast_gateway_")
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	for name, least := range map[string]float64{
		"ready_total": 2, "cache_total leaves hit": 1, "cache_total leaves miss": 2, "cache_total compressed miss": 2,
		"cache_bytes answers": 100, "cache_bytes leaves": 1_600_000, "cache_bytes folders": 100, "cache_bytes compressed": 100,
	} {
		if got[name] < least {
			t.Errorf("%s is %v, want %v or more", name, got[name], least)
		}
	}
	if _, ok := got["cache_total compressed hit"]; !ok {
		t.Errorf("no hits are told: %v", got)
	}
}
