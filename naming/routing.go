package naming

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
)

// MediaType is the content type of a raw record.
const MediaType = "application/vnd.ipfs.ipns-record"

// maxRefusal is how much of an error answer's body we quote, in bytes.
const maxRefusal = 300

// RoutingClient asks and tells a host's Delegated Routing: a Source and a Sink over GET and PUT
// {base}/routing/v1/ipns/{name}. It checks nothing but sizes, follows no redirects, and sets no deadline of its own.
//
// Source: https://specs.ipfs.tech/routing/http-routing-v1/#ipns-api
type RoutingClient struct {
	label string
	base  string // without user, query and final "/"
	err   error  // why base is none
	kept  bool   // asks only for what is kept there
	http  *http.Client
}

// NewRoutingClient makes a client of the services at base, an http or https URL; label is what String says. c is
// copied, nil means one like http.DefaultClient. A base that is no such URL fails each call.
func NewRoutingClient(label, base string, c *http.Client) *RoutingClient {
	client := http.Client{}
	if c != nil {
		client = *c
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	r := &RoutingClient{label: label, http: &client}
	u, err := url.Parse(base)
	switch {
	case err != nil: // its text would quote the URL, and with it a token
		r.err = errors.New("the base is no URL")
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		r.err = errors.New("the base is no http URL")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		r.err = errors.New("the base has a user, query or fragment")
	default:
		r.base = strings.TrimSuffix(u.String(), "/")
	}
	return r
}

// Kept is a client whose questions the other side is to answer from what it keeps, without asking anybody else.
func (c *RoutingClient) Kept() *RoutingClient {
	k := *c
	k.kept = true
	return &k
}

// String is the label.
func (c *RoutingClient) String() string { return c.label }

// Fetch is Source's.
func (c *RoutingClient) Fetch(ctx context.Context, n Name) ([]byte, error) {
	resp, err := c.do(ctx, http.MethodGet, n, nil)
	if err != nil {
		return nil, err
	}
	defer done(resp)
	if resp.StatusCode == http.StatusNotFound {
		return nil, ErrNotFound
	}
	if resp.StatusCode != http.StatusOK {
		return nil, c.refusal(resp)
	}
	// Since IPIP-513 a server that knows no record says so by 200 and another content type.
	if t, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || t != MediaType {
		return nil, ErrNotFound
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, MaxRecordSize+1))
	if err != nil {
		return nil, c.failed(err)
	}
	if len(raw) > MaxRecordSize {
		return nil, c.failed(ErrTooLarge)
	}
	return raw, nil
}

// Put is Sink's.
func (c *RoutingClient) Put(ctx context.Context, r Record) error {
	if r.IsZero() {
		return fmt.Errorf("%w: none to put", ErrInvalidRecord)
	}
	resp, err := c.do(ctx, http.MethodPut, r.Name(), r.s.raw)
	if err != nil {
		return err
	}
	defer done(resp)
	switch {
	case resp.StatusCode >= 200 && resp.StatusCode < 300:
		return nil
	case resp.StatusCode == http.StatusConflict:
		return fmt.Errorf("%w: %w", ErrOlder, c.refusal(resp))
	}
	return c.refusal(resp)
}

func (c *RoutingClient) do(ctx context.Context, method string, n Name, body []byte) (*http.Response, error) {
	if c.err != nil {
		return nil, fmt.Errorf("routing at %s: %w", c.label, c.err)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+"/routing/v1/ipns/"+n.String(), bytes.NewReader(body))
	if err != nil {
		return nil, c.failed(err)
	}
	if method == http.MethodPut {
		req.Header.Set("Content-Type", MediaType)
	} else {
		req.Header.Set("Accept", MediaType)
		if c.kept {
			req.Header.Set("Cache-Control", "only-if-cached")
		}
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.failed(err)
	}
	return resp, nil
}

// done reads what little may be left, so that the connection can be used again.
func done(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, 4096)
	resp.Body.Close()
}

// failed names the base; what net/http adds to that is dropped.
func (c *RoutingClient) failed(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err
	}
	return fmt.Errorf("routing at %s: %w", c.base, err)
}

// refusal is what a server said instead of yes; its words are quoted, since anybody may have written them.
func (c *RoutingClient) refusal(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxRefusal))
	if words := strings.TrimSpace(string(text)); words != "" {
		return fmt.Errorf("routing at %s: status %d: %q", c.base, resp.StatusCode, words)
	}
	return fmt.Errorf("routing at %s: status %d", c.base, resp.StatusCode)
}
