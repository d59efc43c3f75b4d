//go:build unix

package eventlog_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/eventlog"
)

// A log whose directory was moved away acknowledges nothing more, and fails before it touches what
// is now in its place. Everything that it acknowledged is in the moved directory.
func TestADirectoryMovedUnderAnOpenLog(t *testing.T) {
	for name, disturb := range map[string]func(dir, away string) error{
		"moved":           os.Rename,
		"its LOCK is new": func(dir, _ string) error { return os.Remove(filepath.Join(dir, "LOCK")) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "log")
			away := dir + ".away"
			o := eventlog.Options{SegmentSize: 64 << 10}
			first, err := eventlog.Open(dir, o)
			require.NoError(t, err)
			ctx := context.Background()
			rec := eventlog.Record{Kind: 1, Data: make([]byte, 1000)}
			_, err = first.AppendWait(ctx, rec)
			require.NoError(t, err)
			require.NoError(t, disturb(dir, away))

			if name != "moved" {
				away = dir
			} else {
				second, err := eventlog.Open(dir, o)
				require.NoError(t, err)

				for range 200 {
					_, err = second.AppendWait(ctx, rec)
					require.NoError(t, err)
				}
				defer func() {
					require.NoError(t, second.Close())
					r, err := eventlog.Verify(dir, o)
					require.NoError(t, err)
					require.EqualValues(t, 200, r.Records)
				}()
			}

			acked := uint64(1)

			for err == nil {
				if _, err = first.AppendWait(ctx, rec); err == nil {
					acked++
				}
			}

			require.ErrorIs(t, err, eventlog.ErrFailed)
			require.ErrorContains(t, err, "moved or its LOCK removed")
			require.EqualValues(t, 1, acked, "nothing is acknowledged any more")
			first.Close()
			r, err := eventlog.OpenReadOnly(away, o)
			require.NoError(t, err)
			require.GreaterOrEqual(t, r.Durable(), acked)
			require.NoError(t, r.Close())
		})
	}
}

// A directory in which nobody meant a log to be is refused.
func TestPlacesWhereNoLogBelongs(t *testing.T) {
	_, err := eventlog.Open("", eventlog.Options{})
	require.ErrorContains(t, err, "no directory is named")
	dir := t.TempDir()
	for _, dest := range []string{dir, filepath.Join(dir, "sub")} {
		_, err = eventlog.Salvage(t.Context(), dir, dest, eventlog.Options{})
		require.ErrorContains(t, err, "where a salvage changes nothing")
	}
}
