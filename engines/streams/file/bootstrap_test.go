package file

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/engines/streams/sinktest"
)

func (d badDisk) Rename(from, to string) error {
	if *d.left--; *d.left < 0 {
		return errDisk
	}
	return d.osFS.Rename(from, to)
}

func (d badDisk) SyncDir(dir string) error {
	if *d.left--; *d.left < 0 {
		return errDisk
	}
	return d.osFS.SyncDir(dir)
}

func (d badDisk) Remove(name string) error {
	if *d.left--; *d.left < 0 {
		return errDisk
	}
	return d.osFS.Remove(name)
}

// Item 46: wherever the disk fails in a bootstrap, the next opening has the old generation or the
// new one, whole, and the bootstrap can be finished.
func TestADiskThatFailsInABootstrapLeavesAWholeGeneration(t *testing.T) {
	old := sinktest.Units(1, 3)
	state, chunks := sinktest.State(old[3], 12, 5)
	number := func(n int) streams.Chunk {
		return streams.Chunk{Number: n, Of: len(chunks), Before: uint64(5 * n)}
	}
	bootstrap := func(s streams.Sink) error {
		b := s.(streams.Bootstrapper)
		done, swapped, err := b.Bootstrap(t.Context(), "00aa")
		if err != nil || swapped {
			return err
		}
		for n, c := range chunks {
			if !done[n] {
				if err := b.Chunk(t.Context(), number(n), deliver(c)); err != nil {
					return err
				}
			}
		}
		_, err = b.Swap(t.Context(), number(len(chunks)), state.End())
		return err
	}

	failures := 0
	for n := 0; ; n++ {
		left := 1 << 30
		dir := filepath.Join(t.TempDir(), "out")
		bad := factory(badDisk{left: &left}, 2000)
		s, _, err := open(t, bad, dir, 1)
		require.NoError(t, err)
		require.NoError(t, s.Write(t.Context(), deliver(old...)))

		left = n
		failed := bootstrap(s)
		left = 1 << 30
		s.Close(t.Context())
		s, c, err := open(t, bad, dir, 2)
		require.NoError(t, err, "failure %d", n)
		if c.Position == old[3].Position() {
			require.Error(t, failed)
			report, err := sinktest.Verify(t.Context(), s, old...)
			require.NoError(t, err)
			require.Empty(t, report.Findings, "failure %d", n)
		}

		require.NoError(t, bootstrap(s), "failure %d", n)
		require.NoError(t, s.Close(t.Context()))
		s, c, err = open(t, bad, dir, 3)
		require.NoError(t, err)
		require.Equal(t, state.Position(), c.Position)
		report, err := sinktest.Verify(t.Context(), s, state)
		require.NoError(t, err)
		require.Empty(t, report.Findings, "failure %d", n)
		require.EqualValues(t, len(state), report.Events)
		require.NoError(t, s.Close(t.Context()))
		if failed == nil {
			break
		}
		failures++
	}
	require.Greater(t, failures, 20)
}
