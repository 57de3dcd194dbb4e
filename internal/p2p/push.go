package p2p

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-varint"

	"github.com/holdfast-sites/holdfast/naming"
)

// NamesProtocol is the libp2p protocol by which a Watcher hears of new records from a Publisher (docs/formats.md, "Push").
const NamesProtocol = "/holdfast/names/1"

// The limits of the protocol; those that a stranger could exceed are in docs/formats.md.
const (
	maxPushMessage = 10_400  // bytes after the length
	maxPushNames   = 4096    // names that one stream watches
	maxPushPeers   = 1024    // peers that watch here
	maxPushWatches = 1 << 19 // names over all streams: about 80 MiB when none is watched twice
	pushWait       = 10 * time.Second
)

// errPush says that a peer doesn't keep to the protocol.
var errPush = errors.New("not the names protocol")

// pushStream is what the protocol needs of a network.Stream.
type pushStream interface {
	io.ReadWriter
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
	Reset() error
}

// The two things that a watcher says.
const (
	pushWatch   = '+'
	pushUnwatch = '-'
)

// appendAsk appends the message that asks for a name, or asks for it no longer.
func appendAsk(b []byte, op byte, n naming.Name) []byte {
	b = append(b, varint.ToUvarint(uint64(1+len(n.Peer())))...)
	b = append(b, op)
	return append(b, n.Peer()...)
}

// decodeAsk reads what appendAsk wrote, without the length.
func decodeAsk(msg []byte) (op byte, n naming.Name, err error) {
	if len(msg) == 0 || msg[0] != pushWatch && msg[0] != pushUnwatch {
		return 0, n, fmt.Errorf("%w: neither + nor -", errPush)
	}
	n, err = pushName(msg[1:])
	return msg[0], n, err
}

// appendTold appends the message that tells a name's record.
func appendTold(b []byte, n naming.Name, record []byte) []byte {
	id := n.Peer()
	size := varint.UvarintSize(uint64(len(id))) + len(id) + len(record)
	b = append(b, varint.ToUvarint(uint64(size))...)
	b = append(b, varint.ToUvarint(uint64(len(id)))...)
	b = append(b, id...)
	return append(b, record...)
}

// decodeTold reads what appendTold wrote, without the length. The record is unchecked, and part of msg.
func decodeTold(msg []byte) (n naming.Name, record []byte, err error) {
	size, used, err := varint.FromUvarint(msg)
	if err != nil {
		return n, nil, fmt.Errorf("%w: %w", errPush, err)
	}
	msg = msg[used:]
	if size > uint64(len(msg)) {
		return n, nil, fmt.Errorf("%w: a name of %d bytes in %d", errPush, size, len(msg))
	}
	n, err = pushName(msg[:size])
	return n, msg[size:], err
}

// maxNameBytes is the length of the longest multihash that is a name: a key of 42 bytes within it, and its prefix.
const maxNameBytes = 44

// pushName refuses multihashes that no key can have: they could be watched without end.
func pushName(multihash []byte) (naming.Name, error) {
	if len(multihash) > maxNameBytes {
		return naming.Name{}, fmt.Errorf("%w: a name of %d bytes", errPush, len(multihash))
	}
	n, err := naming.ParseName(peer.ID(multihash).String())
	if err != nil {
		return n, fmt.Errorf("%w: %w", errPush, err)
	}
	return n, nil
}

// readPush reads one message. It allocates no more than a message may have. io.EOF only where nothing more came.
func readPush(r *bufio.Reader) ([]byte, error) {
	size, err := varint.ReadUvarint(r)
	switch {
	case errors.Is(err, varint.ErrOverflow), errors.Is(err, varint.ErrNotMinimal):
		return nil, fmt.Errorf("%w: %w", errPush, err)
	case err != nil:
		return nil, err
	case size > maxPushMessage:
		return nil, fmt.Errorf("%w: a message of %d bytes, at most %d are accepted", errPush, size, maxPushMessage)
	}
	msg := make([]byte, size)
	if _, err := io.ReadFull(r, msg); err != nil {
		return nil, fmt.Errorf("in a message of %d bytes: %w", size, noEOF(err))
	}
	return msg, nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// pushReader reads the messages of a stream. A message may be long in coming; once begun, it has to arrive.
type pushReader struct {
	s pushStream
	r *bufio.Reader
}

func newPushReader(s pushStream) *pushReader { return &pushReader{s, bufio.NewReader(s)} }

// next is the next message, which has to begin within idle (0: some day).
func (p *pushReader) next(idle time.Duration) ([]byte, error) {
	var begin time.Time
	if idle > 0 {
		begin = time.Now().Add(idle)
	}
	if err := p.s.SetReadDeadline(begin); err != nil {
		return nil, err
	}
	if _, err := p.r.Peek(1); err != nil {
		return nil, err
	}
	if err := p.s.SetReadDeadline(time.Now().Add(pushWait)); err != nil {
		return nil, err
	}
	return readPush(p.r)
}

// writePush writes whole messages to a peer that has to take them in time.
func writePush(s pushStream, messages []byte) error {
	if err := s.SetWriteDeadline(time.Now().Add(pushWait)); err != nil {
		return err
	}
	_, err := s.Write(messages)
	return err
}

// budget is a measure of how much of something was used of late: size at once, and rate more each second.
// It is not safe for concurrent use.
type budget struct {
	size, rate float64
	used       float64
	at         time.Time
}

// allow uses n, unless that is beyond the budget.
func (b *budget) allow(n int) bool {
	used := b.usedNow() + float64(n)
	if used > b.size {
		return false
	}
	b.used, b.at = used, time.Now()
	return true
}

// pace uses n, and returns how long to wait before it.
func (b *budget) pace(n int) time.Duration {
	b.used, b.at = b.usedNow()+float64(n), time.Now()
	return time.Duration(max(0, b.used-b.size) / b.rate * float64(time.Second))
}

func (b *budget) usedNow() float64 { return max(0, b.used-b.rate*time.Since(b.at).Seconds()) }

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
