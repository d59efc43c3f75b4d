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

// How long a persistent peer may be away before it is dialled, and that again at most. Two that
// dial each other at the same moment refuse each other's connection, so one of the two is the one
// that dials soon.
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
func redialAll(ctx context.Context, d dialler, own p2p.ID, peers string, log cmtlog.Logger) {
	for p := range comethome.Listed(peers) {
		go redial(ctx, d, own, p, log)
	}
}

// redial dials a peer that is not connected for a while, until ctx ends. CometBFT does so too: at
// once when a connection ends, then after 5 to 8 s each time, and a dial into a network that is
// silent takes 3 s; and not at all where one dial ends just as the connection of another does. So a
// network that is whole again, or a peer that is back, was found late. A dial that is under way is
// left alone. One that fails is no news, but for a peer that is there and that is another than it
// should be, which CometBFT itself dials, and tells of, only once.
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
			// a name that cannot be looked up yet; CometBFT refuses what is no address
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

// refusalAgain is how long a refusal of the same peer is not told of again.
const refusalAgain = time.Minute

// refusal is when a peer's was told of.
type refusal struct{ at time.Time }

// news tells whether err is a refusal to be told of: another key than that of the id, another
// chain, or a handshake that made no sense.
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
