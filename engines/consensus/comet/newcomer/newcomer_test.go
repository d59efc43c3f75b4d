package newcomer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/crypto/tmhash"
	cmtjson "github.com/cometbft/cometbft/libs/json"
	cmtversion "github.com/cometbft/cometbft/proto/tendermint/version"
	"github.com/cometbft/cometbft/types"
	"github.com/cometbft/cometbft/version"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/comet/certificate"
	"github.com/coppice-go/coppice/engines/storage/apphash"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// quorum is a validator set whose keys sign blocks.
type quorum struct {
	set  *types.ValidatorSet
	keys map[string]ed25519.PrivKey
}

func newQuorum(secret string, n int) quorum {
	q := quorum{keys: make(map[string]ed25519.PrivKey)}
	var members []*types.Validator
	for i := range n {
		key := ed25519.GenPrivKeyFromSecret(fmt.Appendf(nil, "%s %d", secret, i))
		members = append(members, types.NewValidator(key.PubKey(), 10))
		q.keys[string(key.PubKey().Address())] = key
	}
	q.set = types.NewValidatorSet(members)
	return q
}

// block returns a block that all members have signed.
func (q quorum) block(t *testing.T, id string, height int64, at time.Time, app []byte, last *types.LightBlock,
	next quorum) *types.LightBlock {
	t.Helper()
	h := &types.Header{
		Version: cmtversion.Consensus{Block: version.BlockProtocol}, ChainID: id, Height: height, Time: at,
		ValidatorsHash: q.set.Hash(), NextValidatorsHash: next.set.Hash(), ConsensusHash: tmhash.Sum(nil), AppHash: app,
		LastCommitHash: tmhash.Sum(nil), DataHash: tmhash.Sum(nil), LastResultsHash: tmhash.Sum(nil),
		EvidenceHash: tmhash.Sum(nil), ProposerAddress: q.set.Validators[0].Address,
	}
	if last != nil {
		h.LastBlockID = last.Commit.BlockID
	}

	c := &types.Commit{Height: height, BlockID: types.BlockID{Hash: h.Hash(),
		PartSetHeader: types.PartSetHeader{Total: 1, Hash: tmhash.Sum(nil)}}}
	for _, v := range q.set.Validators {
		c.Signatures = append(c.Signatures, types.CommitSig{BlockIDFlag: types.BlockIDFlagCommit,
			ValidatorAddress: v.Address, Timestamp: at})
	}
	for i, v := range q.set.Validators {
		sig, err := q.keys[string(v.Address)].Sign(c.VoteSignBytes(id, int32(i)))
		require.NoError(t, err)
		c.Signatures[i].Signature = sig
	}

	return &types.LightBlock{SignedHeader: &types.SignedHeader{Header: h, Commit: c}, ValidatorSet: q.set}
}

// past is a chain with three resets: it is in epoch 3. In epoch 1 its validators change.
type past struct {
	ours  chain.Genesis
	first []byte // genesis of epoch 0
	now   []byte // genesis of epoch 3
	list  []consensus.Certificate
}

func documentOf(t *testing.T, ours chain.Genesis, id string, height int64, at time.Time, app []byte, set quorum,
	edit func(*types.GenesisDoc)) []byte {
	t.Helper()
	state, err := ours.AppState()
	require.NoError(t, err)
	doc := &types.GenesisDoc{ChainID: id, InitialHeight: height, GenesisTime: at, AppHash: app, AppState: state,
		ConsensusParams: types.DefaultConsensusParams()}
	for _, v := range set.set.Validators {
		doc.Validators = append(doc.Validators, types.GenesisValidator{Address: v.Address, PubKey: v.PubKey, Power: 10})
	}
	if edit != nil {
		edit(doc)
	}
	b, err := cmtjson.Marshal(doc)
	require.NoError(t, err)
	return b
}

func newPast(t *testing.T) (p past) {
	t.Helper()
	genesis := time.Unix(1000, 0).UTC()
	p.ours = chain.NewGenesis("orchard", genesis)
	p.ours.Resets = &chain.Resets{Mode: chain.Regenesis, Offset: 20}
	sets := []quorum{newQuorum("a", 4), newQuorum("a", 4), newQuorum("a", 6), newQuorum("a", 6)}
	p.first = documentOf(t, p.ours, "orchard", 1, genesis, nil, sets[0], nil)

	height := int64(1)
	for e := range uint64(3) {
		id, q, next := chain.EpochID("orchard", e), sets[e], sets[e+1]
		root := tmhash.Sum(fmt.Appendf(nil, "state %d", e))
		f := height + 5
		at := genesis.Add(time.Duration(f) * time.Second)
		c := certificate.Certificate{After: next.set, Root: root}
		c.Decided = q.block(t, id, f, at, tmhash.Sum(nil), nil, q)
		c.Held = q.block(t, id, f+1, at.Add(time.Second), apphash.Of(root, e), c.Decided, next)
		proof, err := c.Encode()
		require.NoError(t, err)

		height = f + 20
		nextID, app := chain.EpochID("orchard", e+1), apphash.Of(root, e+1)
		first, err := certificate.EncodeBlock(next.block(t, nextID, height, at, app, nil, next))
		require.NoError(t, err)
		p.list = append(p.list, consensus.Certificate{Epoch: e, Height: uint64(f), Root: root, Proof: proof,
			First: first})
		p.now = documentOf(t, p.ours, nextID, height, at, app, next, nil)
	}

	return p
}

