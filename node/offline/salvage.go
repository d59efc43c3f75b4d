package offline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/engines/storage/snapshots"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/internal/durable"
	"github.com/coppice-go/coppice/node/backends"
	"github.com/coppice-go/coppice/node/backup"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/install"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// SalvageSuffix ends the name of the directory in which Salvage writes the log that it recovers.
// The directory lies beside the backup, and is removed at the end.
const SalvageSuffix = ".salvage"

// Lost describes what a salvaged backup does not contain.
type Lost struct {
	Gaps  []eventlog.Gap // records of the damaged log that no checksum proves
	Front string         // why records may be missing before the log's first record; empty if none can be
	Cut   uint64         // the record before which the backup ends, though the log has more; 0: nothing is cut
	NoLog string         // why no record of the log is left; empty if any is

	// Settled means that no acknowledged transaction is lost: each has its result in the backup, or
	// is in the backup to be executed, or has expired. The effects of the lost records are in the
	// state that the backup begins with. Transactions that only a lost record acknowledged expired
	// before the backup's last block.
	Settled bool
}

// Any reports whether any record is lost.
func (l Lost) Any() bool { return len(l.Gaps) > 0 || l.Front != "" || l.NoLog != "" }

// Salvage makes a backup of a stopped home whose log or state is damaged. The backup begins with
// the newest intact state: the home's own, a snapshot, or one that is made again from the records
// before the first lost one. That state has the effects of the records before it, also of those
// that are lost. The backup continues with the records after that state, up to the next lost one.
// If no record is left, the backup is the state alone. The returned Lost describes what is left
// out. Salvage writes nothing in the home, which may be read-only. Errors are those of Backup;
// exit.ErrDamage means that no intact state was found.
func Salvage(ctx context.Context, dir, dest string, o backup.Options) (backup.Info, Lost, error) {
	h, err := openToRead(dir)
	if err != nil {
		return backup.Info{}, Lost{}, err
	}
	defer h.Close()

	h.fatal = o.Fatal
	if err := home.TraitsOf(dir).NoSalvage; err != nil {
		return backup.Info{}, Lost{}, err
	}

	info, lost, err := h.salvageBackup(ctx, dest, o)
	return info, lost, exit.Classify(err)
}

// salvageBackup makes the backup (see Salvage).
func (h *StoppedHome) salvageBackup(ctx context.Context, dest string, o backup.Options) (info backup.Info, lost Lost,
	err error) {
	if o.Prove == nil {
		o.Prove = Rehearse
	}

	w, err := backup.NewWriter(dest, o)
	if err != nil {
		return info, lost, err
	}
	defer w.Abandon()

	s := &salvage{StoppedHome: h, o: o, tmp: w.Dest + SalvageSuffix}
	if err := os.RemoveAll(s.tmp); err != nil {
		return info, lost, fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}
	defer os.RemoveAll(s.tmp)

	if err := s.openLog(ctx); err != nil {
		return info, s.lost, err
	}
	if s.log != nil {
		defer s.log.Close()
	}

	dir, m, err := s.newest(ctx)
	if err != nil {
		return info, s.lost, err
	}
	b, err := s.sender(ctx, dir, m)
	if err != nil {
		return info, s.lost, err
	}

	if b.Backends, err = s.needs(ctx); err != nil {
		return info, s.lost, err
	}

	b.History, b.Send = h.history(), w.Take
	if err := b.Run(ctx); err != nil {
		return info, s.lost, err
	}

	info, err = w.Finish(ctx)
	return info, s.lost, err
}

// salvage is one call of Salvage.
type salvage struct {
	*StoppedHome
	o   backup.Options
	tmp string // everything that is not yet in the backup

	log   *eventlog.Log // the provable records; nil: there is none
	found eventlog.Salvaged
	lost  Lost
}

// openLog copies the provable records of the home's log, and opens the copy.
func (s *salvage) openLog(ctx context.Context) error {
	progress := s.o.ProgressFunc()
	copied := filepath.Join(s.tmp, backup.LogName)
	found, err := eventlog.Salvage(ctx, home.LogDir(s.home), copied,
		eventlog.Options{Events: func(e eventlog.Event) {
			if p, ok := e.(eventlog.Progress); ok {
				progress("salvage", uint64(p.Done), uint64(p.Total))
			}
		}})

	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, eventlog.ErrCorrupt) {
		s.lost.NoLog = err.Error()
		return nil
	}
	if err != nil {
		return err
	}

	s.found, s.lost.Gaps, s.lost.Front = found, found.Gaps, found.Front
	s.log, err = eventlog.OpenReadOnly(copied, eventlog.Options{})
	return err
}

