package deny

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	gopath "path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/naming"
)

// Extension is that of lists' files.
const Extension = ".deny"

// maxList is how large a list may be, in bytes.
const maxList = 512 << 20

// Config says where lists are. The zero value is none, ever.
type Config struct {
	// Dir is a folder: its *.deny files are lists, in the order of their names. It need not exist.
	Dir string
	// Files are lists that come before those of Dir. They have to exist.
	Files []string
}

// Lists are what is denied now. A nil *Lists denies nothing. Safe for concurrent use.
type Lists struct {
	cfg        Config
	now        atomic.Pointer[table]
	generation atomic.Uint64

	writing sync.Mutex // one change of the local list at a time

	mu      sync.Mutex // one reload at a time
	seen    []version
	sum     [sha256.Size]byte // of what they said
	settled bool              // a change since then shows in seen
}

// version is what tells that a file is as it was.
type version struct {
	path string
	mod  time.Time
	size int64
}

// clockGrain is how far apart two changes of a file must lie to be told from each other by their times for certain.
const clockGrain = 2 * time.Second

// Open reads the lists.
func Open(cfg Config) (*Lists, error) {
	l := &Lists{cfg: cfg}
	l.now.Store(newTable())
	_, err := l.Reload()
	return l, err
}

// Reload reads all lists again where a file has changed, come or gone, and tells
// whether one has. With an error, what was read before goes on to hold.
func (l *Lists) Reload() (changed bool, err error) {
	if l == nil {
		return false, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	files, err := l.cfg.files()
	if err != nil {
		return false, fmt.Errorf("denylist: %w", err)
	}
	same := slices.Equal(files, l.seen)
	if same && l.settled {
		return false, nil
	}
	young := time.Now().Add(-clockGrain)
	settled := !slices.ContainsFunc(files, func(f version) bool { return f.mod.After(young) })
	t, text := newTable(), sha256.New()
	for _, f := range files {
		if err := t.read(f.path, text); err != nil {
			return false, fmt.Errorf("denylist %w", err)
		}
	}
	sum := [sha256.Size]byte(text.Sum(nil))
	same = same && sum == l.sum
	l.seen, l.sum, l.settled = files, sum, settled
	if same {
		return false, nil
	}
	l.now.Store(t)
	l.generation.Add(1)
	return true, nil
}

// files are the lists' as they are now.
func (cfg Config) files() (out []version, err error) {
	paths := slices.Clone(cfg.Files)
	if cfg.Dir != "" {
		entries, err := os.ReadDir(cfg.Dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), Extension) && !e.IsDir() {
				paths = append(paths, filepath.Join(cfg.Dir, e.Name()))
			}
		}
	}
	for _, p := range paths {
		info, err := os.Stat(p)
		if err != nil {
			return nil, err
		}
		if info.Size() > maxList {
			return nil, fmt.Errorf("%s is larger than %d bytes", p, maxList)
		}
		out = append(out, version{p, info.ModTime(), info.Size()})
	}
	return out, nil
}

func (t *table) read(path string, text io.Writer) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return t.add(filepath.Base(path), io.TeeReader(io.LimitReader(f, maxList), text))
}

// Watch reloads whenever a file has changed, looking every so often, until ctx
// ends. After is called after each look that found a change, with the error
// that kept it from being taken over, if any.
func (l *Lists) Watch(ctx context.Context, every time.Duration, after func(err error)) error {
	if l == nil {
		return nil
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	last := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		changed, err := l.Reload()
		if text := fmt.Sprint(err); changed || text != last {
			if last = text; changed || err != nil {
				after(err)
			}
		}
	}
}

// Generation is another number after each change of the lists.
func (l *Lists) Generation() uint64 {
	if l == nil {
		return 0
	}
	return l.generation.Load()
}

// Rules is how many there are.
func (l *Lists) Rules() int {
	if l == nil {
		return 0
	}
	return l.now.Load().rules
}

// Empty tells whether nothing is denied.
func (l *Lists) Empty() bool { return l.Rules() == 0 }

// Path is an *Error where a content path ("/ipfs/CID/a/b" or "/ipns/NAME/a/b",
// not escaped) is denied. Allowed tells that a rule says it is not; then no
// rule for the CID alone counts against what is on the way to it.
func (l *Lists) Path(path string) (allowed bool, err error) {
	if l.Empty() {
		return false, nil
	}
	t := l.now.Load()
	ns, id, rest := split(path)
	var r *rule
	switch ns {
	case "ipns":
		r = t.name(id, rest)
	case "ipfs":
		c, err := cid.Decode(id)
		if err != nil {
			return false, nil
		}
		r = t.block(c, rest)
	}
	return r != nil && r.allow, t.denial(r, path)
}

// CID is an *Error where a block is denied, whatever leads to it.
func (l *Lists) CID(c cid.Cid) error {
	if l.Empty() {
		return nil
	}
	t := l.now.Load()
	if r := t.block(c, ""); r != nil && !r.allow {
		return t.denial(r, "/ipfs/"+c.String())
	}
	return nil
}

// Below is an *Error where something further down than a content path is denied by its path.
func (l *Lists) Below(path string) error {
	if l.Empty() {
		return nil
	}
	t := l.now.Load()
	ns, id, rest := split(path)
	var chain *rule
	switch ns {
	case "ipns":
		if key, ok := nameKey(id); ok {
			chain = t.names[key]
		}
	case "ipfs":
		c, err := cid.Decode(id)
		if err != nil {
			return nil
		}
		chain = t.blocks[string(c.Hash())]
	}
	return t.denial(below(chain, rest), path)
}

// split cuts a content path. What readers get by "a//b" is what is at "a/b".
func split(path string) (ns, id, rest string) {
	ns, rest, _ = strings.Cut(strings.TrimPrefix(gopath.Clean("/"+path), "/"), "/")
	id, rest, _ = strings.Cut(rest, "/")
	return ns, id, rest
}

// Name is an *Error where a name is denied.
func (l *Lists) Name(n naming.Name) error {
	_, err := l.Path("/ipns/" + n.String())
	return err
}

func (t *table) denial(r *rule, what string) error {
	if r == nil || r.allow {
		return nil
	}
	return &Error{What: what, Rule: Rule{File: t.files[r.file], Line: int(r.line), Reason: r.reason}, Status: int(r.status)}
}
