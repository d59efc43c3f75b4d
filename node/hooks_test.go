package node

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/offline"
	"github.com/coppice-go/coppice/node/plan"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// tally adds one to its key at the end of each block with transactions, and panics at the end of
// block 4.
type tally struct{ step int }

func (tally) Name() string                               { return "tally" }
func (tally) Check([]byte) error                         { return nil }
func (tally) Execute(chain.View, []byte) ([]byte, error) { return nil, nil }

func (b tally) EndBlock(v chain.View, at chain.Block) error {
	if len(at.Txs) == 0 {
		return nil
	}

	was, _, err := v.Get([]byte("tally"))
	if err != nil {
		return err
	}
	n, _ := strconv.Atoi(string(was))
	if err := v.Put([]byte("tally"), []byte(strconv.Itoa(n+b.step))); err != nil {
		return err
	}

	if at.Height == 4 {
		panic("four")
	}
	return nil
}

// The hook of a backend is a part of every block: in a restart between decision and commit, in the
// replay of the log, and in the execution by verify.
func TestAHookIsAPartOfEveryBlock(t *testing.T) {
	dir := t.TempDir()
	_, err := home.Init(dir, home.InitOptions{ChainID: "test", Listen: "127.0.0.1:0", Profile: plan.Chaos})
	require.NoError(t, err)
	h := driveHome(t, dir, WithBackend(tally{1}))
	start, err := h.ordering.InitChain(t.Context(), h.genesis)
	require.NoError(t, err)
	tallied := func() string {
		value, _, _, err := h.store.Get(t.Context(), []byte("tally"), 0)
		require.NoError(t, err)
		return string(value)
	}

	b := h.next()
	require.Empty(t, h.order(b).Changes)
	require.Equal(t, start.AppHash, h.commit(b).AppHash, "an idle chain stays as it is")

	b = h.next(h.tx(kv.Add([]byte("n"), 1), time.Minute))
	require.Len(t, h.order(b).Results, 1)
	h.commit(b)
	require.Equal(t, "1", tallied())

	b = h.next(h.tx(kv.Add([]byte("n"), 1), time.Minute), []byte("no transaction"))
	staged := h.order(b)
	h.cut(corePath + "/storage")
	require.Equal(t, staged.AppHash, h.commit(b).AppHash, "executed again")
	require.Equal(t, "2", tallied())

	b = h.next(h.tx(kv.Add([]byte("n"), 1), time.Minute))
	staged = h.order(b)
	require.Len(t, staged.HookFailures, 1)
	require.Equal(t, "tally", staged.HookFailures[0].Backend)
	require.Equal(t, logv1.Code_CODE_PANICKED, staged.HookFailures[0].Code)
	h.commit(b)
	require.Equal(t, "2", tallied(), "what a hook that panics has written is dropped")
	h.close()

	v, err := offline.Verify(t.Context(), dir, offline.VerifyOptions{Backends: []chain.Backend{tally{1}}})
	require.NoError(t, err)
	require.EqualValues(t, 4, v.Blocks)
	_, err = offline.Verify(t.Context(), dir, offline.VerifyOptions{Backends: []chain.Backend{tally{2}}})
	require.ErrorIs(t, err, exit.ErrDamage, "another hook")
	_, err = offline.Verify(t.Context(), dir, offline.VerifyOptions{})
	require.ErrorIs(t, err, exit.ErrConfig, "without the hook")
	require.ErrorContains(t, err, `no backend "tally"`)
}

// A hook acts in every block, so a chain has it from its first block on or not at all.
func TestAHookDoesNotComeToAChainThatHasBegun(t *testing.T) {
	h := drive(t)
	h.close()
	c, err := config.Load(h.home)
	require.NoError(t, err)
	_, err = New(h.home, c, WithDriver(byHand{}), WithBackend(tally{1}))
	require.ErrorIs(t, err, exit.ErrConfig)
	require.ErrorContains(t, err, `backend "tally" of this program acts at the end of every block`)
}
