package node_test

import (
	"testing"

	"github.com/holdfast-sites/holdfast/internal/node"
)

func TestUsageTellsWhatEachTenantTakes(t *testing.T) {
	t.Parallel()
	k := keepSite(t)
	var u node.HostUsage
	if err := k.alice.Call("usage", struct{}{}, &u); err != nil {
		t.Fatal(err)
	}
	var takes node.TenantUsage
	for _, tenant := range u.Tenants {
		if tenant.Pins > 0 {
			takes = tenant
		}
	}
	if takes.Label == "" || takes.Bytes < int64(len(k.page)) || takes.Bytes != takes.UniqueBytes || u.Bytes != takes.Bytes || u.Disk < u.Bytes {
		t.Errorf("%+v", u)
	}
}
