package inflight

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
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

// Table holds the marks of this process, and the record of the transactions that were marked when a
// process died. It is safe for concurrent use. Only one process at a time may have a directory
// open; the caller ensures that.
type Table struct {
	head  *header
	slots []slot

	// While there are suspects, turns shares out Slots turns: one to each transaction that runs,
	// all of them to a suspect. A transaction that waits, for a place or a read, holds no turn, so
	// every transaction gets its turns.
	turns *semaphore.Weighted
	known atomic.Pointer[map[chain.TxID]record] // replaced, never changed; nil: no suspects

	path     string // of the file of deaths
	mu       sync.Mutex
	ledger   ledger
	previous Previous
}

// Previous describes what Open found.
type Previous struct {
	// Died lists the transactions that were running when the previous process died. It is empty if
	// that process did not die, or if none was running.
	Died []Flight

	// Ignored is the reason why the marks that were found do not count. It is empty if they count,
	// or if there were none.
	Ignored string
}

// Open counts the marks that the previous process left in dir, and begins a new table. It ignores a
// file of marks that it cannot read: the file is never synced, so a power cut may leave anything in
// it. A death that is missed in this way costs only one more death. A file of deaths that cannot be
// read is ErrDeaths, because a node that ignored it might again execute a transaction that is known
// to end the process.
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
	// The cleanup does not run at Close, because a worker that ignored its stop may still call
	// Leave then. If unmapping fails, the memory stays mapped, which is harmless.
	runtime.AddCleanup(t, func(mem []byte) { _ = unix.Munmap(mem) }, mem)

	return t, nil
}

// learn counts the marks at path. The deaths are durable before the marks are replaced. The name of
// the run keeps a process that dies in between from counting them twice.
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

// publish puts the ledger in t.known, where Enter and Deaths read it.
func (t *Table) publish() {
	if known := t.ledger.known(); known != nil {
		t.known.Store(&known)
	} else {
		t.known.Store(nil)
	}
}

// Previous returns what Open found.
func (t *Table) Previous() Previous { return t.previous }

// File returns the path of the file of deaths. An operator may read that file, or remove it to
// forget the deaths.
func (t *Table) File() string { return t.path }

// Enter marks a transaction whose backend code is about to run, and returns the mark for Leave.
// While there are suspects, it may wait for other transactions to leave. If ctx ends meanwhile, it
// stops waiting and marks the transaction anyway.
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

	first := binary.LittleEndian.Uint32(id[:]) // the id is a hash, so workers seldom pick the same slot

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

// Leave removes a mark. Call it once for each mark.
func (t *Table) Leave(mark uint64) {
	if at := uint32(mark); at != 0 {
		t.slots[at-1].state.Store(free)
	}
	if turns := int64(mark >> 32); turns != 0 {
		t.turns.Release(turns)
	}
	runtime.KeepAlive(t)
}

// Deaths returns the number of process deaths at which the transaction was in flight: ahead of its
// place, and at it. A transaction that has ended since has none.
func (t *Table) Deaths(id chain.TxID) (eager, placed int) {
	if known := t.known.Load(); known != nil {
		r := (*known)[id]
		return r.Eager, r.Placed
	}
	return 0, 0
}

// Suspect is a transaction that was in flight at deaths of the process, and has not ended since.
type Suspect struct {
	ID            string
	Eager, Placed int // deaths ahead of its place, and at it
}

// Suspects returns the transactions that were in flight at deaths of the process, by id. It does
// not wait for a disk.
func (t *Table) Suspects() (list []Suspect) {
	known := t.known.Load()
	if known == nil {
		return nil
	}
	for id, r := range *known {
		list = append(list, Suspect{id.String(), r.Eager, r.Placed})
	}
	slices.SortFunc(list, func(a, b Suspect) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// Forget durably removes the deaths of transactions that have ended.
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

// Close records that the process stops in order, so that the current marks do not count. Workers
// that still run may continue to call Enter and Leave.
func (t *Table) Close() {
	t.head.closed.Store(1)
	runtime.KeepAlive(t)
}