// peer is a peer that gives what it is told to.
type peer struct {
	consensus.Peer
	name  string
	first []byte
	list  []consensus.Certificate
}

func (p peer) String() string { return p.name }

func (p peer) FirstGenesis(context.Context) ([]byte, error) {
	if p.first == nil {
		return nil, errors.New("it is down")
	}
	return p.first, nil
}

// Certificates gives two at a time.
func (p peer) Certificates(_ context.Context, from uint64) ([]consensus.Certificate, error) {
	rest := p.list[min(from, uint64(len(p.list))):]
	return rest[:min(2, len(rest))], nil
}

// A node that joins checks the certificates of all resets one by one, from the genesis of epoch 0
// to that of the present epoch. One peer that lies, or is down, keeps it from nothing. Item 43, 53.
func TestThePastOfAChainLeadsToItsEpoch(t *testing.T) {
	p := newPast(t)
	honest := peer{name: "honest", first: p.first, list: p.list}
	past, err := Ask(t.Context(), p.ours, p.now, []consensus.Peer{peer{name: "down"}, honest})
	require.NoError(t, err)
	require.Equal(t, p.first, past.FirstGenesis)
	require.Len(t, past.Epochs, 3)
	for i, e := range past.Epochs {
		require.Equal(t, p.list[i].Proof, e.Certificate)
		require.Equal(t, p.list[i].First, e.Next)
	}

	// The first block of the present epoch may not be made yet.
	fresh := append([]consensus.Certificate(nil), p.list...)
	fresh[2].First = nil
	_, err = Ask(t.Context(), p.ours, p.now, []consensus.Peer{peer{name: "fresh", first: p.first, list: fresh}})
	require.NoError(t, err)

	with := func(edit func(list []consensus.Certificate)) peer {
		list := append([]consensus.Certificate(nil), p.list...)
		edit(list)
		return peer{name: "liar", first: p.first, list: list}
	}
	strangers := newQuorum("b", 4)
	genesis := func(edit func(*types.GenesisDoc)) peer {
		return peer{name: "liar", list: p.list,
			first: documentOf(t, p.ours, "orchard", 1, p.ours.GenesisTime, nil, newQuorum("a", 4), edit)}
	}

	for what, c := range map[string]struct {
		peer
		want string
	}{
		"missing":           {peer{name: "liar", first: p.first, list: p.list[:2]}, "of 2 epochs, want 3"},
		"swapped":           {with(func(l []consensus.Certificate) { l[0].Proof = l[1].Proof }), "epoch 0"},
		"cut off":           {with(func(l []consensus.Certificate) { l[1].Proof = l[1].Proof[:10] }), "epoch 1"},
		"no first block":    {with(func(l []consensus.Certificate) { l[0].First = nil }), "first block of epoch 1 is"},
		"other first block": {with(func(l []consensus.Certificate) { l[0].First = l[1].First }), "epoch 0"},
		"other validators": {peer{name: "liar", list: p.list, first: documentOf(t, p.ours, "orchard", 1,
			p.ours.GenesisTime, nil, strangers, nil)}, "epoch 0: too few signatures"},
		"other params": {genesis(func(d *types.GenesisDoc) { d.ConsensusParams.Block.MaxGas = 7 }), "consensus_params"},
		"other limits": {genesis(func(d *types.GenesisDoc) { d.AppState = json.RawMessage(`{"a":1}`) }), "app_state"},
		"other chain":  {genesis(func(d *types.GenesisDoc) { d.ChainID = "pear" }), `of chain "pear"`},
		"other time": {genesis(func(d *types.GenesisDoc) { d.GenesisTime = d.GenesisTime.Add(1) }),
			"begins at"},
		"no genesis": {peer{name: "liar", first: []byte("x"), list: p.list}, "genesis"},
	} {
		_, err := Ask(t.Context(), p.ours, p.now, []consensus.Peer{c.peer})
		require.ErrorIs(t, err, ErrPast, what)
		require.ErrorContains(t, err, c.want, what)
		if what == "other validators" || string(c.first) != string(p.first) {
			continue
		}
		_, err = Ask(t.Context(), p.ours, p.now, []consensus.Peer{c.peer, honest})
		require.NoError(t, err, what)
	}

	two := genesis(func(d *types.GenesisDoc) { d.Validators[0].Name = "another" })
	_, err = Ask(t.Context(), p.ours, p.now, []consensus.Peer{honest, two})
	require.ErrorContains(t, err, "one of them lies")

	// A past that is whole, and leads elsewhere.
	for what, edit := range map[string]func(*types.GenesisDoc){
		"initial height": func(d *types.GenesisDoc) { d.InitialHeight++ },
		"the time":       func(d *types.GenesisDoc) { d.GenesisTime = d.GenesisTime.Add(1) },
		"app hash":       func(d *types.GenesisDoc) { d.AppHash[0]++ },
		"validators":     func(d *types.GenesisDoc) { d.Validators = d.Validators[1:] },
	} {
		doc, err := types.GenesisDocFromJSON(p.now)
		require.NoError(t, err)
		edit(doc)
		now, err := cmtjson.Marshal(doc)
		require.NoError(t, err)
		_, err = Ask(t.Context(), p.ours, now, []consensus.Peer{honest})
		require.ErrorContains(t, err, "it leads to "+what, what)
	}

	_, err = Ask(t.Context(), p.ours, p.first, []consensus.Peer{honest})
	require.ErrorContains(t, err, "no later epoch")
}
