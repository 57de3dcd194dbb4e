package conformance

import (
	"net/http"
	"testing"
	"time"

	"github.com/ipfs/go-unixfsnode/data/builder"
)

// datedAt is when the author of the dated page changed it last.
var datedAt = time.Date(2021, 3, 4, 5, 6, 7, 0, time.UTC)

func (f *fixtures) modified(t *testing.T) {
	d := newDAG(t)
	page := d.built(pbFile(d, "dated\n", func(b *builder.Builder) {
		builder.Mtime(b, func(tb builder.TimeBuilder) {
			builder.Seconds(tb, datedAt.Unix())
			builder.FractionalNanoseconds(tb, 500_000_000) // no header can say so
		})
	}))
	f.dated = d.folder(entry{"page.html", page})
	f.add("dated", d, f.dated)
}

// pathModified checks what RFC 9110 says of times, and the path gateway of
// UnixFS 1.5: a file that says when it was modified is served with that.
func (g *gateway) pathModified(t *testing.T) {
	at := func(d time.Duration) string { return datedAt.Add(d).Format(http.TimeFormat) }
	page := "/ipfs/" + g.dated.cid.String() + "/page.html"
	etag := g.ask(t, http.MethodGet, page).Header.Get("Etag")
	known := map[string]string{"Etag": etag, "Cache-Control": forever}
	since := func(name, since string, status int, more ...string) check {
		return check{name: name, url: page, header: append([]string{"If-Modified-Since", since}, more...), status: status, want: known}
	}
	for _, way := range []string{"made", "ready"} {
		t.Run(way, func(t *testing.T) {
			g.runAll(t, []check{
				{name: "the time", url: page, status: 200, body: "dated\n", want: map[string]string{"Last-Modified": at(0), "Etag": etag}},
				{name: "HEAD", url: page, method: http.MethodHead, status: 200, want: map[string]string{"Last-Modified": at(0), "Content-Length": "6"}},
				since("since then", at(0), 304),
				since("since later", at(time.Hour), 304),
				since("since before", at(-time.Second), 200),
				since("since no time at all", "yesterday", 200),
				since("the tag counts before the time", at(0), 200, "If-None-Match", `"another"`),
				since("the tag without the time", at(-time.Hour), 304, "If-None-Match", etag),
				{name: "a block is as old as itself", url: page + "?format=raw", header: []string{"If-Modified-Since", at(time.Hour)}, status: 200},
				{name: "a part of the one of then", url: page, header: []string{"Range", "bytes=0-1", "If-Range", at(0)}, status: 206, body: "da"},
				{name: "a part of one of another time", url: page, header: []string{"Range", "bytes=0-1", "If-Range", at(-time.Hour)}, status: 200, body: "dated\n"},
				{name: "unmodified since", url: page, header: []string{"If-Unmodified-Since", at(0)}, status: 200, body: "dated\n"},
			})
		})
	}
	g.runAll(t, []check{
		{name: "what says no time", url: "/ipfs/" + g.listing.cid.String() + "/ą/ę/file-źł.txt", header: []string{"If-Modified-Since", at(time.Hour)}, status: 200,
			want: map[string]string{"Last-Modified": ""}},
	})
}
