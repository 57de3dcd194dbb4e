package merkle

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strings"

	"github.com/ipfs/boxo/ipld/unixfs"
	"github.com/ipfs/boxo/ipld/unixfs/hamt"
	"github.com/ipfs/go-bitfield"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/spaolacci/murmur3"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// dirent is one name in a folder.
type dirent struct {
	name string
	cid  cid.Cid
	size uint64 // of the whole sub-DAG, as the link says: a hint
}

// fanout is the number of slots of a shard, and what follows from it.
type fanout int

const maxFanout = 1024 // boxo's

func (f fanout) valid() bool {
	return f >= 8 && f <= maxFanout && f&(f-1) == 0
}

// hashBits is how many bits of a name's hash one level takes.
func (f fanout) hashBits() int { return bits.TrailingZeros(uint(f)) }

// width is how many hex digits the names of a shard's links begin with.
func (f fanout) width() int { return (f.hashBits() + 3) / 4 }

// slot of a name in a shard below others that have taken used bits of its hash.
func (f fanout) slot(name string, used int) int {
	h := murmur3.Sum64([]byte(name))
	return int(h << used >> (64 - f.hashBits()))
}

func (n *fsNode) asShard(fs *unixfs.FSNode) error {
	if fs.HashType() != hamt.HashMurmur3 {
		return fmt.Errorf("a shard with hash function 0x%x", fs.HashType())
	}
	if fs.Fanout() > maxFanout || !fanout(fs.Fanout()).valid() {
		return fmt.Errorf("a shard with fanout %d", fs.Fanout())
	}
	n.fanout = fanout(fs.Fanout())
	if len(fs.Data()) > int(n.fanout)/8 {
		return fmt.Errorf("a bitfield of %d bytes for fanout %d", len(fs.Data()), n.fanout)
	}
	field, err := bitfield.NewBitfield(int(n.fanout))
	if err != nil {
		return err
	}
	field.SetBytes(fs.Data())
	if field.Ones() != len(n.links) {
		return fmt.Errorf("%d links for %d bits", len(n.links), field.Ones())
	}
	for slot := range int(n.fanout) {
		if !field.Bit(slot) {
			continue
		}
		name := n.links[len(n.slots)].Name
		if !strings.HasPrefix(name, fmt.Sprintf("%0*X", n.fanout.width(), slot)) {
			return fmt.Errorf("link %q in slot %X", name, slot)
		}
		if len(name) == n.fanout.width() && n.links[len(n.slots)].Cid.Prefix().Codec != cid.DagProtobuf {
			return fmt.Errorf("no shard below, in slot %X", slot)
		}
		n.slots = append(n.slots, slot)
	}
	return nil
}

// slotEntry is what the i-th link of a shard leads to. The name is empty where
// that is a shard below.
func (n *fsNode) slotEntry(i int) dirent {
	l := n.links[i]
	return dirent{l.Name[n.fanout.width():], l.Cid, l.Size}
}

// shardBelow fetches the shard that a link of n leads to. used counts the bits
// of the hash that are used up including n's.
func shardBelow(ctx context.Context, get nodeGetter, c cid.Cid, used int) (*fsNode, error) {
	n, err := get(ctx, c)
	if err != nil {
		return nil, err
	}
	if n.kind != kindShard {
		return nil, malformed(c, errors.New("not a shard, in a shard's place"))
	}
	if used+n.fanout.hashBits() > 64 {
		return nil, malformed(c, errors.New("shards nested deeper than a hash has bits"))
	}
	if len(n.links) == 0 {
		// Without this, few empty shards could stand for a tree of any size.
		return nil, malformed(c, errors.New("an empty shard below another"))
	}
	return n, nil
}

// errEnough ends a walk through shards before it is through.
var errEnough = errors.New("enough")

// entries of a folder, sorted by name; every name stands once.
func (n *fsNode) entries(ctx context.Context, g blockstore.Getter) ([]dirent, error) {
	out, _, err := n.someEntries(ctx, g, math.MaxInt)
	return out, err
}

