package home

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cometbft/cometbft/crypto/ed25519"
	cmtjson "github.com/cometbft/cometbft/libs/json"
	"github.com/cometbft/cometbft/p2p"
	cmtversion "github.com/cometbft/cometbft/proto/tendermint/version"
	coretypes "github.com/cometbft/cometbft/rpc/core/types"
	"github.com/cometbft/cometbft/types"
	"github.com/stretchr/testify/require"
)

// teller is a node's RPC. It gives the answers that the test sets.
type teller struct {
	id      p2p.ID
	listens string
	network string
	oldest  int64
	latest  int64
	genesis []byte
	peers   []coretypes.Peer
	block   func(height int64) *coretypes.ResultCommit
	raw     map[string]string // whole answers, by method
	chunk   int               // size of the genesis chunks; 0 is the whole genesis
}

func (n *teller) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	method := strings.Trim(r.URL.Path, "/")
	if raw, ok := n.raw[method]; ok {
		fmt.Fprint(w, raw)
		return
	}

	var result any

	switch method {
	case "status":
		result = &coretypes.ResultStatus{
			NodeInfo: p2p.DefaultNodeInfo{DefaultNodeID: n.id, ListenAddr: n.listens, Network: n.network},
			SyncInfo: coretypes.SyncInfo{EarliestBlockHeight: n.oldest, LatestBlockHeight: n.latest},
		}

	case "genesis_chunked":
		size := n.chunk
		if size == 0 {
			size = len(n.genesis)
		}

		var i int
		fmt.Sscan(r.URL.Query().Get("chunk"), &i)
		result = &coretypes.ResultGenesisChunk{
			ChunkNumber: i, TotalChunks: (len(n.genesis) + size - 1) / size,
			Data: base64.StdEncoding.EncodeToString(n.genesis[i*size : min(len(n.genesis), (i+1)*size)]),
		}

	case "net_info":
		result = &coretypes.ResultNetInfo{Peers: n.peers}

	case "commit":
		var h int64
		fmt.Sscan(r.URL.Query().Get("height"), &h)
		result = n.block(h)
	}

	data, err := cmtjson.Marshal(result)
	if err != nil {
		panic(err)
	}

	fmt.Fprintf(w, `{"jsonrpc":"2.0","id":-1,"result":%s}`, data)
}

var (
	idA, idB, idC = p2p.ID(strings.Repeat("a", 40)), p2p.ID(strings.Repeat("b", 40)), p2p.ID(strings.Repeat("c", 40))
	tellersKey    = ed25519.GenPrivKeyFromSecret([]byte("teller"))
)

// signedBlock returns a signed header of the tellers' chain. Another seed makes another header.
func signedBlock(height int64, seed byte, at time.Time) *coretypes.ResultCommit {
	hash := func(b byte) []byte { return []byte(strings.Repeat(string(rune('a'+b)), 32)) }
	h := &types.Header{
		Version: cmtversion.Consensus{Block: 11}, ChainID: "orchard", Height: height, Time: at,
		ProposerAddress: tellersKey.PubKey().Address(),
		ValidatorsHash:  hash(0), NextValidatorsHash: hash(0), ConsensusHash: hash(1), LastCommitHash: hash(2),
		DataHash: hash(3), EvidenceHash: hash(4), LastResultsHash: hash(seed),
		LastBlockID: types.BlockID{Hash: hash(5), PartSetHeader: types.PartSetHeader{Total: 1, Hash: hash(6)}},
	}
	id := types.BlockID{Hash: h.Hash(), PartSetHeader: types.PartSetHeader{Total: 1, Hash: hash(7)}}
	c := &types.Commit{Height: height, BlockID: id, Signatures: []types.CommitSig{{
		BlockIDFlag: types.BlockIDFlagCommit, ValidatorAddress: tellersKey.PubKey().Address(), Timestamp: at,
		Signature: make([]byte, 64),
	}}}

	return coretypes.NewResultCommit(h, c, true)
}

