package main

import (
	"strings"

	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/replicate"
)

// serviceFacts is what is known of a pinning service, in a line.
func serviceFacts(h author.HostInfo) string {
	facts := []string{"pinning service: its copies are not proved, and don't count", "says that it holds " + listOf(h.Holds)}
	if len(h.Gateways) == 0 {
		facts = append(facts, "no gateway to sample it at")
	}
	facts = append(facts, "last answered "+when(h.Seen))
	if h.Leaving {
		facts = append(facts, "being left")
	}
	return strings.Join(facts, " · ")
}

// thirdPartyText is how a pinning service stands with a site, in a line: what it says, and what was seen.
func thirdPartyText(t author.ThirdParty) string {
	text := "says " + string(t.State)
	if t.Root == "" {
		text = "not asked yet"
	}
	if t.Behind {
		text += " of the release before"
	}
	switch {
	case t.State != replicate.Pinned:
	case t.Sampled == "":
		text += ", unproved (not sampled)"
	case t.Sampled == replicate.Proved:
		text += ", unproved (sampled " + when(t.SampledAt) + ": it could be had)"
	default:
		text += ", unproved (sampled " + when(t.SampledAt) + ": " + strings.ReplaceAll(string(t.Sampled), "_", " ") + ", " + t.Detail + ")"
	}
	if t.Error != "" {
		text += "; " + t.Error
		if t.NextTry != nil {
			text += "; asked again " + when(t.NextTry)
		}
	}
	return text
}

// volunteerText is what is known of somebody who keeps a site of his own accord, in a line.
func volunteerText(v author.Volunteer) string {
	switch v.State {
	case author.Sampled:
		return "sampled " + when(v.At) + ": it could be had"
	case author.Found:
		return "says that it has the site"
	}
	return strings.TrimSuffix(v.State+", "+v.Detail, ", ")
}
