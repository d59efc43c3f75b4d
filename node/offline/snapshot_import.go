package offline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/engines/storage/durable"
	"github.com/coppice-go/coppice/engines/storage/portable"
	"github.com/coppice-go/coppice/engines/storage/snapshots"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/statesync"
)

// fileSource begins the source of a snapshot that was made from a file.
const fileSource = "file "

// importDir is where the state of a file is made before it is a snapshot. It is in the directory
// data, on the file system of the snapshots.
const importDir = "import"

// ImportSnapshot makes a snapshot of a stopped home from a file that ExportSnapshot has written.
// The file must be of the home's own log, so that RestoreSnapshot can put the snapshot in the place
// of the state. Everything is verified before the snapshot gets its name: the bytes of the file,
// that its content leads to its app hash, and that the home's log leads to the same state. If the
// home has that snapshot already, fresh is false; a damaged one is replaced. Errors are
// exit.ErrConfig (a file of another chain, log or format), exit.ErrDamage (of the file) and
// exit.ErrHomeInUse.
func ImportSnapshot(ctx context.Context, dir, file string, o SnapshotOptions) (m snapshots.Manifest, fresh bool,
	err error) {
	h, err := Open(dir, nil, nil)
	if err != nil {
		return m, false, err
	}
	defer h.Close()

	f, err := openFile(file)
	if err != nil {
		return m, false, err
	}
	defer f.Close()

	m, fresh, err = h.importFile(ctx, f, o)
	return m, fresh, fileError(err)
}

func (h *StoppedHome) importFile(ctx context.Context, f *snapshotFile, o SnapshotOptions) (m snapshots.Manifest,
	fresh bool, err error) {
	started, err := f.ofHome(h.home)
	if err != nil {
		return m, false, err
	}
	if len(f.LogID) != 16 {
		return m, false, fmt.Errorf("%w: %s was made of a snapshot for peers, which does not say where in a log it "+
			"belongs: it can only be offered to peers", exit.ErrConfig, f.name)
	}
	if err := h.checkPlace(f); err != nil {
		return m, false, err
	}

	id := snapshots.ID(f.Period, f.Height, f.Index)
	m, err = h.Snapshots().Verify(ctx, id, nil)
	damaged := errors.Is(err, snapshots.ErrDamaged)
	if err == nil || !damaged && !errors.Is(err, snapshots.ErrNone) {
		return m, false, err
	}

	dir := h.importPath()
	defer func() { err = errors.Join(err, h.disk.RemoveAll(dir)) }() // it is gone if it has become a snapshot
	if err := f.build(ctx, h.disk, dir, started, o); err != nil {
		return m, false, err
	}

	db, err := storage.Open(dir, storage.Options{FS: h.disk, OnFatal: o.Fatal})
	if err != nil {
		return m, false, err
	}
	if err := errors.Join(db.Adopt([16]byte(f.LogID), f.Index), db.Close()); err != nil {
		return m, false, err
	}

	if damaged {
		if err := h.Snapshots().Remove(id); err != nil {
			return m, false, err
		}
	}
	m, err = h.nameImport(ctx, dir, f, o)
	return m, err == nil, err
}

// importPath returns the path of importDir.
func (h *StoppedHome) importPath() string {
	return h.disk.PathJoin(h.disk.PathDir(home.StateDir(h.home)), importDir)
}

// nameImport makes a snapshot of the state in dir, which becomes a part of it.
func (h *StoppedHome) nameImport(ctx context.Context, dir string, f *snapshotFile,
	o SnapshotOptions) (snapshots.Manifest, error) {
	return h.Snapshots().Take(ctx, snapshots.Taking{
		Program: o.Program, Source: fileSource + filepath.Base(f.name), Now: time.Now(), Progress: o.Progress,
		Checkpoint: func(_ context.Context, to string) error { return durable.On(h.disk).Rename(dir, to) },
	})
}

// checkPlace returns exit.ErrConfig if the home's log does not lead to the state in the file, or
// cannot go on from it.
func (h *StoppedHome) checkPlace(f *snapshotFile) error {
	_, err := h.placeInLog(snapshots.Manifest{
		ID: snapshots.ID(f.Period, f.Height, f.Index), ChainID: f.ChainID, Period: f.Period, Height: f.Height,
		AppHash: f.AppHash, LogID: f.LogID, Index: f.Index,
	})

	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: the home %s has no log, to which a snapshot could belong: 'coppice init --from %s' "+
			"makes a new home that begins with it", exit.ErrConfig, h.home, f.name)
	case errors.Is(err, storage.ErrOtherLog), errors.Is(err, exit.ErrDamage):
		return fmt.Errorf("%w: %s cannot be restored in the home %s: %w", exit.ErrConfig, f.name, h.home, err)
	}

	return err
}

// OfferSnapshot makes a snapshot for the peers of a home from a file of its chain. If a node runs
// in the home, OfferSnapshot verifies the file, stages the snapshot in the home and calls adopt
// with its name, which asks the node to offer it. Otherwise the next start offers it. Everything is
// verified before: the bytes of the file, and that its content leads to its app hash. That this is
// the chain's app hash is for the light client of each node that joins. Errors are exit.ErrConfig
// (a file of another chain or format, a home that offers no snapshots), exit.ErrDamage (of the
// file), and those of adopt.
func OfferSnapshot(ctx context.Context, dir, file string, o SnapshotOptions,
	adopt func(staged string) error) (m portable.Metadata, err error) {
	if err := home.CheckFormat(dir); err != nil {
		return m, err
	}
	f, err := openFile(file)
	if err != nil {
		return m, err
	}
	defer f.Close()

	if !home.TraitsOf(dir).StateSync {
		return m, fmt.Errorf("%w: the consensus of the home %s has no peers that could begin with a snapshot",
			exit.ErrConfig, dir)
	}

	h, err := Open(dir, nil, nil)
	switch {
	case errors.Is(err, exit.ErrHomeInUse):
	case err != nil:
		return m, err
	default:
		defer h.Close()
		adopt = nil
	}

	return f.Metadata, fileError(f.offer(ctx, dir, o, adopt))
}

// offer verifies and stages the file, and gives the snapshot its name if adopt is nil.
func (f *snapshotFile) offer(ctx context.Context, dir string, o SnapshotOptions, adopt func(string) error) error {
	started, err := f.ofHome(dir)
	if err != nil {
		return err
	}
	c, err := config.Load(dir)
	if err != nil {
		return err
	}
	may := func(m portable.Metadata) error { return statesync.MayOffer(m, f.Genesis.ChainID, c.StateSync) }
	if err := may(f.Metadata); err != nil {
		return err
	}

	d := peersDir(vfs.Default, dir)
	if adopt == nil {
		if err := d.Settle(); err != nil {
			return err
		}
	}

	suffix := strconv.Itoa(os.Getpid())
	scratch := vfs.Default.PathJoin(d.Path, "tmp-verify-"+suffix) // a start removes it if this process is killed
	if err := f.build(ctx, vfs.Default, scratch, started, o); err != nil {
		return errors.Join(err, os.RemoveAll(scratch))
	}
	if err := os.RemoveAll(scratch); err != nil {
		return err
	}

	staged, err := d.Stage(ctx, f.File, suffix)
	if err != nil {
		return err
	}
	if adopt == nil {
		_, err = d.Adopt(staged, c.StateSync.Keep, may)
		return err
	}

	err = adopt(staged)
	return errors.Join(err, os.RemoveAll(filepath.Join(d.Path, staged))) // it is gone if the node has looked at it
}
