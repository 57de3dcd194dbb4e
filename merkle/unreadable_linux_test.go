package merkle

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
)

func TestBuildNamesUnreadableFilesAndFoldersAtOnce(t *testing.T) {
	top := tree(t, map[string]string{"fine": "x", "secret": "x", "sub/secret": "x", "closed/x": "x"})
	const nobody = 65534
	for _, p := range []string{"secret", "sub/secret", "closed"} {
		if err := os.Chmod(filepath.Join(top, p), 0); err != nil {
			t.Fatal(err)
		}
	}
	defer os.Chmod(filepath.Join(top, "closed"), 0o700)
	// In one goroutine, on one thread: Build's workers run on others, and when one
	// of them finds a closed file the same question is asked again in one.
	errs := make(chan error)
	go func() {
		if os.Getuid() == 0 {
			// Root reads everything, so look with the eyes of somebody else. The
			// thread is not given back: it ends with the goroutine.
			for p := top; p != os.TempDir(); p = filepath.Dir(p) {
				os.Chmod(p, 0o755)
			}
			runtime.LockOSThread()
			syscall.Setfsgid(nobody)
			syscall.Setfsuid(nobody)
		}
		_, err := scan(context.Background(), top, BuildOptions{Workers: 1})
		errs <- err
	}()
	err := <-errs
	all, ok := errors.AsType[*UnpublishableError](err)
	if !ok || len(all.Paths) != 3 || all.Paths[0].Path != "closed" || all.Paths[1].Path != "secret" || all.Paths[2].Path != "sub/secret" {
		t.Errorf("got %v", err)
	}
	if !errors.Is(err, os.ErrPermission) {
		t.Errorf("the cause is lost: %v", err)
	}
}
