package replicate

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/ipld/go-ipld-prime/datamodel"
	"github.com/ipld/go-ipld-prime/fluent/qp"

	"github.com/holdfast-sites/holdfast/merkle"
)

const inviteSecret = "hft_c2VjcmV0LXRva2Vu"

func sampleInvite() Invite {
	return Invite{Base: "https://alice.example/hf", Peer: idNumber(2), Token: inviteSecret, Name: "alice"}
}

func TestTheInviteFormatIsTheGoldenOne(t *testing.T) {
	over := sampleInvite()
	over.Base = "/ip4/203.0.113.7/tcp/4001/p2p/" + idNumber(2).String()
	var out strings.Builder
	limited := sampleInvite()
	limited.Quota = 5_000_000_000
	answer := limited
	answer.Answer(Invite{Peer: idNumber(4), Token: "hft_the-other-half"})
	for _, i := range []Invite{sampleInvite(), over, limited, answer} {
		s, err := i.Encode()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&out, s)
		if back, err := ParseInvite(" " + s + "\n"); err != nil || back != i {
			t.Fatalf("%v came back as %v, %v", i, back, err)
		}
	}
	golden(t, "invite.golden", out.String())
}

func TestAnInviteShowsItsTokenNowhereButInItsEncoding(t *testing.T) {
	i := sampleInvite()
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("got", "invite", i, "pointer", &i)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("got", "invite", i, "pointer", &i)
	js, err := json.Marshal(i)
	if err != nil {
		t.Fatal(err)
	}
	shown := fmt.Sprint(i, &i) + fmt.Sprintf("%v %+v %#v %s %q", i, i, i, i, i) + fmt.Sprintf("%+v", []Invite{i}) + log.String() + string(js)
	if strings.Contains(shown, inviteSecret) {
		t.Fatalf("the token is in %s", shown)
	}
	if !strings.Contains(i.String(), "alice") {
		t.Fatal(i)
	}
}

