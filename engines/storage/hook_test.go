package storage

import (
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// The hooks see what the transactions have left, and write after them. A record of the block leads
// to the same state without an execution (I3).
func TestHooksComeAfterTheTransactions(t *testing.T) {
	d, other := started(t), started(t)
	b := block(d, genesis, tx(t, 1, genesis.Add(window)), tx(t, 2, genesis.Add(window)))
	hooks := b.HookVersion()
	_, err := d.Begin(b)
	require.NoError(t, err)

	for i, value := range []string{"first", "second"} {
		_, _, err = d.Read(hooks, []byte("k"))
		require.ErrorIs(t, err, errNotReady)
		v := chain.Version{Period: 1, Height: 1, Index: uint32(i)}
		require.NoError(t, d.Finish(v, at(v, put("k", value)), &logv1.TxResult{}))
	}

	value, _, err := d.Read(hooks, []byte("k"))
	require.NoError(t, err)
	require.Equal(t, "second", string(value))
	require.NoError(t, d.EndBlock(hooks, at(hooks, put("k", "hook"), put("own", "1"))))

	s, err := d.Seal()
	require.NoError(t, err)
	require.Len(t, s.Results, 2, "hooks have no result")
	require.Len(t, s.Changes, 4)
	require.NoError(t, d.Commit(2, committed(s)))
	require.NoError(t, other.Redo(2, committed(s)))

	for _, d := range []*DB{d, other} {
		require.Equal(t, "hook", d.testGet(t, "k", 0))
		require.Equal(t, "1", d.testGet(t, "own", 0))
		require.NoError(t, d.VerifyScan(t.Context(), nil))
	}
	require.Equal(t, d.State().AppHash, other.State().AppHash)
}

// A block in which no hook writes anything leaves the app hash as it was, so that an idle chain
// stays idle.
func TestAnEmptyBlockHasHooks(t *testing.T) {
	d := started(t)
	index := uint64(2)
	end := func(changes ...*logv1.Change) {
		b := block(d, genesis.Add(time.Duration(index)*time.Second))
		_, err := d.Begin(b)
		require.NoError(t, err)
		_, _, err = d.Read(b.HookVersion(), []byte("k"))
		require.NoError(t, err)
		require.NoError(t, d.EndBlock(b.HookVersion(), at(b.HookVersion(), changes...)))
		s, err := d.Seal()
		require.NoError(t, err)
		require.NoError(t, d.Commit(index, committed(s)))
		index++
	}

	before := d.State().AppHash
	end()
	require.Equal(t, before, d.State().AppHash)
	end(put("k", "1"))
	require.Equal(t, "1", d.testGet(t, "k", 0))
	written := d.State().AppHash
	require.NotEqual(t, before, written)
	end(put("k", "1"))
	require.Equal(t, written, d.State().AppHash, "the same value changes nothing")
}

func TestHooksHaveRoomOfTheirOwn(t *testing.T) {
	d := started(t)
	b := block(d, genesis, tx(t, 1, genesis.Add(window)), tx(t, 2, genesis.Add(window)))
	hooks := b.HookVersion()
	_, err := d.Begin(b)
	require.NoError(t, err)

	for i := range b.Txs { // the first one fills the block
		v := chain.Version{Period: 1, Height: 1, Index: uint32(i)}
		data := make([]byte, chain.MaxOutcomeBytes-chain.ChangeOverhead-1)
		require.NoError(t, d.Finish(v, at(v, put("k", "")), &logv1.TxResult{Data: data}))
	}

	most := chain.MaxHookBytes - chain.ChangeOverhead - 1
	require.ErrorContains(t, d.EndBlock(hooks, at(hooks, put("h", strings.Repeat("x", most+1)))), "want at most")
	require.NoError(t, d.EndBlock(hooks, at(hooks, put("h", strings.Repeat("x", most)))))
	s, err := d.Seal()
	require.NoError(t, err)
	require.Equal(t, logv1.Code_CODE_OK, s.Results[0].Code)
	require.Equal(t, logv1.Code_CODE_LIMIT, s.Results[1].Code)
	require.NoError(t, d.Commit(2, committed(s)))
	require.Len(t, d.testGet(t, "h", 0), most)
}

func TestHooksHandInOnceAndAtTheirPlace(t *testing.T) {
	d := started(t)
	b := block(d, genesis, tx(t, 1, genesis.Add(window)))
	hooks, first := b.HookVersion(), chain.Version{Period: 1, Height: 1}
	require.ErrorIs(t, d.EndBlock(hooks, nil), errNotStaged)
	_, err := d.Begin(b)
	require.NoError(t, err)

	require.ErrorIs(t, d.EndBlock(first, nil), errNotStaged, "a transaction stands there")
	require.ErrorIs(t, d.Finish(hooks, nil, &logv1.TxResult{}), errNotStaged, "no transaction stands there")
	require.ErrorContains(t, d.EndBlock(hooks, at(first, put("k", "1"))), "is of version")
	require.NoError(t, d.EndBlock(hooks, nil))
	require.ErrorIs(t, d.EndBlock(hooks, nil), errNotStaged, "twice")

	_, err = d.Begin(b)
	require.NoError(t, err, "an execution that is repeated begins anew")
	require.NoError(t, d.Finish(first, nil, &logv1.TxResult{}))
	_, err = d.Seal()
	require.NoError(t, err)
	require.ErrorIs(t, d.EndBlock(hooks, nil), errNotStaged, "the block is sealed")
}

// A hook begins while the transactions are being executed. In the engine, its read waits for them.
func TestAReadOfAHookWaits(t *testing.T) {
	r := newRig(t, vfs.NewMem())
	ctx := t.Context()
	require.NoError(t, r.client.StartChain(ctx, 1, chainStarted(1)))
	b := r.begin(t, 2)
	read := make(chan string, 1)
	go func() {
		value, _, err := r.client.Read(ctx, b.HookVersion(), []byte("k"))
		if err != nil {
			t.Error(err)
		}
		read <- string(value)
	}()

	for i := range b.Txs {
		v := chain.Version{Period: 1, Height: b.Height, Index: uint32(i)}
		_, _, err := r.client.Read(ctx, v, []byte("k"))
		require.NoError(t, err)
		require.Empty(t, read)
		require.NoError(t, r.client.Finish(ctx, v, at(v, put("k", string(rune('a'+i)))), new(logv1.TxResult)))
	}

	require.Equal(t, "b", <-read)
	require.NoError(t, r.client.EndBlock(ctx, b.HookVersion(), at(b.HookVersion(), put("k", "hook"))))
	s, err := r.client.Seal(ctx)
	require.NoError(t, err)
	require.Len(t, s.Changes, 3)
}
