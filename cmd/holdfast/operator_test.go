package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"

	"github.com/holdfast-sites/holdfast/naming/namingtest"
	"github.com/holdfast-sites/holdfast/replicate"
)

// identity is a CID that has its bytes in itself, so that nobody needs to be asked for them.
func identity(t *testing.T, codec uint64, text string) cid.Cid {
	t.Helper()
	sum, err := mh.Sum([]byte(text), mh.IDENTITY, -1)
	if err != nil {
		t.Fatal(err)
	}
	return cid.NewCidV1(codec, sum)
}

func TestAnOperatorSeesWhatTenantsTakeAndEmptiesTheHost(t *testing.T) {
	host := serveHost(t)
	token := host.json("token", "create", "anna", "--quota", "5MB", "--rate", "6000/m")["token"].(string)
	anna := replicate.NewClient(host.Pins, token, nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var ids []string
	for _, p := range []replicate.Pin{
		{CID: identity(t, cid.Raw, "here"), Name: "good", Meta: map[string]string{replicate.MetaMaxBytes: "1000000"}},
		{CID: identity(t, cid.DagProtobuf, "no dag-pb"), Name: "bad"},
	} {
		st, err := anna.Add(ctx, p)
		if err != nil {
			t.Fatal(err)
		}
		if st, err = anna.Wait(ctx, st.RequestID, 10*time.Millisecond, nil); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, st.RequestID)
	}

	if all := host.json("operator", "pins")["pins"].([]any); len(all) != 2 {
		t.Errorf("%v", all)
	}
	failing := host.json("operator", "pins", "--failing", "--tenant", "anna")["pins"].([]any)
	if len(failing) != 1 {
		t.Fatalf("%v", failing)
	}
	hasExactly(t, "a pin", failing[0], "id", "tenant", "label", "name", "site", "role", "cid", "root", "status", "bytes", "reserved_bytes",
		"bytes_done", "error", "sources", "next_try", "created")
	if p := failing[0].(map[string]any); p["status"] != "failed" || p["name"] != "bad" || p["label"] != "anna" || p["error"] == "" {
		t.Errorf("%v", p)
	}
	host.fails(3, "operator usage", "operator", "pins", "--tenant", "berta")
	if o := host.must("operator", "pins"); !strings.Contains(o.out, "1.0 MB reserved") || !strings.Contains(o.out, `"bad"`) {
		t.Errorf("%s", o.out)
	}

	u := host.json("operator", "usage")
	hasExactly(t, "operator usage", u, "bytes", "reserved_bytes", "disk_bytes", "capacity_bytes", "free_bytes", "ingress_today", "egress_today",
		"draining_since", "tenants", "balance", "failing")
	takes := u["tenants"].([]any)[0].(map[string]any)
	if takes["label"] != "anna" || takes["quota_bytes"] != 5e6 || takes["pins"] != 2.0 || takes["failing"] != 1.0 || u["free_bytes"].(float64) <= 0 {
		t.Errorf("%v", u)
	}
	if o := host.must("operator", "usage"); !strings.Contains(o.out, "1 failing") || !strings.Contains(o.out, "left for new pins") || !strings.Contains(o.out, "today ") {
		t.Errorf("%s", o.out)
	}

	drain := host.json("operator", "drain")
	hasExactly(t, "operator drain", drain, "draining_since", "pins", "bytes", "tenants")
	if drain["draining_since"] == nil || drain["pins"] != 2.0 {
		t.Errorf("%v", drain)
	}
	if _, err := anna.Add(ctx, replicate.Pin{CID: identity(t, cid.Raw, "new")}); !errors.Is(err, replicate.ErrForbidden) {
		t.Errorf("a new pin: %v", err)
	}
	if d, err := replicate.FetchHostDescription(ctx, nil, host.Pins, time.Now()); err != nil || !d.Draining || d.FreeBytes <= 0 {
		t.Errorf("%+v, %v", d, err)
	}
	if info, err := anna.Tenant(ctx); err != nil || !info.Draining {
		t.Errorf("%+v, %v", info, err)
	}
	for _, id := range ids {
		if err := anna.Delete(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	if o := host.must("operator", "drain", "--wait"); !strings.Contains(o.out, "can be switched off") {
		t.Errorf("%s", o.out)
	}
	if d := host.json("operator", "drain", "--undo"); d["draining_since"] != nil {
		t.Errorf("%v", d)
	}
	if _, err := anna.Add(ctx, replicate.Pin{CID: identity(t, cid.Raw, "new")}); err != nil {
		t.Errorf("a new pin, when the host is emptied no longer: %v", err)
	}
}

func TestATokensScopeIsShownAndHolds(t *testing.T) {
	u := newUser(t)
	site := namingtest.Signer(t, "site").Name().String()
	u.json("token", "create", "anna", "--site", site, "--quota", "5GB", "--max-pin", "1GB", "--rate", "10/s", "--expires", "90d")
	v := u.json("token", "list")["tokens"].([]any)[0].(map[string]any)
	end, err := time.Parse(time.RFC3339, v["expires"].(string))
	if v["sites"].([]any)[0] != site || v["quota_bytes"] != 5e9 || v["max_pin_bytes"] != 1e9 || v["requests_per_minute"] != 600.0 ||
		err != nil || time.Until(end).Round(time.Hour) != 90*24*time.Hour {
		t.Errorf("%v", v)
	}
	if o := u.must("token", "list"); !strings.Contains(o.out, site+" · 5.0 GB in all · 1.0 GB a pin · 600 requests a minute · until ") || !strings.Contains(o.out, "never used") {
		t.Errorf("%s", o.out)
	}
	for flag, bad := range map[string][]string{
		"--quota": {"much", "-1", "0"}, "--max-pin": {"1XB", "0B"}, "--rate": {"0", "10/w", "fast"}, "--expires": {"2001-01-01", "-3d", "soon"}, "--for-peer": {"nobody"},
	} {
		for _, text := range bad {
			u.fails(2, "", "token", "create", "x", flag+"="+text)
		}
	}
	if list := u.json("token", "list")["tokens"].([]any); len(list) != 1 {
		t.Errorf("a refused flag left a token: %v", list)
	}
}

func TestWhenATokenEnds(t *testing.T) {
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"90d": "2027-02-20T10:00:00Z", "12h": "2026-11-22T22:00:00Z", "2026-12-31": "2027-01-01T00:00:00Z", "2026-12-31T12:00:00Z": "2026-12-31T12:00:00Z",
	} {
		if got, err := parseEnd(text, now); err != nil || got.Format(time.RFC3339) != want {
			t.Errorf("%s: %v, %v; want %s", text, got, err, want)
		}
	}
	for text, want := range map[string]int{"600": 600, "600/m": 600, "10/s": 600, "36000/h": 600, "1/h": 1} {
		if got, err := parseRequests(text); err != nil || got != want {
			t.Errorf("%s: %d, %v; want %d", text, got, err, want)
		}
	}
}
