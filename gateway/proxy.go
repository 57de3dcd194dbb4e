package gateway

import "net/http"

// tunnel answers CONNECT for a host that this gateway serves: the tunnel leads to
// the gateway itself, and is the connection that there is. Requests on it are
// served like all others. It reports false, and answers nothing, for any other
// host: a gateway is nobody's way to somewhere else.
//
// Source: https://specs.ipfs.tech/http-gateways/subdomain-gateway/#proxy-mode
func (g *gateway) tunnel(x *transaction, h host, p place) bool {
	if x.r.ProtoMajor != 1 || hasBody(x.r) {
		return false
	}
	switch p.kind {
	case placeGateway, placeID, placeAlias:
	default:
		if g.domainOf(x, h, p) == "" {
			return false
		}
	}
	x.w.WriteHeader(http.StatusOK)
	return true
}
