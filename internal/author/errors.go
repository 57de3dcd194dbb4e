package author

import (
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-sites/holdfast/naming"
)

// usageError is ErrUsage in words that say what to do; the kind of failure shows in the exit code.
type usageError string

func (e usageError) Error() string        { return string(e) }
func (e usageError) Is(target error) bool { return target == ErrUsage }

func usagef(format string, args ...any) error { return usageError(fmt.Sprintf(format, args...)) }

func (e *ConflictError) Error() string {
	var b strings.Builder
	switch {
	case e.Lost && e.Newer.Sequence == e.Ours:
		fmt.Fprintf(&b, "two machines signed sequence %d of %s, and the other one's record wins", e.Ours, e.Alias)
	case e.Lost:
		fmt.Fprintf(&b, "another machine published %s at the same time, and was ahead of this one (sequence %d)", e.Alias, e.Ours)
	case e.WantOld.Defined():
		fmt.Fprintf(&b, "%s is not at %s any more", e.Alias, e.WantOld)
	case e.Ours == 0:
		fmt.Fprintf(&b, "%s was published by another machine", e.Alias)
	default:
		fmt.Fprintf(&b, "%s has a newer release than this machine's (sequence %d)", e.Alias, e.Ours)
	}
	if e.OurRoot.Defined() {
		fmt.Fprintf(&b, ", so that nobody sees root %s", e.OurRoot)
	}
	n := e.Newer
	if n.Sequence == 0 && n.Root == "" {
		b.WriteString(": nobody knows a release of it; leave --if-root out for the first one")
		return b.String()
	}
	fmt.Fprintf(&b, ": %s", n)
	if n.Root != "" {
		fmt.Fprintf(&b, "; get it with `holdfast get /ipfs/%s -o DIR`, or publish on top of it with --rebase", n.Root)
	}
	return b.String()
}

// String is the release as people read of it.
func (n Newer) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "sequence %d", n.Sequence)
	if n.Number > 0 {
		fmt.Fprintf(&b, ", release %d", n.Number)
	}
	if n.Time != nil {
		fmt.Fprintf(&b, " of %s", n.Time.Format(time.RFC3339))
	}
	if n.Message != "" {
		fmt.Fprintf(&b, " %q", n.Message)
	}
	if n.Root == "" {
		b.WriteString(", which leads to another name")
	} else {
		fmt.Fprintf(&b, ", root %s", n.Root)
	}
	if n.Source == naming.SourceOwn {
		b.WriteString(" (known to this machine)")
	} else {
		fmt.Fprintf(&b, " (seen at %s)", n.Source)
	}
	return b.String()
}

// DelegatedError says that a site's releases are signed by another key at the moment.
type DelegatedError struct {
	Alias string
	To    naming.Name
}

func (e *DelegatedError) Error() string {
	return fmt.Sprintf("%s is published with the deploy key %s: publish with that one, or take the site back with `holdfast name revoke %s`", e.Alias, e.To, e.Alias)
}

// Details is what a program may act on.
func (e *DelegatedError) Details() map[string]any { return map[string]any{"delegate": e.To.String()} }

// Details is what a program may act on.
func (e *ConflictError) Details() map[string]any {
	d := map[string]any{"name": e.Name.String(), "newer": e.Newer, "our_sequence": e.Ours}
	if e.OurRoot.Defined() {
		d["our_root"] = e.OurRoot.String()
	}
	return d
}

// ShortError says that fewer copies proved themselves than were wanted; the
// name has not moved.
type ShortError struct {
	Want, Got int
	Hosts     []HostState
	Err       error // why no further host was tried; may be nil
}

func (e *ShortError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d wanted copies proved, nothing was signed", e.Got, e.Want)
	for _, h := range e.Hosts {
		if h.State != Proved && h.Error != "" {
			fmt.Fprintf(&b, "; %s %s: %s", h.Name, h.State, h.Error)
		}
	}
	if e.Err != nil {
		fmt.Fprintf(&b, "; %v", e.Err)
	}
	return b.String()
}

// Unwrap is why no further host was tried.
func (e *ShortError) Unwrap() error { return e.Err }

// Details is what a program may act on.
func (e *ShortError) Details() map[string]any {
	return map[string]any{"wanted": e.Want, "proved": e.Got, "hosts": e.Hosts}
}
