package comet

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cometbft/cometbft/p2p"
	"github.com/stretchr/testify/require"
)

// network is a switch whose peers the test connects and cuts off.
type network struct {
	mu      sync.Mutex
	there   map[p2p.ID]bool // connected, or being dialled by CometBFT itself
	reached map[p2p.ID]bool // can be dialled
	dials   map[p2p.ID]int
}

func (n *network) IsDialingOrExistingAddress(a *p2p.NetAddress) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.there[a.ID]
}

// DialPeerWithAddress takes as long as a handshake with nobody.
func (n *network) DialPeerWithAddress(a *p2p.NetAddress) error {
	n.mu.Lock()
	n.dials[a.ID]++
	ok := n.reached[a.ID]
	n.there[a.ID] = ok
	n.mu.Unlock()
	if !ok {
		<-time.After(3 * time.Second)
		return errors.New("i/o timeout")
	}
	return nil
}

func (n *network) set(of map[p2p.ID]bool, id p2p.ID, is bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	of[id] = is
}

func (n *network) dialled(id p2p.ID) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dials[id]
}

// A peer that can be reached again is connected within a dial that hangs and a pause, by the side that dials soon; the other side leaves it the
// time to. Who is connected is not dialled.
func TestALostPeerIsDialledSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		low, high := p2p.ID(strings.Repeat("1", 40)), p2p.ID(strings.Repeat("f", 40))
		own := p2p.ID(strings.Repeat("8", 40))
		n := &network{there: map[p2p.ID]bool{low: true, high: true}, reached: map[p2p.ID]bool{}, dials: map[p2p.ID]int{}}
		ctx, cancel := context.WithCancel(t.Context())
		redialAll(ctx, n, own, string(low)+"@127.0.0.1:1, "+string(high)+"@127.0.0.1:2,")
		after(time.Minute)
		require.Zero(t, n.dialled(low)+n.dialled(high))

		n.set(n.there, high, false) // into a network that is cut
		after(time.Minute)
		require.GreaterOrEqual(t, n.dialled(high), 15, "it is dialled again and again")
		n.set(n.reached, high, true)
		after(3*time.Second + 2*redialSoon + 2*redialLook)
		require.True(t, n.there[high])

		n.set(n.reached, low, true)
		n.set(n.there, low, false)
		after(redialLater - 2*redialLook)
		require.Zero(t, n.dialled(low), "it dials us sooner")
		after(redialLater + 4*redialLook)
		require.Equal(t, 1, n.dialled(low), "where it does not, we dial")
		cancel()
		after(time.Minute)
	})
}
