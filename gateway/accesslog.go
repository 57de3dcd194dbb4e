package gateway

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync"
)

// AccessLog says what is written of each request: nothing, unless Out is set.
// Queries are never written, and addresses are cut to what says where from, and
// not who.
type AccessLog struct {
	// Out gets one line for each request, by one Write each.
	Out io.Writer
	// Format is "common" (also where it is empty), "combined", which adds what
	// page led to the request and with which browser, or "vhost_combined", which
	// adds the host name in front of that.
	Format string
	// FullAddresses writes addresses as they are, not cut to /24 and /48.
	FullAddresses bool
}

// CheckAccessFormat fails for a Format that is none.
func CheckAccessFormat(format string) error {
	switch format {
	case "", "common", "combined", "vhost_combined":
		return nil
	}
	return fmt.Errorf("%q is no format of access logs: want common, combined or vhost_combined", format)
}

// accessLog writes the Apache server's log formats, which all tools read. A nil
// one writes nothing.
type accessLog struct {
	AccessLog
	mu sync.Mutex
}

func newAccessLog(cfg AccessLog) *accessLog {
	if cfg.Out == nil {
		return nil
	}
	return &accessLog{AccessLog: cfg}
}

// write notes a visit that has ended.
func (l *accessLog) write(v *visit) {
	if l == nil {
		return
	}
	var b strings.Builder
	if l.Format == "vhost_combined" {
		logField(&b, v.r.Host)
		b.WriteByte(' ')
	}
	fmt.Fprintf(&b, "%s - - [%s] \"", l.address(v.addr), v.began.Format("02/Jan/2006:15:04:05 -0700"))
	logField(&b, v.r.Method+" "+v.r.URL.EscapedPath()+" "+v.r.Proto)
	status := fmt.Sprint(v.status)
	if v.status == 0 {
		status = "499" // the client was gone before there was an answer, as nginx has it
	}
	fmt.Fprintf(&b, "\" %s %s", status, dashFor0(v.sent))
	if l.Format == "combined" || l.Format == "vhost_combined" {
		for _, key := range []string{"Referer", "User-Agent"} {
			b.WriteString(` "`)
			value := v.r.Header.Get(key)
			if key == "Referer" {
				value, _, _ = strings.Cut(value, "?")
			}
			logField(&b, value)
			b.WriteByte('"')
		}
	}
	b.WriteByte('\n')
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = io.WriteString(l.Out, b.String()) // a full disk is no reader's fault
}

func dashFor0(n int64) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

// address is a client's, cut to the network that it is in.
func (l *accessLog) address(a netip.Addr) string {
	if !a.IsValid() {
		return "-"
	}
	if l.FullAddresses {
		return a.String()
	}
	bits := 24
	if a.Is6() {
		bits = 48
	}
	p, _ := a.Prefix(bits)
	return p.Addr().String()
}

// maxLogField is how much of what a client sent is written in one field, in bytes.
const maxLogField = 2 << 10

// logField writes what a client sent such that it can't end the field or the
// line, nor move a terminal's cursor.
func logField(b *strings.Builder, s string) {
	if s == "" {
		b.WriteByte('-')
		return
	}
	for _, c := range []byte(s[:min(len(s), maxLogField)]) {
		switch {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c >= 0x7f:
			fmt.Fprintf(b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
}
