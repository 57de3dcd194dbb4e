package merkle

import (
	"bytes"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing/format/gitignore"
)

// IgnoreFile is the name of the file that lists, in the syntax of .gitignore,
// what a folder keeps for itself. Folders below may have their own.
const IgnoreFile = ".holdfastignore"

// maxIgnoreFile bounds an ignore file, in bytes.
const maxIgnoreFile = 1 << 20

// defaultIgnores is what nobody means to publish. It has the lowest priority,
// so that an ignore file can take any of it back ("!.git"). Other dot files
// (.well-known, .nojekyll) belong to the site.
var defaultIgnores = []string{
	".git", ".hg", ".svn",
	".DS_Store", "._*", "Thumbs.db", "desktop.ini",
	"*.swp", "*~", ".#*", "[#]*#", // of editors; a lock of Emacs (.#name) is a link to nothing
	IgnoreFile,
}

// ignoreRules are the patterns in force in one folder; immutable.
type ignoreRules struct {
	patterns []gitignore.Pattern // weakest first
	matcher  gitignore.Matcher   // of all of them
	own      bool                // some are not of defaultIgnores
}

func newIgnoreRules() ignoreRules {
	rules := ignoreRules{}.with(defaultIgnores, nil)
	rules.own = false
	return rules
}

// with returns the rules of a folder below: these and the lines of its own
// ignore file. domain is the path of the folder, in parts.
func (r ignoreRules) with(lines []string, domain []string) ignoreRules {
	patterns := slices.Clip(r.patterns)
	for _, line := range lines {
		line = strings.TrimSuffix(line, "\r")
		if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
			continue
		}
		patterns = append(patterns, gitignore.ParsePattern(line, domain))
	}
	return ignoreRules{patterns: patterns, matcher: gitignore.NewMatcher(patterns), own: true}
}

// ignored says whether the path, in parts from the top, is left out, where the
// folders on the way to it are not.
func (r ignoreRules) ignored(path []string, folder bool) bool {
	if !r.own {
		// The defaults look at one name at a time, and have passed all but the last.
		path = path[len(path)-1:]
		if !mayBeDefault(path[0]) {
			return false
		}
	}
	return r.matcher.Match(path, folder)
}

// mayBeDefault is false for most of the names that no default pattern matches,
// which saves a build a large part of its time where nothing has changed.
func mayBeDefault(name string) bool {
	return name == "" || defaultEnds.first[name[0]] || defaultEnds.last[name[len(name)-1]]
}

// defaultEnds is the first and last bytes of what defaultIgnores match. None of
// them is wild at both ends.
var defaultEnds = func() (ends struct{ first, last [256]bool }) {
	for _, p := range defaultIgnores {
		if strings.HasPrefix(p, "*") {
			ends.last[p[len(p)-1]] = true
		} else {
			ends.first[p[0]] = true
		}
	}
	return ends
}()

// readIgnoreFile returns the lines of a folder's ignore file; none where it has none.
func readIgnoreFile(path string) ([]string, error) {
	data, err := readRegular(path, maxIgnoreFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	return strings.Split(string(data), "\n"), nil
}
