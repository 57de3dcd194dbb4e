package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

// ErrHeld says that another process has the home open; see HeldError.
var ErrHeld = errors.New("the home is in use")

// HeldError tells who has the home open.
type HeldError struct {
	Home   string
	Holder Holder // zero where it could not be read
}

// Holder is the process that has a home open.
type Holder struct {
	PID     int       `json:"pid"`
	Command string    `json:"command"`
	Since   time.Time `json:"since"`
}

func (e *HeldError) Error() string {
	if e.Holder.PID == 0 {
		return fmt.Sprintf("%v: %s", ErrHeld, e.Home)
	}
	return fmt.Sprintf("%v: %s is open in `%s` (process %d, since %s); wait for it, stop it, or use another --home",
		ErrHeld, e.Home, e.Holder.Command, e.Holder.PID, e.Holder.Since.Local().Format(time.DateTime))
}

// Unwrap is ErrHeld.
func (e *HeldError) Unwrap() error { return ErrHeld }

// homeLock is the right to write to a home. The kernel ends it with the
// process, so there are no stale locks; the text in the file only says who.
type homeLock struct{ f *flock.Flock }

func lockHome(home, command string) (*homeLock, error) {
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(home, "lock")
	f := flock.New(path, flock.SetPermissions(0o600))
	ok, err := f.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if !ok {
		e := &HeldError{Home: home}
		if b, err := os.ReadFile(path + ".holder"); err == nil {
			_ = json.Unmarshal(b, &e.Holder)
		}
		return nil, e
	}
	b, err := json.Marshal(Holder{PID: os.Getpid(), Command: command, Since: time.Now().UTC()})
	if err == nil {
		err = os.WriteFile(path+".holder", b, 0o600)
	}
	if err != nil {
		_ = f.Unlock()
		return nil, err
	}
	return &homeLock{f: f}, nil
}

func (l *homeLock) release() { _ = l.f.Unlock() }
