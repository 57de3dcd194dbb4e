package author

import (
	"fmt"
	"strings"
	"time"
)

func (e *ConflictError) Error() string {
	var b strings.Builder
	if e.WantOld.Defined() {
		fmt.Fprintf(&b, "%s is not at %s any more", e.Alias, e.WantOld)
	} else if e.Ours == 0 {
		fmt.Fprintf(&b, "%s was published by another machine", e.Alias)
	} else {
		fmt.Fprintf(&b, "%s has a newer release than this machine's (sequence %d)", e.Alias, e.Ours)
	}
	n := e.Newer
	fmt.Fprintf(&b, ": sequence %d", n.Sequence)
	if n.Number > 0 {
		fmt.Fprintf(&b, ", release %d", n.Number)
	}
	if n.Time != nil {
		fmt.Fprintf(&b, " of %s", n.Time.Format(time.RFC3339))
	}
	if n.Message != "" {
		fmt.Fprintf(&b, " %q", n.Message)
	}
	fmt.Fprintf(&b, ", root %s (seen at %s); get it with `holdfast get /ipfs/%s -o DIR`, or publish over it with --if-root %s", n.Root, n.Source, n.Root, n.Root)
	return b.String()
}

// Details is what a program may act on.
func (e *ConflictError) Details() map[string]any {
	return map[string]any{"name": e.Name.String(), "newer": e.Newer, "our_sequence": e.Ours}
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
