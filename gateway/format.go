package gateway

import (
	"errors"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/holdfast-sites/holdfast/naming"
)

const (
	carMediaType = "application/vnd.ipld.car"
	tarMediaType = "application/x-tar"

	ipnsRecordType = naming.MediaType
)

// formats are those that content can be had in beside its own, by what ?format= calls them.
var formats = map[string]string{
	"raw":         "application/vnd.ipld.raw",
	"car":         carMediaType,
	"tar":         tarMediaType,
	"json":        "application/json",
	"cbor":        "application/cbor",
	"dag-json":    "application/vnd.ipld.dag-json",
	"dag-cbor":    "application/vnd.ipld.dag-cbor",
	"ipns-record": ipnsRecordType,
}

// formatLeads is how a type begins that boxo takes for a format in an Accept header, in lower case only.
var formatLeads = []string{"application/vnd.ipld", "application/vnd.ipfs", tarMediaType, "application/json", "application/cbor"}

// errFormat says that a format is asked for that nobody knows.
var errFormat = errors.New("that format is not served: want raw, car, tar, json, cbor, dag-json, dag-cbor or ipns-record")

// formatOf is the format that boxo answers a request in; empty for content as it is.
// It has to agree with boxo to the letter: what it misses is not looked at for what
// an operator denies. The error is errFormat, where boxo would count the request under
// whatever name the client made up.
//
// Source: boxo's gateway.customResponseFormat
func formatOf(r *http.Request) (string, error) {
	if hasParam(r.URL.RawQuery, "format") {
		q, _ := url.ParseQuery(r.URL.RawQuery)
		if t, known := formats[q.Get("format")]; known {
			return t, nil
		}
	}
	for _, header := range r.Header.Values("Accept") {
		for accept := range strings.SplitSeq(header, ",") {
			accept = strings.TrimSpace(accept)
			if !isFormat(accept) {
				continue
			}
			t, _, err := mime.ParseMediaType(accept)
			if err != nil {
				return "", errFormat
			}
			for _, known := range formats {
				if t == known {
					return t, nil
				}
			}
			return "", errFormat
		}
	}
	return "", nil
}

func isFormat(accept string) bool {
	for _, lead := range formatLeads {
		if strings.HasPrefix(accept, lead) {
			return true
		}
	}
	return false
}
