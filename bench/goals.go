//go:build unix

package main

import (
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
)

// measure is one row of the table of goals.
type measure struct {
	what string
	unit string
	ours figures // one a round

	// limits is the goal in figures, one a round where it is made of what
	// others took in that round, else one for all. None: there is no goal.
	limits figures
	goal   string // in words
	least  bool   // ours is to reach the limit, not to stay within it

	anchors []anchor
}

// anchor is what somebody else took for the same.
type anchor struct {
	name string
	took figures
}

// most is a limit that no round changes.
func most(limit float64) figures { return figures{limit} }

// used is ours as a share of the limit, round by round, or the limit as a
// share of ours where it is the least: up to 1 is met.
func (m measure) used() figures {
	limits := m.limits
	if len(limits) == 1 {
		for len(limits) < len(m.ours) {
			limits = append(limits, m.limits[0])
		}
	}
	if m.least {
		return limits.each(m.ours, quotient)
	}
	return m.ours.each(limits, quotient)
}

func quotient(a, b float64) float64 { return a / b }

// verdict compares with the goal: the median of the rounds decides.
func (m measure) verdict() string {
	switch {
	case len(m.limits) == 0:
		return "no goal"
	case m.used().median() <= 1:
		return "met"
	}
	return "missed"
}

// printGoals prints the table.
func printGoals(table []measure) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 1, ' ', 0)
	fmt.Fprint(w, "| measure\t| ours\t| others, and ours as a multiple\t| goal\t| limit\t| of it\t|\t|\n")
	fmt.Fprint(w, "|---\t|---\t|---\t|---\t|---\t|---\t|---\t|\n")
	for _, m := range table {
		limit, used, goal := "", "", "none"
		if len(m.limits) > 0 {
			limit, used, goal = number(m.limits.median(), m.unit), fmt.Sprintf("%.0f %%", 100*m.used().median()), m.goal
		}
		s := m.ours.sorted()
		ours := number(s.median(), m.unit)
		if len(s) > 1 {
			ours += fmt.Sprintf(" (%s–%s)", number(s[0], ""), number(s[len(s)-1], ""))
		}
		var others []string
		for _, a := range m.anchors {
			others = append(others, fmt.Sprintf("%s %s × %.2f", a.name, number(a.took.median(), m.unit), m.ours.each(a.took, quotient).median()))
		}
		fmt.Fprintf(w, "| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t|\n",
			m.what, ours, strings.Join(others, "; "), goal, limit, used, m.verdict())
	}
	w.Flush()
}

// number shows three digits or more.
func number(x float64, unit string) string {
	digits := 0
	switch {
	case x < 10:
		digits = 3
	case x < 100:
		digits = 1
	}
	return strings.TrimSpace(fmt.Sprintf("%.*f %s", digits, x, unit))
}
