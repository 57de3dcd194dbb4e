package blockstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"
)

func rawBlocks(tb testing.TB, n int) []Block {
	tb.Helper()
	blks := make([]Block, n)
	for i := range blks {
		var err error
		blks[i], err = NewBlock(cid.Prefix{Version: 1, Codec: cid.Raw, MhType: mh.SHA2_256, MhLength: -1}, binary.BigEndian.AppendUint32(nil, uint32(i)))
		if err != nil {
			tb.Fatal(err)
		}
	}
	return blks
}

// Whatever is wrong with the list of what somebody keeps: a collection frees
// nothing, neither what the list named nor anything else.
func TestStorageFaultsCollectFreesNothingWhereAListCantBeRead(t *testing.T) {
	blks := rawBlocks(t, 1200)
	kept, root := blks[:1000], blks[0].Cid()
	for what, damage := range map[string]func(t *testing.T, db *pebble.DB, keys [][]byte){
		"no head":         func(t *testing.T, db *pebble.DB, keys [][]byte) { del(t, db, keys[0]) },
		"no first chunk":  func(t *testing.T, db *pebble.DB, keys [][]byte) { del(t, db, keys[1]) },
		"no middle chunk": func(t *testing.T, db *pebble.DB, keys [][]byte) { del(t, db, keys[3]) },
		"no last chunk":   func(t *testing.T, db *pebble.DB, keys [][]byte) { del(t, db, keys[len(keys)-1]) },
		"nothing at all":  func(t *testing.T, db *pebble.DB, keys [][]byte) { del(t, db, keys...) },
		"a newer version": func(t *testing.T, db *pebble.DB, keys [][]byte) { set(t, db, keys[0], []byte{2, 0, 0, 0}) },
		"an empty chunk":  func(t *testing.T, db *pebble.DB, keys [][]byte) { set(t, db, keys[2], nil) },
		"a cut chunk": func(t *testing.T, db *pebble.DB, keys [][]byte) {
			v, closer, err := db.Get(keys[2])
			if err != nil {
				t.Fatal(err)
			}
			short := slices.Clone(v[:len(v)-1])
			closer.Close()
			set(t, db, keys[2], short)
		},
		"a count gone": func(t *testing.T, db *pebble.DB, _ [][]byte) { del(t, db, countKey(nil, hashString(root), 1)) },
		"a count changed": func(t *testing.T, db *pebble.DB, _ [][]byte) {
			set(t, db, countKey(nil, hashString(root), 1), []byte{2})
		},
		"no ledger":          func(t *testing.T, db *pebble.DB, _ [][]byte) { del(t, db, keyLedger) },
		"an odd owner's key": func(t *testing.T, db *pebble.DB, keys [][]byte) { set(t, db, []byte{kindRoot, 200}, nil) },
		"an odd shield":      func(t *testing.T, db *pebble.DB, keys [][]byte) { set(t, db, []byte{kindShield, 200}, nil) },
	} {
		t.Run(what, func(t *testing.T) {
			s, err := OpenDisk(t.Context(), t.TempDir(), DiskOptions{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			sess, err := s.Begin(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := sess.Put(t.Context(), blks...); err != nil {
				t.Fatal(err)
			}
			if err := sess.Keep(t.Context(), "owner", root, func(yield func(cid.Cid) bool) {
				for _, b := range kept {
					if !yield(b.Cid()) {
						return
					}
				}
			}); err != nil {
				t.Fatal(err)
			}
			if err := sess.Close(); err != nil {
				t.Fatal(err)
			}
			db := s.(*disk).db
			var keys [][]byte
			if err := scan(db, manifestPrefix(root), func(rest, _ []byte) error {
				keys = append(keys, append(manifestPrefix(root), rest...))
				return nil
			}); err != nil || len(keys) < 5 {
				t.Fatalf("%d keys, %v", len(keys), err)
			}
			damage(t, db, keys)
			c, err := s.Collect(t.Context(), CollectOptions{SessionGrace: -1})
			if !errors.Is(err, ErrCorrupt) || c != (Collected{}) {
				t.Errorf("Collect: %+v, %v", c, err)
			}
			for _, b := range blks {
				if _, err := s.Get(t.Context(), b.Cid()); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func del(t *testing.T, db *pebble.DB, keys ...[]byte) {
	t.Helper()
	for _, k := range keys {
		if err := db.Delete(k, pebble.NoSync); err != nil {
			t.Fatal(err)
		}
	}
}

func set(t *testing.T, db *pebble.DB, k, v []byte) {
	t.Helper()
	if err := db.Set(k, v, pebble.NoSync); err != nil {
		t.Fatal(err)
	}
}

func FuzzCheckBlock(f *testing.F) {
	for _, b := range rawBlocks(f, 2) {
		f.Add(b.Cid().Bytes(), b.RawData())
	}
	identity, _ := cid.Prefix{Version: 1, Codec: cid.Raw, MhType: mh.IDENTITY, MhLength: -1}.Sum([]byte("abc"))
	f.Add(identity.Bytes(), []byte("abc"))
	f.Fuzz(func(t *testing.T, c, data []byte) {
		id, err := cid.Cast(c)
		if err != nil {
			return
		}
		b, err := CheckBlock(id, data)
		if err != nil {
			return
		}
		sum, err := id.Prefix().Sum(data)
		if err != nil || !bytes.Equal(sum.Hash(), id.Hash()) || !bytes.Equal(b.RawData(), data) || b.Cid() != id {
			t.Errorf("%s was taken for %x", id, data)
		}
	})
}

// What is read back from the database may have been damaged in ways that its
// checksums don't see: it is parsed without a panic, and what is taken is bounded.
func FuzzStoredRecords(f *testing.F) {
	var m manifest
	for _, b := range rawBlocks(f, 3) {
		m.add(b.Cid(), int64(b.Size()))
	}
	f.Add(m.chunks[0])
	f.Add([]byte{manifestVersion, 1, 2, 3})
	f.Fuzz(func(t *testing.T, v []byte) {
		_, _, _, _ = parseManifestHead(v)
		if p, err := parsePlace(v); err == nil && ((p.segment == 0) != (p.file > 0) || p.size > MaxBlockSize || p.offset < 0) {
			t.Errorf("%x was taken for %+v", v, p)
		}
		_ = newMarked().addAll(v)
		for rest := v; len(rest) > 0; {
			e, r, err := parseKept(rest)
			if err != nil {
				break
			}
			if len(r) >= len(rest) || !e.cid.Defined() || e.size < 0 || e.size > MaxBlockSize {
				t.Fatalf("%x was taken for %+v", rest, e)
			}
			rest = r
		}
		if h, err := Cursor(v).multihash(); err == nil {
			if again, err := cursorAt(h).multihash(); err != nil || again != h {
				t.Errorf("cursor %q", v)
			}
		}
	})
}
