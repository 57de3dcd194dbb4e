package conformance

import "testing"

func (g *gateway) pathIPNS(t *testing.T) {
	k := g.keys
	g.runAll(t, []check{
		{name: "a record with both signatures", url: "/ipns/" + k["hello"].name, status: 200, body: "hello\n"},
		{name: "a record of version 2 only", url: "/ipns/" + k["v2"].name, status: 200, body: "hello\n"},
		{name: "a record whose signature of version 1 is broken", url: "/ipns/" + k["broken v1"].name, status: 200, body: "hello\n"},
		{name: "a record whose signature of version 2 is broken", url: "/ipns/" + k["broken v2"].name, status: anyServerError},
		{name: "a record of version 1 only", url: "/ipns/" + k["v1 only"].name, status: anyServerError},
		{name: "a record whose versions differ", url: "/ipns/" + k["two values"].name, status: anyServerError},
		{name: "a name without a valid record", url: "/ipns/" + k["unknown"].name, status: anyServerError},
		{name: "an Ed25519 peer ID", url: "/ipns/" + k["cache"].peer + "/root2/", status: 302, want: map[string]string{"Location": "/ipns/" + k["cache"].name + "/root2/"}},
		{name: "an RSA peer ID", url: "/ipns/" + k["rsa"].peer + "/root2/", status: 302, want: map[string]string{"Location": "/ipns/" + k["rsa"].name + "/root2/"}},
		{name: "a record that points below a root", url: "/ipns/" + k["subpath"].name + "/", status: 200, has: []string{"Index of", "root3"}},
		{name: "a file of a record that points below a root", url: "/ipns/" + k["subpath"].name + "/root3/root4/index.html", status: 200, body: "hello\n"},
	})
}

// routing asks the gateway where things are, as other nodes do
// (https://specs.ipfs.tech/routing/http-routing-v1/).
func (g *gateway) routing(t *testing.T) {
	k := g.keys["hello"]
	g.runAll(t, []check{
		{name: "a record", url: "/routing/v1/ipns/" + k.name, header: []string{"Accept", "application/vnd.ipfs.ipns-record"}, status: 200, body: string(k.record),
			want: map[string]string{"Content-Type": "application/vnd.ipfs.ipns-record", "Cache-Control": "~max-age=[1-9]", "Etag": "~."}},
		{name: "providers", url: "/routing/v1/providers/" + g.hello.cid.String(), header: []string{"Accept", "application/json"}, status: 200, want: map[string]string{"Content-Type": "~^application/json"}},
		{name: "no name", url: "/routing/v1/ipns/nothing", header: []string{"Accept", "application/vnd.ipfs.ipns-record"}, status: 400},
		{name: "on a site's origin it is a path of the site", url: origin(g.hello.cid.String(), "ipfs", public, "/routing/v1/ipns/"+k.name), status: 404},
	})
}
