package peers

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/exit"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// certifier is a driver with certificates of the epochs from 0 on.
type certifier struct {
	consensus.Driver
	list []consensus.Certificate
}

func (c certifier) Certificates(from uint64, _ int) ([]consensus.Certificate, error) {
	return c.list[min(from, uint64(len(c.list))):], nil
}

func (certifier) FirstGenesis() ([]byte, error) { return []byte("genesis"), nil }

// LightBlock has the blocks up to 50, and the validators of 51.
func (certifier) LightBlock(_ context.Context, height uint64) (block, validators []byte, err error) {
	switch {
	case height > 51:
		return nil, nil, consensus.ErrNoSnapshot
	case height < 51:
		block = []byte("light block")
	}
	return block, []byte("validators"), nil
}

func agentKey(i byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{i}, ed25519.SeedSize))
}

func agents(n byte) (list []chain.Agent) {
	for i := range n {
		list = append(list, chain.Agent{Name: fmt.Sprintf("agent%d", i),
			Key: []byte(agentKey(i).Public().(ed25519.PublicKey))})
	}
	return list
}

// serve returns a peer that asks s over HTTP.
func serve(t *testing.T, s api.Peers, known []chain.Agent) *Peer {
	t.Helper()
	mux := http.NewServeMux()
	for _, r := range api.PeerRoutes(s) {
		mux.Handle(r.Pattern, r.Handler)
	}
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return newPeer(server.URL, "", server.Client(), "test", known)
}

func source() Source {
	return Source{
		Name: "test", Agent: Agent{"agent1", agentKey(1)},
		State: func(context.Context) (chain.State, error) {
			return chain.State{ChainID: "test-2", Period: 2, Height: 50, BlockHash: []byte("block"),
				AppHash: []byte("app")}, nil
		},
		Driver: certifier{list: []consensus.Certificate{{Epoch: 0, Height: 9, Root: []byte("r0"), Proof: []byte("p0")},
			{Epoch: 1, Height: 40, Root: []byte("r1"), Proof: []byte("p1"), First: []byte("f1")}}},
	}
}

// A node tells its peers where it stands and how its epochs ended, signed by its agent. One without
// an agent gives hints. Section 2.6 of the specification of resets.
func TestAPeerIsAsked(t *testing.T) {
	for _, agent := range []string{"agent1", ""} {
		s := source()
		if agent == "" {
			s.Agent = Agent{}
		}
		p := serve(t, s, agents(4))

		at, err := p.Standing(t.Context())
		require.NoError(t, err)
		require.Equal(t, consensus.PeerStanding{Name: "test", Epoch: 2, Height: 50, BlockHash: []byte("block"),
			AppHash: []byte("app"), Agent: agent}, at)
		require.True(t, at.Ahead(1, 99))
		require.True(t, at.Ahead(2, 49))
		require.False(t, at.Ahead(2, 50))

		for from, want := range [][]string{{"p0", "p1"}, {"p1"}, nil} {
			list, err := p.Certificates(t.Context(), uint64(from))
			require.NoError(t, err)
			var got []string
			for _, c := range list {
				require.Equal(t, agent, c.Agent)
				got = append(got, string(c.Proof))
			}
			require.Equal(t, want, got)
		}
	}
}

// liar answers what it is told to.
type liar struct {
	api.Peers
	standing     *apiv1.StandingResponse
	certificates []*apiv1.Certificate
}

func (l liar) Standing(context.Context) (*apiv1.StandingResponse, error) { return l.standing, nil }

func (l liar) Certificates(context.Context, uint64) ([]*apiv1.Certificate, error) {
	return l.certificates, nil
}

