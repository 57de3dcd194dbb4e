package merkle

import (
	"path/filepath"
	"slices"
)

// Ignores are the rules by which Build leaves things out, as they stand in one
// folder of a tree: the defaults, and the ignore files from the top down to it.
// They are for those who walk or watch a folder beside Build; immutable.
type Ignores struct {
	rules ignoreRules
	parts []string // of the folder's path from the top
}

// TopIgnores reads the rules at the top of the tree in dir. Where its ignore
// file can't be read, which a build refuses, they are the rules without it,
// and an error.
func TopIgnores(dir string) (Ignores, error) {
	return Ignores{rules: newIgnoreRules()}.read(dir)
}

// Below are the rules in the folder called name, which stands on the disk at
// dir: another place than under its parent where a symbolic link led to it.
// Errors: as TopIgnores.
func (i Ignores) Below(name, dir string) (Ignores, error) {
	return Ignores{rules: i.rules, parts: append(slices.Clip(i.parts), name)}.read(dir)
}

func (i Ignores) read(dir string) (Ignores, error) {
	lines, err := readIgnoreFile(filepath.Join(dir, IgnoreFile))
	i.rules = i.rules.with(lines, i.parts)
	return i, err
}

// Ignored says whether an entry of the folder is left out.
func (i Ignores) Ignored(name string, folder bool) bool {
	return i.rules.ignored(append(slices.Clip(i.parts), name), folder)
}
