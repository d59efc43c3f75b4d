package retention

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/logger"
	"github.com/coppice-go/coppice/engines/mempool"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/engines/storage/snapshots"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/backends"
	"github.com/coppice-go/coppice/node/backup"
	"github.com/coppice-go/coppice/node/history"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// SnapshotProto returns a snapshot as the API sends it.
func SnapshotProto(e snapshots.Entry) *apiv1.Snapshot {
	s := &apiv1.Snapshot{
		Id: e.ID, ChainId: e.ChainID, Period: e.Period, Height: e.Height, AppHash: e.AppHash, Index: e.Index,
		LogId: e.LogID, Created: timestamppb.New(e.Created), Program: e.Program, Source: e.Source, Bytes: e.Bytes,
	}

	if e.Err != nil {
		s.Problem = e.Err.Error()
	}

	return s
}

// Create takes a snapshot, unless the newest one is of the same state: see api.Snapshots.
func (s *Snapshotter) Create(ctx context.Context) (*apiv1.Snapshot, bool, error) {
	m, fresh, err := s.take(ctx)
	if err != nil {
		return nil, false, err
	}

	return SnapshotProto(snapshots.Entry{ID: m.ID, Manifest: m}), fresh, nil
}

// List returns the snapshots, the oldest state first: see api.Snapshots.
func (s *Snapshotter) List(context.Context) ([]*apiv1.Snapshot, error) {
	list, err := s.Dir().List()
	if err != nil {
		return nil, err
	}

	out := make([]*apiv1.Snapshot, len(list))
	for i, e := range list {
		out[i] = SnapshotProto(e)
	}

	return out, nil
}

// running returns clients of the engines of the current run of the node.
func (s *Snapshotter) running() (logger.Client, storage.Client, error) {
	c := s.Directory()
	if c == nil {
		return logger.Client{}, storage.Client{}, fmt.Errorf("%w: the node has not started", api.ErrUnavailable)
	}

	return logger.NewClient(c), storage.NewClient(c), nil
}

// Retention returns which records the log has, and which retainers keep them: see api.Snapshots.
func (s *Snapshotter) Retention(ctx context.Context) (*apiv1.RetentionResponse, error) {
	log, store, err := s.running()
	if err != nil {
		return nil, err
	}
	st, err := log.Stat(ctx)
	if err != nil {
		return nil, err
	}
	state, err := store.Stat(ctx)
	if err != nil {
		return nil, err
	}

	r := &apiv1.RetentionResponse{
		LogId: st.ID[:], First: st.First, Last: st.Durable, Bytes: st.Bytes, Retain: s.Config.Log.Retain,
		Applied: state.Applied, DurableApplied: state.DurableApplied, OldestHeight: state.OldestHeight,
	}

	for _, f := range st.Retainers {
		r.Retainers = append(r.Retainers, &apiv1.Retainer{Name: f.Name, Floor: f.Floor})
	}

	return r, nil
}

// backupRetainer is the name of the retainer that keeps the records that a backup is about to send.
const backupRetainer = "backup"

// Backup sends a backup of the running node: see api.Snapshots.
func (s *Snapshotter) Backup(ctx context.Context, send func(*apiv1.BackupResponse) error) error {
	driver, err := s.Consensus()
	if err != nil {
		return connect.NewError(connect.CodeFailedPrecondition, err)
	}

	log, _, err := s.running()
	if err != nil {
		return err
	}

	keep := func() {}
	if driver != nil {
		keep = driver.Keep() // the copy must go back to the end of the records
	}
	defer keep()

	m, release, err := s.takeHeld(ctx)
	if err != nil {
		return err
	}
	defer release()

	first, last, hold, err := s.holdRecords(ctx, log, m)
	if err != nil {
		return err
	}
	defer hold.Release()

	// The copy comes after the last record is known: the consensus may be ahead of the log, and
	// brings the missing blocks at a start. The log must not be ahead of the consensus.
	var files consensus.Copy
	if driver != nil {
		if files, err = driver.Copy(ctx); err != nil {
			return err
		}
		defer files.Close()
	}
	keep()

	needs, err := backends.Read(s.Home) // the start has written both
	if err != nil {
		return err
	}
	eras, err := history.Read(s.Home)
	if err != nil {
		return err
	}

	open := func(from uint64) (*eventlog.Cursor, error) { return log.Cursor(ctx, from) }
	b := backup.Sender{Home: s.Home, Snapshots: s.Dir(), Manifest: m, First: first, Last: last,
		OpenLog: open, Send: send, Backends: needs, History: eras, Consensus: files}

	return b.Run(ctx)
}

// takeHeld takes a snapshot, and keeps it from being removed until release is called.
func (s *Snapshotter) takeHeld(ctx context.Context) (m snapshots.Manifest, release func(), err error) {
	for {
		if m, _, err = s.take(ctx); err != nil {
			return m, nil, err
		}

		release = s.hold(m.ID)
		if _, err = s.Dir().Find(m.ID); err == nil {
			return m, release, nil
		}

		release()

		if !errors.Is(err, snapshots.ErrNone) { // else it was removed before it was held
			return m, nil, err
		}
	}
}

// holdRecords keeps the records that a backup needs besides a snapshot from being removed, and
// returns the first and the last of them. They are the records after the snapshot, and those before
// it that acknowledged a transaction which has no result yet.
func (s *Snapshotter) holdRecords(ctx context.Context, log logger.Client, m snapshots.Manifest) (first, last uint64,
	hold *eventlog.Retainer, err error) {
	for {
		st, err := log.Stat(ctx)
		if err != nil {
			return 0, 0, nil, err
		}

		first, last = m.Index+1, st.Durable
		known := false

		for _, f := range st.Retainers {
			if f.Name == mempool.RetainerName {
				first, known = min(first, f.Floor), true
			}
		}

		if !known {
			return 0, 0, nil, fmt.Errorf("%w: the pool has not started", api.ErrUnavailable)
		}

		name := fmt.Sprintf("%s %s", backupRetainer, m.ID)
		if hold, err = log.Retain(ctx, name, first); err != nil {
			return 0, 0, nil, err
		}

		oldest, err := log.First(ctx)
		if err != nil || oldest <= first {
			return first, last, hold, err
		}

		hold.Release() // a truncation was faster; look again, because the pool's floor has risen
	}
}
