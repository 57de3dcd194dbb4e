package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/holdfast-sites/holdfast/internal/node"
)

// runReciprocal answers a host's invite with one to this host.
func (e *env) runReciprocal(c *cli.Context) error {
	invite, err := e.readSecret(c.String("reciprocal"), "")
	if err != nil {
		return err
	}
	token, err := tokenRequest(c)
	if err != nil {
		return err
	}
	req := node.ReciprocalRequest{TokenRequest: token, Invite: invite, SameQuota: !c.IsSet("quota")}
	return ask(c.Context, e, c, node.Records, "invite reciprocal", req, func(r node.Reciprocal) {
		e.printf("%s\n", r.Invite)
		if e.quiet {
			return
		}
		room := "as much as there is"
		if r.Quota > 0 {
			room = size(r.Quota)
		}
		e.say(e.err, "%s is a host of yours now, and gets %s here with this invite: send it back, and they run `holdfast host add INVITE`\n", r.Host.Name, room)
		if r.Host.Warning != "" {
			e.say(e.err, "warning: %s\n", r.Host.Warning)
		}
	})
}

// showBalance tells what friends keep for each other.
func (e *env) showBalance(balances []node.PeerBalance) {
	if len(balances) == 0 {
		return
	}
	e.printf("%-20s %10s %10s\n", "give and take", "for them", "for us")
	for _, b := range balances {
		name := b.Name
		if name == "" {
			name = b.Peer
		}
		e.printf("%-20s %10s %10s  %s (%s)\n", name, size(b.ForThem), size(b.ForUs), difference(b.Difference), strings.Join(b.Labels, ", "))
	}
}

func difference(n int64) string {
	switch {
	case n > 0:
		return fmt.Sprintf("we give %s more", size(n))
	case n < 0:
		return fmt.Sprintf("they give %s more", size(-n))
	}
	return "even"
}
