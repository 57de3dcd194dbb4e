package author

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestOnlyTheLastBuildsAreRemembered(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, age int) {
		path, when := filepath.Join(dir, name), time.Unix(1_800_000_000-int64(age), 0)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, when, when); err != nil {
			t.Fatal(err)
		}
	}
	write("preflight-site", 1<<20)
	for i := range maxBuildCaches + 2 {
		write(fmt.Sprintf("%s%02d", buildCachePrefix, i), i)
	}
	if err := forgetBuilds(dir); err != nil {
		t.Fatal(err)
	}
	for name, kept := range map[string]bool{"preflight-site": true, "build-00": true, "build-31": true, "build-32": false, "build-33": false} {
		if _, err := os.Stat(filepath.Join(dir, name)); (err == nil) != kept {
			t.Errorf("%s: %v", name, err)
		}
	}
}
