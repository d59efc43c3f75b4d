package streams

import (
	"context"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/supervisor"
)

// The ids of the engine's children.
const (
	ManagerID = "manager"
	SlotsID   = "slots"
)

// tick is how often the manager writes slot files and looks at the log.
const tick = time.Second

// Engine makes the children of the supervisor of streams, which restarts them rest_for_one: the
// manager, and the dynamic supervisor of the slots. intensity is that of the slots.
func (s *Streams) Engine(slots supervisor.Intensity) (manager, dynamic supervisor.StartFunc, err error) {
	d, err := supervisor.NewDynamic(supervisor.DynamicSpec[*slot]{
		Name: SlotsID, Restart: supervisor.Permanent, Shutdown: supervisor.Infinity, Intensity: slots, Verbose: true,
		Start: func(_ context.Context, sl *slot) (supervisor.Service, error) { return supervisor.New(sl.spec()) },
	})
	if err != nil {
		return nil, nil, err
	}

	manager = func(context.Context) (supervisor.Service, error) { return &keeper{s: s, slots: d}, nil }
	dynamic = func(context.Context) (supervisor.Service, error) { return d, nil }

	return manager, dynamic, nil
}

// spec is the supervisor of a slot. It has no limit, so that no sink's failures reach the
// supervisors above; the backoff sets the pace.
func (sl *slot) spec() supervisor.Spec {
	return supervisor.Spec{
		Name: sl.name, Strategy: supervisor.OneForOne,
		Intensity: supervisor.Intensity{Max: supervisor.Unlimited, Period: time.Minute},
		Build: func(context.Context) ([]supervisor.Child, error) {
			return []supervisor.Child{{
				ID: "writer", Orphan: supervisor.Abandon, Shutdown: 2 * sl.s.o.Deadline,
				Backoff: supervisor.Backoff{Min: 100 * time.Millisecond, Max: time.Minute, Factor: 2, Jitter: 0.5},
				Start: func(context.Context) (supervisor.Service, error) {
					return &writer{slot: sl}, nil
				},
			}}, nil
		},
	}
}

// keeper starts the slots, writes their files, and keeps them within their caps.
type keeper struct {
	s       *Streams
	slots   *supervisor.Dynamic[*slot]
	started map[string]*slot
}

// String names the service in reports.
func (*keeper) String() string { return "manager of streams" }

// Serve works until ctx ends.
func (m *keeper) Serve(ctx context.Context) error {
	m.started = make(map[string]*slot)
	faults := supervisor.Faults(ctx)
	wait := time.NewTimer(0)
	defer wait.Stop()

	for {
		select {
		case <-wait.C:
		case f := <-faults:
			f.Do(ctx)
			continue
		case <-ctx.Done():
			m.save()
			return context.Cause(ctx)
		}

		next := tick
		if !m.start(ctx) {
			next = time.Millisecond
		}
		m.round(ctx)
		wait.Reset(next)
	}
}

// start starts and stops slots. It returns false while the supervisor of the slots is not up.
func (m *keeper) start(ctx context.Context) bool {
	for _, sl := range m.s.all() {
		if m.s.without(sl.name) {
			continue
		}
		if was := m.started[sl.name]; was != nil && was != sl { // dropped, and added again
			if !m.stop(ctx, sl.name) {
				continue
			}
		}
		_, err := m.slots.StartChild(ctx, sl.name, sl)
		if errors.Is(err, supervisor.ErrNotRunning) {
			return false
		}
		running := errors.Is(err, supervisor.ErrAlreadyStarted) || errors.Is(err, supervisor.ErrAlreadyPresent)
		if err != nil && !running {
			m.s.o.Diagnostics.Error("a stream cannot be started", zap.String("stream", sl.name), zap.Error(err))
		}
		m.started[sl.name] = sl
	}

	for name := range m.started {
		if _, err := m.s.slot(name); err != nil {
			m.stop(ctx, name)
		}
	}

	return true
}

// stop ends the child of a slot that was dropped, and reports whether it is gone.
func (m *keeper) stop(ctx context.Context, name string) bool {
	err := m.slots.TerminateChild(ctx, name)
	if err != nil && !errors.Is(err, supervisor.ErrNotFound) {
		return false
	}
	delete(m.started, name)
	return true
}

// round writes slot files and raises floors.
func (m *keeper) round(ctx context.Context) {
	log, err := m.s.o.Log()
	if err == nil {
		var st eventlog.Stat
		if st, err = log.Stat(ctx); err == nil {
			for _, sl := range m.s.all() {
				sl.advance(m.s.now(), st)
				sl.cap(m.s.now(), st)
			}
			m.s.room(st)
		}
	}
	m.save()
}

func (m *keeper) save() {
	for _, sl := range m.s.all() {
		if err := sl.save(); err != nil {
			m.s.o.Diagnostics.Error("a slot file cannot be written", zap.Error(err))
		}
	}
}

func (s *Streams) without(name string) bool {
	for _, w := range s.o.Without {
		if w == name {
			return true
		}
	}
	return false
}

// logID returns the id of a log in hexadecimal.
func logID(l *eventlog.Log) string {
	id := l.ID()
	return hex.EncodeToString(id[:])
}

