package blockstore_test

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/blockstore/storetest"
)

func TestStorageFaultsSecondOpenerIsToldWhoHasTheStore(t *testing.T) {
	dir := t.TempDir()
	s := openDisk(t, dir, blockstore.DiskOptions{Holder: "the first one"})
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{dir, link, dir + "/."} {
		for _, readOnly := range []bool{false, true} {
			_, err := blockstore.OpenDisk(t.Context(), d, blockstore.DiskOptions{ReadOnly: readOnly})
			if !errors.Is(err, blockstore.ErrLocked) || !strings.Contains(err.Error(), "the first one") {
				t.Errorf("OpenDisk(%s): %v", d, err)
			}
		}
	}
	cmd := child(t, "lock", dir)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "locked: true") {
		t.Errorf("another process: %v\n%s", err, out)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := openDisk(t, link, blockstore.DiskOptions{}).Close(); err != nil {
		t.Error(err)
	}
}

func TestOtherOpenErrorsAreNotTakenForALock(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := blockstore.OpenDisk(t.Context(), file, blockstore.DiskOptions{}); err == nil || errors.Is(err, blockstore.ErrLocked) {
		t.Errorf("OpenDisk in a file: %v", err)
	}
	absent := filepath.Join(t.TempDir(), "absent")
	if _, err := blockstore.OpenDisk(t.Context(), absent, blockstore.DiskOptions{ReadOnly: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("OpenDisk of nothing, read-only: %v", err)
	}
	if _, err := os.Stat(absent); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it was made: %v", err)
	}
}

func TestStoreOfTheFormatBeforeTheFirstReleaseIsRefusedNotHidden(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "db"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := blockstore.OpenDisk(t.Context(), dir, blockstore.DiskOptions{}); err == nil || !strings.Contains(err.Error(), "first release") {
		t.Errorf("OpenDisk: %v", err)
	}
}

func TestReadOnlyStoreReadsAndRefusesToWrite(t *testing.T) {
	dir := t.TempDir()
	blks := sample(t, dir)
	s := openDisk(t, dir, blockstore.DiskOptions{ReadOnly: true})
	defer s.Close()
	for b, err := range s.GetMany(t.Context(), storetest.CIDs(blks)) {
		if err != nil {
			t.Fatalf("%v: %v", b, err)
		}
	}
	if u, err := s.Usage(t.Context(), "owner"); err != nil || u.Blocks != int64(len(blks)) {
		t.Errorf("Usage = %+v, %v", u, err)
	}
	if c, err := s.Collect(t.Context(), blockstore.CollectOptions{DryRun: true}); err != nil || c.Blocks != 0 {
		t.Errorf("dry run: %+v, %v", c, err)
	}
	_, err1 := s.Begin(t.Context(), "")
	_, err2 := s.Collect(t.Context(), blockstore.CollectOptions{})
	for _, err := range []error{err1, err2, s.Release(t.Context(), "owner", blks[0].Cid())} {
		if !errors.Is(err, blockstore.ErrReadOnly) {
			t.Errorf("%v", err)
		}
	}
}

func TestStatOfBigBlocksDoesNotReadThem(t *testing.T) {
	dir := t.TempDir()
	s := openDisk(t, dir, blockstore.DiskOptions{})
	blks := storetest.Blocks(t, 1, 8, 1<<20)
	put(t, s, blks...)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// Without the files in which they are, sizes are known all the same.
	for _, segment := range segments(t, dir) {
		if err := os.Remove(segment); err != nil {
			t.Fatal(err)
		}
	}
	s = openDisk(t, dir, blockstore.DiskOptions{})
	defer s.Close()
	infos, err := s.Stat(t.Context(), storetest.CIDs(blks))
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range infos {
		if !i.Present || i.Size != 1<<20 {
			t.Errorf("%+v", i)
		}
	}
	if _, err = s.Get(t.Context(), blks[0].Cid()); !errors.Is(err, blockstore.ErrCorrupt) {
		t.Errorf("Get without its file: %v", err)
	}
}

func segments(t *testing.T, dir string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, "segments", "*.car"))
	if err != nil || len(all) == 0 {
		t.Fatalf("%v, %v", all, err)
	}
	return all
}

func TestCollectGivesSpaceBack(t *testing.T) {
	s := openDisk(t, t.TempDir(), blockstore.DiskOptions{})
	defer s.Close()
	blks := storetest.Blocks(t, 1, 300, 100<<10)
	sess := begun(t, s, "", blks...)
	stay := storetest.Blocks(t, 1, 300, 100<<10)[:75]
	if err := sess.Keep(t.Context(), "owner", stay[0].Cid(), storetest.All(stay...)); err != nil {
		t.Fatal(err)
	}
	if err := sess.Close(); err != nil {
		t.Fatal(err)
	}
	if c, err := s.Collect(t.Context(), blockstore.CollectOptions{}); err != nil || c.Blocks != 225 {
		t.Fatalf("Collect: %+v, %v", c, err)
	}
	if size, err := s.Size(t.Context()); err != nil || size > 75*(100<<10)*103/100 {
		t.Errorf("%d bytes are left for %d that are kept, %v", size, 75*(100<<10), err)
	}
}

