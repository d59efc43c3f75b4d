package offline

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

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

// agreed holds the home's state, if it has one, against its log. A home without a state is in order
// where the log has all that made it, or a snapshot has the rest.
func (r *verification) checkAgreement(log *eventlog.Log) error {
	if r.state == nil {
		return nil
	}
	s, err := install.ReadLoggedState(r.state)
	if err != nil || s.Index == 0 {
		return err
	}
	return install.Agree(log, s)
}

func (r *verification) snapshots() snapshots.Dir {
	return snapshots.Dir{FS: r.Disk, Path: home.SnapshotDir(r.home)}
}

// errNoBase: replay has nothing to begin with.
var errNoBase = errors.New("there is nothing that replay could begin with")

// beginAgain makes the state that replay works on: an empty one where the log begins with the
// genesis, and else a copy of the oldest snapshot that the log has all records after.
func (r *verification) beginAgain(ctx context.Context, log *eventlog.Log) error {
	data := r.Disk.PathDir(home.StateDir(r.home))
	names, err := r.Disk.List(data)
	if err != nil {
		return err
	}

	for _, name := range names { // those of a verification that was killed, too: this one has the home
		if strings.HasPrefix(name, "verify-") {
			if err := r.Disk.RemoveAll(r.Disk.PathJoin(data, name)); err != nil {
				return err
			}
		}
	}

	r.scratch = r.Disk.PathJoin(data, fmt.Sprintf("verify-%d", os.Getpid()))
	base, err := install.BaseOf(log)
	if err != nil {
		return err
	}
	if log.First() == 1 && base == nil { // a Base may stand at record 1
		return r.openAgain()
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

	return fmt.Errorf("%w: the log begins at record %d, and no snapshot is as old as that", errNoBase, log.First())
}

// beginWith makes a snapshot what replay goes on from.
func (r *verification) beginWith(ctx context.Context, m snapshots.Manifest, in snapshots.Installing) error {
	in.State = r.Disk.PathJoin(r.scratch, "state")
	in.Progress = func(done, total uint64) { r.Progress("snapshot", done, total) }
	if _, err := r.snapshots().Install(ctx, m.ID, in); err != nil {
		return err
	}
	r.startIndex, r.report.Base, r.report.BaseHeight, r.decided = in.Index, m.ID, m.Height, nil
	r.report.ChainID, r.report.Height, r.report.AppHash = m.ChainID, m.Height, m.AppHash
	return r.openAgain()
}

func (r *verification) openAgain() (err error) {
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

// endAgain gives up the state that replay worked on.
func (r *verification) endAgain() {
	if r.replayed != nil {
		r.replayed.Close() // nothing of it is wanted
	}
	r.Disk.RemoveAll(r.scratch)
}

// installed goes on from the snapshot that a record put in the state's place, or from the oldest
// that came after it.
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
		r.endAgain()
		if err := r.beginWith(ctx, e.Manifest, snapshots.Installing{LogID: log.ID(), Index: index}); err != nil {
			return err
		}
		return r.endApplied()
	}

	for _, e := range list { // it went, because there are newer ones
		switch in, err := install.PlaceOf(log, e.Manifest); {
		case errors.Is(err, storage.ErrOtherLog) || err == nil && in.Index <= index:
		case err != nil:
			return err

		default:
			r.endAgain()
			if err := r.beginWith(ctx, e.Manifest, in); err != nil {
				return err
			}
			return r.endApplied()
		}
	}

	return fmt.Errorf("%w past this record: it installed a snapshot of height %d, which is not among the home's "+
		"snapshots any more", errNoBase, rec.Height)
}

// sameGenesis holds the home's genesis against a record that says which chain was started.
func (r *verification) sameGenesis(m proto.Message) error {
	var chainID string
	var params *logv1.Params

	switch m := m.(type) {
	case *logv1.ChainStarted:
		chainID, params = m.ChainId, m.Params
	case *logv1.Base:
		chainID, params = m.ChainId, m.Params
	default:
		return nil
	}

	_, g, err := home.ReadGenesisFile(filepath.Join(r.home, chain.GenesisFile))
	switch {
	case err != nil:
		return err
	case g.ChainId != chainID:
		return fmt.Errorf("%w: %w: chain %s has started, %s is of %s", exit.ErrConfig, ordering.ErrGenesis, chainID,
			chain.GenesisFile, g.ChainId)
	case !proto.Equal(g.Params, params):
		return fmt.Errorf("%w: %w: chain %s was started with the limits {%v}, %s has {%v}", exit.ErrConfig,
			ordering.ErrGenesis, chainID, params, chain.GenesisFile, g.Params)
	}

	return nil
}

// endApplied ends what was acknowledged before a snapshot took the state's place, and applied in a
// block that the log does not have.
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
