package comet

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/comet/child"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/supervisor"
)

// member is a validator of a network of real CometBFTs.
type member struct {
	home, peer string // peer: id@host:port
	id         string
	core       *fakeCore
	logs       *observer.ObservedLogs
	changed    chan struct{} // a line was logged
	manager    string        // the address of its manager's API; empty: it has none
	peers      []consensus.Peer
	asks       time.Duration // between two questions to them about a height that stands still
}

// newNetwork makes the homes of n validators that know each other. No CometBFT runs yet.
func newNetwork(t *testing.T, n int) []*member {
	t.Helper()
	var all []*member
	g := comethome.Genesis{ChainID: "test", Time: time.Now().Add(-time.Second), MaxBlockBytes: 4 << 20}

	for i := range n {
		m := &member{home: filepath.Join(t.TempDir(), "comet"), core: newFakeCore(), changed: make(chan struct{}, 1)}
		p2p := freePort(t)
		id, err := comethome.Init(m.home, comethome.Options{Moniker: fmt.Sprint("m", i), P2P: p2p, RPC: freePort(t)})
		require.NoError(t, err)
		m.id, m.peer = id.NodeID, id.NodeID+"@"+p2p
		id.Validator.Power = 10
		g.Validators = append(g.Validators, id.Validator)
		all = append(all, m)
	}

	for _, m := range all {
		require.NoError(t, comethome.WriteGenesis(m.home, g))
		var others []string
		for _, o := range all {
			if o != m {
				others = append(others, o.peer)
			}
		}
		require.NoError(t, comethome.SetNetwork(m.home, comethome.Network{Peers: others}))
	}

	return all
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

// start runs the member.
func (m *member) start(t *testing.T) *supervisor.Run {
	t.Helper()
	var seen zapcore.Core
	seen, m.logs = observer.New(zap.InfoLevel)
	log := zap.New(seen, zap.Hooks(func(zapcore.Entry) error {
		select {
		case m.changed <- struct{}{}:
		default:
		}
		return nil
	}))

	d := Driver{Home: m.home, Intensity: supervisor.Intensity{Max: 1000, Period: time.Minute}, Log: log,
		Manager: consensus.Manager{Listen: m.manager}, asks: m.asks}
	core := m.core.core("test")
	core.Peers = m.peers
	sup, err := supervisor.New(supervisor.Spec{Name: "test",
		Build: supervisor.Children(supervisor.Child{ID: "consensus", Start: d.Start(core)})})
	require.NoError(t, err)
	run, err := sup.Start(t.Context())
	require.NoError(t, err)
	// The test's own context has ended when its cleanups run.
	t.Cleanup(func() { _ = run.Stop(context.Background()) })

	return run
}

// told waits for a notice with a topic.
func (m *member) told(t *testing.T, topic child.Topic) observer.LoggedEntry {
	t.Helper()
	limit := time.After(time.Minute)
	for {
		if found := m.logs.FilterField(zap.String("topic", string(topic))).All(); len(found) > 0 {
			return found[0]
		}
		select {
		case <-m.changed:
		case <-limit:
			for _, e := range m.logs.All() {
				t.Log(e.Level, e.Message, e.ContextMap())
			}
			require.FailNow(t, "no notice", "topic %s of %s", topic, m.peer)
		}
	}
}

// A node whose genesis differs in the power of a validator is told apart when it connects. It makes
// no consensus fail, neither its own nor that of the others, who go on without it.
func TestAGenesisThatDiffersIsNamed(t *testing.T) {
	all := newNetwork(t, 4)
	odd := all[3]
	editJSON(t, comethome.GenesisPath(odd.home), func(doc map[string]any) {
		doc["validators"].([]any)[1].(map[string]any)["power"] = "11"
	})
	for _, m := range all {
		m.start(t)
	}

	e := odd.told(t, child.PeerGenesis)
	require.Equal(t, zap.ErrorLevel, e.Level)
	require.Contains(t, e.Message, "validators: theirs 4 of power 40")
	require.Contains(t, e.Message, "ours 4 of power 41")
	require.Contains(t, e.Message, comethome.GenesisPath(odd.home))
	require.Contains(t, all[0].told(t, child.PeerGenesis).Message, odd.id)

	all[0].core.submit("a=1")
	all[0].core.await(t, func() bool { return len(all[0].core.pool) == 0 })

	for _, m := range all {
		require.Empty(t, m.logs.FilterMessageSnippet("CONSENSUS FAILURE").All())
		require.Less(t, m.logs.FilterLevelExact(zap.WarnLevel).Len()+m.logs.FilterLevelExact(zap.ErrorLevel).Len(), 15)
	}
}

// A home that was copied and given other ports has the node key of the first. The nodes that meet
// both say so once, and so does the copy, which everybody sends away.
func TestACopiedHomeIsNamed(t *testing.T) {
	all := newNetwork(t, 3)
	copied := &member{home: filepath.Join(t.TempDir(), "comet"), core: newFakeCore(), changed: make(chan struct{}, 1),
		peer: "the copy"}
	require.NoError(t, os.CopyFS(copied.home, os.DirFS(all[0].home)))
	require.NoError(t, comethome.SetNetwork(copied.home, comethome.Network{P2P: freePort(t), RPC: freePort(t),
		Peers: []string{all[1].peer, all[2].peer}}))

	for _, m := range all {
		m.start(t)
	}
	all[0].core.submit("a=1")
	all[0].core.await(t, func() bool { return len(all[0].core.pool) == 0 })

	copied.start(t)
	e := all[1].told(t, child.DuplicateID)
	require.Contains(t, e.Message, all[0].id)
	require.Contains(t, e.Message, "copied home")
	require.Contains(t, copied.told(t, child.PeerRefuses).Message, "the same node key")

	for _, m := range append(all, copied) {
		require.Less(t, m.logs.FilterLevelExact(zap.WarnLevel).Len()+m.logs.FilterLevelExact(zap.ErrorLevel).Len(), 15,
			m.peer)
	}
}

// Several nodes on one address are kept apart by allow_duplicate_ip = false. Both sides name it.
func TestADuplicateAddressIsNamed(t *testing.T) {
	all := newNetwork(t, 4)
	path := filepath.Join(all[0].home, "config", "config.toml")
	conf, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, []byte(strings.Replace(string(conf), "allow_duplicate_ip = true",
		"allow_duplicate_ip = false", 1)), 0o600))

	for _, m := range all {
		m.start(t)
	}

	e := all[0].told(t, child.DuplicateIP)
	require.Contains(t, e.Message, "allow_duplicate_ip = false")

	all[1].core.submit("a=1")
	all[1].core.await(t, func() bool { return len(all[1].core.pool) == 0 })
	for _, m := range all {
		require.Less(t, m.logs.FilterLevelExact(zap.WarnLevel).Len()+m.logs.FilterLevelExact(zap.ErrorLevel).Len(), 15)
	}
}
