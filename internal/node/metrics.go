package node

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// hostMetrics is what a host tells of its pins and tenants; it looks when it is asked.
type hostMetrics struct{ n *Node }

const metricsTime = 10 * time.Second // for one look

var (
	pinsDesc     = prometheus.NewDesc("holdfast_pins", "Pins by status.", []string{"status"}, nil)
	failingDesc  = prometheus.NewDesc("holdfast_pins_failing", "Pins that failed, or whose last try did.", nil, nil)
	bytesDesc    = prometheus.NewDesc("holdfast_pin_bytes", "Bytes that all tenants' pins take: kept (each block once, with what the operator's own sites keep) and reserved beyond that.", []string{"kind"}, nil)
	freeDesc     = prometheus.NewDesc("holdfast_pin_free_bytes", "Bytes that new pins may take.", nil, nil)
	tenantDesc   = prometheus.NewDesc("holdfast_tenant_bytes", "Bytes by tenant: used (at most), reserved, and its quota (0: no limit).", []string{"tenant", "label", "kind"}, nil)
	trafficDesc  = prometheus.NewDesc("holdfast_traffic_today_bytes", "Bytes that came for pins or went to peers and readers, this UTC day.", []string{"direction"}, nil)
	budgetDesc   = prometheus.NewDesc("holdfast_traffic_budget_bytes", "Bytes that may come or go in a UTC day; 0: no limit.", []string{"direction"}, nil)
	drainingDesc = prometheus.NewDesc("holdfast_draining", "1 while the host takes no new pins.", nil, nil)
)

// Describe implements prometheus.Collector.
func (m hostMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{pinsDesc, failingDesc, bytesDesc, freeDesc, tenantDesc, trafficDesc, budgetDesc, drainingDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m hostMetrics) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), metricsTime)
	defer cancel()
	if err := m.collect(ctx, func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}); err != nil {
		ch <- prometheus.NewInvalidMetric(pinsDesc, err)
	}
}

func (m hostMetrics) collect(ctx context.Context, gauge func(d *prometheus.Desc, v int64, labels ...string)) error {
	byStatus, failing, err := m.n.state.CountPins(ctx)
	if err != nil {
		return err
	}
	for _, st := range everyStatus {
		gauge(pinsDesc, byStatus[st], string(st))
	}
	gauge(failingDesc, failing)
	accs, err := m.n.state.Accounts(ctx)
	if err != nil {
		return err
	}
	for _, a := range accs {
		gauge(tenantDesc, a.Used, a.Tenant, a.Label, "used")
		gauge(tenantDesc, a.Reserved, a.Tenant, a.Label, "reserved")
		gauge(tenantDesc, a.Quota, a.Tenant, a.Label, "quota")
	}
	u, err := m.n.hostUsage(ctx)
	if err != nil {
		return err
	}
	gauge(bytesDesc, u.Bytes, "kept")
	gauge(bytesDesc, u.Reserved, "reserved")
	gauge(freeDesc, u.Free)
	gauge(trafficDesc, u.Ingress.Bytes, "ingress")
	gauge(trafficDesc, u.Egress.Bytes, "egress")
	gauge(budgetDesc, u.Ingress.Budget, "ingress")
	gauge(budgetDesc, u.Egress.Budget, "egress")
	on := int64(0)
	if u.Draining != nil {
		on = 1
	}
	gauge(drainingDesc, on)
	return nil
}
