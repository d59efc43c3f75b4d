package child

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"time"

	cmtlog "github.com/cometbft/cometbft/libs/log"
	"github.com/cometbft/cometbft/p2p"

	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
)

// redialSoon and redialLater are how long a persistent peer may be away before it is dialled; each
// wait is longer by up to as much again. Two nodes that dial each other at the same moment refuse
// each other's connection, so only one of the two dials soon.
const (
	redialSoon  = 500 * time.Millisecond
	redialLater = 2500 * time.Millisecond
	redialLook  = 100 * time.Millisecond
)

// dialler is the part of CometBFT's p2p switch that redial needs.
type dialler interface {
	IsDialingOrExistingAddress(*p2p.NetAddress) bool
	DialPeerWithAddress(*p2p.NetAddress) error
}

// redialAll redials each of the persistent peers, a list as in the configuration, until ctx ends.
func redialAll(ctx context.Context, d dialler, own p2p.ID, peers string, log cmtlog.Logger) {
	for p := range comethome.Listed(peers) {
		go redial(ctx, d, own, p, log)
	}
}

// redial dials a peer that has not been connected for a while, until ctx ends. CometBFT dials it
// too: at once when a connection ends, then every 5 to 8 s, and a dial into a silent network takes
// 3 s. It does not dial at all if one dial ends just as the connection of another does. So it was
// late to find a network that was whole again, or a peer that was back. redial leaves a dial that
// is under way alone. It logs a failed dial only if a peer answers that is not the one it should
// be, which CometBFT itself dials, and reports, only once.
func redial(ctx context.Context, d dialler, own p2p.ID, peer string, log cmtlog.Logger) {
	id, _, _ := strings.Cut(peer, "@")
	least := redialLater
	if own < p2p.ID(id) {
		least = redialSoon
	}

	rest := least
	var told refusal
	var to *p2p.NetAddress

	for last := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(redialLook + rand.N(redialLook)):
		}

		if to == nil {
			var err error
			// the name cannot be looked up yet; CometBFT refuses what is no address
			if to, err = p2p.NewNetAddressString(peer); err != nil {
				to = nil
				continue
			}
		}
		switch {
		case d.IsDialingOrExistingAddress(to):
			last = time.Now()
		case time.Since(last) >= rest:
			err := d.DialPeerWithAddress(to)
			last = time.Now()
			if told.news(err, last) {
				log.Error("persistent peer refused: is its id in persistent_peers right, and is it of this chain?",
					"peer", peer, "err", err)
			}
			rest = least + rand.N(least)
		}
	}
}

// refusalAgain is how long a refusal of the same peer is not reported again.
const refusalAgain = time.Minute

// refusal is when the refusal of a peer was last reported.
type refusal struct{ at time.Time }

// news reports whether err is a refusal to report: the peer has another key than that of its id, is
// of another chain, or made no sense in the handshake.
func (r *refusal) news(err error, now time.Time) bool {
	rejected := p2p.ErrRejected{}
	if !errors.As(err, &rejected) || !rejected.IsAuthFailure() && !rejected.IsIncompatible() &&
		!rejected.IsNodeInfoInvalid() {
		return false
	}

	if !r.at.IsZero() && now.Sub(r.at) < refusalAgain {
		return false
	}

	r.at = now

	return true
}
