package blockstore

import (
	"bufio"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/ipfs/go-cid"
)

// The journal is a text file beside the index, `kept`, which says who keeps what,
// one change a line. It is there for two cases. An index that knows of
// fewer changes has lost some (a damaged one may read as a shorter one), and must
// not be taken for a store in which nobody keeps anything: the next collection
// would free it all. And an index that is lost altogether is made anew from the segments
// and the journal. A person can read it, too.
//
// It is written after the change is durable, so it is never ahead of a good index.
//
//	holdfast-kept 1 CHANGES       how many changes came before the lines below
//	= CID "owner"                 kept at that time
//	+ CID "owner"                 a change: kept
//	- CID "owner"                 a change: released
//
// Each line ends in a blank and the CRC-32C of what is before it, eight hex digits. A last line that is
// not whole was cut off by a crash and is no line.
const (
	journalName   = "kept"
	journalHead   = "holdfast-kept"
	journalFormat = 1

	maxJournalLine = 4*MaxName + 256 // bytes; a quoted byte may take four
	// Journals with fewer lines than this are not worth rewriting.
	journalSlack = 1000
)

// keptRoot is one line of the journal.
type keptRoot struct {
	owner string
	root  cid.Cid
}

// journal is what the file says.
type journal struct {
	changes uint64
	kept    map[keptRoot]struct{}
	lines   int
	size    int64 // bytes up to the end of the last whole line
}

func newJournal() journal { return journal{kept: map[keptRoot]struct{}{}} }

func journalLine(text string) string {
	return fmt.Sprintf("%s %08x\n", text, crc32.Checksum([]byte(text), castagnoli))
}

func (k keptRoot) line(sign string) string {
	return journalLine(sign + " " + k.root.String() + " " + strconv.QuoteToASCII(k.owner))
}

// readJournal is an empty journal where there is no file: nothing was ever kept.
func readJournal(fsys vfs.FS, dir string) (journal, error) {
	j := newJournal()
	f, err := fsys.Open(fsys.PathJoin(dir, journalName))
	if errors.Is(err, fs.ErrNotExist) {
		return j, nil
	}
	if err != nil {
		return j, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return j, err
	}
	return parseJournal(io.NewSectionReader(f, 0, info.Size()))
}

// parseJournal fails with ErrCorrupt where a line that others follow is damaged.
func parseJournal(r io.Reader) (journal, error) {
	j := newJournal()
	in := bufio.NewReaderSize(r, maxJournalLine)
	for {
		line, err := in.ReadSlice('\n')
		if err == io.EOF && (len(line) == 0 || j.lines > 0) {
			return j, nil
		}
		if err != nil && err != io.EOF && err != bufio.ErrBufferFull {
			return j, err
		}
		if err == nil {
			err = j.add(strings.TrimSuffix(string(line), "\n"))
		}
		if err == nil {
			j.lines++
			j.size += int64(len(line))
			continue
		}
		if errors.Is(err, errFormat) {
			return j, err
		}
		if _, more := in.Peek(1); more == io.EOF && j.lines > 0 {
			return j, nil
		}
		return j, fmt.Errorf("%w: the journal of what is kept is damaged in line %d: %w", ErrCorrupt, j.lines+1, err)
	}
}

var (
	errLine   = errors.New("malformed line")
	errFormat = errors.New("the store is of a newer format than this program knows")
)

func (j *journal) add(line string) error {
	i := strings.LastIndexByte(line, ' ')
	if i < 0 || line+"\n" != journalLine(line[:i]) {
		return errLine
	}
	word, rest, _ := strings.Cut(line[:i], " ")
	if j.lines == 0 {
		var format int
		if n, err := fmt.Sscanf(rest, "%d %d", &format, &j.changes); word != journalHead || n < 1 || err != nil && format == journalFormat {
			return errLine
		}
		if format != journalFormat {
			return fmt.Errorf("%w: %d", errFormat, format)
		}
		return nil
	}
	id, quoted, _ := strings.Cut(rest, " ")
	c, err := cid.Decode(id)
	if err != nil {
		return err
	}
	owner, err := strconv.Unquote(quoted)
	if err != nil || len(owner) > MaxName {
		return errLine
	}
	k := keptRoot{owner, c}
	switch word {
	case "=":
		j.kept[k] = struct{}{}
	case "+":
		j.kept[k] = struct{}{}
		j.changes++
	case "-":
		delete(j.kept, k)
		j.changes++
	default:
		return errLine
	}
	return nil
}

// text is the journal as a new file.
func (j *journal) text() string {
	var b strings.Builder
	b.WriteString(journalLine(fmt.Sprintf("%s %d %d", journalHead, journalFormat, j.changes)))
	lines := make([]string, 0, len(j.kept))
	for k := range maps.Keys(j.kept) {
		lines = append(lines, k.line("="))
	}
	slices.Sort(lines)
	for _, l := range lines {
		b.WriteString(l)
	}
	return b.String()
}

// write replaces the file.
func (j *journal) write(fsys vfs.FS, dir string) (err error) {
	name := fsys.PathJoin(dir, journalName)
	f, err := fsys.Create(name+".new", "holdfast-journal")
	if err != nil {
		return err
	}
	text := j.text()
	_, err = f.Write([]byte(text))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fsys.Rename(name+".new", name); err != nil {
		return err
	}
	j.lines, j.size = 1+len(j.kept), int64(len(text))
	return syncDir(fsys, dir)
}

// record adds a change to the file, durably, or writes it anew where there is
// none or it is mostly history. Where that fails, the journal forgets everything,
// and so is found to be behind the index.
func (j *journal) record(fsys vfs.FS, dir, sign string, k keptRoot) (err error) {
	defer func() {
		if err != nil {
			*j = newJournal()
		}
	}()
	if sign == "+" {
		j.kept[k] = struct{}{}
	} else {
		delete(j.kept, k)
	}
	j.changes++
	if j.size == 0 || j.lines > 2*len(j.kept)+journalSlack {
		return j.write(fsys, dir)
	}
	f, err := fsys.OpenReadWrite(fsys.PathJoin(dir, journalName), "holdfast-journal")
	if err != nil {
		return err
	}
	line := k.line(sign)
	_, err = f.WriteAt([]byte(line), j.size)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	j.lines, j.size = j.lines+1, j.size+int64(len(line))
	return nil
}
