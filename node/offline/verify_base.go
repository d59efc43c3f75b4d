package offline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"google.golang.org/protobuf/proto"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/ordering"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/engines/storage/snapshots"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/install"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// checkAgreement checks that the home's state and log belong together, and then that the state is
// of the home's genesis: a state of another log is damage, whatever its genesis. A home without a
// state, or with an empty one, is in order: replay finds out whether the state can be made again
// from the log and the snapshots.
func (r *verification) checkAgreement(log *eventlog.Log) error {
	if r.state == nil {
		return nil
	}
	s, err := install.ReadLoggedState(r.state)
	if err == nil && s.Index > 0 {
		err = install.Agree(log, s)
	}
	if err != nil {
		return err
	}
	return r.stateGenesis(r.state.State())
}

// snapshots returns the directory of the home's snapshots.
func (r *verification) snapshots() snapshots.Dir {
	return snapshots.Dir{FS: r.Disk, Path: home.SnapshotDir(r.home)}
}

// errNoBase: there is no state with which replay could begin.
var errNoBase = errors.New("there is nothing that replay could begin with")

// beginReplay makes the state that replay works on. That state is empty if the log begins with the
// genesis. Otherwise it is a copy of the oldest snapshot after which the log has all records.
func (r *verification) beginReplay(ctx context.Context, log *eventlog.Log) error {
	if err := r.makeScratch(); err != nil {
		return err
	}

	base, err := install.BaseOf(log)
	if err != nil {
		return err
	}
	if log.First() == 1 && base == nil { // record 1 may be a Base
		return r.openScratch()
	}

	list, err := r.snapshots().Whole()
	if err != nil {
		return err
	}

	for _, e := range list {
		in, err := install.PlaceOf(log, e.Manifest)
		if errors.Is(err, storage.ErrOtherLog) || err == nil && in.Index+1 < log.First() {
			continue
		}
		if err != nil {
			return err
		}
		return r.beginWith(ctx, e.Manifest, in)
	}

	return fmt.Errorf("%w: the log begins at record %d, and no snapshot is old enough", errNoBase, log.First())
}

// makeScratch makes the directory of the state that replay works on: beside the home's own state,
// or among the temporary files of the system if nothing can be written there.
func (r *verification) makeScratch() error {
	data := r.Disk.PathDir(home.StateDir(r.home))
	names, err := r.Disk.List(data)
	if err != nil {
		return err
	}

	r.scratch = r.Disk.PathJoin(data, fmt.Sprintf("verify-%d", os.Getpid()))
	err = r.Disk.MkdirAll(r.scratch, 0o700)

	if errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission) {
		r.scratch, err = os.MkdirTemp("", "coppice-verify-")
		return err
	}
	if err != nil {
		return err
	}

	// Remove the scratch states of verifications that were killed. They are not in use, because
	// this verification has locked the home.
	for _, name := range names {
		if strings.HasPrefix(name, "verify-") && name != r.Disk.PathBase(r.scratch) {
			if err := r.Disk.RemoveAll(r.Disk.PathJoin(data, name)); err != nil {
				return err
			}
		}
	}

	return nil
}

// beginWith copies a snapshot to the state that replay works on, so that replay continues from it.
func (r *verification) beginWith(ctx context.Context, m snapshots.Manifest, in snapshots.Installing) error {
	in.State = r.Disk.PathJoin(r.scratch, "state")
	in.Verified = true // by readSnapshots
	if _, err := r.snapshots().Install(ctx, m.ID, in); err != nil {
		return err
	}
	r.startIndex, r.report.Base, r.report.BaseHeight = in.Index, m.ID, m.Height
	r.decided, r.reset = nil, nil
	r.report.ChainID, r.report.Height, r.report.AppHash = m.ChainID, m.Height, m.AppHash
	return r.openScratch()
}

// openScratch opens the state that replay works on.
func (r *verification) openScratch() (err error) {
	scratch := r.scratch
	r.replayed, err = storage.Open(r.Disk.PathJoin(scratch, "state"),
		storage.Options{FS: r.Disk, OnFatal: func(err error) {
			r.Disk.RemoveAll(scratch)
			if r.Fatal == nil {
				panic(err)
			}
			r.Fatal(err)
		}})
	return err
}

// removeScratch closes and removes the state that replay worked on.
func (r *verification) removeScratch() {
	if r.replayed != nil {
		r.replayed.Close() // the state is removed: an error does not matter
	}
	if r.scratch != "" {
		r.Disk.RemoveAll(r.scratch)
	}
}

// installed lets replay continue from the snapshot that the record rec installed, or from the
// oldest snapshot after it.
func (r *verification) installed(ctx context.Context, log *eventlog.Log, index uint64,
	rec *logv1.SnapshotInstalled) error {
	list, err := r.snapshots().Whole()
	if err != nil {
		return err
	}

	for _, e := range list {
		if !install.Installs(rec, e.Manifest) {
			continue
		}
		r.removeScratch()
		if err := r.beginWith(ctx, e.Manifest, snapshots.Installing{LogID: log.ID(), Index: index}); err != nil {
			return err
		}
		return r.endApplied()
	}

	// The snapshot may have been removed because there are newer ones.
	for _, e := range list {
		switch in, err := install.PlaceOf(log, e.Manifest); {
		case errors.Is(err, storage.ErrOtherLog) || err == nil && in.Index <= index:
		case err != nil:
			return err

		default:
			r.removeScratch()
			if err := r.beginWith(ctx, e.Manifest, in); err != nil {
				return err
			}
			return r.endApplied()
		}
	}

	return fmt.Errorf("%w after this record: it installed a snapshot of height %d, which is no longer among the "+
		"home's snapshots", errNoBase, rec.Height)
}

// sameGenesis returns an error if the home's genesis differs from the one in a record that says
// which chain was started.
func (r *verification) sameGenesis(m proto.Message) error {
	switch m := m.(type) {
	case *logv1.ChainStarted:
		return r.genesisIs(chain.NameOf(m.ChainId, m.Period), m.Params)
	case *logv1.Base:
		return r.genesisIs(chain.NameOf(m.ChainId, m.Period), m.Params)
	default:
		return nil
	}
}

// stateGenesis returns an error if the home's genesis differs from the one that the state was
// started with.
func (r *verification) stateGenesis(s chain.State) error {
	if !s.Started() {
		return nil
	}
	return r.genesisIs(chain.NameOf(s.ChainID, s.Period), s.Params)
}

// genesisIs returns an error if the home's genesis is of another chain, or has other limits.
func (r *verification) genesisIs(chainID string, params *logv1.Params) error {
	_, g, err := home.ReadGenesisFile(filepath.Join(r.home, chain.GenesisFile))
	switch {
	case err != nil:
		return err
	case g.ChainId != chainID:
		return fmt.Errorf("%w: %w: chain %s has already started, %s is for chain %s", exit.ErrConfig,
			ordering.ErrGenesis, chainID, chain.GenesisFile, g.ChainId)
	case !proto.Equal(g.Params, params):
		return fmt.Errorf("%w: %w: chain %s was started with the limits {%v}, %s has {%v}", exit.ErrConfig,
			ordering.ErrGenesis, chainID, params, chain.GenesisFile, g.Params)
	}

	return nil
}

// endApplied removes the pending transactions whose result is in the installed snapshot. The log
// does not have the blocks that applied them.
func (r *verification) endApplied() error {
	for id := range r.pending {
		switch _, found, err := r.replayed.Result(id); {
		case err != nil:
			return err
		case found:
			delete(r.pending, id)
		}
	}
	return nil
}
