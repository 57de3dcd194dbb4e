// Package arch knows which room of the house may use which: its test fails on
// an import that the design does not allow. It reads import clauses only, of
// every Go file whatever its build tags, and runs no tool.
package arch

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Module is the import path of the tree's root.
const Module = "github.com/holdfast-sites/holdfast"

// public are the rooms whose types everybody above them speaks.
var public = []string{"blockstore", "merkle", "naming", "gateway", "replicate"}

// rooms says for each room which others its files may import. A room is the
// folder of that name with everything below it that is no room of its own.
// "*" is all rooms but those named after it with a "!".
var rooms = map[string][]string{
	"blockstore":    {},
	"merkle":        {"blockstore"},
	"naming":        {"blockstore"},
	"gateway":       {"blockstore", "merkle", "naming"},
	"replicate":     {"blockstore", "merkle", "naming"},
	"replicate/sim": {"blockstore", "merkle", "naming", "replicate"},

	"internal/p2p":     {"blockstore", "merkle", "naming"},
	"internal/state":   {"naming", "replicate"},
	"internal/dns":     {"naming"},
	"internal/author":  {"blockstore", "merkle", "naming", "replicate", "internal/state", "internal/dns"},
	"internal/upkeep":  {"blockstore", "merkle", "replicate"},
	"internal/control": append([]string{"internal/author"}, public...),
	"internal/node":    {"*", "!cmd", "!test", "!bench", "!examples", "!internal/testnet", "!internal/arch", "!replicate/sim"},
	"internal/testnet": {"*", "!cmd", "!test", "!bench"},
	"internal/arch":    {},

	"cmd":      append([]string{"internal/author", "internal/node", "internal/control", "examples"}, public...),
	"examples": {},
	"test":     {"*"},
	"bench":    {"*"},
}

// inTests says whether tests may import a room that their own may not. Whole
// nodes can be tried out from every internal room. A test package of its own
// (package x_test) may also use the rooms above x, which is how x is tried
// with the real thing: the program's packages don't depend on it.
func inTests(from, to string, external bool) bool {
	if to == "internal/testnet" && (strings.HasPrefix(from, "internal/") || from == "cmd") {
		return true
	}
	return external && allows(rooms[to], from) && !slices.Contains([]string{"test", "bench", "internal/testnet"}, to)
}

// Violation is one thing that the rules do not allow.
type Violation struct {
	File   string // slash path from the root
	Import string // path from the root; "" where the file itself is in no room
	Why    string
}

func (v Violation) String() string {
	if v.Import == "" {
		return fmt.Sprintf("%s: %s", v.File, v.Why)
	}
	return fmt.Sprintf("%s imports %s: %s", v.File, v.Import, v.Why)
}

// Check reads the tree of the module and lists what the rules do not allow, in
// the order of the files. An error says that the tree could not be read.
func Check(tree fs.FS) ([]Violation, error) {
	var found []Violation
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if skipped(name, d.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(name) != ".go" || strings.HasPrefix(d.Name(), "_") || strings.HasPrefix(d.Name(), ".") {
			return nil
		}
		more, err := checkFile(tree, name)
		found = append(found, more...)
		return err
	})
	return found, err
}

// skipped are the folders that the go command does not look into either.
func skipped(name, base string) bool {
	if name == "." {
		return false
	}
	return base == "testdata" || base == "vendor" || base == "node_modules" ||
		strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_")
}

func checkFile(tree fs.FS, name string) ([]Violation, error) {
	from := roomOf(path.Dir(name))
	if from == "" {
		return []Violation{{File: name, Why: "it is in no room that the design knows; add the room and what it may import to internal/arch"}}, nil
	}
	src, err := fs.ReadFile(tree, name)
	if err != nil {
		return nil, err
	}
	file, err := parser.ParseFile(token.NewFileSet(), name, src, parser.ImportsOnly)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	var found []Violation
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		target, ours := strings.CutPrefix(imported, Module+"/")
		if imported != Module && !ours {
			continue
		}
		if why := forbidden(name, from, target, strings.HasSuffix(file.Name.Name, "_test")); why != "" {
			found = append(found, Violation{File: name, Import: target, Why: why})
		}
	}
	return found, nil
}

// forbidden says why a file of a room may not import target, or nothing;
// external tells a test package of its own.
func forbidden(file, from, target string, external bool) string {
	to := roomOf(target)
	test := strings.HasSuffix(file, "_test.go")
	switch {
	case to == "":
		return "it is in no room that the design knows"
	case from != "test" && from != "bench" && forTests(target) && !test && !forTests(path.Dir(file)):
		return "what is there for tests stays out of the program"
	case from == to:
		return ""
	case allows(rooms[from], to) || test && inTests(from, to, external):
		return ""
	}
	return fmt.Sprintf("%s may not use %s", from, to)
}

// forTests tells packages like storetest, which only tests may import.
func forTests(dir string) bool {
	base := path.Base(dir)
	return strings.HasSuffix(base, "test") && base != "test"
}

func allows(rule []string, to string) bool {
	if slices.Contains(rule, "!"+to) {
		return false
	}
	return slices.Contains(rule, to) || slices.Contains(rule, "*")
}

// roomOf is the innermost room that holds a folder.
func roomOf(dir string) string {
	for ; dir != "." && dir != "/"; dir = path.Dir(dir) {
		if _, ok := rooms[dir]; ok {
			return dir
		}
	}
	return ""
}
