package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// optionsFile holds a site's switches, at its root, beside _redirects and _headers.
const optionsFile = "_options"

// maxOptionsFile bounds it, in bytes.
const maxOptionsFile = 4 << 10

// Options are the switches of a site. The zero value is that of a site without such a file.
type Options struct {
	// NoListing answers for a folder without index.html as for what isn't there.
	NoListing bool
	// CleanURLs says what about.html has to do with /about.
	CleanURLs CleanURLs
}

// CleanURLs is how pages are found without their extension.
type CleanURLs int

// The ways.
const (
	CleanOn        CleanURLs = iota // /about is about.html, and /about/ leads there
	CleanCanonical                  // and /about.html, /x/index.html lead to /about, /x/
	CleanOff                        // only what is there under its very name
)

// ParseOptions reads the text of an _options file: lines "key: value", and
// comments after "#". The error names every line that says nothing known; the
// Options hold what the others say.
func ParseOptions(text []byte) (Options, error) {
	var o Options
	if len(text) > maxOptionsFile {
		return o, fmt.Errorf("%s: larger than %d bytes", optionsFile, maxOptionsFile)
	}
	var errs []error
	number := 0
	for line := range bytes.Lines(bytes.TrimPrefix(text, []byte(byteOrderMark))) {
		number++
		if err := o.line(strings.TrimSpace(string(line))); err != nil {
			errs = append(errs, fmt.Errorf("%s: line %d: %w", optionsFile, number, err))
		}
	}
	return o, errors.Join(errs...)
}

func (o *Options) line(line string) error {
	if line == "" || strings.HasPrefix(line, "#") {
		return nil
	}
	key, value, _ := strings.Cut(line, ":")
	switch strings.TrimSpace(key) + ": " + strings.TrimSpace(value) {
	case "listing: on":
		o.NoListing = false
	case "listing: off":
		o.NoListing = true
	case "clean-urls: on":
		o.CleanURLs = CleanOn
	case "clean-urls: canonical":
		o.CleanURLs = CleanCanonical
	case "clean-urls: off":
		o.CleanURLs = CleanOff
	default:
		return fmt.Errorf("%.100q is none of listing: on|off, clean-urls: on|canonical|off", line)
	}
	return nil
}
