package node

import (
	"crypto/ed25519"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/rounds"
	"github.com/coppice-go/coppice/engines/rounds/replicated"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/offline"
	"github.com/coppice-go/coppice/node/plan"
)

// A replay of a log that begins with a snapshot begins with what the snapshot has of the service:
// only the blocks after it are compared.
func TestAReplayBeginsWithASnapshot(t *testing.T) {
	keys, agents := agentKeys(1)
	service, base := adding(nil, 5*time.Second), t.TempDir()
	dir, file, next := filepath.Join(base, "home"), filepath.Join(base, "file"), filepath.Join(base, "next")
	o := home.InitOptions{ChainID: "test", Listen: "127.0.0.1:0", Profile: plan.Chaos, Agents: agents}
	_, err := home.Init(dir, o)
	require.NoError(t, err)

	h := driveHome(t, dir, WithRounds(service))
	_, err = h.ordering.InitChain(t.Context(), h.genesis)
	require.NoError(t, err)
	h.say(keys[0], 1, "2")
	h.close()

	_, _, err = offline.CreateSnapshot(t.Context(), dir, offline.SnapshotOptions{})
	require.NoError(t, err)
	f, err := os.Create(file)
	require.NoError(t, err)
	_, err = offline.ExportSnapshot(t.Context(), dir, "", f, offline.SnapshotOptions{})
	require.NoError(t, err)
	require.NoError(t, f.Close())
	o.Agents, o.ChainID = nil, ""
	_, err = offline.InitFrom(t.Context(), next, file, o, offline.SnapshotOptions{})
	require.NoError(t, err)

	h = driveHome(t, next, WithRounds(service))
	h.say(keys[0], 2, "3")
	h.close()

	twice := rounds.Compose("AddingService", nil, rounds.Table[tallied]{
		Label: "AddingAbciApp", Start: "add", Timeouts: rounds.Timeouts{rounds.Timeout: 5 * time.Second},
		Rounds: rounds.Rows[tallied]{"add": {
			Round: rounds.Same[tallied, int](nil, func(s tallied, n int) tallied { return tallied{s.Sum + 2*n} }),
			On:    rounds.On{rounds.Done: "add", rounds.None: "add", rounds.NoMajority: "add", rounds.Timeout: "add"},
		}}})
	for _, s := range []*rounds.Service[tallied]{service, twice} {
		r, err := offline.ReplayRounds(t.Context(), next, offline.VerifyOptions{
			Backends: []chain.Backend{replicated.New(s)}})
		require.NoError(t, err)
		require.EqualValues(t, []uint64{1, 2, 2}, []uint64{r.Blocks, r.From, r.Height})
		require.Equal(t, s == twice, r.Difference != nil)
		if r.Difference != nil {
			require.JSONEq(t, `{"sum":5}`, string(r.Difference.Was.State))
			require.JSONEq(t, `{"sum":8}`, string(r.Difference.Is.State))
		}
	}
}

// say makes a block in which agent0 says something.
func (h *hand) say(key ed25519.PrivateKey, count uint64, said string) {
	h.t.Helper()
	p := rounds.Payload{Agent: "agent0", Label: "AddingAbciApp", Count: count, Bytes: []byte(said),
		ValidUntil: h.clock.Add(time.Minute).Truncate(time.Millisecond)}
	raw, err := p.Tx("test", key).Encode()
	require.NoError(h.t, err)

	b := h.next(raw)
	h.order(b)
	h.commit(b)
}