// someEntries is entries that ends where a sharded folder has more than most,
// and tells so: then they are any of them.
func (n *fsNode) someEntries(ctx context.Context, g blockstore.Getter, most int) (out []dirent, more bool, err error) {
	switch n.kind {
	case kindFolder:
		out = make([]dirent, len(n.links))
		for i, l := range n.links {
			out[i] = dirent{l.Name, l.Cid, l.Size}
		}
	case kindShard:
		err := n.shardEntries(ctx, g, 0, func(e dirent) error {
			if len(out) == most {
				return errEnough
			}
			out = append(out, e)
			return nil
		})
		if more = errors.Is(err, errEnough); err != nil && !more {
			return nil, false, err
		}
	default:
		return nil, false, fmt.Errorf("%s: %w: not a folder", n.cid, ErrNoPath)
	}
	slices.SortStableFunc(out, func(a, b dirent) int { return strings.Compare(a.name, b.name) })
	for i := 1; i < len(out); i++ {
		if out[i].name == out[i-1].name {
			return nil, false, malformed(n.cid, fmt.Errorf("the name %q stands twice", out[i].name))
		}
	}
	return out, more, nil
}

// placed refuses names that don't belong where they are: lookups would not find
// them, and one name could stand in many places.
func (n *fsNode) placed(used int) error {
	for i, slot := range n.slots {
		if e := n.slotEntry(i); e.name != "" && n.fanout.slot(e.name, used) != slot {
			return malformed(n.cid, fmt.Errorf("the name %q in the wrong slot", e.name))
		}
	}
	return nil
}

// shardEntries calls f for everything under a shard, until that is an error.
func (n *fsNode) shardEntries(ctx context.Context, g blockstore.Getter, used int, f func(dirent) error) error {
	if err := n.placed(used); err != nil {
		return err
	}
	for i := range n.slots {
		e := n.slotEntry(i)
		if e.name == "" {
			below, err := shardBelow(ctx, nodesOf(g), e.cid, used+n.fanout.hashBits())
			if err != nil {
				return err
			}
			if err := below.shardEntries(ctx, g, used+n.fanout.hashBits(), f); err != nil {
				return err
			}
			continue
		}
		if err := f(e); err != nil {
			return err
		}
	}
	return nil
}

// lookup finds one name in a folder, reading only the shards on its way.
// ErrNoPath where it is not there.
func (n *fsNode) lookup(ctx context.Context, get nodeGetter, name string) (dirent, error) {
	switch n.kind {
	case kindFolder:
		return n.plainEntry(name)
	case kindShard:
	default:
		return dirent{}, fmt.Errorf("%w: what should hold it is not a folder", ErrNoPath)
	}
	for used := 0; ; {
		i, ok := slices.BinarySearch(n.slots, n.fanout.slot(name, used))
		if !ok {
			return dirent{}, ErrNoPath
		}
		e := n.slotEntry(i)
		if e.name == name {
			return e, nil
		}
		if e.name != "" {
			return dirent{}, ErrNoPath
		}
		used += n.fanout.hashBits()
		var err error
		if n, err = shardBelow(ctx, get, e.cid, used); err != nil {
			return dirent{}, err
		}
	}
}

// plainEntry finds a name in a folder without shards. One that stands twice is
// an error here too: else it would depend on the reader what it leads to.
func (n *fsNode) plainEntry(name string) (dirent, error) {
	called := func(l *ipld.Link) bool { return l.Name == name }
	i := slices.IndexFunc(n.links, called)
	if i < 0 {
		return dirent{}, ErrNoPath
	}
	if slices.ContainsFunc(n.links[i+1:], called) {
		return dirent{}, malformed(n.cid, fmt.Errorf("the name %q stands twice", name))
	}
	return dirent{name, n.links[i].Cid, n.links[i].Size}, nil
}
