// Package examples holds small sites to try Holdfast with.
package examples

import "embed"

// Sites holds the example sites: "site" is the sample of `holdfast demo`.
//
//go:embed all:site
var Sites embed.FS
