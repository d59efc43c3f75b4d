package seek

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/crypto/tmhash"
	cmtversion "github.com/cometbft/cometbft/proto/tendermint/version"
	"github.com/cometbft/cometbft/types"
	"github.com/cometbft/cometbft/version"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/comet/certificate"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/engines/storage/apphash"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// quorum is a validator set whose keys sign blocks.
type quorum struct {
	set  *types.ValidatorSet
	keys map[string]ed25519.PrivKey
}

func newQuorum(name string, n int) quorum {
	q := quorum{keys: make(map[string]ed25519.PrivKey)}
	var members []*types.Validator
	for i := range n {
		key := ed25519.GenPrivKeyFromSecret(fmt.Appendf(nil, "%s %d", name, i))
		members = append(members, types.NewValidator(key.PubKey(), 10))
		q.keys[string(key.PubKey().Address())] = key
	}
	q.set = types.NewValidatorSet(members)
	return q
}

// block returns a block after last, which so many of the members have signed.
func (q quorum) block(t *testing.T, id string, height int64, last *types.LightBlock, app []byte, at time.Time,
	signed int) *types.LightBlock {
	t.Helper()
	h := &types.Header{
		Version: cmtversion.Consensus{Block: version.BlockProtocol}, ChainID: id, Height: height, Time: at,
		ValidatorsHash: q.set.Hash(), NextValidatorsHash: q.set.Hash(), ConsensusHash: tmhash.Sum(nil), AppHash: app,
		LastCommitHash: tmhash.Sum(nil), DataHash: tmhash.Sum(nil), LastResultsHash: tmhash.Sum(nil),
		EvidenceHash: tmhash.Sum(nil), ProposerAddress: q.set.Validators[0].Address,
	}
	if last != nil {
		h.LastBlockID = last.Commit.BlockID
	}

	c := &types.Commit{Height: height, BlockID: types.BlockID{Hash: h.Hash(),
		PartSetHeader: types.PartSetHeader{Total: 1, Hash: tmhash.Sum(nil)}}}
	for i, v := range q.set.Validators {
		sig := types.NewCommitSigAbsent()
		if i < signed {
			sig = types.CommitSig{BlockIDFlag: types.BlockIDFlagCommit, ValidatorAddress: v.Address, Timestamp: at}
		}
		c.Signatures = append(c.Signatures, sig)
	}
	for i, v := range q.set.Validators[:signed] {
		sig, err := q.keys[string(v.Address)].Sign(c.VoteSignBytes(id, int32(i)))
		require.NoError(t, err)
		c.Signatures[i].Signature = sig
	}

	return &types.LightBlock{SignedHeader: &types.SignedHeader{Header: h, Commit: c}, ValidatorSet: q.set}
}

// forgery says how a certificate differs from the right one.
type forgery struct {
	by     quorum // empty: the validators
	id     string // empty: that of the epoch
	root   []byte // in the certificate; nil: the right one
	app    []byte // in the held block; nil: the right one
	signed int    // 0: three of four
	begins []byte // app hash of the first block of the next epoch; nil: the right one
	bare   bool   // without the first block of the next epoch
}

func timeOf(height int64) time.Time { return time.Unix(1000+height, 0).UTC() }

func rootOf(epoch uint64) []byte { return tmhash.Sum(fmt.Appendf(nil, "state after epoch %d", epoch)) }

// certify returns the certificate of the reset that ended an epoch, at height 50 + 100 × epoch.
func (q quorum) certify(t *testing.T, epoch uint64, f forgery) consensus.Certificate {
	t.Helper()
	by, id, signed := f.by, f.id, f.signed
	if by.set == nil {
		by = q
	}
	if id == "" {
		id = chain.EpochID("test", epoch)
	}
	if signed == 0 {
		signed = 3
	}
	or := func(b, otherwise []byte) []byte {
		if b != nil {
			return b
		}
		return otherwise
	}

	at, root := int64(50+100*epoch), rootOf(epoch)
	decided := by.block(t, id, at, nil, tmhash.Sum(nil), timeOf(at), signed)
	held := by.block(t, id, at+1, decided, or(f.app, apphash.Of(root, epoch)), timeOf(at+1), signed)
	proof, err := certificate.Certificate{Decided: decided, Held: held, After: by.set, Root: or(f.root, root)}.Encode()
	require.NoError(t, err)
	c := consensus.Certificate{Epoch: epoch, Height: uint64(at), Root: or(f.root, root), Proof: proof}

	if !f.bare {
		first := by.block(t, chain.EpochID("test", epoch+1), at+20, nil, or(f.begins, apphash.Of(root, epoch+1)),
			timeOf(at), signed)
		c.First, err = certificate.EncodeBlock(first)
		require.NoError(t, err)
	}

	return c
}

