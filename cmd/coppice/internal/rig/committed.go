package rig

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/eventlog"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// Committed calls each for every committed block in the log of a stopped node, in order.
func Committed(dir string, each func(*logv1.BlockCommitted) error) (err error) {
	l, err := eventlog.OpenReadOnly(dir, eventlog.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()

	c, err := l.Cursor(l.First())
	if err != nil {
		return err
	}
	defer c.Close()

	for {
		e, ok, err := c.TryNext()
		if err != nil || !ok {
			return err
		}
		if e.Kind != chain.KindBlockCommitted {
			continue
		}

		b := new(logv1.BlockCommitted)
		if err := proto.Unmarshal(e.Data, b); err != nil {
			return fmt.Errorf("record %d: %w", e.Index, err)
		}
		if err := each(b); err != nil {
			return err
		}
	}
}
