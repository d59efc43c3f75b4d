package inflight

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sync/semaphore"
	"golang.org/x/sys/unix"

	"github.com/coppice-go/coppice/engines/chain"
)

// The files in a table's directory.
const (
	marksFile  = "marks"
	deathsFile = "deaths.json"
)

// Table is this process's marks, and what is known of transactions that were marked when one died.
// It is safe for concurrent use. One process at a time may have a directory open; the caller sees
// to that.
type Table struct {
	head  *header
	slots []slot

	// While there are suspects, Slots turns are shared out: one to whoever runs, all of them to a
	// suspect. Nobody who waits, for a place or a read, holds any, so turns go round.
	turns *semaphore.Weighted
	known atomic.Pointer[map[chain.TxID]record] // replaced, never changed; nil: no suspects

	path     string // of the file of deaths
	mu       sync.Mutex
	ledger   ledger
	previous Previous
}

// Previous is what Open found.
type Previous struct {
	Died    []Flight // what was running when the process before died; empty if it did not, or nothing was running
	Ignored string   // why the marks that were there do not count; empty if they do, or there were none
}

// Open counts the marks that the process before has left in dir, and begins a table of its own. A
// file of marks that cannot be read counts for nothing: it is never synced, so a power cut may
// leave anything there, and to miss a death costs one more. A file of deaths that cannot be read is
// ErrDeaths: to pass over it could execute again what is known to kill.
func Open(dir string) (*Table, error) { return open(dir, currentBoot()) }

func open(dir string, boot name) (*Table, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}

	t := &Table{turns: semaphore.NewWeighted(Slots), path: filepath.Join(dir, deathsFile)}
	var err error
	if t.ledger, err = readLedger(t.path); err != nil {
		return nil, err
	}
	marks := filepath.Join(dir, marksFile)
	if err := t.learn(marks, boot); err != nil {
		return nil, err
	}

	t.publish()
	var run name
	rand.Read(run[:]) // never fails: crypto/rand ends the process instead
	mem, err := mapMarks(marks, run, boot)
	if err != nil {
		return nil, err
	}

	t.head = (*header)(unsafe.Pointer(unsafe.SliceData(mem)))
	t.slots = unsafe.Slice((*slot)(unsafe.Pointer(&mem[headerSize])), Slots)
	// Not at Close: a worker that ignored its stop may still leave then.
	// an error leaves it mapped, which harms nobody
	runtime.AddCleanup(t, func(mem []byte) { _ = unix.Munmap(mem) }, mem)

	return t, nil
}

// learn counts the marks at path: the deaths are durable before the marks are replaced, and the
// run's name keeps a process that dies in between from counting them twice.
func (t *Table) learn(path string, boot name) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}

	f, err := parseMarks(data)
	switch {
	case err != nil:
		t.previous.Ignored = err.Error()
		return nil
	case f.closed || len(f.flights) == 0:
		return nil
	case f.boot != boot:
		t.previous.Ignored = "the system was booted since"
		return nil
	}

	if !t.ledger.count(f.run, f.flights) {
		return nil
	}

	t.previous.Died = f.flights

	return t.ledger.write(t.path)
}

// publish makes the ledger what Enter and Deaths go by.
func (t *Table) publish() {
	if known := t.ledger.known(); known != nil {
		t.known.Store(&known)
	} else {
		t.known.Store(nil)
	}
}

// Previous is what Open found.
func (t *Table) Previous() Previous { return t.previous }

// File is where the deaths are written, for people who want to look, or to forget them.
func (t *Table) File() string { return t.path }

// Enter marks a transaction whose backend code is about to run, and answers what Leave wants. While
// there are suspects it may wait for others to leave; when ctx ends meanwhile it waits no longer,
// and marks all the same.
func (t *Table) Enter(ctx context.Context, id chain.TxID, atPlace bool) (mark uint64) {
	if known := t.known.Load(); known != nil {
		turns := int64(1)
		if _, suspect := (*known)[id]; suspect {
			turns = Slots
		}
		if t.turns.Acquire(ctx, turns) == nil {
			mark = uint64(turns) << 32
		}
	}

	state := eager
	if atPlace {
		state = placed
	}

	first := binary.LittleEndian.Uint32(id[:]) // a hash's, so that workers seldom meet

	for i := range uint32(Slots) {
		at := (first + i) % Slots
		s := &t.slots[at]
		if s.state.Load() != free || !s.state.CompareAndSwap(free, claimed) {
			continue
		}

		s.id = id
		s.state.Store(state)
		mark |= uint64(at + 1)
		break
	}

	runtime.KeepAlive(t) // and with it the mapping

	return mark
}

// Leave takes a mark back. Each is left once.
func (t *Table) Leave(mark uint64) {
	if at := uint32(mark); at != 0 {
		t.slots[at-1].state.Store(free)
	}
	if turns := int64(mark >> 32); turns != 0 {
		t.turns.Release(turns)
	}
	runtime.KeepAlive(t)
}

// Deaths answers at how many deaths of a process the transaction was in flight: before it had its
// place, and at it. A transaction that ended since has none.
func (t *Table) Deaths(id chain.TxID) (eager, placed int) {
	if known := t.known.Load(); known != nil {
		r := (*known)[id]
		return r.Eager, r.Placed
	}
	return 0, 0
}

// Forget drops transactions that have ended, durably.
func (t *Table) Forget(ids []chain.TxID) error {
	t.mu.Lock()
	defer t.mu.Unlock()

	gone := make(map[string]bool, len(ids))
	for _, id := range ids {
		gone[id.String()] = true
	}

	l := t.ledger
	l.forget(gone)
	if len(l.Transactions) == len(t.ledger.Transactions) {
		return nil
	}
	if err := l.write(t.path); err != nil {
		return err
	}

	t.ledger = l
	t.publish()

	return nil
}

// Close says that the process stops in order: what is marked now counts for nothing. Whoever still
// runs may go on to Enter and Leave.
func (t *Table) Close() {
	t.head.closed.Store(1)
	runtime.KeepAlive(t)
}