// seeker returns the Seeker of a node of epoch 0 with the validators q.
func (q quorum) seeker(t *testing.T) *Seeker {
	t.Helper()
	home := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(home, "config"), 0o700))
	g := comethome.Genesis{ChainID: "test", Time: time.Unix(1000, 0), InitialHeight: 1, MaxBlockBytes: 1 << 20}
	for _, v := range q.set.Validators {
		g.Validators = append(g.Validators, comethome.Validator{PubKey: v.PubKey.Bytes(), Power: v.VotingPower})
	}
	require.NoError(t, comethome.WriteGenesis(home, g))
	p := chain.DefaultParams()
	p.ResetOffset = 20

	return &Seeker{Home: home, Core: consensus.Core{Genesis: &logv1.ChainStarted{ChainId: "test", Params: p}},
		Left: func(string) {}, Log: zap.NewNop(), told: map[string]bool{}}
}

// below is the state of a node that stands below the decision of epoch 0.
func below() chain.State {
	p := chain.DefaultParams()
	p.ResetOffset = 20
	return chain.State{ChainID: "test", Height: 40, Params: p}
}

// held is the state of a node that has the decision of epoch 0.
func (q quorum) held(t *testing.T) chain.State {
	s := below()
	s.BlockHash = q.block(t, "test", 50, nil, tmhash.Sum(nil), timeOf(50), 3).Hash()
	s.Height, s.AppHash = 50, apphash.Of(rootOf(0), 0)
	s.Reset = &chain.Reset{Height: 50, TimeNs: timeOf(50).UnixNano(), Offset: 20}
	return s
}

// A node that is three epochs behind finds the way to the newest reset, certificate by certificate.
// Items 40 and 41: what is forged anywhere on the way is refused by name.
func TestTheWayOfAChainIsProved(t *testing.T) {
	q := newQuorum("validator", 4)
	k := q.seeker(t)
	list := []consensus.Certificate{q.certify(t, 0, forgery{}), q.certify(t, 1, forgery{}), q.certify(t, 2, forgery{})}

	w, err := k.check(below(), []answer{{list: list}})
	require.NoError(t, err)
	require.Equal(t, "test-2", w.point.ChainID)
	require.EqualValues(t, []uint64{2, 250}, []uint64{w.point.Epoch, w.point.Height})
	require.Equal(t, rootOf(2), w.point.Root)
	require.Equal(t, apphash.Of(rootOf(2), 2), w.point.AppHash)
	require.Equal(t, "test-2", w.point.Started.ChainId)
	require.EqualValues(t, 170, w.point.Started.InitialHeight)
	require.Equal(t, apphash.Of(rootOf(1), 2), w.point.Started.AppHash)
	_, err = k.check(q.held(t), []answer{{list: list}})
	require.NoError(t, err, "a node that has the first decision checks it against its own state")

	strangers := newQuorum("stranger", 4)
	for what, c := range map[string]struct {
		f    forgery
		want error
	}{
		"wrong root":            {forgery{root: tmhash.Sum([]byte("x"))}, certificate.ErrRoot},
		"wrong state":           {forgery{app: tmhash.Sum([]byte("x"))}, certificate.ErrRoot},
		"wrong set":             {forgery{by: strangers}, certificate.ErrSignatures},
		"too few signatures":    {forgery{signed: 2}, certificate.ErrSignatures},
		"another chain":         {forgery{id: "other"}, certificate.ErrBlock},
		"no reset there":        {forgery{begins: tmhash.Sum([]byte("x"))}, certificate.ErrNoReset},
		"nobody says it was so": {forgery{bare: true}, certificate.ErrNoReset},
	} {
		for at := range list {
			forged := append([]consensus.Certificate(nil), list...)
			forged[at] = q.certify(t, uint64(at), c.f)
			_, err := k.check(below(), []answer{{list: forged}})
			require.ErrorIs(t, err, c.want, "%s, epoch %d", what, at)
			require.ErrorContains(t, err, fmt.Sprintf("epoch %d", at), what)
		}
	}

	wrong := append([]consensus.Certificate(nil), list...)
	wrong[1].Height++
	_, err = k.check(below(), []answer{{list: wrong}})
	require.ErrorIs(t, err, certificate.ErrBlock, "wrong F")
	wrong[1] = list[1]
	wrong[1].Proof = wrong[1].Proof[:50]
	_, err = k.check(below(), []answer{{list: wrong}})
	require.ErrorIs(t, err, certificate.ErrForm)
	s := below()
	s.Height = 60
	_, err = k.check(s, []answer{{list: list}})
	require.ErrorContains(t, err, "height 60 was before")
}

// Without the first block of the next epoch, more agents than may be faulty must have signed where
// the chain was reset, each of them once. One dead or lying peer blocks nothing. Item 53.
func TestAgentsVouchForAReset(t *testing.T) {
	q := newQuorum("validator", 4)
	k := q.seeker(t)
	k.Agents = 4
	by := func(agent string) answer {
		c := q.certify(t, 0, forgery{bare: true})
		c.Agent = agent
		return answer{list: []consensus.Certificate{c}}
	}
	lie := by("d")
	lie.list[0].Root = []byte("x")

	for _, few := range [][]answer{{by("a")}, {by("a"), by("a")}, {by(""), by("a")}, {lie, by("a")}} {
		_, err := k.check(below(), few)
		require.ErrorIs(t, err, certificate.ErrNoReset)
	}
	_, err := k.check(below(), []answer{lie, by("c"), by("a")})
	require.NoError(t, err)
	k.Agents = 0
	_, err = k.check(below(), []answer{by("c"), by("a")})
	require.ErrorIs(t, err, certificate.ErrNoReset, "a chain without agents")
}

