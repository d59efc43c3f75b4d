package offline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/coppice-go/coppice/internal/durable"
	"github.com/coppice-go/coppice/node/backup"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
)

// InitFrom makes a home in dir, as home.Init does, that begins with the snapshot in a file instead
// of the first block. The genesis is that of the file. dir must not exist or must be an empty
// directory. The home has a log of its own, whose first record says that the snapshot was
// installed. Everything is verified, and the home appears complete or not at all; that the app hash
// is the chain's is for the caller to know. It is for a kind of consensus without peers, because a
// node with peers also needs what they agreed on. Errors are exit.ErrConfig and exit.ErrDamage.
func InitFrom(ctx context.Context, dir, file string, o home.InitOptions, so SnapshotOptions) (v Verified, err error) {
	dir, err = backup.RequireVacant(dir)
	if err != nil {
		return v, err
	}
	f, err := openFile(file)
	if err != nil {
		return v, err
	}
	defer f.Close()

	if o.ChainID != "" && o.ChainID != f.ChainID {
		return v, fmt.Errorf("%w: %s is of chain %q, want %q", exit.ErrConfig, file, f.ChainID, o.ChainID)
	}

	dir, tmp, release, err := backup.Claim(dir, restoringSuffix, restoringWork)
	if err != nil {
		return v, err
	}
	defer release()
	o.Genesis = &f.Genesis
	if v, err = f.makeHome(ctx, tmp, o, so); err != nil {
		return v, errors.Join(fileError(err), os.RemoveAll(tmp))
	}

	return v, durable.OS.Rename(tmp, dir)
}

// makeHome makes a home in dir that begins with the file, and verifies it.
func (f *snapshotFile) makeHome(ctx context.Context, dir string, o home.InitOptions, so SnapshotOptions) (v Verified,
	err error) {
	if _, err := home.Init(dir, o); err != nil {
		return v, err
	}
	if home.TraitsOf(dir).StateSync {
		return v, fmt.Errorf("%w: a node with peers does not begin with a file: import it into a node of the chain "+
			"with 'coppice snapshot import --offer', and let this one join with --state-sync", exit.ErrConfig)
	}
	if err := f.seed(ctx, dir, so); err != nil {
		return v, err
	}

	v, err = Verify(ctx, dir, VerifyOptions{SkipReplay: true, restored: true})
	if err == nil && (v.Height != f.Height || !bytes.Equal(v.AppHash, f.AppHash)) {
		err = fmt.Errorf("%w: the home is at height %d with app hash %x, want %d with %x", exit.ErrDamage, v.Height,
			v.AppHash, f.Height, f.AppHash)
	}
	return v, err
}

// seed makes the file the first snapshot of a new home, and installs it.
func (f *snapshotFile) seed(ctx context.Context, dir string, o SnapshotOptions) error {
	h, err := Open(dir, nil, nil)
	if err != nil {
		return err
	}
	defer h.Close()

	started, err := f.started(f.Genesis)
	if err != nil {
		return err
	}

	if err := vfs.Default.MkdirAll(h.disk.PathDir(h.importPath()), 0o700); err != nil {
		return err
	}
	if err := f.build(ctx, h.disk, h.importPath(), started, o); err != nil {
		return err
	}

	m, err := h.nameImport(ctx, h.importPath(), f, o)
	if err != nil {
		return err
	}
	_, err = h.install(ctx, m.ID, nil)

	return err
}
