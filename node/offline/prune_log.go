package offline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/coppice-go/coppice/engines/mempool"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/engines/storage/portable"
	"github.com/coppice-go/coppice/engines/storage/snapshots"
	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/backends"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/install"
	"github.com/coppice-go/coppice/node/retention"
)

// snapshots removes the snapshots beyond those that the configuration keeps. It returns the lowest
// record that replay from one of the others needs; 0 if replay can begin with none of them.
func (p *pruning) snapshots() (floor uint64, err error) {
	dir, part := p.Snapshots(), &p.report.Snapshots
	list, err := dir.Whole()
	if err != nil || len(list) == 0 {
		return 0, err
	}
	if err := p.measure(part, "snapshots", dir.Path); err != nil {
		return 0, err
	}

	places, err := p.places(list)
	if err != nil {
		return 0, err
	}

	// Replay needs one snapshot that this log can begin with.
	newest := ""
	for _, e := range list {
		if places[e.ID] > 0 {
			newest = e.ID
		}
	}

	held, err := streams.HeldSnapshots(home.StreamsDataDir(p.home))
	if err != nil {
		return 0, err
	}
	pinned := func(m snapshots.Manifest) bool {
		return m.ID == newest || held[m.ID] || m.Source != "" && p.config.Log.Retain == config.RetainAll
	}
	kept := slices.Clone(list)
	for _, e := range list {
		if len(kept) > p.config.Snapshots.Keep && !pinned(e.Manifest) {
			kept = slices.DeleteFunc(kept, func(k snapshots.Entry) bool { return k.ID == e.ID })
		}
	}

	part.First, part.Kept, part.Last = list[0].Height, kept[0].Height, list[len(list)-1].Height
	part.hold(kept[0].Height, "snapshots.keep = %d", p.config.Snapshots.Keep)
	for _, e := range kept {
		if at := places[e.ID]; at > 0 && (floor == 0 || at+1 < floor) {
			floor = at + 1
		}
	}
	if p.o.DryRun {
		return floor, nil
	}

	for _, e := range list {
		if !slices.ContainsFunc(kept, func(k snapshots.Entry) bool { return k.ID == e.ID }) {
			if err := dir.Remove(e.ID); err != nil {
				return 0, err
			}
		}
	}
	if _, err := dir.Settle(); err != nil {
		return 0, err
	}

	return floor, p.measureAfter(part, dir.Path)
}

// places returns, for each snapshot with which a replay of the home's log can begin, the record
// that leads to it.
func (p *pruning) places(list []snapshots.Entry) (map[string]uint64, error) {
	l, err := p.readCheckedLog()
	if err != nil {
		return nil, err
	}
	defer l.Close()

	places := make(map[string]uint64)

	for _, e := range list {
		in, err := install.PlaceOf(l, e.Manifest)
		if errors.Is(err, storage.ErrOtherLog) || err == nil && in.Index+1 < l.First() {
			continue
		}
		if err != nil {
			return nil, err
		}
		places[e.ID] = in.Index
	}

	return places, nil
}

// log removes the records that nothing holds, by whole segments. durable and snapshot are what the
// state and the snapshots say.
func (p *pruning) log(ctx context.Context, durable, snapshot uint64) error {
	dir, part := home.LogDir(p.home), &p.report.Log
	if err := p.measure(part, "log", dir); err != nil {
		return err
	}
	l, err := p.readCheckedLog()
	if err != nil {
		return err
	}
	st := l.Stat()
	err = p.holdRecords(ctx, l, durable, snapshot)
	if err = errors.Join(err, l.Close()); err != nil {
		return err
	}

	part.First, part.Last = st.First, st.Durable
	part.settle()

	// A segment is removed whole, and the newest one stays.
	front := part.First
	for i := 1; i < len(st.Segments) && st.Segments[i].First <= part.Kept; i++ {
		front = st.Segments[i].First
	}
	part.Kept = front

	if p.o.DryRun || front == part.First {
		return nil
	}
	if err := p.cutLog(dir); err != nil {
		return err
	}

	return p.measureAfter(part, dir)
}

