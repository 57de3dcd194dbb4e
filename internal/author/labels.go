package author

import (
	"context"
	"errors"

	"github.com/holdfast-sites/holdfast/internal/state"
)

// The limits of labels, which stand in a policy (docs/formats.md).
const (
	maxLabels     = 8
	maxLabelBytes = 64
)

// LabelRequest sets labels of a host: what the author knows of it. An empty value takes one away.
type LabelRequest struct {
	Host   string            `json:"host"` // name, id or URL
	Labels map[string]string `json:"labels"`
}

// LabelHost changes the labels of a host; those that are not named stay. They count from the next plan or publish on.
func (a *Author) LabelHost(ctx context.Context, req LabelRequest) (HostInfo, error) {
	done, err := a.turns.take(ctx, hostsTurn) // each goes on from what the last has left
	if err != nil {
		return HostInfo{}, err
	}
	defer done()
	h, err := a.hostNamed(ctx, req.Host)
	if errors.Is(err, state.ErrNotFound) {
		return a.labelService(ctx, req)
	}
	if err != nil {
		return HostInfo{}, err
	}
	labels := make(map[string]string, len(h.Labels))
	for k, v := range h.Labels {
		labels[k] = v
	}
	for k, v := range req.Labels {
		labels[k] = v
		if v == "" {
			delete(labels, k)
		}
	}
	if err := checkLabels(labels); err != nil {
		return HostInfo{}, err
	}
	h.Labels = labels
	if err := a.State.LabelHost(ctx, h.ID, labels); err != nil {
		return HostInfo{}, err
	}
	return a.oneHost(ctx, h)
}

// oneHost is a host as it is listed.
func (a *Author) oneHost(ctx context.Context, h state.Host) (HostInfo, error) {
	info := hostInfo(h)
	return info, a.addHeld(ctx, h.ID, &info)
}

func checkLabels(labels map[string]string) error {
	if len(labels) > maxLabels {
		return usagef("a host has at most %d labels, not %d", maxLabels, len(labels))
	}
	for k, v := range labels {
		if k == "" || len(k) > maxLabelBytes || len(v) > maxLabelBytes {
			return usagef("a label and its value have 1 to %d bytes: %q=%q", maxLabelBytes, k, v)
		}
	}
	return nil
}
