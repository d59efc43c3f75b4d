package child

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	cfg "github.com/cometbft/cometbft/config"
	"github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/p2p/conn"
	"github.com/stretchr/testify/require"
)

// network is a switch. The test connects its peers and cuts them off.
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

// DialPeerWithAddress takes as long as a handshake without an answer.
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

func (n *network) Occupied(*p2p.NetAddress) bool { return false }

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

// A peer that can be reached again is connected within the time of a hanging dial and a pause, by
// the side that dials soon. The other side leaves it the time for that. A connected peer is not
// dialled.
func TestALostPeerIsDialledSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		low, high := p2p.ID(strings.Repeat("1", 40)), p2p.ID(strings.Repeat("f", 40))
		own := p2p.ID(strings.Repeat("8", 40))
		n := &network{there: map[p2p.ID]bool{low: true, high: true}, reached: map[p2p.ID]bool{},
			dials: map[p2p.ID]int{}}
		ctx, cancel := context.WithCancel(t.Context())
		redialAll(ctx, n, string(low)+"@127.0.0.1:1, "+string(high)+"@127.0.0.1:2,", factsOf(own, new(told)))
		advance(time.Minute)
		require.Zero(t, n.dialled(low)+n.dialled(high))

		n.set(n.there, high, false) // into a network that is cut
		advance(time.Minute)
		require.GreaterOrEqual(t, n.dialled(high), 15, "the peer is dialled repeatedly")
		n.set(n.reached, high, true)
		advance(3*time.Second + 2*redialSoon + 2*redialLook)
		require.True(t, n.there[high])

		n.set(n.reached, low, true)
		n.set(n.there, low, false)
		advance(redialLater - 2*redialLook)
		require.Zero(t, n.dialled(low), "the peer dials us sooner")
		advance(redialLater + 4*redialLook)
		require.Equal(t, 1, n.dialled(low), "if the peer does not dial, we do")
		cancel()
		advance(time.Minute)
	})
}

// At the start, the side that dials soon dials at once, and the other leaves it the time.
func TestAPeerIsDialledAtTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		low, high := p2p.ID(strings.Repeat("1", 40)), p2p.ID(strings.Repeat("f", 40))
		n := &network{there: map[p2p.ID]bool{}, reached: map[p2p.ID]bool{low: true, high: true},
			dials: map[p2p.ID]int{}}
		ctx, cancel := context.WithCancel(t.Context())
		redialAll(ctx, n, string(low)+"@127.0.0.1:1,"+string(high)+"@127.0.0.1:2",
			factsOf(p2p.ID(strings.Repeat("8", 40)), new(told)))

		advance(2 * redialLook)
		require.Equal(t, 1, n.dialled(high))
		require.Zero(t, n.dialled(low))
		advance(redialLater + 2*redialLook)
		require.Equal(t, 1, n.dialled(low))
		cancel()
		advance(time.Minute)
	})
}

// A peer whose key does not match its id is reported, but not at each dial. The network here is
// real: the error is CometBFT's.
func TestAWrongPeerIsToldOf(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	over := make(chan struct{})
	go func() {
		defer close(over)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = conn.MakeSecretConnection(c, ed25519.GenPrivKey())
			c.Close()
		}
	}()
	defer func() { ln.Close(); <-over }()

	id := p2p.ID(strings.Repeat("f", 40))
	key := p2p.NodeKey{PrivKey: ed25519.GenPrivKey()}
	d := p2p.NewSwitch(cfg.DefaultP2PConfig(),
		p2p.NewMultiplexTransport(p2p.DefaultNodeInfo{}, key, conn.DefaultMConnConfig()))
	said := new(told)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()

	said.wait = func() { cancel() }
	redial(ctx, switchDialler{d}, string(id)+"@"+ln.Addr().String(), factsOf(key.ID(), said))
	require.Len(t, said.notices, 1)
	require.Equal(t, PeerID, said.notices[0].Topic)
	require.Equal(t, string(id), said.notices[0].About)
}

// told holds the notices that were written. wait is called before each.
type told struct {
	notices []Notice
	wait    func()
}

func (l *told) Write(line []byte) (int, error) {
	if l.wait != nil {
		l.wait()
	}
	n, ok := ParseNotice(line)
	if !ok {
		return 0, errors.New("no notice")
	}
	l.notices = append(l.notices, n)
	return len(line), nil
}

func factsOf(own p2p.ID, out io.Writer) *peerFacts {
	return &peerFacts{notices: &notices{out: out}, own: own, dupIP: true, counts: make(map[string]*occasions)}
}

// advance lets fake time pass.
func advance(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}
