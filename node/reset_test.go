package node_test

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines/backend/governance"
	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/nodetest"
	"github.com/coppice-go/coppice/node/offline"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// governor is the key that decides on the resets of the tests' chains.
var governor = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))

// resettable edits a genesis so that its chain can be reset.
func resettable(g *chain.Genesis) {
	g.GovernanceKey = governor.Public().(ed25519.PublicKey)
	g.Resets = &chain.Resets{Mode: chain.Regenesis, Offset: 20}
}

// decideReset has the chain decide on its n-th reset, and returns the decision.
func decideReset(t *testing.T, c *client.Client, n uint64) *chain.Reset {
	t.Helper()
	body, err := governance.SignReset(governor, governance.ResetChange{ChainID: "test", Sequence: n})
	require.NoError(t, err)
	r, err := chain.DecodeReset(call(t, c, governance.Name, body).Data)
	require.NoError(t, err)
	return r
}

// call submits a transaction and returns its result, which is no failure.
func call(t *testing.T, c *client.Client, backend string, body []byte) *logv1.TxResult {
	t.Helper()
	raw, err := c.NewTx(backend, body, time.Minute).Encode()
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), nodetest.Timeout)
	defer cancel()
	outs, err := c.SubmitMany(ctx, [][]byte{raw}, true)
	require.NoError(t, err)
	require.NoError(t, outs[0].Err)
	require.Zero(t, outs[0].Result.Code, outs[0].Result.Log)
	return outs[0].Result
}

func increment(t *testing.T, c *client.Client) *logv1.TxResult {
	t.Helper()
	body, err := kv.Encode(kv.Add([]byte("n"), 1))
	require.NoError(t, err)
	return call(t, c, kv.Name, body)
}

// records returns the records of the log of a stopped home.
func records(t *testing.T, dir string) (recs []eventlog.Record) {
	t.Helper()
	l, err := eventlog.OpenReadOnly(home.LogDir(dir), eventlog.Options{})
	require.NoError(t, err)
	defer l.Close()
	for e, err := range chain.Records(l.Cursor, 1, chain.End) {
		require.NoError(t, err)
		recs = append(recs, eventlog.Record{Kind: e.Kind, Data: append([]byte(nil), e.Data...)})
	}
	return recs
}

func countKind(recs []eventlog.Record, kind eventlog.Kind) (n int) {
	for _, r := range recs {
		if r.Kind == kind {
			n++
		}
	}
	return n
}

// A chain goes through many epochs with one state: reads, writes and results go on, heights rise,
// and the whole log is executed again by a verification.
func TestAChainGoesOnOverItsResets(t *testing.T) {
	resets := 12
	if os.Getenv("COPPICE_SOAK") != "" {
		resets = 50
	}
	n := nodetest.Start(t, nodetest.OnDisk(), nodetest.Genesis(resettable))
	c := n.Client()

	last := uint64(0)
	for i := range uint64(resets) {
		v := increment(t, c).Version
		require.Equal(t, i, v.Period)
		require.Greater(t, v.Height, last)
		r := decideReset(t, c, i+1)
		require.Equal(t, i, r.Epoch)
		last = r.InitialHeight()
	}

	v := increment(t, c).Version
	require.EqualValues(t, resets, v.Period)
	require.Equal(t, last+1, v.Height, "the first block has no transactions")
	s, err := c.Status(t.Context())
	require.NoError(t, err)
	require.Equal(t, fmt.Sprintf("test-%d", resets), s.ChainId)
	n.Restart()
	increment(t, c)
	got, found, err := c.Get(t.Context(), []byte("n"))
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, fmt.Sprint(resets+2), string(got))
	_, due, err := c.Get(t.Context(), []byte(chain.ResetKey))
	require.NoError(t, err)
	require.False(t, due)
	n.Stop()

	report := n.Verify(offline.VerifyOptions{})
	require.EqualValues(t, resets, report.Resets)
	require.EqualValues(t, report.State, report.Height)
	recs := records(t, n.Home())
	require.Equal(t, resets, countKind(recs, chain.KindChainReset))
	require.Equal(t, resets+1, countKind(recs, chain.KindChainStarted))
}

