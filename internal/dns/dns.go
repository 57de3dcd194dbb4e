// Package dns asks DNS resolvers that somebody named: the system's, others over UDP and TCP, or over HTTPS.
//
// It promises that nobody is asked who was not named, that an answer is bounded in time and size and belongs to the
// question that was put, and that a Cache keeps it for no longer than DNS allows, but while nobody answers. It never
// tries search domains, follows a redirect, connects to an address that an answer holds, or takes a truncated answer
// for a whole one. It does not validate DNSSEC: what DNS says is as trustworthy as the resolver and the way to it.
package dns

import (
	"context"
	"errors"
	"fmt"
	"time"

	wire "github.com/miekg/dns"

	"github.com/holdfast-sites/holdfast/naming"
)

// Type is a kind of record.
type Type uint16

// The types that are understood.
const (
	A     = Type(wire.TypeA)
	AAAA  = Type(wire.TypeAAAA)
	CNAME = Type(wire.TypeCNAME)
	TXT   = Type(wire.TypeTXT)
	CAA   = Type(wire.TypeCAA)
	SOA   = Type(wire.TypeSOA)
)

func (t Type) String() string { return wire.Type(t).String() }

const (
	// MaxTTL bounds for how long any answer is believed: DNS would allow years, and a mistake should heal in an hour.
	MaxTTL = time.Hour
	// maxNegative bounds it for the answer that there is nothing: somebody may be adding the record just now.
	maxNegative = 5 * time.Minute
	// askTime bounds one question to one resolver, with all its servers, tries and aliases.
	askTime = 6 * time.Second
	// maxAliases bounds a chain of CNAMEs. Resolvers give up after 8 to 16.
	maxAliases = 16
)

// Answer is what DNS says about one name and type. The zero Answer says that there is nothing, and may not be kept.
type Answer struct {
	// Aliases are the names that CNAMEs led to, in order, in lower case and without final dot.
	Aliases []string
	// Data has a text for each record: of TXT its strings joined, byte for byte; of A and AAAA the address; of CNAME
	// the name in lower case without final dot; of CAA and SOA as in a zone file. Empty where there are none.
	Data []string
	// TTL is for how long all of it holds, or that there is nothing: from 0 to MaxTTL.
	TTL time.Duration
}

// Resolver is somebody who answers questions. It is safe for concurrent use.
type Resolver interface {
	// String names the resolver as Parse reads it.
	String() string
	// Ask asks for the records of a type that a name has, which is absolute with and without final dot. Errors:
	// naming.ErrLoop where aliases lead in a circle or on for too long, naming.ErrInvalidName where name can't be
	// asked for, naming.ErrUnavailable for anything that is no answer. The Answer's slices are not to be changed.
	Ask(ctx context.Context, name string, t Type) (Answer, error)
}

// TXTLookup is r as naming.DNSLink wants it.
func TXTLookup(r Resolver) func(ctx context.Context, host string) ([]string, time.Duration, error) {
	return func(ctx context.Context, host string) ([]string, time.Duration, error) {
		a, err := r.Ask(ctx, host, TXT)
		return a.Data, a.TTL, err
	}
}

// InOrder asks the first of several resolvers, at least one, and each next where the one before gave no answer.
type InOrder []Resolver

// String implements Resolver.
func (rs InOrder) String() string {
	text := ""
	for i, r := range rs {
		if i > 0 {
			text += ", "
		}
		text += r.String()
	}
	return text
}

// Ask implements Resolver.
func (rs InOrder) Ask(ctx context.Context, name string, t Type) (Answer, error) {
	var errs []error
	for _, r := range rs {
		a, err := r.Ask(ctx, name, t)
		if !errors.Is(err, naming.ErrUnavailable) || ctx.Err() != nil {
			return a, err
		}
		errs = append(errs, err)
	}
	return Answer{}, errors.Join(errs...)
}

// fqdn is a name as questions hold it: lower case, with its final dot.
func fqdn(name string) (string, error) {
	if _, ok := wire.IsDomainName(name); !ok || name == "" || len(name) > 254 {
		return "", fmt.Errorf("%w: %.80q", naming.ErrInvalidName, name)
	}
	return wire.CanonicalName(name), nil
}

func unavailable(r fmt.Stringer, err error) error {
	return fmt.Errorf("%w: %s: %w", naming.ErrUnavailable, r, err)
}