// The children: this test binary, started again by tests that need a process of their own.

func child(t *testing.T, what, dir string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, "-test.run=^TestChild$")
	cmd.Env = append(os.Environ(), "BLOCKSTORE_CHILD="+what, "BLOCKSTORE_DIR="+dir)
	return cmd
}

func TestChild(t *testing.T) {
	dir := os.Getenv("BLOCKSTORE_DIR")
	switch os.Getenv("BLOCKSTORE_CHILD") {
	case "":
		t.Skip("for tests that start this binary again")
	case "lock":
		_, err := blockstore.OpenDisk(t.Context(), dir, blockstore.DiskOptions{})
		fmt.Println("locked:", errors.Is(err, blockstore.ErrLocked), err)
	case "write":
		writeForEver(t, dir)
	}
}

const killBatch = 40

// killBlocks is what the child writes in round i: small and large ones.
func killBlocks(tb testing.TB, i int) []blockstore.Block {
	return append(storetest.Blocks(tb, 1000+i, killBatch-2, 300+i), storetest.Blocks(tb, 1000+i, 2, 200<<10)...)
}

// writeForEver puts, syncs and keeps rounds of blocks and says what was
// acknowledged, until it is killed.
func writeForEver(t *testing.T, dir string) {
	s := openDisk(t, dir, blockstore.DiskOptions{})
	sess, err := s.Begin(t.Context(), "writer")
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; ; i++ {
		blks := killBlocks(t, i)
		if _, err := sess.Put(t.Context(), blks...); err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 {
			if err := sess.Keep(t.Context(), "owner", blks[0].Cid(), storetest.All(blks...)); err != nil {
				t.Fatal(err)
			}
			fmt.Println("kept", i)
		} else if i%3 == 1 {
			if err := sess.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			fmt.Println("synced", i)
		}
	}
}

func TestStorageFaultsSIGKILLTakesNothingAcknowledged(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no SIGKILL")
	}
	rounds := []int{1, 2, 5, 17, 40}
	if testing.Short() {
		rounds = []int{5}
	}
	for _, n := range rounds {
		dir := t.TempDir()
		cmd := child(t, "write", dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		acknowledged := map[int]string{}
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			var what string
			var i int
			if _, err := fmt.Sscanf(lines.Text(), "%s %d", &what, &i); err != nil {
				t.Errorf("the child says %q", lines.Text())
				break
			}
			acknowledged[i] = what
			if len(acknowledged) == n {
				cmd.Process.Kill()
			}
		}
		cmd.Wait()
		checkAfterKill(t, dir, acknowledged)
	}
}

func checkAfterKill(t *testing.T, dir string, acknowledged map[int]string) {
	t.Helper()
	if len(acknowledged) == 0 {
		t.Fatal("nothing was acknowledged")
	}
	s := openDisk(t, dir, blockstore.DiskOptions{})
	defer s.Close()
	// Even a collection must leave it: what is kept, and what the killed session shields.
	if _, err := s.Collect(t.Context(), blockstore.CollectOptions{}); err != nil {
		t.Fatal(err)
	}
	for i, what := range acknowledged {
		blks := killBlocks(t, i)
		for b, err := range s.GetMany(t.Context(), storetest.CIDs(blks)) {
			if err != nil {
				t.Fatalf("round %d was %s: %v: %v", i, what, b, err)
			}
		}
		if what != "kept" {
			continue
		}
		n := 0
		for _, err := range s.KeptCIDs(t.Context(), blks[0].Cid()) {
			if err != nil {
				t.Fatalf("round %d was kept: %v", i, err)
			}
			n++
		}
		if n != killBatch {
			t.Fatalf("round %d was kept with %d blocks: %d are left", i, killBatch, n)
		}
	}
}

func TestADamagedJournalOfAnEmptyStoreIsWrittenAnew(t *testing.T) {
	dir := t.TempDir()
	if err := openDisk(t, dir, blockstore.DiskOptions{}).Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "kept"), []byte("no journal\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := openDisk(t, dir, blockstore.DiskOptions{})
	defer s.Close()
	b := storetest.Blocks(t, 1, 1, 100)[0]
	sess := begun(t, s, "", b)
	defer sess.Close()
	if err := sess.Keep(t.Context(), "owner", b.Cid(), storetest.All(b)); err != nil {
		t.Fatal(err)
	}
}
