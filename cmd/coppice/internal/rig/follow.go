package rig

import (
	"context"
	"errors"
	"fmt"

	"github.com/coppice-go/coppice/client"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// follow follows the committed blocks while the load goes on, across every restart of the node, and
// checks that the stream has each height once, in order, none left out. It also keeps a filter
// agent of the node alive, so that there is one to strike.
func (r *Rig) follow(ctx context.Context) error {
	var height uint64
	err := r.Client.Follow(ctx, 0, []string{"BlockCommitted"}, func(rec client.Record) error {
		b := rec.Message.(*logv1.BlockCommitted)
		if b.Height != height+1 {
			return fmt.Errorf("follow: block %d came after block %d (record %d)", b.Height, height, rec.Index)
		}
		height++
		return nil
	})

	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
