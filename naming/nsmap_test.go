package naming

import (
	"errors"
	"maps"
	"testing"
)

const someRoot = "/ipfs/bafkqabtimvwgy3yk"

func TestNSMapIsReadAsOtherProgramsReadIt(t *testing.T) {
	for _, c := range []struct {
		text string
		want map[string]string
		err  error
	}{
		{text: ""},
		{text: " , "},
		{text: "example.org:" + someRoot, want: map[string]string{"example.org": someRoot}},
		{text: "Example.org.:" + someRoot + "/a,b.example.org:/ipns/example.org", want: map[string]string{"example.org": someRoot + "/a", "b.example.org": "/ipns/example.org"}},
		{text: "example.org", err: ErrDNSLink},
		{text: "example.org:" + "/ipld/bafkqabtimvwgy3yk", err: ErrDNSLink},
		{text: "exa mple.org:" + someRoot, err: ErrInvalidName},
		{text: ":" + someRoot, err: ErrInvalidName},
	} {
		got, err := ParseNSMap(c.text)
		if !errors.Is(err, c.err) || !maps.Equal(got, c.want) {
			t.Errorf("%q: %v, %v; want %v, %v", c.text, got, err, c.want, c.err)
		}
	}
}

func FuzzParseNSMap(f *testing.F) {
	f.Add("example.org:" + someRoot + ",b.example.org:/ipns/example.org")
	f.Add("a:b:c,,")
	f.Fuzz(func(t *testing.T, text string) {
		links, err := ParseNSMap(text)
		if err != nil {
			return
		}
		d := &DNSLink{Static: links}
		for domain := range links {
			if _, _, err := d.Resolve(t.Context(), domain); errors.Is(err, ErrInvalidName) || errors.Is(err, ErrDNSLink) {
				t.Errorf("%q: %v", domain, err)
			}
		}
	})
}
