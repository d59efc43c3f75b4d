package rpcserver

import (
	"errors"

	cmtbytes "github.com/cometbft/cometbft/libs/bytes"
	cmtjson "github.com/cometbft/cometbft/libs/json"
	rpccore "github.com/cometbft/cometbft/rpc/core"
	ctypes "github.com/cometbft/cometbft/rpc/core/types"
	rpc "github.com/cometbft/cometbft/rpc/jsonrpc/server"
	rpctypes "github.com/cometbft/cometbft/rpc/jsonrpc/types"
	sm "github.com/cometbft/cometbft/state"
	"github.com/cometbft/cometbft/types"
)

// Sizes that are assumed for answers whose size is not known before they are made.
const (
	smallAnswer  = 1 << 20
	middleAnswer = 2 << 20
)

// routes are CometBFT's methods, for callers with limits.
type routes struct {
	env     *rpccore.Environment
	limits  *limits
	genesis int64 // size of the genesis as JSON
}

// public returns the methods for strangers. Those whose answers may be large wait for a share of
// the budget.
func public(env *rpccore.Environment, l *limits) rpccore.RoutesMap {
	r := &routes{env: env, limits: l, genesis: smallAnswer}
	m := env.GetRoutes()
	m["block"] = rpc.NewRPCFunc(r.block, "height", rpc.Cacheable("height"))
	m["block_by_hash"] = rpc.NewRPCFunc(r.blockByHash, "hash", rpc.Cacheable())
	m["block_results"] = rpc.NewRPCFunc(r.blockResults, "height", rpc.Cacheable("height"))
	m["block_search"] = rpc.NewRPCFunc(r.blockSearch, "query,page,per_page,order_by")
	m["tx"] = rpc.NewRPCFunc(r.tx, "hash,prove", rpc.Cacheable())
	m["tx_search"] = rpc.NewRPCFunc(r.txSearch, "query,prove,page,per_page,order_by")
	m["unconfirmed_txs"] = rpc.NewRPCFunc(r.unconfirmedTxs, "limit")
	m["dump_consensus_state"] = rpc.NewRPCFunc(r.dumpConsensusState, "")
	m["abci_query"] = rpc.NewRPCFunc(r.abciQuery, "path,data,height,prove")
	m["genesis"] = rpc.NewRPCFunc(r.genesisDoc, "", rpc.Cacheable())
	m["genesis_chunked"] = rpc.NewRPCFunc(r.genesisChunk, "chunk", rpc.Cacheable())

	if doc, err := cmtjson.Marshal(env.GenDoc); err == nil {
		r.genesis = int64(len(doc))
	}

	return m
}

// sizeOf returns the size of the block at a height; nil stands for the newest.
func (r *routes) sizeOf(height *int64) int64 {
	h := r.env.BlockStore.Height()
	if height != nil {
		h = *height
	}
	if meta := r.env.BlockStore.LoadBlockMeta(h); meta != nil {
		return int64(meta.BlockSize)
	}
	return 0
}

func (r *routes) block(c *rpctypes.Context, height *int64) (*ctypes.ResultBlock, error) {
	size := r.sizeOf(height)
	return limited(r.limits, c, perByte*size, func() (*ctypes.ResultBlock, int64, error) {
		b, err := r.env.Block(c, height)
		return b, size, err
	})
}

func (r *routes) blockByHash(c *rpctypes.Context, hash []byte) (*ctypes.ResultBlock, error) {
	size := int64(0)
	if meta := r.env.BlockStore.LoadBlockMetaByHash(hash); meta != nil {
		size = int64(meta.BlockSize)
	}
	return limited(r.limits, c, perByte*size, func() (*ctypes.ResultBlock, int64, error) {
		b, err := r.env.BlockByHash(c, hash)
		return b, size, err
	})
}

// blockResults costs what the block costs, because a result is about as large as its transaction.
func (r *routes) blockResults(c *rpctypes.Context, height *int64) (*ctypes.ResultBlockResults, error) {
	cost := perByte * max(r.sizeOf(height), smallAnswer)
	return limited(r.limits, c, cost, func() (*ctypes.ResultBlockResults, int64, error) {
		b, err := r.env.BlockResults(c, height)
		if err != nil {
			return nil, 0, err
		}

		size := 0
		for _, tx := range b.TxsResults {
			size += tx.Size()
		}

		return b, int64(size), nil
	})
}

// blockSearch makes one page at a time, which no other large answer accompanies. It returns an
// error instead of a page with more bytes than the limit.
func (r *routes) blockSearch(c *rpctypes.Context, query string, page, perPage *int,
	order string) (*ctypes.ResultBlockSearch, error) {
	return limited(r.limits, c, r.limits.budget.size, func() (*ctypes.ResultBlockSearch, int64, error) {
		blocks := &pageOfBlocks{BlockStore: r.env.BlockStore, most: r.limits.most}
		env := *r.env
		env.BlockStore = blocks

		res, err := env.BlockSearch(c, query, page, perPage, order)
		if err == nil && blocks.exceeded {
			return nil, 0, errLarge
		}

		return res, blocks.bytes, err
	})
}

// pageOfBlocks is a store that has no more blocks when those that were read exceed a number of
// bytes. The first block is always there.
type pageOfBlocks struct {
	sm.BlockStore
	most, bytes int64
	exceeded    bool
}

