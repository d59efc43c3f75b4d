package child

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/cometbft/cometbft/p2p"

	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
)

// redialSoon and redialLater are how long a persistent peer may be away before redial dials it.
// Each wait is extended by a random time of up to the same length. Two nodes that dial each other
// at the same moment refuse each other's connection, so only one of the two dials soon. At its
// start, that one dials at once.
const (
	redialSoon  = 250 * time.Millisecond
	redialLater = 2500 * time.Millisecond
	redialLook  = 100 * time.Millisecond
)

// dialler is the part of CometBFT's p2p switch that redial needs.
type dialler interface {
	IsDialingOrExistingAddress(*p2p.NetAddress) bool
	DialPeerWithAddress(*p2p.NetAddress) error
	Occupied(*p2p.NetAddress) bool
}

// redialAll runs redial for each of the persistent peers until ctx ends. peers is a list in the
// form of the configuration.
func redialAll(ctx context.Context, d dialler, peers string, f *peerFacts) {
	for p := range comethome.Listed(peers) {
		if id, _, _ := strings.Cut(p, "@"); p2p.ID(id) != f.own {
			go redial(ctx, d, p, f)
		}
	}
}

// switchDialler is CometBFT's switch as a dialler.
type switchDialler struct{ *p2p.Switch }

// Occupied reports whether another peer is connected from the address of a peer that is not.
func (s switchDialler) Occupied(to *p2p.NetAddress) bool {
	there := false
	s.Peers().ForEach(func(p p2p.Peer) { there = there || p.RemoteIP().Equal(to.IP) })
	return there && !s.Peers().Has(to.ID)
}

// redial dials a peer that has not been connected for a while, until ctx ends. CometBFT dials the
// peer too: up to 3 s after its start, at once when a connection ends, and then every 5 to 8 s.
// But a dial into a silent network takes 3 s, and CometBFT does not dial at all if one dial ends
// just as the connection of another does. Without redial, CometBFT is therefore late to find a
// peer that is back, or a network that is whole again. redial does not disturb a dial that is
// under way. It tells why a peer is refused. CometBFT itself dials such a peer only once.
func redial(ctx context.Context, d dialler, peer string, f *peerFacts) {
	id, _, _ := strings.Cut(peer, "@")
	least, rest := redialLater, redialLater
	if f.own < p2p.ID(id) {
		least, rest = redialSoon, 0
	}

	var to *p2p.NetAddress

	for last := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(redialLook + rand.N(redialLook)):
		}

		if to == nil {
			var err error
			// The name cannot be looked up yet. CometBFT refuses a text that is not an address.
			if to, err = p2p.NewNetAddressString(peer); err != nil {
				to = nil
				continue
			}
		}
		switch {
		case !f.dupIP && d.Occupied(to):
			f.notices.tell(DuplicateIP, id, "peer %s is not dialled: another peer is connected from its address %s, "+
				"and [p2p] allow_duplicate_ip = false; set it to true in config.toml if several nodes share an address",
				id, to.IP)
			last = time.Now()

		case d.IsDialingOrExistingAddress(to):
			last = time.Now()

		case time.Since(last) >= rest:
			err := d.DialPeerWithAddress(to)
			last = time.Now()
			if rejected := (p2p.ErrRejected{}); errors.As(err, &rejected) {
				f.rejected(id, rejected)
				if f.refused != nil &&
					(rejected.IsAuthFailure() || rejected.IsIncompatible() || rejected.IsNodeInfoInvalid()) {
					f.refused(id, rejected)
				}
			}
			rest = least + rand.N(least)
		}
	}
}
