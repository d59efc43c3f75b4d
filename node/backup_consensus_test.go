package node

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/node/backup"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/offline"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// copier is a driver whose consensus has two files. It is its own copy.
type copier struct {
	consensus.Driver
	names  []string
	open   error // of Copy
	dies   error // of Send, after the first file
	events []string
}

func (c *copier) Keep() (release func()) {
	c.events = append(c.events, "keep")
	return func() { c.events = append(c.events, "release") }
}

func (c *copier) Copy(context.Context) (consensus.Copy, error) {
	c.events = append(c.events, "copy")
	return c, c.open
}

func (c *copier) Facts() consensus.Facts {
	return consensus.Facts{Kind: "two files", Height: 9, Files: c.names, Bytes: 3}
}

func (c *copier) Send(_ context.Context, send func(string, []byte, bool) error) error {
	err := errors.Join(send(c.names[0], []byte("o"), false), send(c.names[0], []byte("ne"), true))
	if err != nil || c.dies != nil {
		return errors.Join(err, c.dies)
	}
	if len(c.names) > 1 {
		return send(c.names[1], nil, true)
	}
	return nil
}

func (c *copier) Close() error {
	c.events = append(c.events, "close")
	return nil
}

// A backup has all files of the consensus, or there is none: if the consensus ends in the middle,
// if a file does not come, or if its name is a path.
func TestABackupHasAllFilesOfTheConsensus(t *testing.T) {
	home := stopped(t)
	h := driveHome(t, home)
	defer h.close()

	died := errors.New("the consensus died")
	backUp := func(c *copier) (*backup.Writer, error) {
		h.snaps.Consensus = func() (consensus.Copier, error) { return c, nil }
		w, err := backup.NewWriter(filepath.Join(t.TempDir(), "backup"), backup.Options{
			Prove: func(context.Context, string, func(string, uint64, uint64)) error { return nil }})
		require.NoError(t, err)
		t.Cleanup(w.Abandon)
		return w, h.snaps.Backup(t.Context(), w.Take)
	}
	none := func(w *backup.Writer) {
		_, err := w.Finish(t.Context())
		require.ErrorContains(t, err, "is not complete")
		w.Abandon()
		require.NoDirExists(t, w.Dest)
		require.NoDirExists(t, w.Dest+backup.PartialSuffix)
	}

	c := &copier{names: []string{"one", "two"}}
	w, err := backUp(c)
	require.NoError(t, err)
	require.Equal(t, []string{"keep", "copy", "release"}, c.events[:3], "blocks are kept until they are copied")
	require.Equal(t, "close", c.events[3])
	info, err := w.Finish(t.Context())
	require.NoError(t, err)
	require.Equal(t, c.Facts(), *info.Consensus)
	_, err = backup.Verify(t.Context(), w.Dest, nil)
	require.NoError(t, err)
	require.FileExists(t, filepath.Join(w.Dest, "consensus", "two"))
	swapIn(t, filepath.Join(w.Dest, "consensus", "one"), "one", "two")
	_, err = backup.Verify(t.Context(), w.Dest, nil)
	require.ErrorIs(t, err, exit.ErrDamage)
	require.ErrorContains(t, err, "consensus/one was changed")
	swapIn(t, filepath.Join(w.Dest, "consensus", "one"), "two", "one")
	_, err = offline.Restore(t.Context(), w.Dest, filepath.Join(t.TempDir(), "home"), nil)
	require.ErrorContains(t, err, "does not have the files of consensus solo")

	w, err = backUp(&copier{names: []string{"one"}, open: died})
	require.ErrorIs(t, err, died)
	none(w)

	w, err = backUp(&copier{names: []string{"one", "two"}, dies: died})
	require.ErrorIs(t, err, died)
	none(w)

	w, err = backUp(&copier{names: []string{"one", "two", "three"}})
	require.NoError(t, err)
	none(w)

	for _, name := range []string{"../one", "a/b", "..", "."} {
		_, err = backUp(&copier{names: []string{name}})
		require.ErrorContains(t, err, "does not belong in a backup", name)
	}
}

// A part of a file that the backup does not announce is refused.
func TestABackupTakesNoFileThatItDoesNotAnnounce(t *testing.T) {
	w, err := backup.NewWriter(filepath.Join(t.TempDir(), "backup"), backup.Options{})
	require.NoError(t, err)
	defer w.Abandon()
	require.ErrorContains(t, w.Take(&apiv1.BackupResponse{Part: &apiv1.BackupResponse_File{
		File: &apiv1.BackupFile{Name: "consensus/blockstore.pairs"}}}), "does not belong in a backup")
}