// holdRecords notes what holds the records of the log.
func (p *pruning) holdRecords(ctx context.Context, l *eventlog.Log, durable, snapshot uint64) error {
	part, st := &p.report.Log, l.Stat()
	if p.config.Log.Retain == config.RetainAll {
		part.hold(st.First, "log.retain = %s", config.RetainAll)
	}
	if keep, ok := p.config.Log.RetainBytes(); ok {
		part.hold(newestBytes(st, keep), "log.retain = %d bytes", keep)
	}

	part.hold(durable+1, "%s: what the state on the disk does not have", retention.RetainState)
	if snapshot > 0 {
		part.hold(snapshot, "%s: what follows the oldest snapshot", retention.RetainSnapshots)
	} else {
		part.hold(st.First, "%s: there is none, and replay begins with one; 'coppice snapshot create' takes one",
			retention.RetainSnapshots)
	}

	pool, err := poolFloor(ctx, l, p.o.Progress)
	if err != nil {
		return err
	}
	if pool <= st.Durable {
		part.hold(pool, "%s: the oldest acknowledged transaction without a result", mempool.RetainerName)
	}

	for name, floor := range p.followers {
		if floor >= st.First { // otherwise the log has lost what it needed
			part.hold(floor, "follower %s", name)
		}
	}

	if _, err := backends.Read(p.home); errors.Is(err, fs.ErrNotExist) {
		part.hold(st.First, "%s is missing, and the next start makes it from the log", backends.Path(p.home))
	}

	return nil
}

// readFollowers reads the note of the followers, without those that do not come back.
func (p *pruning) readFollowers() (err error) {
	p.followers, err = retention.ReadFollowers(p.disk, p.home)
	if errors.Is(err, retention.ErrFollowers) {
		err = fmt.Errorf("%w: %w: if no reader of the log needs old records, remove the file", exit.ErrDamage, err)
	}
	if err != nil {
		return err
	}

	for _, name := range p.o.Forget {
		if _, ok := p.followers[name]; !ok {
			return fmt.Errorf("%w: follower %q is not noted in %s", exit.ErrConfig, name, home.FollowersPath(p.home))
		}
		delete(p.followers, name)
	}

	return nil
}

// newestBytes returns the first record of the fewest newest segments that have as many bytes.
func newestBytes(st eventlog.Stat, keep int64) uint64 {
	for _, s := range slices.Backward(st.Segments) {
		if keep -= s.Bytes; keep <= 0 {
			return s.First
		}
	}
	return st.First
}

// cutLog removes the segments below the lowest record that is kept.
func (p *pruning) cutLog(dir string) error {
	p.o.Progress("cut the log", 0, 0)
	keep, _ := p.config.Log.RetainBytes()
	l, err := eventlog.Open(dir, eventlog.Options{FS: p.logs, SegmentSize: p.config.Log.SegmentBytes,
		Retention: eventlog.Retention{Bytes: keep}, QuickOpen: true})
	if err != nil {
		return err
	}

	for _, h := range p.report.Log.Holds {
		l.Retain(h.Name, h.First)
	}

	_, err = l.Truncate(p.report.Log.Kept)
	p.report.Log.Kept = l.First()
	return errors.Join(err, l.Close())
}

// oldestForPeers returns the height of the oldest snapshot for peers that the next start keeps; 0
// if it keeps none.
func (p *pruning) oldestForPeers() (uint64, error) {
	if p.config.StateSync.EveryHeights == 0 {
		return 0, nil
	}
	list, err := portable.Dir{FS: p.disk, Path: home.StateSyncDir(p.home)}.List()
	if err != nil || len(list) == 0 {
		return 0, err
	}
	return list[max(0, len(list)-p.config.StateSync.Keep)].Height, nil
}
