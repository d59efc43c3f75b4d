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

// redialSoon and redialLater are how long a persistent peer may be away before redial dials it.
// Each wait is extended by a random time of up to the same length. Two nodes that dial each other
// at the same moment refuse each other's connection, so only one of the two dials soon.
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

// redialAll runs redial for each of the persistent peers until ctx ends. peers is a list in the
// form of the configuration.
func redialAll(ctx context.Context, d dialler, own p2p.ID, peers string, refused func(string, error),
	log cmtlog.Logger) {
	for p := range comethome.Listed(peers) {
		go redial(ctx, d, own, p, refused, log)
	}
}

// redial dials a peer that has not been connected for a while, until ctx ends. CometBFT dials the
// peer too: at once when a connection ends, and then every 5 to 8 s. But a dial into a silent
// network takes 3 s, and CometBFT does not dial at all if one dial ends just as the connection of
// another does. Without redial, CometBFT is therefore late to find a peer that is back, or a
// network that is whole again. redial does not disturb a dial that is under way. It logs a failed
// dial only if a wrong peer answers, and passes each such failure to refused. CometBFT itself dials
// and reports such a peer only once.
func redial(ctx context.Context, d dialler, own p2p.ID, peer string, refused func(string, error),
	log cmtlog.Logger) {
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
			// The name cannot be looked up yet. CometBFT refuses a text that is not an address.
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
			if refusal := rejection(err); refusal != nil {
				refused(peer, refusal)
			}
			if told.news(err, last) {
				log.Error("persistent peer refused: is its id in persistent_peers right, and is it of this chain?",
					"peer", peer, "err", err)
			}
			rest = least + rand.N(least)
		}
	}
}

// refusalAgain is how long further refusals of the same peer are not reported.
const refusalAgain = time.Minute

// rejection returns err if it says that the peer has another key than that of its id, is of another
// chain, or sent an invalid handshake.
func rejection(err error) error {
	rejected := p2p.ErrRejected{}
	if errors.As(err, &rejected) &&
		(rejected.IsAuthFailure() || rejected.IsIncompatible() || rejected.IsNodeInfoInvalid()) {
		return rejected
	}
	return nil
}

// refusal holds the time at which the refusal of a peer was last reported.
type refusal struct{ at time.Time }

// news reports whether err is a rejection that should be reported now.
func (r *refusal) news(err error, now time.Time) bool {
	if rejection(err) == nil {
		return false
	}

	if !r.at.IsZero() && now.Sub(r.at) < refusalAgain {
		return false
	}

	r.at = now

	return true
}
