package client

import (
	"context"
	"fmt"

	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	"github.com/coppice-go/coppice/proto/coppice/api/v1/apiv1connect"
)

// Read holds values that were read at one height, in the order of the keys. A key that does not
// exist has a nil value; an empty value is not nil.
type Read struct {
	Height uint64
	Values [][]byte
}

// Get reads a key in the latest state that the node has committed. found is false if the key does
// not exist.
func (c *Client) Get(ctx context.Context, key []byte) (value []byte, found bool, err error) {
	return c.getOne(ctx, &apiv1.GetRequest{Keys: [][]byte{key}})
}

// GetAt reads a key as it was after the block at height. That block must be committed and not
// pruned.
func (c *Client) GetAt(ctx context.Context, key []byte, height uint64) (value []byte, found bool, err error) {
	return c.getOne(ctx, &apiv1.GetRequest{Keys: [][]byte{key}, Height: height})
}

// GetConsistent reads a key in a state that contains every transaction that had its result, on any
// node, before the call. The read is ordered like a transaction, so it waits for a block.
func (c *Client) GetConsistent(ctx context.Context, key []byte) (value []byte, found bool, err error) {
	return c.getOne(ctx, &apiv1.GetRequest{Keys: [][]byte{key}, Consistent: true})
}

func (c *Client) getOne(ctx context.Context, req *apiv1.GetRequest) (value []byte, found bool, err error) {
	r, err := c.get(ctx, req)
	if err != nil {
		return nil, false, err
	}
	return r.Values[0], r.Values[0] != nil, nil
}

// GetMany reads keys, all at the latest height. It reads at most 10,000, unless the node is
// configured otherwise.
func (c *Client) GetMany(ctx context.Context, keys [][]byte) (Read, error) {
	return c.get(ctx, &apiv1.GetRequest{Keys: keys})
}

func (c *Client) get(ctx context.Context, req *apiv1.GetRequest) (Read, error) {
	limit := c.attempt
	if req.Consistent {
		limit *= 2
	}
	res, err := again(ctx, c, limit, req, node(apiv1connect.NodeServiceClient.Get))

	if err != nil {
		return Read{}, err
	}
	if len(res.Values) != len(req.Keys) {
		return Read{}, fmt.Errorf("the node returned %d values for %d keys", len(res.Values), len(req.Keys))
	}

	r := Read{Height: res.Height, Values: make([][]byte, len(res.Values))}

	for i, v := range res.Values {
		if v.GetFound() {
			r.Values[i] = append([]byte{}, v.GetValue()...)
		}
	}

	return r, nil
}

// Status returns the state of the node's chain, and whether the node is ready. It makes one
// attempt. An error of the code unavailable means that the engines of the node are down; Health
// then says why.
func (c *Client) Status(ctx context.Context) (*apiv1.StatusResponse, error) {
	s, err := once(ctx, c, c.attempt, &apiv1.StatusRequest{}, node(apiv1connect.NodeServiceClient.Status))
	if err == nil {
		c.noteBlockTime(s)
	}

	return s, err
}
