package merkle

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

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
	"*.swp", "*~",
	IgnoreFile,
}

// ignoreRules are the patterns in force in one folder, weakest first.
type ignoreRules []gitignore.Pattern

func newIgnoreRules() ignoreRules {
	return ignoreRules(nil).with(defaultIgnores, nil)
}

// with returns the rules of a folder below: these and the lines of its own
// ignore file. domain is the path of the folder, in parts.
func (r ignoreRules) with(lines []string, domain []string) ignoreRules {
	out := r[:len(r):len(r)]
	for _, line := range lines {
		line = strings.TrimSuffix(line, "\r")
		if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
			continue
		}
		out = append(out, gitignore.ParsePattern(line, domain))
	}
	return out
}

// ignored says whether the path, in parts from the top, is left out.
func (r ignoreRules) ignored(path []string, folder bool) bool {
	return gitignore.NewMatcher(r).Match(path, folder)
}

// readIgnoreFile returns the lines of a folder's ignore file; none where it has none.
func readIgnoreFile(path string) ([]string, error) {
	// O_NONBLOCK, since opening a FIFO would wait for its writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	data, err := io.ReadAll(io.LimitReader(f, maxIgnoreFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxIgnoreFile {
		return nil, fmt.Errorf("larger than %d bytes", maxIgnoreFile)
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	return strings.Split(string(data), "\n"), nil
}