// tellers starts two nodes of one chain, and returns them with their addresses.
func tellers(t *testing.T) (a, b *teller, addresses []string) {
	t.Helper()
	doc := types.GenesisDoc{ChainID: "orchard", GenesisTime: time.Unix(1000, 0).UTC(),
		AppState: []byte(`{"chain_id":"orchard"}`)}
	doc.Validators = []types.GenesisValidator{{PubKey: tellersKey.PubKey(), Power: 10}}
	require.NoError(t, doc.ValidateAndComplete())
	genesis, err := cmtjson.Marshal(&doc)
	require.NoError(t, err)
	now := time.Now().UTC()
	of := func(id p2p.ID, latest int64) *teller {
		return &teller{
			id: id, listens: "tcp://0.0.0.0:26656", network: "orchard", latest: latest, genesis: genesis,
			raw:   map[string]string{},
			block: func(h int64) *coretypes.ResultCommit { return signedBlock(h, 0, now) },
		}
	}
	a, b = of(idA, 12), of(idB, 10)
	for _, n := range []*teller{a, b} {
		s := httptest.NewServer(n)
		t.Cleanup(s.Close)
		addresses = append(addresses, strings.TrimPrefix(s.URL, "http://"))
	}

	return a, b, addresses
}

// The fetched chain is what two nodes agree on: the genesis, in however many chunks it comes; the
// oldest block that both have; and the nodes and their peers, at addresses that can be reached from
// here.
func TestAChainIsFetched(t *testing.T) {
	a, b, at := tellers(t)
	a.chunk, a.oldest = 100, 4
	peer := func(id p2p.ID, listens, ip string) coretypes.Peer {
		return coretypes.Peer{NodeInfo: p2p.DefaultNodeInfo{DefaultNodeID: id, ListenAddr: listens}, RemoteIP: ip}
	}

	b.peers = []coretypes.Peer{
		peer(idA, "tcp://10.0.0.1:26656", "10.0.0.1"), // already known
		peer(idC, "tcp://0.0.0.0:7", "10.0.0.3"),
		peer("short", "tcp://0.0.0.0:7", "10.0.0.4"),
		peer(p2p.ID(strings.Repeat("d", 40)), "tcp://127.0.0.1:7", "10.0.0.5"), // on its own loopback
		peer(p2p.ID(strings.Repeat("e", 40)), "tcp://seed.example:0", "10.0.0.6"),
		peer(p2p.ID(strings.Repeat("f", 40)), "tcp://a,b:7", "10.0.0.6"),
	}
	c, err := Fetch(t.Context(), []string{at[0], "http://" + at[1]}, FetchOptions{StateSync: true})
	require.NoError(t, err)
	require.Equal(t, "orchard", c.Genesis.ChainID)
	require.Equal(t, a.genesis, c.GenesisDoc)
	require.Equal(t, []string{string(idA) + "@127.0.0.1:26656", string(idB) + "@127.0.0.1:26656", string(idC) +
		"@10.0.0.3:7"}, c.Peers)
	require.EqualValues(t, 4, c.StateSync.Height)
	require.Equal(t, a.block(4).Header.Hash().String(), c.StateSync.Hash)

	home := t.TempDir()
	_, err = Init(home, Options{})
	require.NoError(t, err)
	require.NoError(t, JoinChain(home, c))
	g, err := ReadGenesis(home)
	require.NoError(t, err)
	require.Equal(t, c.Genesis.ChainID, g.ChainID)
	require.Equal(t, c.Genesis.Validators, g.Validators)
	conf, err := LoadConfig(home)
	require.NoError(t, err)
	require.Equal(t, strings.Join(c.Peers, ","), conf.P2P.PersistentPeers)
	require.True(t, conf.StateSync.Enable)

	c, err = Fetch(t.Context(), at,
		FetchOptions{StateSync: true, Height: 3, Hash: strings.ToLower(a.block(3).Header.Hash().String())})
	require.NoError(t, err)
	require.EqualValues(t, 3, c.StateSync.Height)
	aging := func(h int64) *coretypes.ResultCommit { // one block a day, up to height 11
		return signedBlock(h, 0, time.Now().UTC().AddDate(0, 0, int(h)-11).Truncate(time.Minute))
	}
	a.block, b.block = aging, aging
	c, err = Fetch(t.Context(), at, FetchOptions{StateSync: true})
	require.NoError(t, err)
	require.EqualValues(t, 8, c.StateSync.Height,
		"that is older is too near the end of the week for which it is trusted")
	c, err = Fetch(t.Context(), at, FetchOptions{})
	require.NoError(t, err)
	require.Empty(t, c.StateSync.RPC)
}

