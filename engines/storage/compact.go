package storage

import (
	"context"
	"fmt"
)

// Compact rewrites the tables of the state without the entries that were removed or replaced, so
// that they no longer take room on the disk. Meanwhile the disk needs room for the new tables
// beside the old ones. Compact changes nothing that can be read, and may be interrupted at any
// time. It works beside commits.
func (d *DB) Compact(ctx context.Context) error {
	if err := d.Err(); err != nil {
		return err
	}

	ctx, stop := context.WithCancel(ctx)
	defer stop()

	// Pebble retries a failing flush for ever, and Compact would wait for it.
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-d.failed:
			stop()
		case <-ctx.Done():
		}
	}()

	err := d.pdb.Compact(ctx, []byte{0}, []byte{0xff}, false) // each space is a letter
	interrupted := ctx.Err() != nil
	stop()
	<-watched

	switch {
	case err == nil:
		return nil
	case d.Err() != nil:
		return d.Err()
	case interrupted:
		return fmt.Errorf("compacting state %s: %w", d.dir, context.Cause(ctx))
	}

	return d.fail("compacting", err)
}
