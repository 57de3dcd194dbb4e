package preflight

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// coded is text in the coding of an extension.
func coded(t *testing.T, ext, text string) string {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch ext {
	case ".br":
		w = brotli.NewWriter(&b)
	case ".gz":
		w = gzip.NewWriter(&b)
	default:
		var err error
		if w, err = zstd.NewWriter(&b, zstd.WithWindowSize(1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestACompressedFileThatIsNotTheOneBesideItIsTold(t *testing.T) {
	text := strings.Repeat("one two three\n", 10_000)
	for ext := range codings {
		right := coded(t, ext, text)
		s := newSite(t, "index.html", "x",
			"right.css", text, "right.css"+ext, right,
			"old.css", text+"more", "old.css"+ext, right,
			"cut.css", text, "cut.css"+ext, right[:len(right)-3],
			"no.css", text, "no.css"+ext, "not compressed at all",
			"bomb.css", "x", "bomb.css"+ext, coded(t, ext, strings.Repeat("x", 50<<20)),
			"folder.css/x", "x", "folder.css"+ext, right,
			"alone.css"+ext, "x", "other"+ext+"/x", "x", "other", "x")
		o := Options{}
		want := func(names ...string) {
			t.Helper()
			var lines []string
			for _, n := range names {
				lines = append(lines, "stale_coding "+n+".css"+ext+":0")
			}
			o.Before = s.wants(o, lines...)
		}
		want("bomb", "cut", "no", "old")
		s.write("old.css", text) // what stands for it need not change for that
		want("bomb", "cut", "no")
		s.write("right.css", text+"more")
		want("bomb", "cut", "no", "right")
		s.write("right.css"+ext, coded(t, ext, text+"more"))
		want("bomb", "cut", "no")
		if err := os.Remove(filepath.Join(s.dir, "no.css")); err != nil {
			t.Fatal(err)
		}
		want("bomb", "cut")
	}
}
