package deny_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/naming/deny"
)

// specExample is the specification's own.
const specExample = `version: 1
name: Example IPFSCorp blocking list
description: A collection of bad things we have found in the universe
author: abuse-ipfscorp@example.com
hints:
  hint: value
  gateway_status: "451"
---
# Blocking by CID is codec-agnostic (blocks by multihash).
/ipfs/bafybeihvvulpp4evxj7x7armbqcyg6uezzuig6jp3lktpbovlqfkuqeuoq

/ipfs/Qmah2YDTfrox4watLCr3YgKyBwvjq8FJZEFdWY6WtJ3Xt2/test*
/ipfs/QmTuvSQbEDR3sarFAN9kAeXBpiBCyYYNxdxciazBba11eC/test/*

/ipfs/QmUboz9UsQBDeS6Tug1U8jgoFkgYxyYood9NDyVURAY9pK/blocked*
!/ipfs/QmUboz9UsQBDeS6Tug1U8jgoFkgYxyYood9NDyVURAY9pK/blockednot
!/ipfs/QmUboz9UsQBDeS6Tug1U8jgoFkgYxyYood9NDyVURAY9pK/blocked/not
!/ipfs/QmUboz9UsQBDeS6Tug1U8jgoFkgYxyYood9NDyVURAY9pK/blocked/exceptions*

/ipns/domain.example
/ipns/domain2.example/path gateway_status:410 reason:by_order
/ipns/k51qzi5uqu5dhmzyv3zac033i7rl9hkgczxyl81lwoukda2htteop7d3x0y1mf

//QmX9dhRcQcKUw3Ws8485T5a9dtjrSCQaUAHnG4iK9i4ceM
//gW813G35CnLsy7gRYYHuf63hrz71U1xoLFDVeV7actx6oX
//d9d295bde21f422d471a90f2a37ec53049fdf3e5fa3ee2e8f20e10003da429e7
//c555c4de78827ba42527dd3dc5398db38d6c0a8c345a88e0158b2d100f317e50
//3f8b9febd851873b3774b937cce126910699ceac56e72e64b866f8e258d09572
`