// inviteOf encodes what Encode would refuse.
func inviteOf(t *testing.T, change func(m map[string]qp.Assemble)) string {
	t.Helper()
	i := sampleInvite()
	m := map[string]qp.Assemble{
		"version": qp.Int(1), "base": qp.String(i.Base), "peer": qp.String(i.Peer.String()),
		"token": qp.String(i.Token), "name": qp.String(i.Name),
	}
	change(m)
	raw, err := encodeMap(func(ma datamodel.MapAssembler) {
		for k, v := range m {
			qp.MapEntry(ma, k, v)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return invitePrefix + base64.RawURLEncoding.EncodeToString(raw)
}

// answering is an invite that answers a token with that hash.
func answering(t *testing.T, hash []byte) string {
	t.Helper()
	return inviteOf(t, func(m map[string]qp.Assemble) {
		m["answers"], m["answered"] = qp.String(idNumber(3).String()), qp.Bytes(hash)
	})
}

func TestInvitesAreCheckedAndErrorsKeepTheSecret(t *testing.T) {
	set := func(key string, v qp.Assemble) string {
		return inviteOf(t, func(m map[string]qp.Assemble) { m[key] = v })
	}
	good, err := sampleInvite().Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		s    string
		want error
	}{
		"as it is":             {good, nil},
		"a field of later":     {set("colour", qp.String("red")), nil},
		"a critical later one": {set("crit", listOf(qp.String("colour"))), merkle.ErrUnsupported},
		"version 2":            {set("version", qp.Int(2)), merkle.ErrUnsupported},
		"empty":                {"", merkle.ErrMalformed},
		"another prefix":       {"hfi2" + good[4:], merkle.ErrMalformed},
		"cut":                  {good[:len(good)-3], merkle.ErrMalformed},
		"padded":               {good + "=", merkle.ErrMalformed},
		"broken in two lines":  {good[:20] + "\n" + good[20:], merkle.ErrMalformed},
		"standard base64":      {good[:20] + "+/" + good[22:], merkle.ErrMalformed},
		"over 4 KiB":           {invitePrefix + strings.Repeat("A", maxInvite), merkle.ErrMalformed},
		"no token":             {set("token", qp.String("")), merkle.ErrMalformed},
		"a token of a header":  {set("token", qp.String("a\r\nX-Admin: 1")), merkle.ErrMalformed},
		"a long token":         {set("token", qp.String(strings.Repeat("x", maxInviteToken+1))), merkle.ErrMalformed},
		"base with a password": {set("base", qp.String("http://u:p@a")), merkle.ErrMalformed},
		"base of a file":       {set("base", qp.String("file:///etc/passwd")), merkle.ErrMalformed},
		"base of another peer": {set("base", qp.String("/ip4/1.2.3.4/tcp/1/p2p/"+idNumber(3).String())), merkle.ErrMalformed},
		"base of no peer":      {set("base", qp.String("/ip4/1.2.3.4/tcp/1")), merkle.ErrMalformed},
		"no peer":              {set("peer", qp.String("")), merkle.ErrMalformed},
		"a quota":              {set("quota", qp.Int(1)), nil},
		"a quota of nothing":   {set("quota", qp.Int(0)), merkle.ErrMalformed},
		"a quota below that":   {set("quota", qp.Int(-1)), merkle.ErrMalformed},
		"a quota in words":     {set("quota", qp.String("5GB")), merkle.ErrMalformed},
		"an answer":            {set("answers", qp.String(idNumber(3).String())), nil},
		"an answer to nobody":  {set("answers", qp.String("")), merkle.ErrMalformed},
		"answered, not whose":  {set("answered", qp.Bytes(bytes.Repeat([]byte{7}, 32))), merkle.ErrMalformed},
		"half a token's hash":  {answering(t, bytes.Repeat([]byte{7}, 16)), merkle.ErrMalformed},
		"a critical quota":     {set("crit", listOf(qp.String("quota"))), nil},
		"a long name":          {set("name", qp.String(strings.Repeat("x", 129))), merkle.ErrMalformed},
	} {
		_, err := ParseInvite(c.s)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), inviteSecret) {
			t.Errorf("%s: the error shows the token", name)
		}
	}
	for name, change := range map[string]func(*Invite){
		"no token": func(i *Invite) { i.Token = "" },
		"no base":  func(i *Invite) { i.Base = "" },
		"no peer":  func(i *Invite) { i.Peer = "" },
		"bad name": func(i *Invite) { i.Name = "\xff" },
		"quota":    func(i *Invite) { i.Quota = -1 },
		"no whose": func(i *Invite) { i.Answered[0] = 1 },
	} {
		i := sampleInvite()
		change(&i)
		if _, err := i.Encode(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseInvite(f *testing.F) {
	answer := sampleInvite()
	answer.Quota = 1 << 40
	answer.Answer(Invite{Peer: idNumber(4), Token: "hft_the-other-half"})
	for _, i := range []Invite{sampleInvite(), answer} {
		s, err := i.Encode()
		if err != nil {
			f.Fatal(err)
		}
		raw, err := base64.RawURLEncoding.DecodeString(s[len(invitePrefix):])
		if err != nil {
			f.Fatal(err)
		}
		f.Add(s, raw)
	}
	f.Fuzz(func(t *testing.T, s string, raw []byte) {
		for _, s := range []string{s, invitePrefix + base64.RawURLEncoding.EncodeToString(raw)} {
			i, err := ParseInvite(s)
			if err != nil {
				if !errors.Is(err, merkle.ErrMalformed) && !errors.Is(err, merkle.ErrUnsupported) {
					t.Fatalf("error of no kind: %v", err)
				}
				continue
			}
			again, err := i.Encode()
			if err != nil {
				t.Fatalf("%v was read and can't be written: %v", i, err)
			}
			if back, err := ParseInvite(again); err != nil || back != i {
				t.Fatalf("%v came back as %v, %v", i, back, err)
			}
		}
	})
}
