package replicate

import (
	"strconv"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/naming"
)

// LocalTenant is whom the pins belong to that a node's own operator makes, without a token: copies of
// sites that the operator likes. No token's tenant has this id.
var LocalTenant = Tenant{ID: "follow", Label: "follow"}

// emptyCID is the empty block, which is in its CID and takes no room.
var emptyCID = cid.MustParse("bafkqaaa")

// FollowPin is the name pin of a copy that is kept of one's own accord: the newest keep roots of a name, within so
// many unique bytes; 0: the node's limit for a pin. A name pin keeps its own CID whatever becomes of the name; that is the empty block
// here, so that nothing stays which the site has left behind.
func FollowPin(n naming.Name, keep int, quota int64) Pin {
	meta := map[string]string{MetaName: n.String(), MetaKeep: strconv.Itoa(keep)}
	if quota > 0 {
		meta[MetaMaxBytes] = strconv.FormatInt(quota, 10)
	}
	return Pin{CID: emptyCID, Name: "follow", Meta: meta}
}
