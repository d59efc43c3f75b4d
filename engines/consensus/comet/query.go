package comet

import (
	"context"
	"fmt"

	abci "github.com/cometbft/cometbft/abci/types"
)

// query returns the value of a key in the committed state. The path is empty, "/key" or "/store",
// and the data is the key. After an error the answer has a code and a reason; a query never closes
// the connection.
func (a *app) query(ctx context.Context, req *abci.RequestQuery) *abci.ResponseQuery {
	bad := func(format string, args ...any) *abci.ResponseQuery {
		return &abci.ResponseQuery{Code: codeQuery, Codespace: "coppice", Key: req.Data,
			Log: fmt.Sprintf(format, args...)}
	}

	switch req.Path {
	case "", "/", "/key", "/store", "key", "store":
	default:
		return bad("path %.80q: want /key", req.Path)
	}

	switch {
	case req.Prove:
		return bad("proofs of single keys are not part of this app hash")
	case req.Height < 0:
		return bad("height %d: want 0 for the latest, or a committed one", req.Height)
	case len(req.Data) == 0:
		return bad("data is empty: want a key")
	}

	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()

	value, found, at, err := a.core.State.Get(ctx, req.Data, uint64(req.Height))
	if err != nil {
		return bad("%v", err)
	}

	resp := &abci.ResponseQuery{Key: req.Data, Value: value, Height: int64(at)}
	if found {
		resp.Log = "exists"
	} else {
		resp.Log = "does not exist"
	}

	return resp
}
