package author_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/internal/author"
)

func TestAPublishOfWhatIsPublishedPublishesNothingWhereOnlyChangesAreWanted(t *testing.T) {
	m := startAuthor(t)
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("index.html", "one")
	write("other.html", "other")
	none := 0
	req := author.PublishRequest{Dir: dir, Alias: "blog", Copies: &none, OnlyChanged: true}
	first := ask[author.Published](m, "publish", req)
	if first.Unchanged || first.Sequence != 1 {
		t.Fatalf("the first one: %+v", first)
	}
	write("index.html", "one")
	if again := ask[author.Published](m, "publish", req); !again.Unchanged || again.Root != first.Root || again.Sequence != 0 {
		t.Errorf("the same again: %+v", again)
	}
	write("index.html", "two")
	write("new.html", "new")
	second := ask[author.Published](m, "publish", req)
	if second.Unchanged || second.Sequence != 2 || second.Number != 2 || second.Changed != 2 {
		t.Errorf("two files changed: %+v", second)
	}
	req.OnlyChanged = false
	if renewed := ask[author.Published](m, "publish", req); renewed.Sequence != 3 || renewed.Number != 2 {
		t.Errorf("published again on purpose: %+v", renewed)
	}
}

func TestAWatchSeesEverySaveAndWaitsForAFolderThatIsMadeAnew(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "public")
	page := filepath.Join(dir, "index.html")
	save := func(text string) {
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(page, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	save("one")
	ctx, stop := context.WithCancel(t.Context())
	published, ended := make(chan string, 100), make(chan error, 1)
	go func() {
		ended <- author.Watch(ctx, author.WatchOptions{Dir: dir, Publish: func(context.Context) (author.Attempt, error) {
			text, err := os.ReadFile(page)
			if err != nil {
				return author.FailedSoon, nil
			}
			published <- string(text)
			return author.Succeeded, nil
		}})
	}()
	await := func(text string) {
		t.Helper()
		for late := time.After(time.Minute); ; {
			select {
			case got := <-published:
				if got == text {
					return
				}
			case <-late:
				t.Fatalf("%q is never published", text)
			}
		}
	}
	await("one")
	save("two")
	await("two")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	save("three")
	await("three")
	save("four")
	await("four")
	stop()
	if err := <-ended; err != nil {
		t.Errorf("it ended with %v", err)
	}
}

func TestAWatchOfNoFolderIsRefused(t *testing.T) {
	err := author.Watch(t.Context(), author.WatchOptions{Dir: filepath.Join(t.TempDir(), "none")})
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the error is %v", err)
	}
}