// open reads lists, the names of which are those of the first, the second…
func open(t testing.TB, texts ...string) (*deny.Lists, error) {
	dir := t.TempDir()
	for i, text := range texts {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.deny", i)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return deny.Open(deny.Config{Dir: dir})
}

func mustOpen(t testing.TB, texts ...string) *deny.Lists {
	t.Helper()
	l, err := open(t, texts...)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestTheSpecificationsExampleDeniesWhatItSays(t *testing.T) {
	l := mustOpen(t, specExample)
	for path, status := range map[string]int{
		"/ipfs/bafybeihvvulpp4evxj7x7armbqcyg6uezzuig6jp3lktpbovlqfkuqeuoq":         451,
		"/ipfs/bafybeihvvulpp4evxj7x7armbqcyg6uezzuig6jp3lktpbovlqfkuqeuoq/":        451,
		"/ipfs/Qmah2YDTfrox4watLCr3YgKyBwvjq8FJZEFdWY6WtJ3Xt2":                      0,
		"/ipfs/Qmah2YDTfrox4watLCr3YgKyBwvjq8FJZEFdWY6WtJ3Xt2/test":                 451,
		"/ipfs/Qmah2YDTfrox4watLCr3YgKyBwvjq8FJZEFdWY6WtJ3Xt2/tests/x":              451,
		"/ipfs/Qmah2YDTfrox4watLCr3YgKyBwvjq8FJZEFdWY6WtJ3Xt2/tes":                  0,
		"/ipfs/QmTuvSQbEDR3sarFAN9kAeXBpiBCyYYNxdxciazBba11eC/test/a":               451,
		"/ipfs/QmUboz9UsQBDeS6Tug1U8jgoFkgYxyYood9NDyVURAY9pK/blocked/a":            451,
		"/ipfs/QmUboz9UsQBDeS6Tug1U8jgoFkgYxyYood9NDyVURAY9pK/blockednot":           0,
		"/ipfs/QmUboz9UsQBDeS6Tug1U8jgoFkgYxyYood9NDyVURAY9pK/blockednots":          451,
		"/ipfs/QmUboz9UsQBDeS6Tug1U8jgoFkgYxyYood9NDyVURAY9pK/blocked/not/":         0,
		"/ipfs/QmUboz9UsQBDeS6Tug1U8jgoFkgYxyYood9NDyVURAY9pK/blocked/exceptions/a": 0,
		"/ipns/domain.example":       451,
		"/ipns/DOMAIN.example.":      451,
		"/ipns/domain.example/path":  451,
		"/ipns/domain2.example":      0,
		"/ipns/domain2.example/path": 410,
		"/ipns/k51qzi5uqu5dhmzyv3zac033i7rl9hkgczxyl81lwoukda2htteop7d3x0y1mf":                 451,
		"/ipfs/QmVTF1yEejXd9iMgoRTFDxBv7HAz9kuZcQNBzHrceuK9HR":                                 451,
		"/ipfs/bafybeidjwik6im54nrpfg7osdvmx7zojl5oaxqel5cmsz46iuelwf5acja":                    451,
		"/ipfs/bafyb4ieqht3b2rssdmc7sjv2cy2gfdilxkfh7623nvndziyqnawkmo266a/path":               451,
		"/ipfs/f01701e20903cf61d46521b05f926ba1634628d0bba8a7ffb5b6d5a3ca310682ca63b5ef0/path": 451,
		"/ipfs/bafyb4ieqht3b2rssdmc7sjv2cy2gfdilxkfh7623nvndziyqnawkmo266a/path2":              0,
		"/ipfs/bafybeiefwqslmf6zyyrxodaxx4vwqircuxpza5ri45ws3y5a62ypxti42e":                    451,
		"/ipfs/bafybeiefwqslmf6zyyrxodaxx4vwqircuxpza5ri45ws3y5a62ypxti42e/path":               451,
		"/ipfs/bafybeiefwqslmf6zyyrxodaxx4vwqircuxpza5ri45ws3y5a62ypxti42e/path2":              0,
		"/ipns/bad-domain-name.tld": 451,
		"/":                         0,
		"/ipfs/x":                   0,
	} {
		_, err := l.Path(path)
		var d *deny.Error
		if got := errors.As(err, &d); got != (status != 0) || got && d.Status != status {
			t.Errorf("%s: %v, want %d", path, err, status)
		}
	}
	_, err := l.Path("/ipns/domain2.example/path")
	if !errors.Is(err, deny.ErrDenied) || !strings.Contains(err.Error(), "(by_order)") || err.(*deny.Error).Rule.String() != "0.deny:21" {
		t.Errorf("%v", err)
	}
}

var (
	one = cid.MustParse("bafybeihvvulpp4evxj7x7armbqcyg6uezzuig6jp3lktpbovlqfkuqeuoq")
	two = cid.MustParse("Qmah2YDTfrox4watLCr3YgKyBwvjq8FJZEFdWY6WtJ3Xt2")
)

func TestALaterListOverrulesAnEarlierOne(t *testing.T) {
	l := mustOpen(t, "/ipfs/"+one.String()+"/*\n"+two.String()+" # bare, with a comment\n", "!/ipfs/"+one.String()+"/fine*\n!"+two.String())
	if err := l.CID(one); !errors.Is(err, deny.ErrDenied) {
		t.Errorf("the first: %v", err)
	}
	if allowed, err := l.Path("/ipfs/" + one.String() + "/fine/x"); err != nil || !allowed {
		t.Errorf("allowed by the second list: %v, %v", allowed, err)
	}
	if err := l.CID(cid.NewCidV1(cid.Raw, two.Hash())); err != nil {
		t.Errorf("allowed again: %v", err)
	}
}

func TestAnExceptionBelowANameHolds(t *testing.T) {
	l := mustOpen(t, "/ipns/domain.example\n!/ipns/domain.example/fine*\n")
	for path, denied := range map[string]bool{"": true, "/x": true, "/fine": false, "/fine/x": false} {
		if _, err := l.Path("/ipns/domain.example" + path); (err != nil) != denied {
			t.Errorf("%q: %v", path, err)
		}
	}
}

func TestARuleForAFolderIsNotForItsNamesakes(t *testing.T) {
	l := mustOpen(t, "/ipfs/"+one.String()+"/a/*\n/ipns/domain.example/b//c/*\n")
	for path, denied := range map[string]bool{
		"/ipfs/" + one.String(): false, "/ipfs/" + one.String() + "/a": true, "/ipfs/" + one.String() + "/a/": true, "/ipfs/" + one.String() + "//a//x": true,
		"/ipfs/" + one.String() + "/x/../a": true, "/ipfs/" + one.String() + "/ab": false, "/ipfs/" + one.String() + "/a.html": false,
		"/ipns/domain.example/b/c/d": true, "/ipns/domain.example/b//c": true, "/ipns/domain.example/b/cd": false,
	} {
		if _, err := l.Path(path); (err != nil) != denied {
			t.Errorf("%q: %v", path, err)
		}
	}
	if l.Below("/ipns/domain.example") == nil || l.Below("/ipns/domain.example/b/") == nil || l.Below("/ipns/domain.example/b/c") != nil || l.Below("/ipns/other.example") != nil {
		t.Error("below a name")
	}
}

func TestWhatIsDeniedFurtherDownIsKnownAbove(t *testing.T) {
	l := mustOpen(t, "/ipfs/"+one.String()+"/a/secret\n/ipfs/"+one.String()+"/b*\n!/ipfs/"+one.String()+"/b*\n")
	for path, denied := range map[string]bool{"": true, "a": true, "/a/": true, "a/secret": false, "ab": false, "b": false} {
		if err := l.Below("/ipfs/" + one.String() + "/" + path); (err != nil) != denied {
			t.Errorf("below %q: %v", path, err)
		}
	}
}

func TestAListWithAMistakeIsNamedWithItsLineAndChangesNothing(t *testing.T) {
	for text, want := range map[string]string{
		"# fine\n\nnonsense":                 "0.deny: line 3",
		"version: 2\n---\n":                  "version 2",
		"a: [\n---\n" + one.String():         "header",
		"a: b\n---\n/ipfs/nonsense":          "line 3",
		"//nonsense":                         "line 1",
		"//" + strings.Repeat("ab", 31):      "line 1",
		"/ipns/-x":                           "line 1",
		"/ipfs/" + one.String() + "/%zz":     "line 1",
		one.String() + " gateway_status:200": "410 or 451",
		strings.Repeat("x", 3<<20):           "line 1",
		"hints: {status: \"9\"}\n---\n":      "410 or 451",
	} {
		if _, err := open(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v", text, err)
		}
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "x.deny")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := deny.Open(deny.Config{Dir: filepath.Join(dir)})
	if err != nil || !l.Empty() {
		t.Fatalf("an empty folder: %v", err)
	}
	write("/ipfs/" + one.String() + " # why\n")
	before := l.Generation()
	if changed, err := l.Reload(); !changed || err != nil || l.Generation() == before || l.CID(one) == nil {
		t.Fatalf("%v, %v", changed, err)
	}
	write("/ipfs/" + one.String() + "\nnonsense")
	for range 2 {
		if changed, err := l.Reload(); changed || err == nil || l.CID(one) == nil {
			t.Fatalf("%v, %v", changed, err)
		}
	}
	write("/ipfs/" + one.String() + "\n#2")
	info, err := os.Stat(file)
	if changed, rerr := l.Reload(); !changed || err != nil || rerr != nil {
		t.Fatalf("%v, %v, %v", changed, err, rerr)
	}
	write("/ipfs/" + one.String() + "/2") // as long, and within the grain of the clock
	if err := os.Chtimes(file, time.Time{}, info.ModTime()); err != nil {
		t.Fatal(err)
	}
	if changed, err := l.Reload(); !changed || err != nil || l.CID(one) != nil {
		t.Errorf("another text of the same time and size: %v, %v", changed, err)
	}
	if changed, err := l.Reload(); changed || err != nil {
		t.Errorf("the same text: %v, %v", changed, err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if changed, err := l.Reload(); !changed || err != nil || l.CID(one) != nil {
		t.Errorf("a list that is gone: %v, %v", changed, err)
	}
	if _, err := deny.Open(deny.Config{Files: []string{file}}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that has to be there: %v", err)
	}
	var none *deny.Lists
	if _, err := none.Path("/ipfs/" + one.String()); err != nil || none.CID(one) != nil || !none.Empty() {
		t.Error("no lists at all deny something")
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", specExample, "!//x", "---\n", "a: b\r\n---\r\n!" + one.String() + "/%41* a=b\n", "/ipns/a.b/*", "\xff\n"} {
		f.Add([]byte(s), "/ipfs/"+one.String()+"/x")
	}
	f.Fuzz(func(t *testing.T, text []byte, path string) {
		l, err := open(t, string(text))
		if err != nil {
			if !strings.Contains(err.Error(), "0.deny") {
				t.Fatalf("an error that doesn't name the list: %v", err)
			}
			return
		}
		if _, err := l.Path(path); err != nil && !errors.Is(err, deny.ErrDenied) {
			t.Fatal(err)
		}
		if l.Rules() > strings.Count(string(text), "\n")*2+2 {
			t.Fatalf("%d rules", l.Rules())
		}
	})
}

func TestWhatSomebodyWritesIsOneItem(t *testing.T) {
	for text, want := range map[string]string{
		one.String():             "/ipfs/" + one.String() + "/*",
		"ipfs://" + one.String(): "/ipfs/" + one.String() + "/*",
		"/ipfs/" + one.String():  "/ipfs/" + one.String(),
		one.String() + "/a/b*":   "/ipfs/" + one.String() + "/a/b*",
		"a.example":              "/ipns/a.example",
		"k51qzi5uqu5dhmzyv3zac033i7rl9hkgczxyl81lwoukda2htteop7d3x0y1mf": "/ipns/k51qzi5uqu5dhmzyv3zac033i7rl9hkgczxyl81lwoukda2htteop7d3x0y1mf",
		"//QmX9dhRcQcKUw3Ws8485T5a9dtjrSCQaUAHnG4iK9i4ceM":               "//QmX9dhRcQcKUw3Ws8485T5a9dtjrSCQaUAHnG4iK9i4ceM",
		"": "", "!" + one.String(): "", "x\n" + one.String(): "", one.String() + " gateway_status:410": "", "#": "", "/": "", "/x/y": "",
	} {
		if got, err := deny.Item(text); got != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}

func TestOfManyThatDenyAtOnceEachIsHeard(t *testing.T) {
	l, err := deny.Open(deny.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	const all = 16
	var adding sync.WaitGroup
	for i := range all {
		adding.Go(func() {
			if err := l.Add(fmt.Sprintf("%d.example", i), 0, ""); err != nil {
				t.Error(err)
			}
		})
	}
	adding.Wait()
	if lines, err := l.Local(); err != nil || len(lines) != all {
		t.Errorf("%d of %d are in the list, %v: %q", len(lines), all, err, lines)
	}
}