// riskShare is the share of a cap at which a slot is at risk of being lost (R11).
const riskShare = 0.5

// held returns how many bytes of the log would be removed if there were no slots (R11). st is of
// the log.
func (sl *slot) held(st eventlog.Stat) int64 {
	if sl.retainer == nil || sl.s.o.KeepsAll {
		return 0
	}
	others := st.Durable + 1
	for _, r := range st.Retainers {
		if !strings.HasPrefix(r.Name, retainerName("")) && !strings.HasPrefix(r.Name, RetainerPrefix) {
			others = min(others, r.Floor)
		}
	}
	if sl.file.Floor >= others {
		return 0
	}
	return bytesFrom(st, sl.file.Floor) - bytesFrom(st, others)
}

// caps returns how much of the log a slot may hold; 0 is no cap. A required slot has only the caps
// that differ from the defaults (R11).
func (d Definition) caps(required bool) (bytes int64, age time.Duration) {
	bytes, age = d.KeepBytes, d.KeepTime
	if required && bytes == DefaultKeepBytes {
		bytes = 0
	}
	if required && age == DefaultKeepTime {
		age = 0
	}
	return bytes, age
}

// cap releases the log of a slot that is past its cap.
func (sl *slot) cap(now time.Time, st eventlog.Stat) {
	required := sl.required()

	sl.mu.Lock()
	held := sl.held(st)
	maxBytes, maxTime := sl.def.caps(required)
	risk := sl.uses(held, maxBytes, maxTime, now)
	warn := risk >= riskShare && !sl.warned && !sl.file.Lost
	sl.warned = risk >= riskShare
	over := risk > 1 && !sl.file.Lost
	sl.mu.Unlock()

	if warn && !over {
		sl.s.o.Diagnostics.Warn("a stream is at risk: half of what the log may keep for it is used",
			zap.String("stream", sl.name), zap.Int64("held_bytes", held), zap.Float64("used", risk))
		sl.s.news()
	}
	if over {
		sl.lose(held, "it is past its cap")
	}
}

// room lets the log of one slot go if the disk has too little room: that of the one that holds
// most, and for which no gate waits.
func (s *Streams) room(st eventlog.Stat) {
	if s.o.Scarce == nil || !s.o.Scarce() {
		return
	}

	var most *slot
	var bytes int64
	for _, sl := range s.all() {
		if sl.required() {
			continue
		}
		sl.mu.Lock()
		held := sl.held(st)
		sl.mu.Unlock()
		if held > bytes {
			most, bytes = sl, held
		}
	}
	if most != nil {
		most.lose(bytes, "the disk has less free space than streams.keep_free, and it holds most")
	}
}

// uses returns which share of its caps a slot uses that holds so many bytes; above 1 it is past
// one. The caller holds mu.
func (sl *slot) uses(held, maxBytes int64, maxTime time.Duration, now time.Time) (share float64) {
	if held == 0 {
		return 0
	}
	if maxBytes > 0 {
		share = float64(held) / float64(maxBytes)
	}
	if maxTime > 0 && !sl.file.Acks.IsZero() {
		share = max(share, float64(now.Sub(sl.file.Acks))/float64(maxTime))
	}
	return share
}

// required reports whether a gate waits for the slot. It must not be called under mu: gates ask for
// slots.
func (sl *slot) required() bool { return sl.s.o.Required != nil && sl.s.o.Required(sl.name) }

// lose lets the log of a slot go, durably.
func (sl *slot) lose(held int64, why string) {
	sl.mu.Lock()
	if sl.file.Lost || sl.gone {
		sl.mu.Unlock()
		return
	}

	sl.file.Lost, sl.dirty = true, true
	err := sl.saveLocked()
	sl.wakeLocked()
	sl.mu.Unlock()

	sl.s.o.Diagnostics.Error("a stream is lost: the log is no longer kept for it", zap.String("stream", sl.name),
		zap.String("why", why), zap.Int64("held_bytes", held), zap.Error(err))
	sl.s.news()
}

// density is how many events a slot delivers per byte of the log, of late. It makes an estimate of
// the events that the slot lacks out of the bytes that it lacks, so that nobody must read them.
type density struct {
	perByte float64 // 0: not known yet
	index   uint64  // the slot's record at the last note
	events  uint64  // delivered until then
}

// densityShare is the weight of the newest second in the average.
const densityShare = 0.3

// note takes in what was delivered since the last note. st is of the log.
func (d *density) note(st eventlog.Stat, index, events uint64) {
	from, had := d.index, d.events
	if index == from && events == had {
		return
	}
	d.index, d.events = index, events

	passed := bytesFrom(st, from+1) - bytesFrom(st, index+1)
	if from == 0 || passed <= 0 || events < had {
		return // the first note, or a rewind
	}

	now := float64(events-had) / float64(passed)
	if d.perByte == 0 {
		d.perByte = now
		return
	}
	d.perByte += densityShare * (now - d.perByte)
}

// lag returns about how many events lie in so many bytes of the log; -1 if it is not known.
func (d *density) lag(bytes int64) int64 {
	switch {
	case bytes == 0:
		return 0
	case d.perByte == 0:
		return -1
	}
	return int64(d.perByte*float64(bytes) + 0.5)
}
