package gateway

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

//go:embed page.css
var pageCSS string

//go:embed page.html
var pageHTML string

// pages are our own pages: no script, no request to anywhere, escaped throughout.
var pages = template.Must(template.New("").Funcs(template.FuncMap{
	"css": func() template.CSS { return template.CSS(pageCSS) },
	"odd": quoteOdd,
}).Parse(pageHTML))

// pagePolicy is the Content-Security-Policy of our own pages. Forms may lead
// to the origins of sites, since "open an address" ends there.
func pagePolicy(formTargets ...string) string {
	sum := sha256.Sum256([]byte(pageCSS))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; frame-ancestors 'none'; form-action " +
		strings.Join(append([]string{"'self'"}, formTargets...), " ")
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

// writeFailure sends an error: a page to browsers, JSON to programs that ask
// for it, text to everybody else.
func writeFailure(w http.ResponseWriter, r *http.Request, f Failure) {
	accept := strings.Join(r.Header.Values("Accept"), ",")
	if f.Status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", allowed)
	}
	switch {
	case strings.Contains(accept, "text/html"):
		writePage(w, f.Status, "failure", failurePage{f, http.StatusText(f.Status), f.heading(), f.advice()})
	case strings.Contains(accept, "application/json"):
		body, err := json.Marshal(map[string]Failure{"error": f})
		if err != nil {
			panic(err) // strings and numbers always marshal
		}
		w.Header().Set("Content-Type", "application/json")
		writeBody(w, f.Status, string(body)+"\n")
	default:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		writeBody(w, f.Status, f.text())
	}
}

type failurePage struct {
	Failure
	StatusText string
	Heading    string
	Advice     string
}

// heading is the failure in a few words.
func (f Failure) heading() string {
	switch f.Kind {
	case KindNotFound:
		if f.Step == StepName || f.Step == StepRecord {
			return "Nobody knows this site"
		}
		return "Not found"
	case KindUnavailable:
		return "This could not be reached"
	case KindUntrusted:
		return "What came back can't be trusted"
	case KindMalformed:
		return "The content is malformed"
	case KindRules:
		return "The site's rules can't be used"
	case KindBusy:
		return "Too busy"
	case KindInternal:
		return "Something went wrong here"
	default:
		return http.StatusText(f.Status)
	}
}

// advice is what the reader can do.
func (f Failure) advice() string {
	switch f.Kind {
	case KindUnavailable:
		return "The content may exist; those who hold it could not be reached. Try again later."
	case KindUntrusted:
		return "Nothing unchecked was shown. Try again later, or tell the site's author."
	case KindNotFound:
		if f.Step == StepName || f.Step == StepRecord {
			return "Check the address. A site that was published a moment ago may take a little while to be known here."
		}
		return "Check the address, or start at the site's first page."
	case KindMalformed, KindRules:
		return "Tell the site's author."
	case KindBusy:
		return "Try again in a few seconds."
	default:
		return ""
	}
}

// text is the failure for a terminal: what came from outside is quoted where it
// could hold anything but plain text.
func (f Failure) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s: %s\n", f.Status, f.heading(), quoteOdd(f.Message))
	line := func(label, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-9s%s\n", label+":", quoteOdd(value))
		}
	}
	line("step", string(f.Step))
	line("alias", f.Alias)
	line("domain", f.Domain)
	line("name", f.Name)
	if f.Sequence > 0 {
		line("sequence", fmt.Sprint(f.Sequence))
	}
	line("root", f.Root)
	line("path", f.Path)
	line("block", f.Block)
	for _, a := range f.Asked {
		line("asked", a)
	}
	for _, h := range f.Holders {
		line("holder", h)
	}
	line("waited", fmt.Sprintf("%d ms", f.Millis))
	return b.String()
}

// quoteOdd quotes a text that holds more than what prints: control characters
// move a terminal's cursor, and some turn the direction of writing.
func quoteOdd(s string) string {
	if utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return s
	}
	return strconv.Quote(s)
}
