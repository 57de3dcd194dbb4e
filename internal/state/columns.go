package state

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/naming"
)

// The spellings of values in columns; see the migration.

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicros(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}

func cidText(c cid.Cid) string {
	if !c.Defined() {
		return ""
	}
	return c.String()
}

func nameText(n naming.Name) string {
	if n.IsZero() {
		return ""
	}
	return n.String()
}

func namesText(ns []naming.Name) string {
	s := make([]string, len(ns))
	for i, n := range ns {
		s[i] = n.String()
	}
	return strings.Join(s, ",")
}

func cidsText(cs []cid.Cid) string {
	s := make([]string, len(cs))
	for i, c := range cs {
		s[i] = c.String()
	}
	return strings.Join(s, ",")
}

func jsonText(v any) string {
	b, err := json.Marshal(v)
	if err != nil { // strings, lists and maps of them always work
		panic(err)
	}
	return string(b)
}

// The types below scan a column, and name what is wrong with it.

type cidCol struct{ to *cid.Cid }

func (c cidCol) Scan(v any) error {
	s, _ := v.(string)
	if s == "" {
		*c.to = cid.Undef
		return nil
	}
	got, err := cid.Decode(s)
	if err != nil {
		return fmt.Errorf("%w: CID %q: %v", ErrCorrupt, s, err)
	}
	*c.to = got
	return nil
}

type cidsCol struct{ to *[]cid.Cid }

func (c cidsCol) Scan(v any) error {
	s, _ := v.(string)
	*c.to = nil
	if s == "" {
		return nil
	}
	for t := range strings.SplitSeq(s, ",") {
		got, err := cid.Decode(t)
		if err != nil {
			return fmt.Errorf("%w: CID %q: %v", ErrCorrupt, t, err)
		}
		*c.to = append(*c.to, got)
	}
	return nil
}

type nameCol struct{ to *naming.Name }

func (c nameCol) Scan(v any) error {
	s, _ := v.(string)
	*c.to = naming.Name{}
	if s == "" {
		return nil
	}
	n, err := naming.ParseName(s)
	if err != nil {
		return fmt.Errorf("%w: name %q: %v", ErrCorrupt, s, err)
	}
	*c.to = n
	return nil
}

type namesCol struct{ to *[]naming.Name }

func (c namesCol) Scan(v any) error {
	s, _ := v.(string)
	*c.to = nil
	if s == "" {
		return nil
	}
	for t := range strings.SplitSeq(s, ",") {
		n, err := naming.ParseName(t)
		if err != nil {
			return fmt.Errorf("%w: name %q: %v", ErrCorrupt, t, err)
		}
		*c.to = append(*c.to, n)
	}
	return nil
}

type timeCol struct{ to *time.Time }

func (c timeCol) Scan(v any) error {
	n, ok := v.(int64)
	if !ok {
		return fmt.Errorf("%w: time %v", ErrCorrupt, v)
	}
	*c.to = fromMicros(n)
	return nil
}

type jsonCol struct{ to any }

func (c jsonCol) Scan(v any) error {
	s, _ := v.(string)
	if err := json.Unmarshal([]byte(s), c.to); err != nil {
		return fmt.Errorf("%w: %v", ErrCorrupt, err)
	}
	return nil
}
