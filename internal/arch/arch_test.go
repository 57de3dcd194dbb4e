package arch

import (
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

func TestTheTreeFollowsTheImportRules(t *testing.T) {
	root := os.DirFS("../..")
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(mod), "module "+Module+"\n") {
		t.Fatalf("the module is not %s: the rules would look at nothing", Module)
	}
	found, err := Check(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range found {
		t.Error(v)
	}
}

func TestCheckFindsWhatTheDesignForbids(t *testing.T) {
	for name, c := range map[string]struct {
		file    string // "x.go in y" is package y
		imports []string
		want    string // part of the only violation; "": none
	}{
		"store imports nothing":               {"blockstore/a.go", []string{"merkle"}, "blockstore may not use merkle"},
		"merkle uses the store":               {"merkle/a.go", []string{"blockstore"}, ""},
		"merkle knows no names":               {"merkle/a.go", []string{"naming"}, "merkle may not use naming"},
		"naming uses the store":               {"naming/a.go", []string{"blockstore"}, ""},
		"gateway never knows pins":            {"gateway/a.go", []string{"merkle", "replicate"}, "gateway may not use replicate"},
		"replicate never serves readers":      {"replicate/a.go", []string{"gateway"}, "replicate may not use gateway"},
		"the simulator runs the plan":         {"replicate/sim/a.go", []string{"replicate"}, ""},
		"the plan knows no simulator":         {"replicate/a.go", []string{"replicate/sim"}, "replicate may not use replicate/sim"},
		"nobody imports upward":               {"internal/p2p/a.go", []string{"internal/node"}, "may not use internal/node"},
		"state knows no flows":                {"internal/state/a.go", []string{"internal/author"}, "may not use internal/author"},
		"state knows types":                   {"internal/state/a.go", []string{"naming", "replicate"}, ""},
		"flows know no network":               {"internal/author/a.go", []string{"internal/p2p"}, "may not use internal/p2p"},
		"control calls flows":                 {"internal/control/a.go", []string{"internal/author", "naming"}, ""},
		"node knows everything":               {"internal/node/a.go", []string{"internal/p2p", "internal/state", "gateway"}, ""},
		"node knows no command":               {"internal/node/a.go", []string{"cmd/holdfast"}, "may not use cmd"},
		"commands know no tables":             {"cmd/holdfast/a.go", []string{"internal/state"}, "cmd may not use internal/state"},
		"commands embed the sample":           {"cmd/holdfast/a.go", []string{"examples/sample"}, ""},
		"a room's folders are the room":       {"cmd/holdfast/x/a.go", []string{"internal/state"}, "cmd may not use internal/state"},
		"testnet is not for cmd":              {"internal/testnet/a.go", []string{"cmd/holdfast"}, "may not use cmd"},
		"end to end tests see all":            {"test/a_test.go", []string{"cmd/holdfast", "internal/testnet"}, ""},
		"a test may use its net":              {"internal/author/a_test.go", []string{"internal/testnet"}, ""},
		"a program may not":                   {"internal/author/a.go", []string{"internal/testnet"}, "may not use internal/testnet"},
		"tests of a room keep the rules":      {"merkle/a_test.go", []string{"replicate"}, "merkle may not use replicate"},
		"a test from outside looks down":      {"replicate/a_test.go in replicate_test", []string{"internal/state"}, ""},
		"but not sideways":                    {"gateway/a_test.go in gateway_test", []string{"replicate"}, "gateway may not use replicate"},
		"the name alone makes no test":        {"replicate/a.go in replicate_test", []string{"internal/state"}, "replicate may not use internal/state"},
		"a conformance suite serves tests":    {"merkle/a_test.go", []string{"blockstore/storetest"}, ""},
		"and tests only":                      {"merkle/a.go", []string{"blockstore/storetest"}, "stays out of the program"},
		"suites may build on suites":          {"naming/namingtest/a.go", []string{"blockstore/storetest"}, ""},
		"a new top-level package":             {"extras/a.go", nil, "no room"},
		"a new internal package":              {"internal/extras/a.go", nil, "no room"},
		"an import of an unknown package":     {"cmd/holdfast/a.go", []string{"extras"}, "no room"},
		"a file at the root":                  {"a.go", nil, "no room"},
		"test data is no code":                {"merkle/testdata/a.go", []string{"replicate"}, ""},
		"build tags hide nothing":             {"merkle/a_windows.go", []string{"replicate"}, "merkle may not use replicate"},
		"a name that begins alike is another": {"merkle2/a.go", nil, "no room"},
	} {
		t.Run(name, func(t *testing.T) {
			file, pkg, ok := strings.Cut(c.file, " in ")
			if !ok {
				pkg = "a"
			}
			tree := fstest.MapFS{file: {Data: []byte(source(pkg, c.imports))}}
			found, err := Check(tree)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case c.want == "" && len(found) > 0:
				t.Fatalf("found %v, want nothing", found)
			case c.want != "" && (len(found) != 1 || !strings.Contains(found[0].String(), c.want)):
				t.Fatalf("found %v, want one that says %q", found, c.want)
			}
		})
	}
}

func TestCheckFailsOnAFileThatItCantRead(t *testing.T) {
	if _, err := Check(fstest.MapFS{"merkle/a.go": {Data: []byte("pakage merkle")}}); err == nil {
		t.Fatal("a file that is no Go passed")
	}
}

func TestEveryRuleNamesRooms(t *testing.T) {
	for room, rule := range rooms {
		for _, to := range rule {
			to = strings.TrimPrefix(to, "!")
			if _, ok := rooms[to]; to != "*" && !ok {
				t.Errorf("the rule of %s names %q, which is no room", room, to)
			}
		}
	}
}

// Two rooms that may use each other would be one.
func TestNoTwoRoomsUseEachOther(t *testing.T) {
	for a, rule := range rooms {
		for b := range rooms {
			if a != b && allows(rule, b) && allows(rooms[b], a) && !slices.Contains([]string{"test", "bench"}, a) && !slices.Contains([]string{"test", "bench"}, b) {
				t.Errorf("%s and %s may use each other", a, b)
			}
		}
	}
}

func source(pkg string, imports []string) string {
	var b strings.Builder
	b.WriteString("//go:build windows\n\npackage " + pkg + "\n\nimport (\n\t\"fmt\"\n")
	for _, i := range imports {
		b.WriteString("\t_ \"" + Module + "/" + i + "\"\n")
	}
	b.WriteString(")\n\nvar _ = fmt.Sprint\n")
	return b.String()
}
