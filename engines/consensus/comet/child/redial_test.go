package child

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	cfg "github.com/cometbft/cometbft/config"
	"github.com/cometbft/cometbft/crypto/ed25519"
	cmtlog "github.com/cometbft/cometbft/libs/log"
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
		redialAll(ctx, n, own, string(low)+"@127.0.0.1:1, "+string(high)+"@127.0.0.1:2,",
			func(string, error) {}, cmtlog.NewNopLogger())
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
	said := new(lines)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()

	said.wait = func() { cancel() }
	redial(ctx, d, key.ID(), string(id)+"@"+ln.Addr().String(), func(string, error) {}, cmtlog.NewTMLogger(said))
	require.Contains(t, said.text.String(), "persistent peer refused")
	require.Contains(t, said.text.String(), "peer="+string(id))

	to, err := p2p.NewNetAddressString(string(id) + "@" + ln.Addr().String())
	require.NoError(t, err)
	err = d.DialPeerWithAddress(to)
	now := time.Now()
	var r refusal
	require.True(t, r.news(err, now))
	require.False(t, r.news(err, now.Add(refusalAgain-1)))
	require.True(t, r.news(err, now.Add(refusalAgain)))
	require.False(t, (&refusal{}).news(errors.New("connection refused"), now), "an unreachable peer is not reported")
	require.False(t, (&refusal{}).news(nil, now))
}

// lines holds the logged lines. Calls block at the first.
type lines struct {
	text bytes.Buffer
	wait func()
}

func (l *lines) Write(b []byte) (int, error) {
	l.wait()
	return l.text.Write(b)
}

// advance lets fake time pass.
func advance(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}
