package child

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	"github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/crypto/tmhash"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/p2p/conn"
	"github.com/cometbft/cometbft/types"

	"github.com/coppice-go/coppice/engines/consensus/comet/rpcserver"
)

// helloChannel is the channel of hellos. Nodes without our reactor do not know it, and get none.
const helloChannel = byte(0x7c)

// mostOfHello bounds the bytes of a hello.
const mostOfHello = 4 << 10

// hello is what a node tells each peer once: whose key it has, and how its chain began. CometBFT
// itself compares only the names of the chains.
type hello struct {
	PubKey  []byte      `json:"pub_key,omitempty"` // ed25519, of its validator
	Genesis fingerprint `json:"genesis"`
}

// fingerprint describes a genesis. Nodes with different ones cannot agree on a block.
type fingerprint struct {
	Validators    string `json:"validators"` // their keys and powers: "4, sum 40, hash 1f2e…"
	Params        string `json:"consensus_params"`
	AppState      string `json:"app_state"`
	GenesisTime   string `json:"genesis_time"`
	InitialHeight int64  `json:"initial_height"`
}

// fingerprintOf returns the fingerprint of a genesis. Names, addresses and the layout of the file
// do not count.
func fingerprintOf(g *types.GenesisDoc) fingerprint {
	power := int64(0)
	validators := make([]string, 0, len(g.Validators))
	for _, v := range g.Validators {
		power += v.Power
		validators = append(validators, fmt.Sprintf("%X=%d", v.PubKey.Bytes(), v.Power))
	}
	slices.Sort(validators)

	var state bytes.Buffer
	if json.Compact(&state, g.AppState) != nil {
		state.Write(g.AppState)
	}

	params := ""
	if g.ConsensusParams != nil {
		p := g.ConsensusParams.ToProto()
		data, _ := p.Marshal()
		params = sum(data)
	}

	return fingerprint{
		Validators: fmt.Sprintf("%d of power %d, sha256 %s", len(g.Validators), power,
			sum([]byte(strings.Join(validators, ",")))),
		Params:        params,
		AppState:      sum(append(state.Bytes(), g.AppHash...)),
		GenesisTime:   g.GenesisTime.UTC().Format("2006-01-02T15:04:05.999999999Z"),
		InitialHeight: g.InitialHeight,
	}
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return fmt.Sprintf("%x", s[:8])
}

// differences names the parts in which two fingerprints differ, with both values.
func (f fingerprint) differences(ours fingerprint) []string {
	var out []string
	add := func(name string, theirs, ours any) {
		if theirs != ours {
			out = append(out, fmt.Sprintf("%s: theirs %v, ours %v", name, theirs, ours))
		}
	}
	add("validators", f.Validators, ours.Validators)
	add("consensus_params", f.Params, ours.Params)
	add("app_state", f.AppState, ours.AppState)
	add("genesis_time", f.GenesisTime, ours.GenesisTime)
	add("initial_height", f.InitialHeight, ours.InitialHeight)
	return out
}

// greeter is the reactor that sends and receives hellos. A peer whose chain began with another
// genesis is sent away, as CometBFT does with a peer of another chain.
type greeter struct {
	p2p.BaseReactor
	*peerFacts
	path string // of the genesis file

	mu    sync.Mutex
	own   hello
	peers map[p2p.ID][]byte // public keys
	since map[p2p.ID]time.Time
}

var _ p2p.Reactor = (*greeter)(nil)

func newGreeter(f *peerFacts, path string) *greeter {
	g := &greeter{peerFacts: f, path: path, peers: make(map[p2p.ID][]byte), since: make(map[p2p.ID]time.Time)}
	g.BaseReactor = *p2p.NewBaseReactor("HELLO", g)
	return g
}

// introduce sets what the node says of itself. It must be called before the node starts.
func (g *greeter) introduce(own hello) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.own = own
}

// GetChannels implements p2p.Reactor.
func (*greeter) GetChannels() []*conn.ChannelDescriptor {
	return []*conn.ChannelDescriptor{{
		ID: helloChannel, Priority: 1, SendQueueCapacity: 2, RecvMessageCapacity: mostOfHello,
		MessageType: &abci.RequestEcho{}, // a message with one string
	}}
}

// AddPeer implements p2p.Reactor.
func (g *greeter) AddPeer(p p2p.Peer) {
	g.mu.Lock()
	own := g.own
	g.since[p.ID()] = time.Now()
	g.mu.Unlock()

	if data, err := json.Marshal(own); err == nil {
		go p.Send(p2p.Envelope{ChannelID: helloChannel, Message: &abci.RequestEcho{Message: string(data)}})
	}
}

// RemovePeer implements p2p.Reactor.
func (g *greeter) RemovePeer(p p2p.Peer, reason any) {
	g.mu.Lock()
	began := g.since[p.ID()]
	delete(g.peers, p.ID())
	delete(g.since, p.ID())
	g.mu.Unlock()

	if err, ok := reason.(error); ok && errors.Is(err, io.EOF) && time.Since(began) < endsSoon {
		g.ended(string(p.ID()), err.Error())
	}
}

// errGenesis is the reason for which a peer of another genesis is sent away.
var errGenesis = errors.New("the peer's chain began with another genesis")

// Receive implements p2p.Reactor.
func (g *greeter) Receive(e p2p.Envelope) {
	var h hello
	text, ok := e.Message.(*abci.RequestEcho)
	if !ok || json.Unmarshal([]byte(text.Message), &h) != nil {
		g.Switch.StopPeerForError(e.Src, errors.New("the peer's hello cannot be read"))
		return
	}

	g.mu.Lock()
	differ := h.Genesis.differences(g.own.Genesis)
	if len(differ) == 0 && len(h.PubKey) == ed25519.PubKeySize {
		g.peers[e.Src.ID()] = h.PubKey
	}
	same := g.own.PubKey != nil && bytes.Equal(h.PubKey, g.own.PubKey)
	g.mu.Unlock()

	if len(differ) > 0 {
		g.notices.tell(PeerGenesis, string(e.Src.ID()), "peer %s has another genesis than this node, so they cannot "+
			"agree on a block, and the connection is closed (%s): compare %s with those of the other nodes, and put "+
			"the chain's file in place before the first start", name(e.Src), strings.Join(differ, "; "), g.path)
		g.Switch.StopPeerForError(e.Src, errGenesis)
		return
	}

	if same {
		g.notices.tell(DoubleSign, string(e.Src.ID()), "peer %s has this validator's key (%X): two nodes that sign "+
			"with one key are a double sign; stop one of the two at once", name(e.Src), tmhash.SumTruncated(h.PubKey))
	}
}

// present returns the peers that are connected and have said whose key they have.
func (g *greeter) present() []rpcserver.Peer {
	g.mu.Lock()
	defer g.mu.Unlock()

	out := make([]rpcserver.Peer, 0, len(g.peers))
	for id, key := range g.peers {
		out = append(out, rpcserver.Peer{NodeID: string(id), PubKey: key})
	}

	return out
}

// name returns how a peer is called in texts: its moniker, id and address.
func name(p p2p.Peer) string {
	moniker := ""
	if info, ok := p.NodeInfo().(p2p.DefaultNodeInfo); ok && info.Moniker != "" {
		moniker = fmt.Sprintf("%q ", info.Moniker)
	}
	return fmt.Sprintf("%s%s at %s", moniker, p.ID(), p.RemoteAddr())
}
