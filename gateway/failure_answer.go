package gateway

import (
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// form is how an error is told.
type form int

const (
	formText form = iota // curl and everybody who doesn't say
	formJSON
	formHTML
)

// maxAccept bounds what is read of an Accept header, in bytes.
const maxAccept = 2 << 10

// formOf is the form that an Accept header prefers; of equals HTML, then JSON.
func formOf(accept string) form {
	best, quality := formText, 0.0
	for part := range strings.SplitSeq(accept[:min(len(accept), maxAccept)], ",") {
		media, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		f := formText
		switch media {
		case "text/html", "application/xhtml+xml":
			f = formHTML
		case "application/json", "application/problem+json":
			f = formJSON
		case "text/plain":
		default:
			continue
		}
		q := 1.0
		if s, ok := params["q"]; ok {
			if q, err = strconv.ParseFloat(s, 64); err != nil {
				continue
			}
		}
		if q > quality || q == quality && q > 0 && f > best {
			best, quality = f, q
		}
	}
	return best
}

// writeFailure sends an error: a page to browsers, a problem document (RFC
// 9457) to programs that ask for JSON, text to everybody else. A Retry-After
// that the header has already is told in all three.
func writeFailure(w http.ResponseWriter, r *http.Request, f Failure) {
	if f.Status == 0 {
		f.Status = statuses[f.Kind]
	}
	if f.Status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", allowed)
	}
	retry := w.Header().Get("Retry-After")
	switch formOf(strings.Join(r.Header.Values("Accept"), ",")) {
	case formHTML:
		writePage(w, f.Status, "failure", failurePage{
			Failure: f, StatusText: http.StatusText(f.Status), Heading: f.heading(), Advice: f.advice(), RetryAfter: retry, Way: f.way(),
		})
	case formJSON:
		body, err := json.Marshal(struct {
			Title string `json:"title"` // what the status means, since there is no "type"
			Failure
			Advice string `json:"advice,omitempty"`
		}{http.StatusText(f.Status), f, f.advice()})
		if err != nil {
			panic(err) // strings and numbers always marshal
		}
		w.Header().Set("Content-Type", "application/problem+json")
		writeBody(w, f.Status, string(body)+"\n")
	default:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		writeBody(w, f.Status, f.text(retry))
	}
}

// failurePage is what the failure template shows.
type failurePage struct {
	Failure
	StatusText string
	Heading    string
	Advice     string
	RetryAfter string // seconds; may be empty
	Way        []stage
}

// Seconds is how long the reader was kept waiting.
func (f failurePage) Seconds() float64 { return float64(f.Millis) / 1000 }

// stage is one step of the way to the content.
type stage struct {
	Step  Step
	What  string // what it is about; may be empty
	State string // "done", "failed", "not reached"
}

// way is how far the request came. Nil where it did not set out.
func (f Failure) way() []stage {
	record, block := "", f.Block
	if f.Step != StepBlock {
		block = ""
	}
	if f.Sequence > 0 {
		record = fmt.Sprintf("sequence %d", f.Sequence)
	}
	name := f.Name
	if name == "" {
		name = f.Alias + f.Domain
	}
	all := []stage{
		{Step: StepName, What: name}, {Step: StepRecord, What: record}, {Step: StepRoot, What: f.Root},
		{Step: StepPath, What: f.Path}, {Step: StepBlock, What: block},
	}
	if name == "" { // immutable content: nothing to resolve
		all = all[2:]
	}
	failed := -1
	for i := range all {
		if all[i].Step == f.Step {
			failed = i
		}
	}
	if failed < 0 || name == "" && f.Root == "" {
		return nil
	}
	for i := range all {
		switch {
		case i < failed:
			all[i].State = "done"
		case i == failed:
			all[i].State = "failed"
		default:
			all[i].State = "not reached"
		}
	}
	if f.Step == StepRoot || f.Step == StepPath {
		if f.Block != "" && f.Block != f.Root {
			all[failed].What += " (block " + f.Block + ")"
		}
	}
	return all
}

// heading is the failure in a few words.
func (f Failure) heading() string {
	if !f.Ended.IsZero() {
		return "This site's time is up"
	}
	switch f.Kind {
	case KindNotFound:
		if f.Step == StepName || f.Step == StepRecord {
			return "Nobody knows this site"
		}
		return "Not found"
	case KindDenied:
		return "Not served here"
	case KindGone:
		return "Taken away by the site"
	case KindUnavailable:
		return "This could not be reached"
	case KindUntrusted:
		return "What came back can't be trusted"
	case KindMalformed:
		return "The content is malformed"
	case KindRules:
		return "The site's rules can't be used"
	case KindLimited:
		if f.Step != StepRequest {
			return "Too much for one request"
		}
		return "Too many requests"
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
	if !f.Ended.IsZero() {
		out := "Its author signed for it until " + f.Ended.UTC().Format("2 January 2006") + ", and no gateway may show it under this name until the author publishes it again. Tell the author."
		if f.Root != "" {
			out += " What it showed last may still be had, at any gateway, under /ipfs/" + f.Root + "."
		}
		return out
	}
	switch f.Kind {
	case KindUnavailable:
		return "The content may exist; those who hold it could not be reached. Try again later, or at another gateway: the address is the same everywhere."
	case KindUntrusted:
		return "Nothing unchecked was shown. Try again later, or tell the site's author."
	case KindNotFound:
		if f.Step == StepName || f.Step == StepRecord {
			return "Check the address. A site that was published a moment ago may take a little while to be known here."
		}
		if f.Step == StepRequest {
			return "Check the address."
		}
		return "Check the address, or start at the site's first page."
	case KindDenied:
		return "The operator of this gateway decided not to serve it. That says nothing about other gateways."
	case KindGone:
		return "The site's author says so. Start at the site's first page."
	case KindMalformed, KindRules:
		return "Tell the site's author."
	case KindLimited:
		if f.Step != StepRequest {
			return "Ask for a part of it with a Range header, or for the files one by one."
		}
		return "Slow down; your requests are answered again in a moment."
	case KindBusy:
		return "Try again in a few seconds."
	case KindInternal:
		return "Tell the operator of this gateway; the log there says more."
	case KindBadRequest:
		return "Check the address."
	default:
		return ""
	}
}

// text is the failure for a terminal: what came from outside is quoted where it
// could hold anything but plain text.
func (f Failure) text(retryAfter string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s: %s\n", f.Status, f.heading(), strings.Join(oddLines(f.Message), "\n    "))
	line := func(label, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-10s%s\n", label+":", quoteOdd(value))
		}
	}
	line("advice", f.advice())
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
	if retryAfter != "" {
		line("retry", "in "+retryAfter+" s")
	}
	line("more", f.SitePage)
	return b.String()
}

// oddLines are the lines of a text, each quoted as by quoteOdd: rules with
// mistakes are told a line each.
func oddLines(s string) []string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = quoteOdd(lines[i])
	}
	return lines
}

// quoteOdd quotes a text that holds more than what prints: control characters
// move a terminal's cursor, and some turn the direction of writing.
func quoteOdd(s string) string {
	if utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return s
	}
	return strconv.Quote(s)
}
