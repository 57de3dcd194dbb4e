package replicate

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/naming"
)

// TenantPath is where a host says what a token is good for, below the base of its services.
const TenantPath = "/holdfast/1/tenant"

// TenantInfo is what a token is good for, and what of it is taken; see docs/formats.md.
type TenantInfo struct {
	Version           int           `json:"version"`
	Label             string        `json:"label"`
	Sites             []naming.Name `json:"sites"`          // empty: any
	QuotaBytes        int64         `json:"quota_bytes"`    // 0: no limit, here and below
	UsedBytes         int64         `json:"used_bytes"`     // each block once over all pins
	ReservedBytes     int64         `json:"reserved_bytes"` // promised beyond that
	MaxPinBytes       int64         `json:"max_pin_bytes"`
	RequestsPerMinute int           `json:"requests_per_minute"`
	Expires           *time.Time    `json:"expires"` // nil: never
	Draining          bool          `json:"draining"`
}

// Free is how many bytes the token is still good for; -1: no limit.
func (t TenantInfo) Free() int64 {
	if t.QuotaBytes == 0 {
		return -1
	}
	return max(0, t.QuotaBytes-t.UsedBytes-t.ReservedBytes)
}

// tenantFields are those that an object's crit may name.
var tenantFields = []string{"version", "label", "sites", "quota_bytes", "used_bytes", "reserved_bytes", "max_pin_bytes",
	"requests_per_minute", "expires", "draining", "crit"}

// ParseTenantInfo reads and checks what TenantPath served. Errors: merkle.ErrMalformed,
// merkle.ErrUnsupported for a version or critical field that is not known here.
func ParseTenantInfo(raw []byte) (TenantInfo, error) {
	t, err := parseTenantInfo(raw)
	if err != nil {
		return TenantInfo{}, fmt.Errorf("tenant: %w", err)
	}
	return t, nil
}

func parseTenantInfo(raw []byte) (t TenantInfo, err error) {
	if len(raw) > maxMessage {
		return t, fmt.Errorf("%w: %d bytes, more than %d", merkle.ErrMalformed, len(raw), maxMessage)
	}
	var shared struct {
		Version int64    `json:"version"`
		Crit    []string `json:"crit"`
	}
	if err := json.Unmarshal(raw, &shared); err != nil {
		return t, fmt.Errorf("%w: %v", merkle.ErrMalformed, err)
	}
	if shared.Version != formatVersion {
		return t, unknownVersion(shared.Version)
	}
	if err := checkCrit(shared.Crit, tenantFields); err != nil {
		return t, err
	}
	if err := json.Unmarshal(raw, &t); err != nil {
		return t, fmt.Errorf("%w: %v", merkle.ErrMalformed, err)
	}
	switch {
	case t.QuotaBytes < 0 || t.UsedBytes < 0 || t.ReservedBytes < 0 || t.MaxPinBytes < 0 || t.RequestsPerMinute < 0:
		return t, fmt.Errorf("%w: a negative number", merkle.ErrMalformed)
	case len(t.Sites) > MaxTokenSites:
		return t, fmt.Errorf("%w: %d sites, more than %d", merkle.ErrMalformed, len(t.Sites), MaxTokenSites)
	case len(t.Label) > 4*maxTokenLabel:
		return t, fmt.Errorf("%w: a label of %d bytes", merkle.ErrMalformed, len(t.Label))
	}
	return t, nil
}

// TenantInfo is what a tenant's token is good for. What is used is counted anew where that is not
// known; where that was done a moment ago, it may be a little too much.
func (s *Service) TenantInfo(ctx context.Context, t Tenant) (TenantInfo, error) {
	acc, err := s.account(ctx, t.ID)
	if err != nil {
		return TenantInfo{}, err
	}
	out := TenantInfo{
		Version: formatVersion, Label: t.Label, Sites: append([]naming.Name{}, t.Scope.Sites...),
		QuotaBytes: t.Scope.Quota, UsedBytes: acc.Used, ReservedBytes: acc.Reserved,
		MaxPinBytes: s.limit(PinRow{MaxBytes: t.Scope.MaxPinBytes}, PinTerms{}), RequestsPerMinute: t.Scope.Rate,
	}
	if !t.Scope.Expires.IsZero() {
		at := t.Scope.Expires.UTC()
		out.Expires = &at
	}
	if s.cfg.Draining != nil {
		out.Draining, err = s.cfg.Draining(ctx)
	}
	return out, err
}

// Tenant asks what the token is good for. ErrNotFound where the service doesn't say: it is none of ours.
func (c *Client) Tenant(ctx context.Context) (TenantInfo, error) {
	var raw json.RawMessage
	if err := c.call(ctx, http.MethodGet, TenantPath, nil, &raw); err != nil {
		return TenantInfo{}, err
	}
	t, err := ParseTenantInfo(raw)
	if err != nil {
		return TenantInfo{}, c.errorf(ErrInvalid, "%s: %v", TenantPath, err)
	}
	return t, nil
}
