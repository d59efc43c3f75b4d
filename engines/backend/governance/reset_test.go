package governance

import (
	"crypto/ed25519"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// state is a state with any keys.
type state struct {
	view
	keys map[string][]byte
}

func (s *state) Get(key []byte) ([]byte, bool, error) {
	v, found := s.keys[string(key)]
	return v, found, nil
}

func (s *state) Put(key, value []byte) error   { s.keys[string(key)] = value; return nil }
func (s *state) BlockTime() (time.Time, error) { return time.Unix(7, 8), nil }

func newState(epoch, height uint64) *state {
	return &state{view{at: chain.Version{Period: epoch, Height: height}}, make(map[string][]byte)}
}

func resetBody(t *testing.T, signer byte, c ResetChange) []byte {
	t.Helper()
	b, err := SignReset(key(signer), c)
	require.NoError(t, err)
	return b
}

// The block decides: height, time and epoch of the reset are the block's. The state names the
// validators from there on.
func TestAResetIsDecidedByItsBlock(t *testing.T) {
	b := New(pub(100), "orchard", []Validator{{pub(1), 10}}).WithResets(20)
	s := newState(3, 70)
	first := resetBody(t, 100, ResetChange{"orchard", 1})
	require.NoError(t, b.Check(first))
	out, err := b.Execute(s, first)
	require.NoError(t, err)

	r, err := chain.DecodeReset(s.keys[chain.ResetKey])
	require.NoError(t, err)
	require.Equal(t, chain.Reset{Epoch: 3, Height: 70, TimeNs: time.Unix(7, 8).UnixNano(), Offset: 20}, *r)
	require.Equal(t, s.keys[chain.ResetKey], out)
	set, err := DecodeSet(s.keys[StateKey])
	require.NoError(t, err)
	require.Equal(t, Set{1, 3, 70, []Validator{{pub(1), 10}}}, set)

	_, err = b.Execute(s, first)
	require.ErrorIs(t, err, ErrSequence, "the same reset in another envelope")
	_, err = b.Execute(s, resetBody(t, 100, ResetChange{"orchard", 2}))
	require.ErrorIs(t, err, ErrTwice, "in the same block")
	s.at.Height++
	_, err = b.Execute(s, resetBody(t, 100, ResetChange{"orchard", 2}))
	require.ErrorIs(t, err, ErrResetDue)

	delete(s.keys, chain.ResetKey) // as the first block of the next epoch does
	s.at.Period, s.at.Height = 4, 95
	_, err = b.Execute(s, resetBody(t, 100, ResetChange{"orchard", 2}))
	require.NoError(t, err, "the numbers go on over a reset")
}

// A node that runs since the chain's start knows the first validators from a file of its own, and
// one that was started again from the log (ForStart). The two list them in different orders, and
// write the same (I2).
func TestAResetWritesTheSameWhereverTheSetIsFrom(t *testing.T) {
	file := []Validator{{pub(3), 10}, {pub(1), 10}, {pub(2), 5}}
	var rec logv1.ChainStarted
	for _, v := range []Validator{file[1], file[2], file[0]} {
		rec.Validators = append(rec.Validators, &logv1.ValidatorUpdate{PubKey: v.PubKey, Power: v.Power})
	}

	ran := New(pub(100), "orchard", file).WithResets(20)
	var written [][]byte
	for _, b := range []chain.Backend{ran, ran.ForStart(&rec)} {
		s := newState(0, 67)
		_, err := b.Execute(s, resetBody(t, 100, ResetChange{"orchard", 1}))
		require.NoError(t, err)
		written = append(written, s.keys[StateKey])
	}
	require.Equal(t, string(written[0]), string(written[1]))
	require.Equal(t, pub(3), []byte(file[0].PubKey), "the caller's list is as it was")
}

func TestAResetThatMayNotBeIsRefused(t *testing.T) {
	lone := New(pub(100), "orchard", nil).WithResets(20)
	for name, c := range map[string]struct {
		b      *Backend
		signer byte
		reset  ResetChange
		want   string
	}{
		"another signer": {lone, 99, ResetChange{"orchard", 1}, ErrSignature.Error()},
		"another chain":  {lone, 100, ResetChange{"orchard-1", 1}, `"orchard-1", this is "orchard"`},
		"no resets":      {lone.WithResets(0), 100, ResetChange{"orchard", 1}, ErrNoResets.Error()},
		"another number": {lone, 100, ResetChange{"orchard", 2}, ErrSequence.Error()},
	} {
		s := newState(0, 5)
		_, err := c.b.Execute(s, resetBody(t, c.signer, c.reset))
		require.ErrorContains(t, err, c.want, name)
		require.Empty(t, s.keys, name)
	}
}

// A signature of one kind of change is none of the other, although the texts could be mistaken.
func TestAResetIsNoChangeOfValidators(t *testing.T) {
	b := New(pub(100), "orchard", nil).WithResets(20)
	text := []byte(`{"chain_id":"orchard","sequence":1}`)
	asChange := append(ed25519.Sign(key(100), append([]byte(domain), text...)), text...)
	require.ErrorContains(t, b.Check(asChange), "no updates")
	require.Nil(t, Updates(chain.Block{Txs: [][]byte{asChange}}, nil))
}

// In the mode prune the decision names the height before which the history goes. The chain can
// decide again, because nothing is due. Item 48.
func TestAPruningIsDecidedByItsBlock(t *testing.T) {
	b := New(pub(100), "orchard", []Validator{{pub(1), 10}, {pub(2), 10}}).For(&chain.Resets{Mode: chain.Prune})
	s := newState(0, 30)
	for n := range uint64(2) {
		s.at.Height += n
		out, err := b.Execute(s, resetBody(t, 100, ResetChange{"orchard", n + 1}))
		require.NoError(t, err)
		p, err := chain.DecodePruned(out)
		require.NoError(t, err)
		require.Equal(t, chain.Pruned{Height: 30 + n, TimeNs: time.Unix(7, 8).UnixNano()}, p)
		require.Equal(t, out, s.keys[chain.PruneKey])
		require.Empty(t, s.keys[chain.ResetKey], "no chain is in hold")
	}

	_, err := New(pub(100), "orchard", nil).For(nil).Execute(newState(0, 5), resetBody(t, 100,
		ResetChange{"orchard", 1}))
	require.ErrorIs(t, err, ErrNoResets)
	_, err = chain.DecodePruned([]byte(`{"epoch":1,"height":7,"offset":20}`))
	require.Error(t, err, "a reset is no pruning")
}
