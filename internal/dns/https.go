package dns

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	wire "github.com/miekg/dns"
)

const dnsMessage = "application/dns-message"

// parseHTTPS checks the address of a resolver that is asked over HTTPS. Plain HTTP is for loopback: what goes over a
// network in the clear, anybody on it can answer.
func parseHTTPS(spec string) error {
	u, err := url.Parse(spec)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrResolver, err)
	case u.Hostname() == "" || u.User != nil || u.Fragment != "" || strings.ContainsAny(spec, "{}"):
		return fmt.Errorf("%w: %q is not https://HOST/PATH", ErrResolver, spec)
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return fmt.Errorf("%w: %q: only a resolver on loopback is asked over plain http", ErrResolver, spec)
	}
	return nil
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.Unmap().IsLoopback()
}

// askHTTPS puts questions in the bodies of POST requests (RFC 8484).
func askHTTPS(address string, transport http.RoundTripper) exchange {
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return func(ctx context.Context, q *wire.Msg) (*wire.Msg, error) {
		q.Id = 0 // HTTP says which answer is whose
		body, err := q.Pack()
		if err != nil {
			return nil, err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Content-Type", dnsMessage)
		req.Header.Set("Accept", dnsMessage)
		resp, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		return readHTTPS(resp, q)
	}
}

func readHTTPS(resp *http.Response, q *wire.Msg) (*wire.Msg, error) {
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("HTTP status %d", resp.StatusCode)
	}
	kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	if !strings.EqualFold(strings.TrimSpace(kind), dnsMessage) {
		return nil, fmt.Errorf("the answer is %.60q, not %s", kind, dnsMessage)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, wire.MaxMsgSize+1))
	if err != nil {
		return nil, err
	}
	if len(b) > wire.MaxMsgSize {
		return nil, fmt.Errorf("the answer is larger than %d bytes", wire.MaxMsgSize)
	}
	m := new(wire.Msg)
	if err := m.Unpack(b); err != nil {
		return nil, fmt.Errorf("the answer is malformed: %w", err)
	}
	if !answers(m, q) {
		return nil, errNotAnswered
	}
	return m, whole(m)
}
