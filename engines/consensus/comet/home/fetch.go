package home

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	cmtjson "github.com/cometbft/cometbft/libs/json"
	"github.com/cometbft/cometbft/p2p"
	coretypes "github.com/cometbft/cometbft/rpc/core/types"
	"github.com/cometbft/cometbft/types"
)

// ErrFetch is the error if the nodes that were asked do not describe a chain that can be joined.
var ErrFetch = errors.New("chain to join")

// Chain is what a node must know about a chain to join it.
type Chain struct {
	Genesis    Genesis
	GenesisDoc []byte   // in CometBFT's encoding, the same from each node
	Peers      []string // each as node id@host:port
	StateSync  StateSync

	// Past is how the chain came to the epoch of Genesis; nil for epoch 0.
	Past *Past
}

// FetchOptions say what Fetch fetches.
type FetchOptions struct {
	// StateSync makes Fetch also fetch a block to trust: the oldest block of the last half of
	// Period that all nodes have, or the block at Height, whose hash must be Hash if that is set.
	// Period bounds the age of the block; 0 stands for a week.
	StateSync bool
	Height    int64
	Hash      string
	Period    time.Duration
}

// Bounds of the answers of a node.
const (
	fetchTime     = 10 * time.Second // of one request
	mostOfAnswer  = 32 << 20
	mostOfGenesis = 64 << 20
	mostPeers     = 64
)

// Fetch asks at least two running nodes for their chain, by their RPC at host:port or a URL. The
// nodes must agree in every byte of the genesis, and in the block to trust. The peers of the result
// are those nodes and their peers. Errors wrap ErrFetch.
func Fetch(ctx context.Context, nodes []string, o FetchOptions) (c Chain, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w: %w", ErrFetch, err)
		}
	}()

	f := fetcher{http: &http.Client{Timeout: fetchTime}}
	defer f.http.CloseIdleConnections()

	seen := make(map[p2p.ID]string)
	var all []*coretypes.ResultStatus

	for _, n := range nodes {
		s := new(coretypes.ResultStatus)
		if err := f.get(ctx, n, "status", nil, s); err != nil {
			return c, err
		}
		id := s.NodeInfo.DefaultNodeID
		if other, twice := seen[id]; twice {
			return c, fmt.Errorf("%s and %s are the same node, %s: want at least two nodes", other, n, id)
		}

		seen[id] = n
		all = append(all, s)
	}

	if len(all) < 2 {
		return c, fmt.Errorf("got %d nodes, want at least two: the second is a witness against the first", len(all))
	}

	for i, n := range nodes {
		doc, err := f.genesis(ctx, n)
		if err != nil {
			return c, err
		}

		if c.GenesisDoc == nil {
			c.GenesisDoc = doc
			if c.Genesis, err = readGenesisDoc(doc); err != nil {
				return c, fmt.Errorf("%s: %w", n, err)
			}
		} else if !bytes.Equal(doc, c.GenesisDoc) {
			return c, fmt.Errorf("%s and %s have different genesis documents: one of them is of another chain, or lies",
				nodes[0], n)
		}

		if is := all[i].NodeInfo.Network; is != c.Genesis.ChainID {
			return c, fmt.Errorf("%s is of chain %q, and its genesis of %q", n, is, c.Genesis.ChainID)
		}
	}

	if c.Peers, err = f.peers(ctx, nodes, all); err != nil || !o.StateSync {
		return c, err
	}

	c.StateSync, err = f.trust(ctx, nodes, all, c.Genesis.ChainID, o)
	return c, err
}

type fetcher struct{ http *http.Client }