// An answer that was not signed by the agent that it names, or that is of another chain, is refused
// with its reason.
func TestALyingPeerIsRefused(t *testing.T) {
	encode := func(m proto.Message) []byte {
		b, err := proto.Marshal(m)
		require.NoError(t, err)
		return b
	}
	signed := func(by byte, name, domain string, b []byte) *apiv1.AgentSignature {
		return &apiv1.AgentSignature{Agent: name, Signature: ed25519.Sign(agentKey(by), append([]byte(domain), b...))}
	}
	ours, theirs := encode(&apiv1.Standing{Name: "test", Epoch: 7}), encode(&apiv1.Standing{Name: "other"})
	point := func(name string, epoch uint64) []byte { return encode(&apiv1.ResetPoint{Name: name, Epoch: epoch}) }

	for want, s := range map[string]*apiv1.StandingResponse{
		"of chain":             {Standing: theirs},
		"does not fit":         {Standing: ours, Signature: signed(2, "agent1", standingDomain, ours)},
		`no agent of genesis.`: {Standing: ours, Signature: signed(9, "agent9", standingDomain, ours)},
		"its standing":         {Standing: []byte{0xff}},
	} {
		_, err := serve(t, liar{standing: s}, agents(4)).Standing(t.Context())
		require.ErrorContains(t, err, want)
	}
	other := signed(1, "agent1", pointDomain, ours)
	_, err := serve(t, liar{standing: &apiv1.StandingResponse{Standing: ours, Signature: other}},
		agents(4)).Standing(t.Context())
	require.ErrorIs(t, err, ErrSignature, "a signature of another domain")

	for want, list := range map[string][]*apiv1.Certificate{
		"of chain":        {{Point: point("other", 5)}},
		"epoch 6, want 5": {{Point: point("test", 6)}},
		"epoch 5, want 6": {{Point: point("test", 5)}, {Point: point("test", 5)}},
		"does not fit":    {{Point: point("test", 5), Signature: signed(2, "agent1", pointDomain, point("test", 5))}},
		"the point":       {{Point: []byte{0xff}}},
	} {
		_, err := serve(t, liar{certificates: list}, agents(4)).Certificates(t.Context(), 5)
		require.ErrorContains(t, err, want)
	}

	huge := make([]byte, maxAnswer)
	_, err = serve(t, liar{certificates: []*apiv1.Certificate{{Point: point("test", 5), Proof: huge}}},
		agents(4)).Certificates(t.Context(), 5)
	require.Equal(t, connect.CodeResourceExhausted, connect.CodeOf(err))
}

// The tokens of peers come from one file, by address.
func TestTokensOfPeers(t *testing.T) {
	dir := t.TempDir()
	c := config.Defaults()
	c.Reset.Peers, c.Reset.TokenFile = "10.0.0.1:70, https://Node2:70", "tokens"
	open := func(text string) ([]consensus.Peer, error) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "tokens"), []byte(text), 0o600))
		list, closeIdle, err := Open(dir, c, chain.Genesis{ChainID: "test"})
		if err == nil {
			closeIdle()
		}
		return list, err
	}

	list, err := open("https://node2:70 its-own\n\nall-others\n")
	require.NoError(t, err)
	require.Equal(t, "all-others", list[0].(*Peer).token)
	require.Equal(t, "its-own", list[1].(*Peer).token)
	require.Equal(t, "https://node2:70", list[1].String())

	for _, bad := range []string{"a b c", "one\ntwo", "10.0.0.9:70 token"} {
		_, err := open(bad)
		require.ErrorIs(t, err, exit.ErrConfig)
		require.ErrorContains(t, err, "line ")
	}
	c.Reset.PeersCA = "tokens"
	_, err = open("")
	require.ErrorContains(t, err, "no certificate in PEM")
}

// states hands out one state at a reset, of two chunks.
type states struct{ metadata, hash []byte }

func (s states) AtReset(epoch uint64) ([]byte, error) {
	if epoch != 4 {
		return nil, consensus.ErrNoSnapshot
	}
	return s.metadata, nil
}

func (s states) ResetChunk(hash []byte, index uint32) ([]byte, error) {
	if !bytes.Equal(hash, s.hash) {
		return nil, consensus.ErrNoSnapshot
	}
	return bytes.Repeat([]byte{byte(index)}, 8<<20), nil
}

// A peer hands out the state at a reset in chunks of up to 8 MiB, or says that it does not have it.
// So it is with light blocks.
func TestAPeerHandsOutTheStateAtAReset(t *testing.T) {
	s := source()
	p := serve(t, s, nil)
	_, err := p.AtReset(t.Context(), 4)
	require.ErrorIs(t, err, consensus.ErrNoSnapshot)
	_, err = p.ResetChunk(t.Context(), nil, 0)
	require.ErrorIs(t, err, consensus.ErrNoSnapshot)

	first, err := p.FirstGenesis(t.Context())
	require.NoError(t, err)
	require.Equal(t, "genesis", string(first))

	for height, committed := range map[uint64]string{50: "light block", 51: ""} {
		block, validators, err := p.LightBlock(t.Context(), height)
		require.NoError(t, err)
		require.Equal(t, committed, string(block))
		require.Equal(t, "validators", string(validators))
	}
	_, _, err = p.LightBlock(t.Context(), 52)
	require.ErrorIs(t, err, consensus.ErrNoSnapshot)

	want := states{metadata: []byte("metadata"), hash: []byte("hash")}
	s.States = want
	p = serve(t, s, nil)
	got, err := p.AtReset(t.Context(), 4)
	require.NoError(t, err)
	require.Equal(t, want.metadata, got)
	_, err = p.AtReset(t.Context(), 3)
	require.ErrorIs(t, err, consensus.ErrNoSnapshot)
	chunk, err := p.ResetChunk(t.Context(), want.hash, 1)
	require.NoError(t, err)
	require.Equal(t, bytes.Repeat([]byte{1}, 8<<20), chunk)
	_, err = p.ResetChunk(t.Context(), []byte("other"), 1)
	require.ErrorIs(t, err, consensus.ErrNoSnapshot)
}
