package seek

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/comet/certificate"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
)

// Times between two questions to the peers.
const (
	everyHeld  = time.Second     // in hold
	everyStill = 5 * time.Second // while the height stands still
	everyLook  = 250 * time.Millisecond
	askTime    = 4 * time.Second // bounds one round of questions
)

// mostCertificates bounds how many certificates are taken from a peer at a time.
const mostCertificates = 4096

// Seeker asks the peers how the epoch of this node has ended: each second in hold, and every 5 s
// while the height stands still. Set its exported fields before Run. One Seeker serves one tree of
// the driver.
type Seeker struct {
	Home   string // of CometBFT
	Core   consensus.Core
	Agents int // how many there are in genesis.json

	// Standing returns the committed state, and false if it is not known, or the chain has ended
	// and its next epoch has not begun. It is the zero State if no chain has started.
	Standing func() (chain.State, bool)

	// Restart ends the running CometBFT, and returns when another one is started. Between the two,
	// the driver calls Rejoin.
	Restart func(ctx context.Context) error

	// Left is told how the chain has gone on without this node.
	Left func(how string)

	Log *zap.Logger

	told map[string]bool // what was logged about answers, so that it is logged once

	mu  sync.Mutex
	way *way // nil: the node is not left behind, as far as it knows
}

// Run asks until ctx ends. It returns an error if CometBFT could not be restarted.
func (k *Seeker) Run(ctx context.Context) error {
	if len(k.Core.Peers) == 0 {
		return nil
	}
	k.told = make(map[string]bool)

	var asked time.Time
	moved, height, epoch := time.Now(), uint64(0), uint64(0)
	look := time.NewTicker(everyLook)
	defer look.Stop()

	for {
		s, known := k.Standing()
		if known && !s.Started() {
			s = k.unstarted()
			if time.Since(asked) >= everyHeld {
				begun, err := k.begin(ctx)
				if err != nil {
					return err
				}
				if begun {
					asked = time.Now()
				}
			}
		}
		if known && (s.Height != height || s.Period != epoch) {
			moved, height, epoch = time.Now(), s.Height, s.Period
		}

		still := time.Since(moved) >= everyStill
		due := s.InHold() && time.Since(asked) >= everyHeld || still && time.Since(asked) >= everyStill
		if known && due {
			asked = time.Now()
			if err := k.seek(ctx, s, still); err != nil {
				return err
			}
		}

		select { // faults are for the service beside which this runs
		case <-look.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// answer is what a peer has answered.
type answer struct {
	peer consensus.Peer
	list []consensus.Certificate
	err  error
}

// seek asks all peers at once, and acts on the first answer that is of use.
func (k *Seeker) seek(ctx context.Context, s chain.State, still bool) error {
	if s.InHold() && certificate.Complete(k.Home, s) {
		return nil // the driver is about to leave
	}

	asking, cancel := context.WithTimeout(ctx, askTime)
	answers := make(chan answer, len(k.Core.Peers))
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()

	for _, p := range k.Core.Peers {
		all.Go(func() {
			list, err := certificate.AllOf(asking, p, s.Period, mostCertificates)
			answers <- answer{p, list, err}
		})
	}

	var gathered []answer
	for range k.Core.Peers {
		a := <-answers
		if len(a.list) == 0 {
			continue // a peer that is down, or no further than we are
		}
		gathered = append(gathered, a)

		restart, done, err := k.consider(s, gathered, still)
		if err != nil {
			k.tell(ctx, a.peer, err)
		}
		if restart {
			cancel()
			return k.Restart(ctx)
		}
		if done {
			return nil
		}
	}

	return nil
}

// tell logs why an answer is of no use, once for each peer and reason.
func (k *Seeker) tell(ctx context.Context, p consensus.Peer, err error) {
	text := p.String() + ": " + err.Error()
	if ctx.Err() != nil || k.told[text] {
		return
	}
	if len(k.told) > 100 {
		clear(k.told)
	}

	k.told[text] = true
	k.Log.Warn("the certificates of a peer are of no use", zap.Stringer("peer", p), zap.Error(err))
}

// consider acts on the answers so far, of which the last one is new. It reports whether CometBFT
// has to be restarted, so that Rejoin is called, and whether nothing else has to be asked.
func (k *Seeker) consider(s chain.State, answers []answer, still bool) (restart, done bool, err error) {
	list := answers[len(answers)-1].list

	if s.InHold() && (len(list) == 1 || k.Core.Joiner == nil) {
		done, err := k.keep(s, list[0])
		return false, done, err
	}
	if !s.InHold() && (!still || list[0].Height <= s.Height) {
		return false, false, nil // blocks may be on their way
	}

	// The chain went on without this node.
	next := list[len(list)-1].Epoch + 1
	w, err := k.check(s, answers)
	if err != nil {
		k.Left(fmt.Sprintf("the chain has gone on to epoch %d without this node, and what proves it is not whole: %v",
			next, err))
		return false, false, err
	}

	if k.Core.Joiner == nil {
		k.Left(fmt.Sprintf("the chain has gone on to epoch %d without this node, which is at height %d of epoch %d",
			next, s.Height, s.Period))
		return false, true, nil
	}

	k.Log.Warn("the chain has gone on without this node, which takes the state at the newest reset",
		zap.Uint64("epoch", s.Period), zap.Uint64("height", s.Height), zap.Uint64("next", next))
	k.mu.Lock()
	defer k.mu.Unlock()
	k.way = w

	return true, true, nil
}

// take returns the way, and forgets it.
func (k *Seeker) take() *way {
	k.mu.Lock()
	defer k.mu.Unlock()
	w := k.way
	k.way = nil
	return w
}

// keep writes the certificate of a peer, if it is that of the reset which is due in state s.
func (k *Seeker) keep(s chain.State, c consensus.Certificate) (done bool, err error) {
	cert, err := certificate.Decode(c.Proof)
	if err == nil {
		err = cert.Check(s)
	}
	if err == nil {
		err = comethome.WriteCertificate(k.Home, s.Period, c.Proof)
	}
	if err != nil {
		return false, err
	}

	k.Log.Info("a peer has proved that the chain has ended", zap.String("chain", s.ChainID),
		zap.Uint64("height", s.Reset.Height))

	return true, nil
}
