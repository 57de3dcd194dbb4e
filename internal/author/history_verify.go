package author

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-sites/holdfast/merkle"
)

const (
	maxChainWarnings = 20
	toldEvery        = 1000 // releases
)

// VerifiedHistory is a chain of releases that was followed to its start.
type VerifiedHistory struct {
	Name     string     `json:"name"`
	Root     string     `json:"root"`
	Release  string     `json:"release"`  // the newest
	Releases int64      `json:"releases"` // how many were read
	Since    *time.Time `json:"since"`    // when the first was made
	// Warnings are times that run backwards: an author's clock was wrong.
	Warnings []string `json:"warnings,omitempty"`
}

// VerifyHistory follows a site's releases back to the first one: the signed
// record names the newest and its root, each is what its CID says and names the one before it,
// and none is left out. A *ChainError names the first that can't be had, or is wrong.
func (a *Author) VerifyHistory(ctx context.Context, req HistoryRequest, report func(Event)) (VerifiedHistory, error) {
	h, err := a.siteHead(ctx, req.Site)
	if err != nil {
		return VerifiedHistory{}, err
	}
	if !h.release.Defined() {
		return VerifiedHistory{}, errNoReleases(h)
	}
	out := VerifiedHistory{Name: h.name.String(), Root: h.root.String(), Release: h.release.String()}
	var after release // the one that names r
	var backwards int64
	for r, err := range a.releases(ctx, h.release) {
		if err != nil {
			return out, err
		}
		switch {
		case out.Releases == 0 && !r.Root.Equals(h.root):
			return out, &ChainError{r.Number, r.cid, fmt.Errorf("%w: it is of %s, and the signed record leads to %s", merkle.ErrMalformed, r.Root, h.root)}
		case out.Releases > 0 && r.Time.After(after.Time):
			if backwards++; backwards <= maxChainWarnings {
				out.Warnings = append(out.Warnings, fmt.Sprintf("release %d says that it was made at %s, before release %d (%s): a clock was wrong",
					after.Number, after.Time.Format(time.RFC3339), r.Number, r.Time.Format(time.RFC3339)))
			}
		}
		after = r
		out.Releases++
		out.Since = timePtr(r.Time)
		if out.Releases%toldEvery == 0 {
			report(Event{Step: "verify", Message: fmt.Sprintf("%d releases, %d to go", out.Releases, r.Number-1)})
		}
	}
	if more := backwards - maxChainWarnings; more > 0 {
		out.Warnings = append(out.Warnings, fmt.Sprintf("and %d more such times", more))
	}
	return out, nil
}