// needs returns the backends that the home's chain needs, by the home's own record or by what is
// left of the log.
func (s *salvage) needs(ctx context.Context) (backends.Record, error) {
	needs, err := backends.Read(s.home)
	if err != nil && s.log != nil { // none, or damaged
		needs, err = backends.Derive(ctx, s.log, func(uint64, uint64) {})
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return needs, err
}

// newest returns the newest intact snapshot of this log, and its directory. It first tries to take
// a snapshot of the home's own state, then the home's snapshots, and then makes a state of the
// log's first records.
func (s *salvage) newest(ctx context.Context) (snapshots.Dir, snapshots.Manifest, error) {
	progress := s.o.ProgressFunc()
	scan := func(done, total uint64) { progress("snapshot", done, total) }
	own := snapshots.Dir{FS: s.disk, Path: filepath.Join(s.tmp, backup.SnapshotsName)}
	take := func(state string) (snapshots.Manifest, error) {
		return own.Take(ctx, snapshots.Taking{Program: s.o.Program, Now: time.Now(), Progress: scan,
			Checkpoint: func(_ context.Context, dir string) error { return copyState(state, dir) }})
	}

	m, err := take(home.StateDir(s.home))
	if err == nil {
		err = s.fits(m)
	}
	if err == nil {
		return own, m, nil
	}

	why := []error{fmt.Errorf("the state: %w", err)}
	list, err := s.Snapshots().Whole()
	if err != nil {
		return own, m, errors.Join(append(why, err)...)
	}

	for _, e := range slices.Backward(list) {
		m, err := s.Snapshots().Verify(ctx, e.Manifest.ID, scan)
		if err == nil {
			err = s.fits(m)
		}
		if err == nil {
			return s.Snapshots(), m, nil
		}
		why = append(why, fmt.Errorf("snapshot %s: %w", e.Manifest.ID, err))
	}

	again := filepath.Join(s.tmp, "state")
	if err = s.redo(ctx, again); err == nil {
		if m, err = take(again); err == nil {
			return own, m, nil
		}
	}
	if ctx.Err() != nil {
		return own, m, context.Cause(ctx)
	}

	why = append(why, fmt.Errorf("the records: %w", err))
	return own, m, exit.Damaged(fmt.Errorf("there is no state that a backup could begin with: %w",
		errors.Join(why...)))
}

// fits returns an error if a snapshot cannot begin a backup with the records that are left.
func (s *salvage) fits(m snapshots.Manifest) error {
	if s.log == nil {
		return nil // there is nothing to compare with
	}
	if !bytes.Equal(m.LogID, s.found.Source[:]) {
		return fmt.Errorf("it was made from log %v, this is log %x", m.LogID, s.found.Source)
	}
	if m.Index+1 < s.log.First() {
		return fmt.Errorf("it ends at record %d, but the remaining records begin at %d", m.Index, s.log.First())
	}

	if m.Index < s.log.First() || m.Index > s.log.Durable() ||
		slices.ContainsFunc(s.found.Gaps, func(g eventlog.Gap) bool {
			return g.First <= m.Index && m.Index <= g.Last
		}) {
		return nil // the record that led to the snapshot is lost, and there is nothing to compare with
	}

	return install.Agree(s.log, install.LoggedState{State: install.StateFrom(m, m.Index)})
}

// redo makes a state in dir of the records before the first lost one, up to the last block among
// them. The log must begin with the genesis.
func (s *salvage) redo(ctx context.Context, dir string) error {
	if s.log == nil || s.log.First() != 1 || s.lost.Front != "" {
		return errors.New("they do not begin with the genesis of the chain")
	}
	last := s.log.Durable()
	if len(s.found.Gaps) > 0 {
		last = s.found.Gaps[0].First - 1
	}

	db, err := storage.Open(dir, storage.Options{FS: s.disk, OnFatal: s.fatal})
	if err != nil {
		return err
	}

	progress := s.o.ProgressFunc()
	err = backup.EachRecord(ctx, s.log, 1, last, func(e eventlog.Entry) error {
		m, err := chain.DecodeRecord(e)
		if err != nil {
			return fmt.Errorf("%w: %w", exit.ErrDamage, err)
		}
		if e.Index%1024 == 0 {
			progress("redo", e.Index, last)
		}

		switch m := m.(type) {
		case *logv1.ChainStarted:
			return db.StartChain(e.Index, m)
		case *logv1.BlockCommitted:
			return db.Redo(e.Index, m)
		case *logv1.Base, *logv1.SnapshotInstalled:
			return fmt.Errorf("record %d stands for a state that is gone", e.Index)
		}
		return nil
	})
	if err == nil {
		err = db.BindLog(s.found.Source)
	}

	return errors.Join(err, db.Close())
}

// copyState copies the files of a state that nobody has open. It writes nothing beside them, as an
// opened state would.
func copyState(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}

	for _, e := range entries {
		if name := e.Name(); e.Type().IsRegular() && name != "LOCK" {
			if err := linkFile(filepath.Join(from, name), filepath.Join(to, name), 0o600); err != nil {
				return err
			}
		}
	}

	return durable.OS.SyncDir(to)
}

