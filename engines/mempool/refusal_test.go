package mempool_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/mempool"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

// unready is the state of a node whose chain has not started until the test starts it.
type unready struct {
	state
	started chan struct{}
}

func (s unready) State(ctx context.Context) (chain.State, error) {
	select {
	case <-s.started:
		return s.state.State(ctx)
	default:
		return chain.State{}, nil
	}
}

func TestNothingIsTakenBeforeTheChainStarts(t *testing.T) {
	for _, b := range []chain.Backend{lenient{}, narrow{checks: new(atomic.Int64)}} {
		s := unready{started: make(chan struct{})}
		backends := map[string]chain.Backend{"any": b}
		r := start(t, func(c *mempool.Config) { c.Store, c.Backends = s, backends }, nil)
		r.Client = mempool.NewClient(r.dir, backends)

		for _, raw := range [][]byte{tx(t, 1, time.Minute), {1}} {
			_, err := r.Submit(t.Context(), [][]byte{raw})
			require.ErrorIs(t, err, chain.ErrNotStarted)
		}
		close(s.started)
		require.NoError(t, r.submit(tx(t, 1, time.Minute))[0].Err)
	}
}

// panicky is a backend whose Check panics.
type panicky struct{ lenient }

func (panicky) Name() string       { return "panicky" }
func (panicky) Check([]byte) error { panic("oh") }

func encode(t *testing.T, x chain.Tx) []byte {
	t.Helper()
	raw, err := x.Encode()
	require.NoError(t, err)
	return raw
}

// Check and Submit refuse the same transactions, each with its error and the reason.
func TestRefusals(t *testing.T) {
	backends := map[string]chain.Backend{"any": lenient{}, "panicky": panicky{}}
	r := start(t, func(c *mempool.Config) { c.Backends = backends }, nil)
	r.Client = mempool.NewClient(r.dir, backends)
	now, err := state{}.State(t.Context())
	require.NoError(t, err)

	for _, c := range []struct {
		raw  []byte
		want error
		text string
	}{
		{tx(t, 1, time.Minute), nil, ""},
		{encode(t, chain.Tx{Backend: "any", Body: []byte("for ever")}), nil, ""},
		{[]byte{1}, chain.ErrMalformedTx, "backend name"},
		{encode(t, chain.Tx{Backend: "nobody"}), chain.ErrUnknownBackend, `"nobody"`},
		{encode(t, chain.Tx{Backend: "any", Body: []byte("bad")}), chain.ErrBadBody, "bad body"},
		{encode(t, chain.Tx{Backend: "panicky"}), chain.ErrBadBody, "backend panicky panicked: oh"},
		{encode(t, chain.Tx{Backend: "any", Body: make([]byte, 1<<20)}), chain.ErrTooLarge, "want at most 1048576"},
		{tx(t, 2, -time.Second), chain.ErrExpired, "valid until 2023-11-14T22:13:19Z"},
		{tx(t, 3, time.Hour), chain.ErrTooEarly, "at most 10m0s from now"},
	} {
		for _, err := range []error{r.Check(c.raw, now, genesis), r.submit(c.raw)[0].Err} {
			require.ErrorIs(t, err, c.want)
			if c.want != nil {
				require.ErrorContains(t, err, c.text)
			}
		}
	}

	require.EqualValues(t, 2, r.disk.log.Durable(), "a refused transaction is not logged")
	require.NoError(t, r.Check(tx(t, 4, 10*time.Minute), now, genesis.Add(-time.Hour)), "the clock was set back")
}

// An applied transaction is acknowledged again, and has no second effect.
func TestWhatWasAppliedIsAcknowledgedAgain(t *testing.T) {
	s := newStore()
	r := start(t, func(c *mempool.Config) { c.Store = s }, nil)
	raw, fresh := tx(t, 1, time.Minute), tx(t, 2, time.Minute)
	s.results[chain.HashTx(raw)] = result(raw)
	for _, got := range r.submit([]byte{1}, raw, fresh)[1:] {
		require.NoError(t, got.Err)
	}
	require.Equal(t, [][]byte{fresh}, r.offered())
	require.Equal(t, "done", string(r.look(raw).Result.Data))
}

// broken is a log that accepts no record.
type broken struct{ *disk }

var errDisk = errors.New("disk full")

func (broken) AppendThen(_ context.Context, done func(uint64, error), _ ...eventlog.Record) error {
	done(0, errDisk)
	return nil
}

// A record that cannot be written ends the pool. Its submitter learns that the outcome is unknown.
func TestALogThatFailsEndsThePool(t *testing.T) {
	r := start(t, func(c *mempool.Config) { c.Log = broken{r0(c)} }, nil)
	_, err := r.Submit(t.Context(), [][]byte{tx(t, 1, time.Minute)})
	require.ErrorIs(t, err, errDisk)
	require.ErrorContains(t, err, "launching 1 transactions")
	suptest.Wait(t, r.rec, 1, func(e supervisor.ChildExited) bool { return errors.Is(e.Exit.Err, errDisk) })
}

// r0 returns the log of a rig that is being made.
func r0(c *mempool.Config) *disk { return c.Log.(*disk) }
