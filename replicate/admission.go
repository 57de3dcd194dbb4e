package replicate

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/naming"
)

// AdmissionConfig is what a host's operator lets in. The zero value is everything.
type AdmissionConfig struct {
	Allow        []naming.Name // sites; nil: any, and pins without one
	MaxSiteBytes int64         // unique bytes under one root; 0: no limit
	Denylist     string        // path of a file, see ParseDenylist; empty: none
}

// Admission decides which pins a host takes. A nil Admission takes all. Safe for concurrent use.
type Admission struct {
	cfg AdmissionConfig

	mu     sync.RWMutex
	denied denials
	file   time.Time // when the file that was read had been written
	size   int64
}

// denials are by multihash, and by name.
type denials struct {
	blocks map[string]struct{}
	names  map[naming.Name]struct{}
}

// OpenAdmission reads the denylist, which has to be there.
func OpenAdmission(cfg AdmissionConfig) (*Admission, error) {
	a := &Admission{cfg: cfg}
	_, err := a.Reload()
	return a, err
}

const maxDenylist = 64 << 20 // bytes

// Reload reads the denylist again where the file has changed, and tells whether it has. With
// an error the list that was read before goes on to hold.
func (a *Admission) Reload() (changed bool, err error) {
	if a == nil || a.cfg.Denylist == "" {
		return false, nil
	}
	f, err := os.Open(a.cfg.Denylist)
	if err != nil {
		return false, fmt.Errorf("denylist: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return false, fmt.Errorf("denylist: %w", err)
	}
	a.mu.RLock()
	same := info.ModTime().Equal(a.file) && info.Size() == a.size
	a.mu.RUnlock()
	if same {
		return false, nil
	}
	if info.Size() > maxDenylist {
		return false, fmt.Errorf("denylist %s is larger than %d bytes", a.cfg.Denylist, maxDenylist)
	}
	cids, names, err := ParseDenylist(io.LimitReader(f, maxDenylist))
	if err != nil {
		return false, fmt.Errorf("%s: %w", a.cfg.Denylist, err)
	}
	d := denials{make(map[string]struct{}, len(cids)), make(map[naming.Name]struct{}, len(names))}
	for _, c := range cids {
		d.blocks[string(c.Hash())] = struct{}{}
	}
	for _, n := range names {
		d.names[n] = struct{}{}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.denied, a.file, a.size = d, info.ModTime(), info.Size()
	return true, nil
}

// ParseDenylist reads a list of CIDs and names, one a line, /ipfs/ or /ipns/ before them or not. Empty lines
// and what follows a # count for nothing. The error names the line.
func ParseDenylist(r io.Reader) (cids []cid.Cid, names []naming.Name, err error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 16<<10)
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		text = strings.TrimSpace(text)
		path, isPath := strings.CutPrefix(text, "/ipfs/")
		if bare, ok := strings.CutPrefix(text, "/ipns/"); ok {
			path, isPath = bare, false
		}
		if path == "" && text == "" {
			continue
		}
		if !isPath {
			if name, err := naming.ParseName(path); err == nil {
				names = append(names, name)
				continue
			}
		}
		c, err := parseCID(path)
		if err == nil {
			err = blockstore.CheckCID(c)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("denylist: line %d is neither a CID nor a name", n)
		}
		cids = append(cids, c)
	}
	return cids, names, lines.Err()
}

// ErrDenied says that the operator doesn't want something here. It is an ErrForbidden.
var ErrDenied = fmt.Errorf("%w: denied by the operator of this host", ErrForbidden)

// Admit refuses a pin of a site that the operator doesn't take, or that is denied. ErrForbidden.
func (a *Admission) Admit(root cid.Cid, terms PinTerms) error {
	if a == nil {
		return nil
	}
	if err := a.Denied(terms.Site, root); err != nil {
		return err
	}
	switch {
	case len(a.cfg.Allow) == 0 || !terms.Site.IsZero() && slices.Contains(a.cfg.Allow, terms.Site):
		return nil
	case terms.Site.IsZero():
		return fmt.Errorf("%w: this host takes certain sites only: say which by %s or %s", ErrForbidden, MetaName, MetaSite)
	}
	return fmt.Errorf("%w: this host doesn't take %s", ErrForbidden, terms.Site)
}

// Denied is ErrDenied where the site or one of the roots is on the denylist. The zero name is no site.
func (a *Admission) Denied(site naming.Name, roots ...cid.Cid) error {
	if a == nil {
		return nil
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	if _, ok := a.denied.names[site]; ok && !site.IsZero() {
		return fmt.Errorf("%w: %s", ErrDenied, site)
	}
	for _, c := range roots {
		if !c.Defined() {
			continue
		}
		if _, ok := a.denied.blocks[string(c.Hash())]; ok {
			return fmt.Errorf("%w: %s", ErrDenied, c)
		}
	}
	return nil
}

// MaxSiteBytes is how many unique bytes one root may have; 0: no limit.
func (a *Admission) MaxSiteBytes() int64 {
	if a == nil {
		return 0
	}
	return a.cfg.MaxSiteBytes
}