// sender returns the Sender of the backup: it sends the snapshot m and the records that the backup
// needs, up to the first lost record after m. It also fills in s.lost.
func (s *salvage) sender(ctx context.Context, dir snapshots.Dir, m snapshots.Manifest) (*backup.Sender, error) {
	if s.log == nil {
		return &backup.Sender{Home: s.home, Snapshots: dir, Manifest: m, First: m.Index + 1, Last: m.Index}, nil
	}

	l, lost := s.log, &s.lost
	b := &backup.Sender{Home: s.home, Snapshots: dir, Manifest: m, Last: max(l.Durable(), m.Index),
		OpenLog: l.Cursor}
	from := l.First() // the first record after the last gap before b.Last
	lost.Settled = l.Durable() >= m.Index

	for _, g := range lost.Gaps {
		if max(g.First, g.Last) > m.Index {
			lost.Cut, lost.Settled = max(g.First, m.Index+1), false
			if b.Last = lost.Cut - 1; g.First <= m.Index {
				from = lost.Cut // the gap reaches from before m.Index to there
			}
			break
		}

		from = max(g.First, g.Last+1)
		lost.Settled = lost.Settled && g.Last >= g.First
	}

	rest := afterGaps{pending: newPending()}
	if err := backup.EachRecord(ctx, l, from, b.Last, rest.entry); err != nil {
		return nil, err
	}

	b.First = min(m.Index+1, rest.pending.floor(b.Last+1))

	if lost.Settled && lost.Any() {
		_, g, err := home.ReadGenesisFile(filepath.Join(s.home, chain.GenesisFile))
		if err != nil {
			return nil, err
		}
		lost.Settled = rest.outlives(time.Duration(g.Params.WindowNs))
	}

	return b, nil
}

// afterGaps collects two things from the records after the last gap: the transactions that have not
// ended, and how much time the records span.
type afterGaps struct {
	pending      pending
	begin, clock int64 // the times of the first of them that has one, and of the last block
}

// entry updates b with the next record after the last gap.
func (b *afterGaps) entry(e eventlog.Entry) error {
	m, err := chain.DecodeRecord(e)
	if err != nil {
		return fmt.Errorf("%w: %w", exit.ErrDamage, err)
	}

	b.pending.record(e.Index, m)
	at := int64(0)

	switch m := m.(type) {
	case *logv1.TxLaunched:
		at = m.ReceivedNs
	case *logv1.OrderDecided:
		at = m.TimeNs
	case *logv1.BlockCommitted:
		at, b.clock = m.TimeNs, m.TimeNs
	}

	if b.begin == 0 {
		b.begin = at
	}

	return nil
}

// outlives reports whether the time of the chain has passed the validity of every transaction that
// a lost record can have acknowledged. Such a transaction was launched before b.begin, and was then
// valid for at most one window.
func (b *afterGaps) outlives(window time.Duration) bool {
	return b.begin != 0 && b.clock >= b.begin+int64(window)+int64(time.Second)
}
