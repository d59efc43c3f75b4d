package offline

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/storage/snapshots"
	"github.com/coppice-go/coppice/eventlog"
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

	// Settled means that no acknowledged transaction is lost: each has its result in the backup, or
	// is in the backup to be executed, or has expired. The effects of the lost records are in the
	// state that the backup begins with. Transactions that only a lost record acknowledged expired
	// before the backup's last block.
	Settled bool
}

// Any reports whether any record is lost.
func (l Lost) Any() bool { return len(l.Gaps) > 0 || l.Front != "" }

// Salvage makes a backup of a stopped home whose log is damaged. The backup begins with the newest
// intact state, which is the home's own or a snapshot. That state has the effects of the records
// before it, also of those that are lost. The backup continues with the records after that state,
// up to the next lost one. The returned Lost describes what is left out. Salvage adds a snapshot of
// the state to the home, and changes nothing else in it. Errors are those of Backup; exit.ErrDamage
// means that no intact state was found.
func Salvage(ctx context.Context, dir, dest string, o backup.Options) (backup.Info, Lost, error) {
	h, err := Open(dir, nil, nil)
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

	tmp := w.Dest + SalvageSuffix
	if err := os.RemoveAll(tmp); err != nil {
		return info, lost, fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}
	defer os.RemoveAll(tmp)

	progress := o.ProgressFunc()
	found, err := eventlog.Salvage(ctx, home.LogDir(h.home), filepath.Join(tmp, backup.LogName),
		eventlog.Options{Events: func(e eventlog.Event) {
			if p, ok := e.(eventlog.Progress); ok {
				progress("salvage", uint64(p.Done), uint64(p.Total))
			}
		}})
	if err != nil {
		return info, lost, err
	}

	lost.Gaps, lost.Front = found.Gaps, found.Front

	l, err := eventlog.OpenReadOnly(filepath.Join(tmp, backup.LogName), eventlog.Options{})
	if err != nil {
		return info, lost, err
	}
	defer l.Close()

	m, err := h.newest(ctx, l, found, o)
	if err != nil {
		return info, lost, err
	}
	b, err := h.salvagedBackup(ctx, l, m, &lost)
	if err != nil {
		return info, lost, err
	}

	if b.Backends, err = backends.Read(h.home); err != nil { // none, or damaged: what is left of the log says it
		if b.Backends, err = backends.Derive(ctx, l, func(uint64, uint64) {}); err != nil {
			return info, lost, err
		}
	}

	b.History, b.Send = h.history(), w.Take
	if err := b.Run(ctx); err != nil {
		return info, lost, err
	}

	info, err = w.Finish(ctx)
	return info, lost, err
}

// newest returns the newest intact snapshot of this log. It first tries to take a snapshot of the
// home's own state.
func (h *StoppedHome) newest(ctx context.Context, l *eventlog.Log, found eventlog.Salvaged,
	o backup.Options) (snapshots.Manifest, error) {
	progress := o.ProgressFunc()
	scan := func(done, total uint64) { progress("snapshot", done, total) }
	fits := func(m snapshots.Manifest) error {
		if [16]byte(m.LogID) != found.Source {
			return fmt.Errorf("it was made from log %v, this is log %x", m.LogID, found.Source)
		}
		if m.Index+1 < l.First() {
			return fmt.Errorf("it ends at record %d, but the remaining records begin at %d", m.Index, l.First())
		}

		if m.Index < l.First() || m.Index > l.Durable() || slices.ContainsFunc(found.Gaps, func(g eventlog.Gap) bool {
			return g.First <= m.Index && m.Index <= g.Last
		}) {
			return nil // the record that led to the snapshot is lost, and there is nothing to compare with
		}

		return install.Agree(l, install.LoggedState{State: install.StateFrom(m, m.Index)})
	}

	m, err := h.takeState(ctx, o.Program, scan)
	if errors.Is(err, snapshots.ErrExists) {
		m, err = h.Snapshots().Verify(ctx, m.ID, scan)
	}
	if err == nil {
		err = fits(m)
	}
	if err == nil {
		return m, nil
	}

	why := []error{fmt.Errorf("the state: %w", err)}
	list, err := h.Snapshots().Whole()
	if err != nil {
		return m, errors.Join(append(why, err)...)
	}

	for _, e := range slices.Backward(list) {
		m, err := h.Snapshots().Verify(ctx, e.Manifest.ID, scan)
		if err == nil {
			err = fits(m)
		}
		if err == nil {
			return m, nil
		}
		why = append(why, fmt.Errorf("snapshot %s: %w", e.Manifest.ID, err))
	}

	return m, fmt.Errorf("%w: there is neither a state nor a snapshot that a backup could begin with: %w",
		exit.ErrDamage, errors.Join(why...))
}

// salvagedBackup returns the Sender of the backup: it sends the snapshot m and the records that the
// backup needs, up to the first lost record after m. It also fills in lost.
func (h *StoppedHome) salvagedBackup(ctx context.Context, l *eventlog.Log, m snapshots.Manifest,
	lost *Lost) (*backup.Sender, error) {
	b := &backup.Sender{Home: h.home, Snapshots: h.Snapshots(), Manifest: m, Last: max(l.Durable(), m.Index),
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
		_, g, err := home.ReadGenesisFile(filepath.Join(h.home, chain.GenesisFile))
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
