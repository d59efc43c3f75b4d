package eventlog_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"
	"testing"

	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/eventlog/internal/vfs"
	"github.com/stretchr/testify/require"
)

// TestEverythingAtOnce: all methods that may run at the same time do, and Close comes in the middle
// of it.
func TestEverythingAtOnce(t *testing.T) {
	for round := range soak(2, 200) {
		disk := vfs.NewDisk()
		l, err := eventlog.Open(logDir, small(disk))
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		var failed sync.Map
		start := func(f func(i int) error) {
			wg.Go(func() {
				for i := 0; ; i++ {
					err := f(i)
					if errors.Is(err, eventlog.ErrClosed) {
						return
					}
					if err != nil && !errors.Is(err, eventlog.ErrTruncated) && !errors.Is(err, eventlog.ErrNotFound) {
						failed.Store(err.Error(), true)
						return
					}
				}
			})
		}

		for range 4 {
			start(func(int) error { _, err := l.AppendWait(ctx, eventlog.Record{Data: make([]byte, 50)}); return err })
			start(func(int) error { return l.Append(ctx, eventlog.Record{}, eventlog.Record{}).Wait(ctx) })
			start(func(int) error { _, err := l.Read(l.Durable()); return err })
		}

		start(func(i int) error {
			if i%10 == 0 {
				return l.Sync(ctx)
			}
			return l.AppendFunc(ctx, func(uint64, error) { l.Stat() }, eventlog.Record{})
		})
		start(func(int) error { _, err := l.Truncate(l.Durable()); return err })
		start(func(i int) error {
			r := l.Retain(fmt.Sprint(i%3), l.First())
			r.Advance(l.First() + 10)
			r.Release()
			_, err := l.Cursor(math.MaxUint64)
			return err
		})

		for range 3 {
			start(func(int) error {
				c, err := l.Cursor(l.First())
				if err != nil {
					return err
				}
				defer c.Close()

				for range 50 {
					if _, err := c.Next(ctx); err != nil {
						return err
					}
				}

				return nil
			})
		}

		for l.Durable() < uint64(500+100*round%700) {
			runtime.Gosched()
		}

		require.NoError(t, l.Close())
		wg.Wait()
		cancel()
		failed.Range(func(err, _ any) bool { t.Error(err); return true })
		last := l.Durable()
		l, err = eventlog.Open(logDir, small(disk))
		require.NoError(t, err)
		require.Equal(t, last, l.Durable())
		require.True(t, l.Recovery().Clean)
		require.NoError(t, l.Close())
	}
}
