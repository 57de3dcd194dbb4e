// Package naming makes, checks, finds and keeps alive the signed names of sites.
//
// It promises that no unverified record leaves it, that a name never goes back
// below the highest sequence that was ever seen (the floor, which outlives the
// record it came from), and that a private key leaves a keyring only on an explicit export. It
// never fetches content, and knows nothing of hosts or pins.
//
// Records are IPNS records (https://specs.ipfs.tech/ipns/ipns-record/); what
// we add to them is in docs/formats.md.
package naming

import (
	"context"
	"errors"
	"fmt"
)

// Errors of this package; match with errors.Is.
var (
	// ErrNotFound says that nobody asked has a record for the name.
	ErrNotFound = errors.New("name not found")
	// ErrUnavailable says that nobody could be asked: no source answered in time.
	ErrUnavailable = errors.New("name could not be resolved")
	// ErrInvalidName says that a text is not an IPNS name.
	ErrInvalidName = errors.New("invalid name")
	// ErrInvalidRecord says that bytes are no valid record for the name:
	// malformed, too large, or signed wrongly. ErrSignature, ErrExpired and ErrTooLarge are
	// kinds of it.
	ErrInvalidRecord = errors.New("invalid record")
	ErrSignature     = fmt.Errorf("%w: the signature is not the name's", ErrInvalidRecord)
	ErrExpired       = fmt.Errorf("%w: expired", ErrInvalidRecord)
	ErrTooLarge      = fmt.Errorf("%w: larger than 10240 bytes", ErrInvalidRecord)
	// ErrBelowRoot says that a record's value goes on below a CID or name: valid, and no site's.
	ErrBelowRoot = fmt.Errorf("%w: the value is below a root", ErrInvalidRecord)
	// ErrRecovery says that a record breaks with the recovery key that its site has committed to.
	ErrRecovery = fmt.Errorf("%w: against the site's recovery key", ErrInvalidRecord)
	// ErrOlder says that a record loses against one seen before; see OlderError.
	ErrOlder = errors.New("older than a record seen before")
	// ErrNoKey says that the keyring has no such key.
	ErrNoKey = errors.New("no such key")
	// ErrKeyExists says that the keyring has a key of that alias.
	ErrKeyExists = errors.New("a key of that alias exists")
	// ErrInvalidKey says that a key, or the file it is in, can't be used: damaged, open to other users, or of
	// another kind than Ed25519.
	ErrInvalidKey = errors.New("invalid key")
	// ErrPassphrase says that a key or a backup is encrypted, and that its passphrase is wrong or was not given; see LockedError.
	ErrPassphrase = errors.New("wrong passphrase")
	// ErrNoSeed says that a site's seed is not on this machine.
	ErrNoSeed = errors.New("the site's seed is not here")
	// ErrInvalidBackup says that something is no backup of a key, or a damaged one, or that of another.
	ErrInvalidBackup = errors.New("invalid key backup")
	// ErrInvalidAlias says that a text can't be an alias; see CheckAlias.
	ErrInvalidAlias = errors.New("invalid alias")
	// ErrLoop says that names, or domains, point at each other without end, or for more than 32 hops.
	ErrLoop = errors.New("names point in a circle")
)

// MaxRecordSize is the largest record, in bytes, that is accepted (IPNS spec).
const MaxRecordSize = 10 << 10

// MaxHops is how many records a chain of /ipns/ values may have, and domains a chain of DNSLinks, as in Kubo.
const MaxHops = 32

// MaxSequence is the highest sequence that is signed or accepted: npm's ipns
// refuses 2^63 and more.
const MaxSequence = 1<<63 - 1

// OlderError tells what a refused record lost against.
type OlderError struct {
	Name    Name
	Offered uint64 // its sequence
	Floor   uint64 // the highest sequence seen
}

func (e *OlderError) Error() string {
	if e.Offered == e.Floor {
		return fmt.Sprintf("%s: another record of sequence %d wins: %v", e.Name, e.Floor, ErrOlder)
	}
	return fmt.Sprintf("%s: sequence %d is %v (%d)", e.Name, e.Offered, ErrOlder, e.Floor)
}

// Unwrap is ErrOlder.
func (e *OlderError) Unwrap() error { return ErrOlder }

// Records keeps the best record seen for each name, and its floor, durably. Contract:
// Accept is one atomic step, also between processes.
type Records interface {
	// Best is the best record accepted so far, which may have expired since,
	// and the floor. ErrNotFound where nothing was ever accepted.
	Best(ctx context.Context, n Name) (Record, error)
	// Accept keeps r if it beats what is kept (Record.Compare > 0) and may follow it. Accepting the very
	// same record again is no error. Otherwise an OlderError or ErrRecovery (Record.MayFollow), and nothing changes.
	// A record that expired since it was opened is still accepted: the floor must not depend on the clock.
	Accept(ctx context.Context, r Record) error
}

// Source is somewhere to ask for a record: a host's /routing/v1, the DHT.
type Source interface {
	// String names the source for people and errors: "host alice", "dht".
	String() string
	// Fetch gets the raw record, unchecked, at most MaxRecordSize bytes. ErrNotFound where the source answered
	// that it has none; any other error means that it could not be asked. It returns soon after ctx ends: a
	// resolve waits for it.
	Fetch(ctx context.Context, n Name) ([]byte, error)
}

// Sink is somewhere to put a record.
type Sink interface {
	// String names the sink for people and errors.
	String() string
	// Put hands over the record's bytes as they are. ErrOlder where the sink has a better one. It returns soon
	// after ctx ends.
	Put(ctx context.Context, r Record) error
}
