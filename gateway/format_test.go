package gateway

import (
	"net/http"
	"net/url"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestFormatsThatAClientMakesUpAreRefusedAndNotCounted(t *testing.T) {
	reg := prometheus.NewRegistry()
	w := newWorld(t, func(c *Config) { c.Metrics = reg })
	site := "http://127.0.0.1/ipfs/" + w.build(blog).String() + "/"
	for _, accept := range []string{
		"application/vnd.ipld.a1", "application/vnd.ipfs.b2", "application/x-tarball", "application/json-patch+json", "application/vnd.ipld.car-2",
		"application/vnd.ipld.car;version", "text/html, application/vnd.ipld.c3",
	} {
		w.get(site, "Accept", accept).want(t, 400, "")
	}
	w.get(site+"?format=d4").want(t, 200, "<h1>home</h1>") // as IPIP-523 has it: a parameter of the site's own
	w.get(site, "Accept", "application/vnd.ipld.raw").want(t, 200, "")
	families, err := reg.Gather()
	must(t, err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if v := l.GetValue(); slices.Contains([]string{"application/vnd.ipld.a1", "application/vnd.ipfs.b2", "application/x-tarball", "application/vnd.ipld.c3"}, v) {
					t.Errorf("%s is counted by what a client made up: %s", f.GetName(), v)
				}
			}
		}
	}
}

func TestTheFormatIsTheOneThatBoxoTakes(t *testing.T) {
	for _, c := range []struct {
		query  string
		accept []string
		want   string
	}{
		{"", nil, ""},
		{"", []string{"text/html,*/*;q=0.8"}, ""},
		{"format=car", nil, carMediaType},
		{"f%6frmat=car", []string{"application/x-tar"}, carMediaType},
		{"format=tar&format=car", nil, tarMediaType},
		{"format=nothing", []string{carMediaType}, carMediaType},
		{"", []string{"text/html", carMediaType + ";version=1"}, carMediaType},
		{"", []string{"text/html, application/vnd.ipld.CAR"}, carMediaType},
		{"", []string{"Application/vnd.ipld.car"}, ""},
		{"", []string{"application/json, " + carMediaType}, "application/json"},
	} {
		r := &http.Request{URL: &url.URL{RawQuery: c.query}, Header: http.Header{"Accept": c.accept}}
		if got, err := formatOf(r); err != nil || got != c.want {
			t.Errorf("?%s %q: %q, %v; want %q", c.query, c.accept, got, err, c.want)
		}
	}
}

func FuzzFormat(f *testing.F) {
	f.Add("format=car", "text/html")
	f.Add("", "application/vnd.ipld.CAR; version=1, application/x-tar")
	f.Add("%66ormat=%63ar", "application/json;;")
	f.Fuzz(func(t *testing.T, query, accept string) {
		r := &http.Request{URL: &url.URL{RawQuery: query}, Header: http.Header{"Accept": {accept}}}
		got, err := formatOf(r)
		known := got == ""
		for _, t := range formats {
			known = known || got == t
		}
		if !known || err != nil && got != "" {
			t.Errorf("?%s %q: %q, %v", query, accept, got, err)
		}
	})
}
