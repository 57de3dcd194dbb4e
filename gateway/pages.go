package gateway

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

//go:embed page.css
var pageCSS string

//go:embed page.html
var pageHTML string

// pages are our own pages: no script, no request to anywhere, escaped throughout.
var pages = template.Must(template.New("").Funcs(template.FuncMap{
	"css":   func() template.CSS { return template.CSS(pageCSS) },
	"odd":   quoteOdd,
	"lines": oddLines,
	"line":  oneLine,
	"bytes": func(n int64) string { return humanize.Bytes(uint64(max(n, 0))) },
	"stamp": func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"day":   func(t time.Time) string { return t.UTC().Format("2 January 2006") },
	"ago":   func(t time.Time) string { return humanize.Time(t) },
	"short": shortCID,
	"count": func(n int, one string) string { return humanize.Comma(int64(n)) + " " + plural(n, one) },
}).Parse(pageHTML))

// pagePolicy is the Content-Security-Policy of our own pages. Forms may lead
// to the origins of sites, since "open an address" ends there. The icon is an
// empty one in the page, so that browsers ask for none.
func pagePolicy(formTargets ...string) string {
	return ownPolicy + strings.Join(append([]string{"'self'"}, formTargets...), " ")
}

var ownPolicy = func() string {
	sum := sha256.Sum256([]byte(pageCSS))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; img-src data:; base-uri 'none'; frame-ancestors 'none'; form-action "
}()

// OwnPage tells by its header whether an answer is a page of the gateway's own, and none of a site.
func OwnPage(h http.Header) bool {
	return strings.HasPrefix(h.Get("Content-Security-Policy"), ownPolicy)
}

// writePage sends one of our own pages. Other origins must not read them.
func writePage(w http.ResponseWriter, status int, name string, data any, formTargets ...string) {
	var b strings.Builder
	if err := pages.ExecuteTemplate(&b, name, data); err != nil {
		panic(err) // a mistake in page.html, which tests read
	}
	h := w.Header()
	h.Del("Access-Control-Allow-Origin")
	h.Set("Content-Security-Policy", pagePolicy(formTargets...))
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	writeBody(w, status, b.String())
}

func writeBody(w http.ResponseWriter, status int, body string) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Vary", "Accept")
	h.Set("Content-Length", fmt.Sprint(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body))
}

func plural(n int, one string) string {
	if n == 1 {
		return one
	}
	if stem, ok := strings.CutSuffix(one, "y"); ok {
		return stem + "ies"
	}
	return one + "s"
}

// shortCID is a CID for people to compare at a glance.
func shortCID(s string) string {
	if len(s) <= 20 {
		return s
	}
	return s[:9] + "…" + s[len(s)-6:]
}