// get calls a method of a node's RPC, and decodes the result into into.
func (f fetcher) get(ctx context.Context, node, method string, args url.Values, into any) error {
	base := node
	switch scheme, rest, ok := strings.Cut(node, "://"); {
	case !ok:
		base = "http://" + node
	case scheme == "tcp":
		base = "http://" + rest
	}

	u, err := url.Parse(base)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return fmt.Errorf("%q: want host:port or a URL of a CometBFT RPC", node)
	}

	u = u.JoinPath(method)
	u.RawQuery = args.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return fmt.Errorf("%s: %w", node, err)
	}
	resp, err := f.http.Do(req)
	if err != nil {
		return err // the error names the URL
	}
	defer resp.Body.Close()

	data, err := io.ReadAll(io.LimitReader(resp.Body, mostOfAnswer+1))
	if err != nil {
		return fmt.Errorf("%s: %s: %w", node, method, err)
	}
	if len(data) > mostOfAnswer {
		return fmt.Errorf("%s: %s: the answer has more than %d bytes", node, method, mostOfAnswer)
	}

	var answer struct {
		Result json.RawMessage `json:"result"`
		Error  *struct {
			Message string `json:"message"`
			Data    string `json:"data"`
		} `json:"error"`
	}
	switch err := json.Unmarshal(data, &answer); {
	case err != nil:
		return fmt.Errorf("%s does not speak CometBFT's RPC: %s was answered with status %d and %.100q", node, method,
			resp.StatusCode, data)
	case answer.Error != nil:
		return fmt.Errorf("%s: %s: %.200s: %.500s", node, method, answer.Error.Message, answer.Error.Data)
	}

	if err := cmtjson.Unmarshal(answer.Result, into); err != nil {
		return fmt.Errorf("%s: %s: %w", node, method, err)
	}

	return nil
}

// genesis fetches a node's genesis document in chunks, because it may be too large for one answer.
func (f fetcher) genesis(ctx context.Context, node string) (doc []byte, err error) {
	for i, n := 0, 1; i < n; i++ {
		chunk := new(coretypes.ResultGenesisChunk)
		if err := f.get(ctx, node, "genesis_chunked", url.Values{"chunk": {strconv.Itoa(i)}}, chunk); err != nil {
			return nil, err
		}

		part, err := base64.StdEncoding.DecodeString(chunk.Data)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s: chunk %d of its genesis: %w", node, i, err)
		case len(part) == 0 || chunk.ChunkNumber != i || chunk.TotalChunks <= i:
			return nil, fmt.Errorf("%s: chunk %d of its genesis: it answers with %d bytes of chunk %d of %d", node, i,
				len(part), chunk.ChunkNumber, chunk.TotalChunks)
		case len(doc)+len(part) > mostOfGenesis:
			return nil, fmt.Errorf("%s: its genesis has more than %d bytes", node, mostOfGenesis)
		}

		doc, n = append(doc, part...), chunk.TotalChunks
	}
	return doc, nil
}

// peers returns the addresses of the nodes that were asked, followed by those of their peers.
func (f fetcher) peers(ctx context.Context, nodes []string, all []*coretypes.ResultStatus) (peers []string, err error) {
	known := make(map[p2p.ID]bool)
	add := func(id p2p.ID, listens, host string) {
		if known[id] || len(peers) == mostPeers {
			return
		}
		if a := peerAddress(id, listens, host); a != "" {
			known[id] = true
			peers = append(peers, a)
		}
	}

	for i, n := range nodes {
		host := n
		if _, rest, ok := strings.Cut(n, "://"); ok {
			host, _, _ = strings.Cut(rest, "/")
		}
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		add(all[i].NodeInfo.DefaultNodeID, all[i].NodeInfo.ListenAddr, host)
	}

	for _, n := range nodes {
		net := new(coretypes.ResultNetInfo)
		if err := f.get(ctx, n, "net_info", nil, net); err != nil {
			return nil, err
		}
		for _, p := range net.Peers {
			add(p.NodeInfo.DefaultNodeID, p.NodeInfo.ListenAddr, p.RemoteIP)
		}
	}

	if len(peers) == 0 {
		return nil, errors.New("no node says where it listens for peers")
	}

	return peers, nil
}

