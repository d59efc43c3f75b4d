package governance

import (
	"crypto/ed25519"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// view is a state with one key.
type view struct {
	set []byte
	at  chain.Version
}

func (v *view) Get([]byte) ([]byte, bool, error)      { return v.set, v.set != nil, nil }
func (v *view) Put(_, value []byte) error             { v.set = value; return nil }
func (v *view) Delete([]byte) error                   { v.set = nil; return nil }
func (v *view) Version() (chain.Version, error)       { return v.at, nil }
func (v *view) BlockTime() (time.Time, error)         { return time.Time{}, nil }
func (v *view) Emit(string, ...chain.Attribute) error { return nil }
func (v *view) Step(uint64) error                     { return nil }

var keys = func() (out [101]ed25519.PrivateKey) {
	for n := range out {
		seed := make([]byte, ed25519.SeedSize)
		seed[0] = byte(n)
		out[n] = ed25519.NewKeyFromSeed(seed)
	}
	return out
}()

func key(n byte) ed25519.PrivateKey { return keys[n] }

func pub(n byte) []byte { return key(n).Public().(ed25519.PublicKey) }

func backend() *Backend {
	return New(pub(100), "orchard", []Validator{{pub(1), 10}, {pub(2), 10}})
}

func body(t require.TestingT, signer byte, c Change) []byte {
	b, err := Sign(key(signer), c)
	require.NoError(t, err)
	return b
}

func TestAChangeIsAppliedOnceAndInItsTurn(t *testing.T) {
	b, v := backend(), &view{at: chain.Version{Height: 5}}
	first := body(t, 100, Change{"orchard", 1, []Validator{{pub(3), 7}, {pub(1), 0}}})
	require.NoError(t, b.Check(first))
	out, err := b.Execute(v, first)
	require.NoError(t, err)
	set, err := DecodeSet(out)
	require.NoError(t, err)
	require.ElementsMatch(t, []Validator{{pub(2), 10}, {pub(3), 7}}, set.Validators)

	_, err = b.Execute(v, first)
	require.ErrorIs(t, err, ErrSequence, "the same change in another envelope")
	second := body(t, 100, Change{"orchard", 2, []Validator{{pub(3), 0}}})
	_, err = b.Execute(v, second)
	require.ErrorIs(t, err, ErrTwice, "a second change in the same block")
	v.at.Height++
	_, err = b.Execute(v, second)
	require.NoError(t, err)
}

func TestWhatCometBFTWouldNotTakeFails(t *testing.T) {
	b := backend()
	for name, c := range map[string]struct {
		signer byte
		change Change
		want   error
	}{
		"another signer":        {99, Change{"orchard", 1, []Validator{{pub(3), 1}}}, ErrSignature},
		"another chain":         {100, Change{"forest", 1, []Validator{{pub(3), 1}}}, nil},
		"nothing":               {100, Change{"orchard", 1, nil}, nil},
		"twice the same":        {100, Change{"orchard", 1, []Validator{{pub(3), 1}, {pub(3), 2}}}, nil},
		"a negative power":      {100, Change{"orchard", 1, []Validator{{pub(3), -1}}}, nil},
		"a key that is none":    {100, Change{"orchard", 1, []Validator{{[]byte("short"), 1}}}, nil},
		"a removal of nobody":   {100, Change{"orchard", 1, []Validator{{pub(3), 0}}}, ErrSet},
		"a removal of all":      {100, Change{"orchard", 1, []Validator{{pub(1), 0}, {pub(2), 0}}}, ErrSet},
		"too much power in all": {100, Change{"orchard", 1, []Validator{{pub(3), maxPower}}}, ErrSet},
		"a later number":        {100, Change{"orchard", 2, []Validator{{pub(3), 1}}}, ErrSequence},
	} {
		v := &view{at: chain.Version{Height: 5}}
		_, err := b.Execute(v, body(t, c.signer, c.change))
		require.Error(t, err, name)
		if c.want != nil {
			require.ErrorIs(t, err, c.want, name)
		}
		require.Nil(t, v.set, name)
	}

	require.ErrorIs(t, New(nil, "orchard", nil).Check(body(t, 100, Change{"orchard", 1, []Validator{{pub(3), 1}}})),
		ErrSignature)
}

// The updates that CometBFT gets, block after block, lead to the set in the state. The set is never
// empty, and only members are removed.
func TestTheUpdatesLeadToTheSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b, v := backend(), &view{}
		told := map[string]int64{string(pub(1)): 10, string(pub(2)): 10}
		seq := uint64(1)

		for height := uint64(1); height < 6; height++ {
			v.at.Height = height
			block := chain.Block{Height: height}
			var results []*logv1.TxResult

			for range rapid.IntRange(1, 2).Draw(t, "changes") {
				c := Change{ChainID: "orchard", Sequence: seq}
				for i := range rapid.IntRange(1, 3).Draw(t, "updates") {
					c.Updates = append(c.Updates, Validator{pub(byte(rapid.IntRange(1, 5).Draw(t, "who") + 5*i)),
						rapid.Int64Range(0, 3).Draw(t, "power")})
				}

				tx := chain.NewTx(Name, body(t, 100, c), time.Minute)
				raw, err := tx.Encode()
				require.NoError(t, err)
				block.Txs = append(block.Txs, raw)
				r := &logv1.TxResult{}

				if _, err := b.Execute(v, tx.Body); err != nil {
					r.Code = logv1.Code_CODE_FAILED
				} else {
					seq++
				}

				results = append(results, r)
			}

			for _, u := range Updates(block, results) {
				if u.Power == 0 {
					require.Contains(t, told, string(u.PubKey))
					delete(told, string(u.PubKey))
				} else {
					told[string(u.PubKey)] = u.Power
				}
			}

			require.NotEmpty(t, told)
		}

		if v.set == nil {
			return
		}

		set, err := DecodeSet(v.set)
		require.NoError(t, err)
		have := map[string]int64{}
		for _, x := range set.Validators {
			have[string(x.PubKey)] = x.Power
		}

		require.Equal(t, told, have)
	})
}

func FuzzBodies(f *testing.F) {
	good, err := Sign(key(100), Change{"orchard", 1, []Validator{{pub(3), 1}}})
	require.NoError(f, err)
	f.Add(good)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, in []byte) {
		v := &view{at: chain.Version{Height: 1}}
		out, err := backend().Execute(v, in)
		if err == nil && !json.Valid(out) {
			t.Fatal("a result that is no set")
		}
	})
}
