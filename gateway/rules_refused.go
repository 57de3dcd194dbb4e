package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	redirects "github.com/ipfs/go-ipfs-redirects-file"
)

// maxRefused is how many lines of a file are told of; who has more wrong has the same wrong.
const maxRefused = 20

// refusedLines reads a file with a mistake a second time, and names every line that
// can't be used, so that its author mends them at once and not one by one.
func refusedLines(text []byte) error {
	var errs []error
	number, more := 0, 0
	for line := range bytes.Lines(text) {
		number++
		err := checkLine(line)
		switch {
		case err == nil:
		case len(errs) == maxRefused:
			more++
		default:
			errs = append(errs, fmt.Errorf("could not parse %s: line %d: %w", rulesFile, number, err))
		}
	}
	if more > 0 {
		errs = append(errs, fmt.Errorf("could not parse %s: and %d more lines", rulesFile, more))
	}
	return errors.Join(errs...)
}

func checkLine(line []byte) error {
	if bytes.IndexByte(line, 0) >= 0 {
		return errors.New("holds a NUL byte")
	}
	rules, err := redirects.Parse(bytes.NewReader(line))
	if err == nil {
		_, err = compileRules(rules)
	}
	if err == nil {
		return nil
	}
	if why := foreign(strings.Fields(string(line))); why != "" {
		return errors.New(why)
	}
	return err
}

var (
	ruleCondition  = regexp.MustCompile(`^(?i:country|language|role|cookie)=`)
	ruleParameter  = regexp.MustCompile(`^[^/:=]+=`)
	ruleStatusOnly = regexp.MustCompile(`^[0-9]{3}!?$`)
)

// foreign says what is to be done about a line that Netlify and hosts like it
// carry out and the specification leaves out; empty where it is none of them.
func foreign(fields []string) string {
	if len(fields) == 0 {
		return ""
	}
	from, rest := fields[0], fields[1:]
	if strings.HasPrefix(from, "\ufeff") {
		return "the file begins with a byte order mark: save it as UTF-8 without one"
	}
	if strings.Contains(from, "://") {
		return fmt.Sprintf("%.100q is on a host, and a site has no say over other hosts: write the path alone", from)
	}
	if i := slices.IndexFunc(rest, ruleCondition.MatchString); i >= 0 {
		return fmt.Sprintf("%.100q is a condition, and there is no server here that knows the reader: link to both pages, or let a script of the page choose", rest[i])
	}
	for i, f := range rest {
		switch {
		case strings.HasPrefix(f, "#"):
			return "a comment needs a line of its own"
		case i == 0 && ruleParameter.MatchString(f):
			return fmt.Sprintf("%.100q is a query parameter, and rules go by the path alone: let a script of the page at %.100q read it", f, from)
		case i == 0 && ruleStatusOnly.MatchString(f):
			return fmt.Sprintf("what is there is served without a rule; for an error page write %.200q", from+" /404.html 404")
		case strings.HasSuffix(f, "!"):
			return fmt.Sprintf("forced redirects (or \"shadowing\") are not supported, since rules count for what is not there: take away what the site has at %.100q, and the \"!\"", from)
		}
	}
	if len(rest) == 2 && absoluteTarget.MatchString(rest[0]) && strings.Trim(rest[1][:1], "24") == "" {
		return fmt.Sprintf("%.100q is on another host, and there is no server here that could fetch it: redirect (302), or let the page's script ask that host, which has to allow it (CORS)", rest[0])
	}
	return ""
}
