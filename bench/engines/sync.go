//go:build unix

package engines

import (
	"errors"
	"os"
)

// syncPath makes a file, or what a folder names, durable.
func syncPath(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
