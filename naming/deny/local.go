package deny

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/naming"
)

// localFile is the list in Config.Dir that Add and Remove write. By its name it
// comes after most others, whose rules it overrules.
const localFile = "zz-local" + Extension

// Item is what a rule is about, in the format's spelling, for what somebody
// wrote: a CID stands for it and all that is below it, and a path for itself.
func Item(text string) (string, error) {
	item, no := strings.CutPrefix(text, "!")
	item = strings.TrimPrefix(strings.TrimPrefix(item, "ipfs://"), "ipns://")
	switch {
	case no || strings.ContainsAny(item, " \t\r\n#"):
		return "", fmt.Errorf("%.200q is no path, CID, name or domain; what isn't plain in a path is written %%20", text)
	case strings.HasPrefix(item, "/"):
	default:
		id, path, below := strings.Cut(item, "/")
		if _, err := naming.ParseName(id); err == nil || strings.Contains(id, ".") {
			item = "/ipns/" + item
		} else if _, err := cid.Decode(id); err == nil && !below {
			item = "/ipfs/" + id + "/*"
		} else if err == nil {
			item = "/ipfs/" + id + "/" + path
		}
	}
	if err := newTable().parse([]string{item}, rule{}, 1); err != nil {
		return "", err
	}
	return item, nil
}

// Add writes a rule into the local list, and has it hold. Status 0 is DefaultStatus.
func (l *Lists) Add(item string, status int, reason string) error {
	item, err := Item(item)
	if err != nil {
		return err
	}
	line := item
	if status != 0 {
		line += fmt.Sprintf(" gateway_status:%d", status)
	}
	if reason = strings.Join(strings.Fields(reason), "-"); reason != "" {
		line += " reason:" + reason
	}
	if err := newTable().parse(strings.Fields(line), rule{}, 1); err != nil {
		return err
	}
	defer l.write()()
	return l.edit(func(lines []string) []string {
		lines = slices.DeleteFunc(lines, about(item))
		return append(lines, line)
	})
}

// Remove takes what Add wrote back. Where another list goes on denying it, an
// exception is written. ErrNotListed where nothing denies it.
func (l *Lists) Remove(item string) error {
	item, err := Item(item)
	if err != nil {
		return err
	}
	defer l.write()()
	was := l.Listed(item) != nil
	if err := l.edit(func(lines []string) []string { return slices.DeleteFunc(lines, about(item)) }); err != nil {
		return err
	}
	if l.Listed(item) != nil {
		return l.edit(func(lines []string) []string { return append(lines, "!"+item) })
	}
	if !was {
		return fmt.Errorf("%w: %s", ErrNotListed, item)
	}
	return nil
}

// ErrNotListed says that nothing denies what was to be denied no more.
var ErrNotListed = errors.New("not denied")

// Listed is an *Error where an item of a rule is denied.
func (l *Lists) Listed(item string) error {
	_, err := l.Path(strings.TrimSuffix(strings.TrimSuffix(item, "*"), "/"))
	return err
}

// Local are the rules of the local list, as they are written.
func (l *Lists) Local() ([]string, error) {
	b, err := os.ReadFile(filepath.Join(l.cfg.Dir, localFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return slices.DeleteFunc(strings.Split(strings.TrimSpace(string(b)), "\n"), func(s string) bool { return strings.TrimSpace(s) == "" }), err
}

// Files are the paths of all lists, in their order.
func (l *Lists) Files() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for _, f := range l.seen {
		out = append(out, f.path)
	}
	return out
}

// about tells which lines are about an item, denied or allowed.
func about(item string) func(line string) bool {
	return func(line string) bool {
		f := strings.Fields(line)
		return len(f) > 0 && strings.TrimPrefix(f[0], "!") == item
	}
}

// write waits until nobody else changes the local list; done has the next begin.
func (l *Lists) write() (done func()) {
	if l == nil {
		return func() {}
	}
	l.writing.Lock()
	return l.writing.Unlock
}

// edit changes the local list, by a new file in the old one's place. Its caller has called write.
func (l *Lists) edit(change func(lines []string) []string) error {
	if l == nil || l.cfg.Dir == "" {
		return errors.New("deny: no folder to write a list into")
	}
	lines, err := l.Local()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(l.cfg.Dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(l.cfg.Dir, "new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	var b bytes.Buffer
	for _, line := range change(lines) {
		b.WriteString(line + "\n")
	}
	_, err = f.Write(b.Bytes())
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), filepath.Join(l.cfg.Dir, localFile)); err != nil {
		return err
	}
	_, err = l.Reload()
	return err
}
