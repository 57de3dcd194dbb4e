package gateway

import (
	"context"
	"io"
	"strings"
	"sync"
	"unicode"

	"github.com/ipfs/go-cid"
	"golang.org/x/net/html"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/merkle"
)

const (
	maxTitles    = 4096     // that are remembered
	maxTitleRead = 64 << 10 // of a page, in bytes
	maxTitle     = 120      // of a title, in characters
)

// titles knows the titles of sites: those of their first pages. Safe for
// concurrent use, ready as its zero value.
type titles struct {
	mu    sync.Mutex
	known map[cid.Cid]string // by root
}

// of is the title of a root's first page; empty where it has none, or the page
// can't be had from blocks before ctx ends.
func (t *titles) of(ctx context.Context, blocks blockstore.Getter, root cid.Cid) string {
	if !root.Defined() {
		return ""
	}
	t.mu.Lock()
	title, ok := t.known[root]
	t.mu.Unlock()
	if ok {
		return title
	}
	title, err := readTitle(ctx, blocks, root)
	if err != nil {
		return "" // it may be here later
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known == nil || len(t.known) >= maxTitles {
		t.known = make(map[cid.Cid]string)
	}
	t.known[root] = title
	return title
}

func readTitle(ctx context.Context, blocks blockstore.Getter, root cid.Cid) (string, error) {
	id, err := merkle.Resolve(ctx, blocks, root, "index.html")
	if err != nil {
		return "", err
	}
	f, err := merkle.OpenFile(ctx, blocks, id)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return titleOf(io.LimitReader(f, maxTitleRead))
}

// titleOf is the title of an HTML page on one line, cut to maxTitle characters;
// empty where there is none. The error is the reader's.
func titleOf(page io.Reader) (string, error) {
	z := html.NewTokenizer(page)
	z.SetMaxBuf(maxTitleRead)
	for {
		switch z.Next() {
		case html.ErrorToken:
			if err := z.Err(); err != io.EOF && err != html.ErrBufferExceeded {
				return "", err
			}
			return "", nil
		case html.StartTagToken:
			switch name, _ := z.TagName(); string(name) {
			case "title":
				if z.Next() != html.TextToken {
					return "", nil
				}
				return oneLine(html.UnescapeString(string(z.Text()))), nil
			case "body", "svg":
				return "", nil
			}
		}
	}
}

// oneLine drops what doesn't print and cuts a text to maxTitle characters.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return ' '
		}
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, s)), " ")
	if r := []rune(s); len(r) > maxTitle {
		return string(r[:maxTitle-1]) + "…"
	}
	return s
}
