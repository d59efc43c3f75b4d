package governance

import (
	"crypto/ed25519"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
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

func TestAResetThatMayNotBeIsRefused(t *testing.T) {
	lone := New(pub(100), "orchard", nil).WithResets(20)
	for name, c := range map[string]struct {
		b      *Backend
		signer byte
		reset  ResetChange
		want   string
	}{
		"another signer":     {lone, 99, ResetChange{"orchard", 1}, ErrSignature.Error()},
		"another chain":      {lone, 100, ResetChange{"orchard-1", 1}, `"orchard-1", this is "orchard"`},
		"no resets":          {lone.WithResets(0), 100, ResetChange{"orchard", 1}, ErrNoResets.Error()},
		"another number":     {lone, 100, ResetChange{"orchard", 2}, ErrSequence.Error()},
		"several validators": {backend().WithResets(20), 100, ResetChange{"orchard", 1}, ErrNotYet.Error()},
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

// Until resets of a chain with several validators can be made, a chain with resets keeps one.
func TestAChainWithResetsKeepsOneValidator(t *testing.T) {
	b := New(pub(100), "orchard", []Validator{{pub(1), 10}})
	second := body(t, 100, Change{"orchard", 1, []Validator{{pub(2), 10}}})
	other := body(t, 100, Change{"orchard", 1, []Validator{{pub(2), 10}, {pub(1), 0}}})

	_, err := b.WithResets(20).Execute(newState(0, 5), second)
	require.ErrorIs(t, err, ErrNotYet)
	_, err = b.WithResets(20).Execute(newState(0, 5), other)
	require.NoError(t, err)
	_, err = b.Execute(newState(0, 5), second)
	require.NoError(t, err, "a chain without resets has any number")
}