// peer answers what it is told to, or never.
type peer struct {
	consensus.Peer
	name   string
	list   []consensus.Certificate
	silent bool
}

func (p peer) String() string { return p.name }

func (p peer) Certificates(ctx context.Context, from uint64) ([]consensus.Certificate, error) {
	if p.silent {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	if from >= uint64(len(p.list)) {
		return nil, nil
	}
	return p.list[from:], nil
}

// In hold, the certificate of one honest peer suffices beside one that is silent and one that lies,
// and the lie is told of once.
func TestAHeldNodeKeepsThePeersCertificate(t *testing.T) {
	q := newQuorum("validator", 4)
	k := q.seeker(t)
	seen, logs := observer.New(zapcore.WarnLevel)
	k.Log = zap.New(seen)
	forged := q.certify(t, 0, forgery{by: newQuorum("stranger", 4)})
	k.Core.Peers = []consensus.Peer{peer{name: "silent", silent: true},
		peer{name: "liar", list: []consensus.Certificate{forged}}}
	require.NoError(t, k.ask(t, q.held(t), false))
	require.NoError(t, k.ask(t, q.held(t), false))
	require.Equal(t, 1, logs.FilterMessage("the certificates of a peer are of no use").Len())
	require.False(t, certificate.Complete(k.Home, q.held(t)))

	right := q.certify(t, 0, forgery{})
	k.Core.Peers = append(k.Core.Peers, peer{name: "honest", list: []consensus.Certificate{right}})
	require.NoError(t, k.ask(t, q.held(t), false))
	require.True(t, certificate.Complete(k.Home, q.held(t)))
	kept, err := comethome.ReadCertificate(k.Home, 0)
	require.NoError(t, err)
	require.Equal(t, right.Proof, kept)
}

// ask is one round of questions, which is cut short.
func (k *Seeker) ask(t *testing.T, s chain.State, still bool) error {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	return k.seek(ctx, s, still)
}

// joiner takes states at resets, or fails.
type joiner struct {
	at   []consensus.ResetPoint
	fail error
}

func (j *joiner) Join(_ context.Context, at consensus.ResetPoint, _ []consensus.Peer) error {
	j.at = append(j.at, at)
	return j.fail
}

// A node that stands still below the decision is restarted to take the state at the newest reset.
// One whose blocks may be on their way waits. Item 40.
func TestANodeBelowTheDecisionRejoins(t *testing.T) {
	q := newQuorum("validator", 4)
	k := q.seeker(t)
	list := []consensus.Certificate{q.certify(t, 0, forgery{}), q.certify(t, 1, forgery{})}
	k.Core.Peers = []consensus.Peer{peer{name: "honest", list: list}}
	restarts, left := 0, ""
	k.Restart = func(context.Context) error { restarts++; return nil }
	k.Left = func(how string) { left = how }

	require.NoError(t, k.ask(t, below(), true))
	require.Zero(t, restarts, "nothing can be taken without a Joiner")
	require.Contains(t, left, "has gone on to epoch 2 without this node, which is at height 40 of epoch 0")

	j := &joiner{fail: errors.New("no peer has it")}
	k.Core.Joiner = j
	require.NoError(t, k.ask(t, below(), false))
	require.Zero(t, restarts)
	require.NoError(t, k.ask(t, below(), true))
	require.Equal(t, 1, restarts)

	joined, err := k.Rejoin(t.Context(), below())
	require.NoError(t, err)
	require.False(t, joined)
	require.Contains(t, left, "no peer has it")
	joined, err = k.Rejoin(t.Context(), below())
	require.NoError(t, err)
	require.False(t, joined, "it asks again first")
	require.Len(t, j.at, 1)

	again := q.seeker(t)
	k.Home, j.fail = again.Home, nil
	require.NoError(t, k.ask(t, q.held(t), false), "a node that is epochs behind does not go one by one")
	joined, err = k.Rejoin(t.Context(), q.held(t))
	require.NoError(t, err)
	require.True(t, joined)
	require.EqualValues(t, 1, j.at[1].Epoch)
	for _, c := range list {
		kept, err := comethome.ReadCertificate(k.Home, c.Epoch)
		require.NoError(t, err)
		require.Equal(t, c.Proof, kept, "certificates are kept for good")
		first, err := comethome.FirstBlock.Read(k.Home, c.Epoch+1)
		require.NoError(t, err)
		require.Equal(t, c.First, first)
	}
	require.Error(t, Joined(below()))
	require.NoError(t, Joined(q.held(t)))
}
