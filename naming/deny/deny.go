// Package deny reads lists of what an operator doesn't want to keep or to serve,
// in the compact denylist format (https://specs.ipfs.tech/compact-denylist-format/),
// and tells whether a content path, a block or a name is on them.
//
// It promises that the last rule that matches decides, in the order of the
// lists and of their lines; that a list with a mistake changes nothing, and the
// error names the line; and that asking costs next to nothing where no rule is.
//
// Beyond the format, a line may be a bare CID or name, and what follows a "#"
// that stands alone is a comment. Of the hints, "gateway_status" (410 or 451)
// and "reason" are understood; both "key:value" and "key=value" are read.
package deny

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// ErrDenied is what every Error is.
var ErrDenied = errors.New("denied by the operator")

// Error says by which rule something is denied.
type Error struct {
	What   string // what was asked for: a path
	Rule   Rule
	Status int // of the HTTP answer: 410 or 451
}

// Rule is where a verdict comes from.
type Rule struct {
	File   string // the list's, without its folder
	Line   int    // from 1
	Reason string // the hint; may be empty
}

func (r Rule) String() string { return fmt.Sprintf("%s:%d", r.File, r.Line) }

// Error doesn't name the rule: the list may be nobody's business.
func (e *Error) Error() string {
	s := fmt.Sprintf("%v: %s", ErrDenied, e.What)
	if e.Rule.Reason != "" {
		s += " (" + e.Rule.Reason + ")"
	}
	return s
}

// Unwrap makes it an ErrDenied.
func (e *Error) Unwrap() error { return ErrDenied }

// DefaultStatus is that of rules without a hint.
const DefaultStatus = http.StatusGone

// rule is one line's. Those of one key are a chain, the newest first.
type rule struct {
	path   string // below the key, without slashes at its ends; "" is the key itself
	prefix bool   // whatever begins with path
	tree   bool   // with prefix: path and what is below it, and not what merely begins like it
	allow  bool
	status uint16
	line   int32
	file   int32
	reason string
	older  *rule
}

func (r *rule) matches(path string) bool {
	if !r.prefix {
		return r.path == path
	}
	rest, ok := strings.CutPrefix(path, r.path)
	return ok && (!r.tree || r.path == "" || rest == "" || rest[0] == '/')
}

// later tells whether r is of a later line than o, which may be nil.
func (r *rule) later(o *rule) bool {
	return o == nil || r.file > o.file || r.file == o.file && r.line > o.line
}
