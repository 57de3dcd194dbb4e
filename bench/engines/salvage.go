//go:build unix

package engines

import (
	"bufio"
	"bytes"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ipld/go-car/v2"
	mh "github.com/multiformats/go-multihash"
)

// salvage counts the blocks that can be had, and proved, by who has nothing of ours: with
// a public library that reads CAR files, or with the names of files.
func salvage(j Job, d *Done, _ io.Writer) error {
	k, err := kindOf(j.Engine)
	if err != nil || k.salvage == nil {
		return err
	}
	d.Blocks, err = k.salvage(j.Dir)
	return err
}

// salvageCARs reads every block of every segment; the library checks them.
func salvageCARs(dir string) (n int, err error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.car"))
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			return n, err
		}
		r, err := car.NewBlockReader(bufio.NewReaderSize(f, 1<<20))
		for err == nil {
			if _, err = r.Next(); err == nil {
				n++
			}
		}
		if !errors.Is(err, io.EOF) {
			return n, errors.Join(fmt.Errorf("%s: %w", name, err), f.Close())
		}
		if err := f.Close(); err != nil {
			return n, err
		}
	}
	return n, nil
}

func salvageHex(dir string) (int, error) {
	return salvageFiles(filepath.Join(dir, "files"), "", hex.DecodeString)
}

func salvageBase32(dir string) (int, error) {
	return salvageFiles(dir, ".data", base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString)
}

// salvageFiles counts the files that are named after their multihash.
func salvageFiles(dir, suffix string, decode func(string) ([]byte, error)) (n int, err error) {
	err = filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		stem, ok := strings.CutSuffix(e.Name(), suffix)
		if err != nil || !ok || e.IsDir() {
			return err
		}
		want, err := decode(stem)
		if err != nil {
			return err
		}
		code, err := mh.Decode(want)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		got, err := mh.Sum(data, code.Code, code.Length)
		if err == nil && !bytes.Equal(got, want) {
			err = fmt.Errorf("%s holds %s", name, got)
		}
		n++
		return err
	})
	return n, err
}
