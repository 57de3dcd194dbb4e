package control

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// SocketPath is where the node of this home listens: in a folder of ours under
// the user's runtime directory, or under the system's temporary one where
// runtimeDir is empty. The name is a hash of the home, since socket paths end
// at about 108 bytes. The folder is made, 0700.
func SocketPath(runtimeDir, home string) (string, error) {
	abs, err := filepath.Abs(home)
	if err != nil {
		return "", err
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		abs = real
	}
	dir := filepath.Join(runtimeDir, "holdfast")
	if runtimeDir == "" {
		dir = filepath.Join(os.TempDir(), fmt.Sprintf("holdfast-%d", os.Getuid()))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	// A folder that somebody else made in a shared temporary folder could hold
	// a socket that is not ours.
	if err := ownedByUs(dir); err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(abs))
	return filepath.Join(dir, hex.EncodeToString(sum[:8])+".sock"), nil
}

// Listen opens the socket. The caller holds the home's lock, so a socket that
// is there already is a dead node's.
func Listen(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return net.Listen("unix", path)
}

// Client is a Caller on a running node.
type Client struct{ http *http.Client }

// ErrNoNode says that no node listens on the socket.
var ErrNoNode = errors.New("no node is running on this home")

// Dial finds the running node of a socket, or ErrNoNode.
func Dial(ctx context.Context, path string) (*Client, error) {
	c, err := (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("%w (%v)", ErrNoNode, err)
	}
	c.Close()
	return &Client{http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
	}}}, nil
}

// Close lets go of the connection.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Node asks what the running node is.
func (c *Client) Node(ctx context.Context, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://holdfast/v1/node", nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return json.NewDecoder(io.LimitReader(resp.Body, MaxParams)).Decode(into)
}

func (c *Client) post(ctx context.Context, path string, params any) (*http.Response, error) {
	b, err := encodeParams(params)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://holdfast/v1/"+path, bytes.NewReader(b))
	if err != nil {
		return nil, Errorf(Failed, "%v", err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil && ctx.Err() != nil {
		return nil, Errorf(Failed, "interrupted")
	}
	if err != nil {
		return nil, Errorf(Unavailable, "the running node: %v", err)
	}
	return resp, nil
}

// Call implements Caller.
func (c *Client) Call(ctx context.Context, method string, params, result any, progress func(json.RawMessage)) error {
	return c.call(ctx, "call/"+url.PathEscape(method), params, result, progress)
}

// HandOver starts a method that goes on in the node when the caller has gone.
func (c *Client) HandOver(ctx context.Context, method string, params any) error {
	return c.call(ctx, "call/"+url.PathEscape(method)+"?handover=true", params, nil, nil)
}

func (c *Client) call(ctx context.Context, path string, params, result any, progress func(json.RawMessage)) error {
	resp, err := c.post(ctx, path, params)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var ev struct {
			Progress json.RawMessage `json:"progress"`
			Result   json.RawMessage `json:"result"`
			Error    *Error          `json:"error"`
			Done     bool            `json:"done"`
		}
		if err := json.Unmarshal(lines.Bytes(), &ev); err != nil {
			return Errorf(Failed, "the running node answered with something else: %v", err)
		}
		switch {
		case ev.Error != nil:
			return ev.Error
		case ev.Done:
			if result == nil || len(ev.Result) == 0 {
				return nil
			}
			if err := json.Unmarshal(ev.Result, result); err != nil {
				return Errorf(Failed, "the running node answered with something else: %v", err)
			}
			return nil
		case progress != nil && ev.Progress != nil:
			progress(ev.Progress)
		}
	}
	if ctx.Err() != nil {
		return Errorf(Failed, "interrupted")
	}
	return Errorf(Unavailable, "the running node went away in the middle of the call: %v", lines.Err())
}

// Copy implements Caller.
func (c *Client) Copy(ctx context.Context, method string, params any, w io.Writer) error {
	resp, err := c.post(ctx, "stream/"+url.PathEscape(method), params)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		var ev struct {
			Error *Error `json:"error"`
		}
		if err := json.NewDecoder(io.LimitReader(resp.Body, MaxParams)).Decode(&ev); err == nil && ev.Error != nil {
			return ev.Error
		}
		return Errorf(Failed, "the running node answered %s", resp.Status)
	}
	if _, err := io.Copy(w, resp.Body); err != nil {
		return Errorf(Unavailable, "cut off: %v", err)
	}
	return nil
}
