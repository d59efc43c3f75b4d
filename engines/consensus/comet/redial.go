package comet

import (
	"context"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/cometbft/cometbft/p2p"
)

// How long a persistent peer may be away before it is dialled, and that again at most. Two that dial each other at the same moment refuse each
// other's connection, so one of the two is the one that dials soon.
const (
	redialSoon  = 500 * time.Millisecond
	redialLater = 2500 * time.Millisecond
	redialLook  = 100 * time.Millisecond
)

// dialler is the part of CometBFT's p2p switch that redialling needs.
type dialler interface {
	IsDialingOrExistingAddress(*p2p.NetAddress) bool
	DialPeerWithAddress(*p2p.NetAddress) error
}

// redialAll redials each of the persistent peers, as the configuration writes them, until ctx ends.
func redialAll(ctx context.Context, d dialler, own p2p.ID, peers string) {
	for p := range strings.SplitSeq(peers, ",") {
		if p = strings.TrimSpace(p); p != "" {
			go redial(ctx, d, own, p)
		}
	}
}

// redial dials a peer that is not connected for a while, until ctx ends. CometBFT does so too: at once when a connection ends, then after 5 to 8 s each
// time, and a dial into a network that is silent takes 3 s; and not at all where one dial ends just as the connection of another does. So a
// network that is whole again, or a peer that is back, was found late. A dial that is under way is left alone, and one that fails is no
// news: CometBFT tells of its own.
func redial(ctx context.Context, d dialler, own p2p.ID, peer string) {
	id, _, _ := strings.Cut(peer, "@")
	least := redialLater
	if own < p2p.ID(id) {
		least = redialSoon
	}
	rest := least
	var to *p2p.NetAddress
	for last := time.Now(); pause(ctx, redialLook+rand.N(redialLook)) == nil; {
		if to == nil {
			var err error
			if to, err = p2p.NewNetAddressString(peer); err != nil { // a name that cannot be looked up yet; CometBFT refuses what is no address
				to = nil
				continue
			}
		}
		switch {
		case d.IsDialingOrExistingAddress(to):
			last = time.Now()
		case time.Since(last) >= rest:
			_ = d.DialPeerWithAddress(to)
			last = time.Now()
			rest = least + rand.N(least)
		}
	}
}
