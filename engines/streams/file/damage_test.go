package file

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/engines/streams/sinktest"
)

// A line that is no event, and whose checksum is wrong, is named by a read that passes all events
// on.
func TestAReadNamesALineThatIsNoEvent(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	s, _ := sinktest.Open(t, Factory(), definition(t, dir), streams.Secrets{}, sinktest.Opening(definition(t, dir), 1))
	units := sinktest.Units(1, 3)
	for _, u := range units {
		require.NoError(t, s.Write(t.Context(), sinktest.Feed(u)))
	}
	read := func() (n int, err error) {
		err = s.Read(t.Context(), streams.Position{}, units[len(units)-1].Position(), func(streams.Event) error {
			n++
			return nil
		})
		return n, err
	}
	whole, err := read()
	require.NoError(t, err)

	name := fileName(dir, 1)
	text, err := os.ReadFile(name)
	require.NoError(t, err)
	for what, damaged := range map[string][]string{
		"garbage":     slices.Insert(split(string(text)), 3, "garbage"),
		"a head line": slices.Replace(split(string(text)), 0, 1, split(string(text))[0]+" "),
	} {
		require.NoError(t, os.WriteFile(name, []byte(join(damaged)), 0o600))
		n, err := read()
		require.ErrorIs(t, err, streams.ErrDamaged, what)
		require.Equal(t, whole, n, what)
	}
}

// A writer whose file or directory was removed, or replaced, does not go on writing to what nobody
// can read.
func TestAFileThatIsRemovedFailsTheNextWrite(t *testing.T) {
	for what, remove := range map[string]func(dir string) error{
		"the directory is removed": os.RemoveAll,
		"the file is replaced": func(dir string) error {
			text, err := os.ReadFile(fileName(dir, 1))
			if err == nil {
				err = os.Remove(fileName(dir, 1))
			}
			if err == nil {
				err = os.WriteFile(fileName(dir, 1), text, 0o600)
			}
			return err
		},
	} {
		dir := filepath.Join(t.TempDir(), "out")
		s, _ := sinktest.Open(t, Factory(), definition(t, dir), streams.Secrets{},
			sinktest.Opening(definition(t, dir), 1))
		units := sinktest.Units(1, 2)
		require.NoError(t, s.Write(t.Context(), sinktest.Feed(units[0])))
		require.NoError(t, remove(dir), what)
		require.ErrorContains(t, s.Write(t.Context(), sinktest.Feed(units[1])), "removed or replaced", what)
	}
}