// peerAddress returns the address at which a node says that it listens for peers. If the node
// listens on all addresses, the host is the one that was asked. A node that listens only on
// loopback counts only if it was asked there. The result is empty if the node has no usable
// address.
func peerAddress(id p2p.ID, listens, host string) string {
	if _, rest, ok := strings.Cut(listens, "://"); ok {
		listens = rest
	}
	h, port, err := net.SplitHostPort(listens)
	if err != nil {
		return ""
	}

	here := isLoopback(host)

	if ip := net.ParseIP(h); h == "" || ip != nil && ip.IsUnspecified() {
		h = host
	} else if isLoopback(h) && !here {
		return ""
	}

	a := string(id) + "@" + net.JoinHostPort(h, port)
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return ""
	}

	if raw, err := hex.DecodeString(string(id)); err != nil || len(raw) != p2p.IDByteLength ||
		strings.ContainsAny(h, ", @/\"\\\n") {
		return ""
	}

	return a
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// trust returns a block that all nodes have, and the nodes themselves as sources of the later
// headers.
func (f fetcher) trust(ctx context.Context, nodes []string, all []*coretypes.ResultStatus,
	chainID string, o FetchOptions) (s StateSync, err error) {
	s = StateSync{RPC: nodes, Height: o.Height, Hash: o.Hash, Period: o.Period}
	if s.Period == 0 {
		s.Period = defaultTrust
	}

	if s.Height == 0 {
		if s.Height, err = f.oldest(ctx, nodes[0], all, chainID, s.Period/2); err != nil {
			return s, err
		}
	}

	for _, n := range nodes {
		h, err := f.header(ctx, n, chainID, s.Height)
		if err != nil {
			return s, err
		}

		hash := h.Hash().String()
		switch {
		case s.Hash != "" && !strings.EqualFold(s.Hash, hash):
			return s, fmt.Errorf("block %d of %s has hash %s, want %s", s.Height, n, hash, s.Hash)
		case time.Since(h.Time) > s.Period:
			return s, fmt.Errorf("block %d is of %s, longer ago than the trust period, %v", s.Height,
				h.Time.Format(time.RFC3339), s.Period)
		}

		s.Hash = hash
	}

	return s, nil
}

// oldest returns the height of the oldest block that all nodes have and that is not older than age.
// If there is no such block, it returns the height of the newest block that all nodes have. The
// block should be before the snapshots, because a light client goes forward from a trusted block in
// steps as large as the validators allow, but backward header by header.
func (f fetcher) oldest(ctx context.Context, node string, all []*coretypes.ResultStatus,
	chainID string, age time.Duration) (int64, error) {
	first, last := int64(1), int64(math.MaxInt64)
	for _, s := range all {
		first, last = max(first, s.SyncInfo.EarliestBlockHeight), min(last, s.SyncInfo.LatestBlockHeight)
	}

	if last < first {
		return 0, fmt.Errorf("chain %s has no block yet that all of these nodes have, and that could be trusted: "+
			"join it by block sync", chainID)
	}

	for first < last {
		middle := first + (last-first)/2
		h, err := f.header(ctx, node, chainID, middle)
		if err != nil {
			return 0, err
		}

		if time.Since(h.Time) > age {
			first = middle + 1
		} else {
			last = middle
		}
	}

	return first, nil
}

// header returns a node's header at a height, whose commit signs it.
func (f fetcher) header(ctx context.Context, node, chainID string, height int64) (*types.Header, error) {
	c := new(coretypes.ResultCommit)
	if err := f.get(ctx, node, "commit", url.Values{"height": {strconv.FormatInt(height, 10)}}, c); err != nil {
		return nil, err
	}
	if c.Header == nil || c.Commit == nil {
		return nil, fmt.Errorf("%s: commit of height %d: there is none in its answer", node, height)
	}
	if err := c.ValidateBasic(chainID); err != nil {
		return nil, fmt.Errorf("%s: commit of height %d: %w", node, height, err)
	}
	if c.Header.Height != height {
		return nil, fmt.Errorf("%s: commit of height %d: it answers with that of %d", node, height, c.Header.Height)
	}

	return c.Header, nil
}

// JoinChain writes a fetched chain into a home that Init has made: its genesis, its peers, and the
// block to trust if there is one. In a later epoch it also writes how the chain came there. A node
// that is to begin with the state at the newest reset has the genesis of epoch 0 until it has that
// state, and one that begins by state sync has that of the present epoch.
func JoinChain(home string, c Chain) error {
	genesis := c.GenesisDoc
	if c.Past != nil {
		if err := writePast(home, *c.Past); err != nil {
			return err
		}
		if len(c.StateSync.RPC) == 0 {
			genesis = c.Past.FirstGenesis
		}
	}

	doc, err := ParseGenesis(genesis)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrHome, err)
	}
	if err := saveGenesis(home, doc); err != nil {
		return err
	}
	if err := SetNetwork(home, Network{Peers: c.Peers}); err != nil || len(c.StateSync.RPC) == 0 {
		return err
	}

	return SetStateSync(home, c.StateSync)
}

// readGenesisDoc decodes a genesis document of CometBFT.
func readGenesisDoc(data []byte) (Genesis, error) {
	doc, err := ParseGenesis(data)
	if err != nil {
		return Genesis{}, err
	}
	return genesisOf(doc)
}
