package comet

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/consensus"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/supervisor"
)

// memberPeer is another member, asked as by its API.
type memberPeer struct {
	consensus.Peer
	of *member

	down  *atomic.Bool  // it does not answer
	lies  *atomic.Int64 // it says that it is so many heights ahead
	mutes *atomic.Bool  // it answers where it stands, and nothing else
}

func (p memberPeer) String() string { return p.of.home }

func (p memberPeer) Standing(context.Context) (consensus.PeerStanding, error) {
	if p.down.Load() {
		return consensus.PeerStanding{}, engines.ErrDown
	}
	s := p.of.state()
	return consensus.PeerStanding{Name: "test", Epoch: s.Period, Height: s.Height + uint64(p.lies.Load()),
		Agent: p.of.id}, nil
}

func (p memberPeer) Certificates(_ context.Context, from uint64) ([]consensus.Certificate, error) {
	if p.down.Load() || p.mutes.Load() {
		return nil, engines.ErrDown
	}
	return Driver{Home: p.of.home}.Certificates(from, 1<<20)
}

func (p memberPeer) LightBlock(ctx context.Context, height uint64) (block, validators []byte, err error) {
	if p.down.Load() || p.mutes.Load() {
		return nil, nil, engines.ErrDown
	}
	return Driver{Home: p.of.home}.LightBlock(ctx, height)
}

// says waits until the machine of the member's resets has told an event with the text.
func (m *member) says(t *testing.T, text string) {
	t.Helper()
	for late := time.Now().Add(4 * time.Minute); ; {
		said := strings.Join(m.events(t), "\n")
		if strings.Contains(said, text) {
			return
		}
		if time.Now().After(late) {
			require.FailNow(t, "not said", "%q of %s, which has said\n%s", text, m.id, said)
		}
		<-time.After(200 * time.Millisecond)
	}
}

// events returns the texts of the events of the machine, the oldest first.
func (m *member) events(t *testing.T) (texts []string) {
	t.Helper()
	all, _ := call(t, "GET", "http://"+m.manager+"/status", "")["events"].([]any)
	for _, e := range all {
		text, _ := e.(map[string]any)["text"].(string)
		texts = append(texts, text)
	}
	return texts
}

// Four validators with real CometBFTs stand still for real: two of them are stopped. The others say
// that nobody is ahead, and restart nothing. A peer that lies has them restart CometBFT, and then
// ask for the base of a rebuild, which there is not: they go on with what they have. Once a third
// one is back the chain goes on.
//
// The fourth one is cut off from all CometBFTs, but not from the APIs of its peers: its ladder
// restarts CometBFT, and then rebuilds its data by what these say. When the others have reset the
// chain without it, its ladder names the later epoch. No key signs two votes.
//
// Items 25, 35 and 53; COPPICE_SOAK=1 runs it, three times over with COPPICE_LADDER=3.
func TestFourValidatorsThatStandStill(t *testing.T) {
	if os.Getenv("COPPICE_SOAK") == "" {
		t.Skip("for make soak: COPPICE_SOAK is not set")
	}
	all := newNetwork(t, 4)
	down := make([]atomic.Bool, len(all))
	var lies atomic.Int64
	var mutes atomic.Bool
	runs := make([]*supervisor.Run, len(all))
	for i, m := range all {
		m.manager, m.asks = freePort(t), 3*time.Second
		for j, o := range all {
			if j != i {
				m.peers = append(m.peers, memberPeer{of: o, down: &down[j], lies: &lies, mutes: &mutes})
			}
		}
		require.NoError(t, os.WriteFile(votesPath(m.home), nil, 0o600))
		runs[i] = m.start(t)
	}
	stop := func(i int) {
		down[i].Store(true)
		require.NoError(t, runs[i].Stop(t.Context()))
	}
	start := func(i int) {
		runs[i] = all[i].start(t)
		down[i].Store(false)
	}
	last := all[3]
	_, address, _ := strings.Cut(last.peer, "@")
	network := comethome.Network{P2P: address}
	for _, m := range all[:3] {
		network.Peers = append(network.Peers, m.peer)
	}

	rounds := 1
	if os.Getenv("COPPICE_LADDER") != "" {
		rounds = 3
	}
	for round := range rounds {
		for _, m := range all {
			m.past(t, m.height()+2)
		}

		stop(2)
		stop(3)
		for i, m := range all[:2] {
			m.core.submit(fmt.Sprintf("work%d=%d", i, round)) // a height stands still if there is work
			m.says(t, "no quorum: nobody is ahead")
			if round == 0 {
				require.NotContains(t, strings.Join(m.events(t), "\n"), "restarting CometBFT")
			}
		}
		stood := max(all[0].height(), all[1].height())

		lies.Store(100)
		all[0].says(t, "rebuilding CometBFT's data")
		all[0].says(t, "the data of CometBFT is not rebuilt: no peer has what")
		require.Equal(t, stood, max(all[0].height(), all[1].height()), "no step moves the height")
		lies.Store(0)
		start(2)
		for _, m := range all[:3] {
			m.past(t, stood+2)
		}

		require.NoError(t, comethome.SetNetwork(last.home, comethome.Network{P2P: freePort(t)}))
		start(3)
		last.core.submit(fmt.Sprintf("cut=%d", round))
		last.says(t, "peers or more are at height")
		last.says(t, "data of CometBFT was rebuilt")
		require.NoError(t, runs[3].Stop(t.Context()))
		require.NoError(t, comethome.SetNetwork(last.home, network))
		start(3)
		last.past(t, all[0].height())
	}

	stop(3)
	mutes.Store(true)
	all[0].core.submit("reset=1")
	for _, m := range all[:3] {
		m.core.await(t, func() bool { return m.core.state.Period == 1 && m.core.state.Height > 0 })
	}
	start(3)
	last.core.submit("left=1")
	last.says(t, "are in epoch 1, and this node is in 0")
	require.Zero(t, last.state().Period)

	for _, m := range all {
		n, conflicts := m.twice(t)
		require.NotZero(t, n)
		require.Empty(t, conflicts, m.peer)
	}
	t.Log(strings.Join(last.events(t), "\n"))
}
