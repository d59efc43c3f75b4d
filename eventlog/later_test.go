package eventlog_test

import (
	"context"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/eventlog/internal/vfs"
)

// told collects the calls of done.
type told struct {
	firsts []uint64
	errs   []error
}

func (c *told) done(first uint64, err error) {
	c.firsts = append(c.firsts, first)
	c.errs = append(c.errs, err)
}

// TestAppendLater: records that were appended for later are told to be durable after the next sync,
// whoever asks for it, in order, and not before. One sync covers them all.
func TestAppendLater(t *testing.T) {
	for what, ask := range map[string]func(ctx context.Context, l *eventlog.Log) error{
		"sync":     func(ctx context.Context, l *eventlog.Log) error { return l.Sync(ctx) },
		"syncSoon": func(ctx context.Context, l *eventlog.Log) error { l.SyncSoon(); return nil },
		"append": func(ctx context.Context, l *eventlog.Log) error {
			return l.Append(ctx, eventlog.Record{}).Wait(ctx)
		},
		"appendWait": func(ctx context.Context, l *eventlog.Log) error {
			_, err := l.AppendWait(ctx, eventlog.Record{})
			return err
		},
		"close": func(ctx context.Context, l *eventlog.Log) error { return l.Close() },
	} {
		synctest.Test(t, func(t *testing.T) {
			l, err := eventlog.Open(logDir, small(vfs.NewDisk()))
			require.NoError(t, err)
			defer l.Close()

			ctx := t.Context()
			var got told
			require.NoError(t, l.AppendLater(ctx, got.done, eventlog.Record{}, eventlog.Record{}))
			_, err = l.AppendNoSync(ctx, eventlog.Record{})
			require.NoError(t, err)
			require.NoError(t, l.AppendLater(ctx, got.done, eventlog.Record{}))
			synctest.Wait()
			require.Empty(t, got.firsts, what)
			require.Zero(t, l.Durable(), what)

			require.NoError(t, ask(ctx, l), what)
			synctest.Wait()
			require.Equal(t, []uint64{1, 4}, got.firsts, what)
			require.Equal(t, []error{nil, nil}, got.errs, what)
			if what != "close" {
				require.EqualValues(t, 1, l.Stat().Syncs, what)
				require.GreaterOrEqual(t, l.Durable(), uint64(4), what)
			}
		})
	}
}

// TestAppendLaterFails: records that were appended for later are told of the failure of the log,
// once.
func TestAppendLaterFails(t *testing.T) {
	disk := vfs.NewDisk()
	var fails atomic.Bool
	disk.Before = func(op vfs.Op) vfs.Fault {
		if op.Kind == vfs.Sync && fails.Load() {
			return vfs.Fault{Err: syscall.EIO}
		}
		return vfs.Fault{}
	}
	l := open(t, small(disk))
	fill(t, l, 1)
	var got told
	require.NoError(t, l.AppendLater(t.Context(), got.done, recordAt(2)))

	fails.Store(true)
	require.ErrorIs(t, l.Sync(t.Context()), eventlog.ErrFailed)
	require.Error(t, l.Close())
	require.Equal(t, []uint64{2}, got.firsts)
	require.ErrorIs(t, got.errs[0], eventlog.ErrFailed)
	l.SyncSoon() // does nothing any more
}