// LoadBlock implements sm.BlockStore.
func (p *pageOfBlocks) LoadBlock(height int64) *types.Block {
	meta := p.LoadBlockMeta(height)
	if meta == nil {
		return nil
	}
	if p.exceeded = p.exceeded || p.bytes > 0 && p.bytes+int64(meta.BlockSize) > p.most; p.exceeded {
		return nil
	}
	p.bytes += int64(meta.BlockSize)

	return p.BlockStore.LoadBlock(height)
}

func (r *routes) tx(c *rpctypes.Context, hash []byte, prove bool) (*ctypes.ResultTx, error) {
	return limited(r.limits, c, perByte*middleAnswer, func() (*ctypes.ResultTx, int64, error) {
		tx, err := r.env.Tx(c, hash, prove)
		if err != nil {
			return nil, 0, err
		}
		return tx, sizeOfTx(tx), nil
	})
}

func sizeOfTx(tx *ctypes.ResultTx) int64 { return int64(len(tx.Tx) + tx.TxResult.Size()) }

// txSearch makes one page at a time, because CometBFT reads all transactions that match, whatever
// the size of the page.
func (r *routes) txSearch(c *rpctypes.Context, query string, prove bool, page, perPage *int,
	order string) (*ctypes.ResultTxSearch, error) {
	return limited(r.limits, c, r.limits.budget.size, func() (*ctypes.ResultTxSearch, int64, error) {
		res, err := r.env.TxSearch(c, query, prove, page, perPage, order)
		if err != nil {
			return nil, 0, err
		}

		size := int64(0)
		for _, tx := range res.Txs {
			size += sizeOfTx(tx)
		}
		if size > r.limits.most && len(res.Txs) > 1 {
			return nil, 0, errLarge
		}

		return res, size, nil
	})
}

// unconfirmedTxs returns fewer transactions than asked for if they are large.
func (r *routes) unconfirmedTxs(c *rpctypes.Context, limit *int) (*ctypes.ResultUnconfirmedTxs, error) {
	cost := perByte * min(r.env.Mempool.SizeBytes(), r.limits.most)
	return limited(r.limits, c, cost, func() (*ctypes.ResultUnconfirmedTxs, int64, error) {
		res, err := r.env.UnconfirmedTxs(c, limit)
		if err != nil {
			return nil, 0, err
		}

		size := int64(0)
		for i, tx := range res.Txs {
			if size += int64(len(tx)); size > r.limits.most && i > 0 {
				res.Txs, res.Count = res.Txs[:i], i
				break
			}
		}

		return res, size, nil
	})
}

func (r *routes) dumpConsensusState(c *rpctypes.Context) (*ctypes.ResultDumpConsensusState, error) {
	return limited(r.limits, c, perByte*middleAnswer, func() (*ctypes.ResultDumpConsensusState, int64, error) {
		res, err := r.env.DumpConsensusState(c)
		if err != nil {
			return nil, 0, err
		}
		return res, int64(len(res.RoundState)), nil
	})
}

func (r *routes) abciQuery(c *rpctypes.Context, path string, data cmtbytes.HexBytes, height int64,
	prove bool) (*ctypes.ResultABCIQuery, error) {
	return limited(r.limits, c, perByte*smallAnswer, func() (*ctypes.ResultABCIQuery, int64, error) {
		res, err := r.env.ABCIQuery(c, path, data, height, prove)
		if err != nil {
			return nil, 0, err
		}
		return res, int64(len(res.Response.Value)), nil
	})
}

func (r *routes) genesisDoc(c *rpctypes.Context) (*ctypes.ResultGenesis, error) {
	return limited(r.limits, c, perByte*r.genesis, func() (*ctypes.ResultGenesis, int64, error) {
		res, err := r.env.Genesis(c)
		return res, r.genesis, err
	})
}

func (r *routes) genesisChunk(c *rpctypes.Context, chunk uint) (*ctypes.ResultGenesisChunk, error) {
	return limited(r.limits, c, perByte*r.genesis, func() (*ctypes.ResultGenesisChunk, int64, error) {
		res, err := r.env.GenesisChunked(c, chunk)
		if err != nil {
			return nil, 0, err
		}
		return res, int64(len(res.Data)), nil
	})
}

// PeersMethod is the method of our own socket that returns the validators of the connected peers.
const PeersMethod = "coppice_peers"

// Peer is a connected peer and the validator whose key it has.
type Peer struct {
	NodeID string `json:"node_id"`
	PubKey []byte `json:"pub_key"` // ed25519; base64 in JSON
}

// Peers is the answer of PeersMethod.
type Peers struct {
	Peers []Peer `json:"peers"`
}

// private returns the methods of our own socket.
func private(env *rpccore.Environment, peers func() []Peer) rpccore.RoutesMap {
	m := env.GetRoutes()
	m["dial_peers"] = rpc.NewRPCFunc(env.UnsafeDialPeers, "peers,persistent,unconditional,private")
	m[PeersMethod] = rpc.NewRPCFunc(func(*rpctypes.Context) (*Peers, error) {
		if peers == nil {
			return nil, errors.New("this CometBFT does not ask its peers")
		}
		return &Peers{peers()}, nil
	}, "")
	return m
}
