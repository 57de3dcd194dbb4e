package p2p

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/naming"
)

// nameNumber is a name for each number, of a key that nobody has.
func nameNumber(i int) naming.Name {
	return naming.NameOf(peer.ID(binary.BigEndian.AppendUint64(append([]byte{0x12, 0x20}, make([]byte, 24)...), uint64(i))))
}

func mustHex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestThePushMessagesAreAsWritten(t *testing.T) {
	n, err := naming.ParseName("12D3KooWGRUoG1rVKgDKbQkS2pUoXSv8xgyHbCyGe7TpsoHoNk3V")
	if err != nil {
		t.Fatal(err)
	}
	const id = "0024080112206224f22a4d40b7521e949fdf22ae055e0d74e0cca59c0ca3f7518762cc789d44"
	for what, c := range map[string]struct {
		got  []byte
		want string
	}{
		"watch":   {appendAsk(nil, pushWatch, n), "27" + "2b" + id},
		"unwatch": {appendAsk(nil, pushUnwatch, n), "27" + "2d" + id},
		"record":  {appendTold(nil, n, []byte("abc")), "2a" + "26" + id + "616263"},
		"long":    {appendTold(nil, n, make([]byte, naming.MaxRecordSize))[:3], "a750" + "26"}, // 10 279 bytes
	} {
		if !bytes.Equal(c.got, mustHex(t, c.want)) {
			t.Errorf("%s: %x, not %s", what, c.got, c.want)
		}
	}
}

func TestMessagesThatAreNotOfTheProtocolAreRefused(t *testing.T) {
	name := []byte(nameNumber(1).Peer())
	with := func(prefix string, b []byte) []byte { return append([]byte(prefix), b...) }
	for what, msg := range map[string][]byte{
		"empty": {}, "no name": []byte("+"), "another verb": with("?", name), "a cut name": with("+", name[:33]),
		"a name and more": append(with("+", name), 0), "a name of 45 bytes": with("+", make([]byte, 45)),
		"a hash of a kind that names have not": with("+\x13\x40", make([]byte, 64)), "a full message": make([]byte, maxPushMessage),
	} {
		if _, _, err := decodeAsk(msg); !errors.Is(err, errPush) {
			t.Errorf("ask, %s: %v", what, err)
		}
	}
	for what, msg := range map[string][]byte{
		"empty": {}, "a length only": {34}, "a longer name than there is": with("\x23", name), "no name": {0},
		"a length that is not minimal": with("\xa2\x00", name), "a length without end": bytes.Repeat([]byte{0xff}, 100),
		"a length of 2^62": with("\x80\x80\x80\x80\x80\x80\x80\x80\x40", name),
	} {
		if _, _, err := decodeTold(msg); !errors.Is(err, errPush) {
			t.Errorf("told, %s: %v", what, err)
		}
	}
}

func TestAFrameIsReadUpToItsLimit(t *testing.T) {
	frame := func(length ...byte) io.Reader {
		return io.MultiReader(bytes.NewReader(length), iotest.ErrReader(errors.New("read on")))
	}
	full := append([]byte{0xa0, 0x51}, make([]byte, maxPushMessage)...)
	if msg, err := readPush(bufio.NewReader(bytes.NewReader(full))); err != nil || len(msg) != maxPushMessage {
		t.Errorf("10 400 bytes: %d, %v", len(msg), err)
	}
	for what, r := range map[string]io.Reader{
		"10 401 bytes": frame(0xa1, 0x51), "2^62": frame(0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40),
		"a varint without end": frame(bytes.Repeat([]byte{0xff}, 100)...), "not minimal": frame(0x80, 0x00),
	} {
		if _, err := readPush(bufio.NewReader(r)); !errors.Is(err, errPush) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := readPush(bufio.NewReader(bytes.NewReader(full[:100]))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut: %v", err)
	}
	if _, err := readPush(bufio.NewReader(bytes.NewReader(nil))); err != io.EOF {
		t.Errorf("between messages: %v", err)
	}
}

func TestABudgetIsSpentAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := budget{size: 10, rate: 2}
		if !b.allow(10) || b.allow(1) {
			t.Fatal("not ten at once")
		}
		time.Sleep(time.Second)
		if !b.allow(2) || b.allow(1) {
			t.Error("not two more after a second")
		}
		if d := b.pace(4); d != 2*time.Second {
			t.Errorf("four more in %v", d)
		}
		time.Sleep(time.Hour)
		if b.usedNow() != 0 || b.pace(10) != 0 {
			t.Error("it never recovers")
		}
	})
}

func FuzzPushAsk(f *testing.F) {
	for i := range 2 {
		f.Add(appendAsk(nil, pushWatch, nameNumber(i))[1:])
	}
	f.Add([]byte("-"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, msg []byte) {
		op, n, err := decodeAsk(msg)
		if err != nil {
			return
		}
		if again := appendAsk(nil, op, n)[1:]; !bytes.Equal(again, msg) {
			t.Errorf("%x is written %x", msg, again)
		}
	})
}

func FuzzPushTold(f *testing.F) {
	f.Add(appendTold(nil, nameNumber(1), []byte("record"))[1:])
	f.Add(appendTold(nil, nameNumber(1), nil)[1:])
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, msg []byte) {
		n, record, err := decodeTold(msg)
		if err != nil || len(msg) > maxPushMessage {
			return
		}
		got, err := readPush(bufio.NewReader(bytes.NewReader(appendTold(nil, n, record))))
		if err != nil || !bytes.Equal(got, msg) {
			t.Errorf("%x is written %x, %v", msg, got, err)
		}
	})
}

func FuzzPushFrames(f *testing.F) {
	f.Add(append(appendAsk(nil, pushWatch, nameNumber(1)), appendAsk(nil, pushUnwatch, nameNumber(1))...))
	f.Add(bytes.Repeat([]byte{0x80}, 20))
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := bufio.NewReader(bytes.NewReader(stream))
		for {
			msg, err := readPush(r)
			if err != nil {
				return
			}
			if len(msg) > maxPushMessage {
				t.Fatalf("a message of %d bytes", len(msg))
			}
		}
	})
}
