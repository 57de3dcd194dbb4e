//go:build unix

package main

import (
	"fmt"
	"slices"
	"strings"
)

// named is a part of a task that -only may ask for alone.
type named interface{ named() string }

func namesOf[T named](all []T) string {
	var names []string
	for _, part := range all {
		names = append(names, part.named())
	}
	return strings.Join(names, ", ")
}

// chosen is what -only names of all, in the order of the table; all of it where -only is empty.
func chosen[T named](all []T, only string) (some []T, err error) {
	if only == "" {
		return all, nil
	}
	for name := range strings.SplitSeq(only, ",") {
		if !slices.ContainsFunc(all, func(part T) bool { return part.named() == name }) {
			return nil, fmt.Errorf("no row %q: -only takes %s", name, namesOf(all))
		}
	}
	for _, part := range all {
		if slices.Contains(strings.Split(only, ","), part.named()) {
			some = append(some, part)
		}
	}
	return some, nil
}