// A node that dies at any moment between the decision on a reset and the first block of the next
// epoch makes the reset once, and nothing that was acknowledged is lost. Each log here is cut after
// a record, as the death of a process leaves it.
func TestADeathAtAnyStepOfAReset(t *testing.T) {
	n := nodetest.Start(t, nodetest.OnDisk(), nodetest.Genesis(resettable))
	c := n.Client()
	increment(t, c)
	decideReset(t, c, 1)
	increment(t, c)
	n.Stop()
	whole := records(t, n.Home())

	// A transaction that was acknowledged in hold, for the logs that end before it.
	body, err := kv.Encode(kv.Add([]byte("n"), 10))
	require.NoError(t, err)
	raw, err := c.NewTx(kv.Name, body, time.Minute).Encode()
	require.NoError(t, err)
	launched, err := chain.NewRecord(&logv1.TxLaunched{Tx: raw})
	require.NoError(t, err)

	cut := 0
	for i := range whole {
		decided := countKind(whole[:i+1], chain.KindBlockCommitted) >= 2
		if over := countKind(whole[:i+1], chain.KindBlockCommitted) > 3; !decided || over {
			continue
		}
		cut++

		t.Run(fmt.Sprintf("%d records, the last a %s", i+1, chain.KindName(whole[i].Kind)), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "home")
			require.NoError(t, os.CopyFS(dir, os.DirFS(n.Home())))
			for _, gone := range []string{"data", "STARTED"} {
				require.NoError(t, os.RemoveAll(filepath.Join(dir, gone)))
			}
			b, err := eventlog.NewBuilder(home.LogDir(dir), eventlog.Options{})
			require.NoError(t, err)
			require.NoError(t, b.Append(whole[:i+1]...))
			require.NoError(t, b.Append(launched))
			require.NoError(t, b.Finish())

			again := nodetest.Start(t, nodetest.Home(dir))
			c := again.Client()
			increment(t, c)
			got, _, err := c.Get(t.Context(), []byte("n"))
			require.NoError(t, err)
			require.Contains(t, []string{"12", "13"}, string(got), "with the third increment if the log has it")
			again.Stop()

			recs := records(t, dir)
			require.Equal(t, 1, countKind(recs, chain.KindChainReset))
			require.Equal(t, 2, countKind(recs, chain.KindChainStarted))
			require.EqualValues(t, 1, again.Verify(offline.VerifyOptions{}).Resets)
		})
	}
	require.GreaterOrEqual(t, cut, 5, "BlockCommitted, ChainReset, ChainStarted, OrderDecided, BlockCommitted")
}

// A verification refuses a log in which a reset is not the one that its chain decided.
func TestVerifyRefusesAnotherReset(t *testing.T) {
	n := nodetest.Start(t, nodetest.OnDisk(), nodetest.Genesis(resettable))
	c := n.Client()
	increment(t, c)
	decideReset(t, c, 1)
	increment(t, c)
	n.Stop()
	whole := records(t, n.Home())

	for what, spoil := range map[string]func(*logv1.ChainReset){
		"not the agreed reset": func(r *logv1.ChainReset) { r.InitialHeight++ },
		"no reset is due":      nil, // twice
	} {
		var recs []eventlog.Record
		var reset eventlog.Record
		for i, r := range whole {
			if r.Kind == chain.KindChainReset && spoil != nil {
				m, err := chain.DecodeRecord(eventlog.Entry{Index: uint64(i), Kind: r.Kind, Data: r.Data})
				require.NoError(t, err)
				spoil(m.(*logv1.ChainReset))
				r, err = chain.NewRecord(m.(*logv1.ChainReset))
				require.NoError(t, err)
			}
			if recs = append(recs, r); r.Kind == chain.KindChainReset {
				reset = r
			}
			if r.Kind == chain.KindChainStarted && reset.Data != nil && spoil == nil {
				recs = append(recs, reset)
			}
		}

		dir := filepath.Join(t.TempDir(), "home")
		require.NoError(t, os.CopyFS(dir, os.DirFS(n.Home())))
		require.NoError(t, os.RemoveAll(filepath.Join(dir, "data")))
		b, err := eventlog.NewBuilder(home.LogDir(dir), eventlog.Options{})
		require.NoError(t, err)
		require.NoError(t, b.Append(recs...))
		require.NoError(t, b.Finish())
		_, err = offline.Verify(t.Context(), dir, offline.VerifyOptions{})
		require.ErrorContains(t, err, what)
	}
}
