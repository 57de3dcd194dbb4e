package replicate

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"

	"github.com/holdfast-sites/holdfast/naming"
)

// Report is what the keeper has seen of a site's holders, and did. ErrNotFound where no pin follows the site.
func (k *Keeper) Report(ctx context.Context, site naming.Name) (SiteReport, error) {
	st, err := k.cfg.Service.StandingOf(ctx, site)
	if err != nil {
		return SiteReport{}, err
	}
	r := SiteReport{
		Peer: k.cfg.Self, Time: k.cfg.Now(), Site: site, Role: RoleHolder,
		Holds: st.Holds, Root: st.Root, Sequence: st.Sequence, Policy: st.Policy,
	}
	if st.Standby {
		r.Role = RoleStandby
	}
	if !st.Root.Defined() {
		r.Holds = time.Time{}
	}
	if r.Events, err = k.cfg.Store.Events(ctx, site, MaxEvents); err != nil {
		return SiteReport{}, err
	}
	pol, _ := k.policy(ctx, st.Policy) // one that has expired says who they were
	seen, err := k.cfg.Store.Presences(ctx)
	if err != nil {
		return SiteReport{}, err
	}
	sightings, err := k.cfg.Store.Sightings(ctx, site)
	if err != nil {
		return SiteReport{}, err
	}
	for i, s := range k.others(pol, seen, sightings) {
		id := pol.Roster[i].ID
		if id == k.cfg.Self {
			continue
		}
		r.Members = append(r.Members, ReportMember{
			Peer: id, Rank: i, Seen: s.Seen, Held: s.Held, Absent: s.Absent,
			Uptime: seen[id].Uptime(), Patience: s.Patience, Convicted: s.Out,
		})
	}
	return r, nil
}

// reportHandler serves reports to tenants; what it shares with the pin API is that API's.
type reportHandler struct {
	pinHandler
	keeper *Keeper
	key    crypto.PrivKey
}

// NewReportHandler serves the reports of a keeper's sites, signed, to the tenants that
// have name pins of them: the caller mounts it at ReportPath. Failures are as in the pin API.
func NewReportHandler(k *Keeper, key crypto.PrivKey, cfg HandlerConfig) http.Handler {
	pins := NewHandler(k.cfg.Service, cfg).(*pinHandler)
	return &reportHandler{pinHandler: *pins, keeper: k, key: key}
}

// ServeHTTP implements http.Handler.
func (h *reportHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), h.timeout)
	defer cancel()
	w.Header().Set("Cache-Control", "no-store")
	if err := h.report(w, r.WithContext(ctx)); err != nil {
		h.fail(w, r, err)
	}
}

func (h *reportHandler) report(w http.ResponseWriter, r *http.Request) error {
	tenant, err := h.admitted(r)
	if err != nil {
		return err
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		return fmt.Errorf("%w: GET, HEAD", errMethod)
	}
	site, err := naming.ParseName(strings.TrimPrefix(r.URL.Path, ReportPath))
	if err != nil {
		return invalid("name", "%v", err)
	}
	rows, err := h.service.cfg.Pins.NamePins(r.Context(), site)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(rows, func(row PinRow) bool { return row.Tenant == tenant.ID }) {
		return ErrNotFound
	}
	report, err := h.keeper.Report(r.Context(), site)
	if err != nil {
		return err
	}
	raw, err := SignSiteReport(report, h.key)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(raw) // who asked may be gone
	return nil
}

// FetchSiteReport gets and checks a host's report on a site, with the token of a tenant that has a
// name pin of it; base is that of the host's services. Redirects are refused. It ends within 15 s. A nil client means a plain one.
// Errors: ErrUnavailable, ErrUnauthorized, ErrNotFound, and those of ParseSiteReport.
func FetchSiteReport(ctx context.Context, hc *http.Client, base, token string, site naming.Name, now time.Time) (SiteReport, error) {
	u, err := url.JoinPath(base, ReportPath, site.String())
	if err != nil {
		return SiteReport{}, fmt.Errorf("%w: base URL: %v", ErrInvalid, err)
	}
	ctx, cancel := context.WithTimeout(ctx, hostTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return SiteReport{}, fmt.Errorf("%w: base URL: %v", ErrInvalid, err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := plainClient(hc).Do(req)
	if err != nil {
		return SiteReport{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized, http.StatusForbidden:
		return SiteReport{}, fmt.Errorf("%s: %w", u, ErrUnauthorized)
	case http.StatusNotFound:
		return SiteReport{}, fmt.Errorf("%s: %w", u, ErrNotFound)
	default:
		return SiteReport{}, fmt.Errorf("%w: %s answered %s", ErrUnavailable, u, resp.Status)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxReport+1))
	if err != nil {
		return SiteReport{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	r, err := ParseSiteReport(raw, now)
	if err == nil && r.Site != site {
		return SiteReport{}, fmt.Errorf("%w: %s reports on %s", ErrUnavailable, u, r.Site)
	}
	return r, err
}