// Nodes that contradict each other are refused, with the reason.
func TestAChainThatNodesDoNotAgreeInIsNotFetched(t *testing.T) {
	now := time.Now().UTC()
	for want, change := range map[string]func(a, b *teller, o *FetchOptions){
		"the same node": func(_, b *teller, _ *FetchOptions) { b.id = idA },
		"different genesis documents": func(_, b *teller, _ *FetchOptions) {
			b.genesis = append([]byte(" "), b.genesis...)
		},
		"and its genesis of \"orchard\"": func(_, b *teller, _ *FetchOptions) { b.network = "other" },
		"genesis:": func(a, b *teller, _ *FetchOptions) {
			a.genesis, b.genesis = []byte("{}"), []byte("{}")
		},
		"answers with 0 bytes of chunk": func(a, _ *teller, _ *FetchOptions) {
			a.raw["genesis_chunked"] = `{"result":{"chunk":"0","total":"1","data":""}}`
		},
		"of chunk 0 of 0": func(a, _ *teller, _ *FetchOptions) {
			a.raw["genesis_chunked"] = `{"result":{"chunk":"0","total":"0","data":"eA=="}}`
		},
		"does not speak CometBFT's RPC": func(a, _ *teller, _ *FetchOptions) { a.raw["status"] = "<html>" },
		"status: Internal error: it is late": func(a, _ *teller, _ *FetchOptions) {
			a.raw["status"] = `{"error":{"message":"Internal error","data":"it is late"}}`
		},
		"no node says where it listens": func(a, b *teller, _ *FetchOptions) { a.listens, b.listens = "", "nowhere" },
		"no block yet":                  func(_, b *teller, _ *FetchOptions) { b.latest = 0 },
		", want ": func(_, b *teller, _ *FetchOptions) {
			b.block = func(h int64) *coretypes.ResultCommit { return signedBlock(h, 9, now) }
		},
		"answers with that of 2": func(_, b *teller, _ *FetchOptions) {
			b.block = func(h int64) *coretypes.ResultCommit { return signedBlock(h+1, 0, now) }
		},
		"there is none in its answer":      func(_, b *teller, _ *FetchOptions) { b.raw["commit"] = `{"result":{}}` },
		"longer ago than the trust period": func(_, _ *teller, o *FetchOptions) { o.Period = time.Nanosecond },
		"has hash": func(_, _ *teller, o *FetchOptions) {
			o.Height, o.Hash = 5, strings.Repeat("0", 64)
		},
		"the answer has more than": func(a, _ *teller, _ *FetchOptions) {
			a.raw["status"] = `{"result":"` + strings.Repeat("x", mostOfAnswer) + `"}`
		},
	} {
		t.Run(want, func(t *testing.T) {
			a, b, at := tellers(t)
			o := FetchOptions{StateSync: true}
			change(a, b, &o)
			_, err := Fetch(t.Context(), at, o)
			require.ErrorIs(t, err, ErrFetch)
			require.ErrorContains(t, err, want)
		})
	}

	_, _, at := tellers(t)
	for _, bad := range []struct {
		want  string
		nodes []string
	}{
		{"at least two", nil}, {"at least two", at[:1]}, {"connection refused", []string{at[0], "127.0.0.1:1"}},
		{"want host:port or a URL", []string{"ftp://a", at[0]}},
	} {
		_, err := Fetch(t.Context(), bad.nodes, FetchOptions{})
		require.ErrorIs(t, err, ErrFetch)
		require.ErrorContains(t, err, bad.want)
	}
}
