package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/proto"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/storage/apphash"
	"github.com/coppice-go/coppice/internal/recordlog"
	"github.com/coppice-go/coppice/internal/syserr"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// Options configure a DB. The zero value is ready for use.
type Options struct {
	// FS is the file system; nil means the operating system's.
	FS vfs.FS

	// CacheBytes limits the cache of table blocks; 0 means 64 MiB.
	CacheBytes int64

	// MemTableBytes is the size at which a memtable is written out; 0 means 16 MiB. A crash loses
	// at most a few memtables, and the log restores what they held.
	MemTableBytes uint64

	// FlushEvery is the number of records of the event log after which a commit asks for a flush in
	// the background, so that redo stays short when blocks are small and rare; 0 means 65536.
	FlushEvery uint64

	// Logger receives Pebble's diagnostics; nil drops them.
	Logger Logger

	// ReadOnly opens an existing state and changes no byte of it. A call that would write returns
	// an error.
	ReadOnly bool

	// Committed, if set, is called for each committed block, but not for redone blocks. It receives
	// the number of results in the block and the duration of the commit. It must return at once.
	Committed func(txs int, took time.Duration)

	recent recentLimits // zero: defaultRecent

	// OnFatal is called once, when Pebble can neither continue nor be stopped in order: it could
	// not write its manifest and still holds its locks. The error says why. OnFatal must end the
	// process; if it is nil, the DB panics. Nothing is lost, because the event log has all commits.
	OnFatal func(error)
}

// Logger receives diagnostics, with formats as in package fmt.
type Logger interface {
	Infof(format string, args ...any)
	Errorf(format string, args ...any)
}

const (
	defaultCache      = 64 << 20
	defaultMemTable   = 16 << 20
	defaultFlushEvery = 1 << 16
)

// DB is the replicated state. Its methods are safe for concurrent use. The methods that read
// committed data (State, Get, Result, Block, GetLocal, and those of a Reader) and PutLocal take no
// lock that a commit holds. The methods that stage, commit, flush or prune run one at a time. No
// method may be called after Close. In a node, the lease ensures that.
type DB struct {
	dir  string
	o    Options
	pdb  *pebble.DB
	lock *pebble.Lock

	published atomic.Pointer[published] // the state that readers see; replaced after each commit
	recent    recent

	failOnce sync.Once
	failed   chan struct{} // closed after failure is set
	failure  error

	spoilt   atomic.Bool // an operation did not end as it should: see Reusable
	caughtUp atomic.Bool // a block was committed since the open: the redo is over

	mu                  sync.Mutex // held to stage, commit, flush or prune
	keyHasher, idHasher *apphash.Hasher
	acc                 apphash.Accumulator
	staged              *staging // may stand on a sealed block that is not committed yet
	flushed             uint64   // applied index when the last flush was asked for

	pruning                sync.Mutex // held to prune
	prunedTo, prunedBlocks place      // how far pruning got in this run

	pinning sync.Mutex // guards pins
	pins    map[*Pinned]struct{}
}

// published is one committed state, immutable.
type published struct {
	record
	chain  *logv1.ChainStarted // nil: no chain has started
	pruned place               // reads below this are refused
	reset  *chain.Reset        // under chain.ResetKey; nil: there is none
}

// place is a height in a period.
type place struct{ Period, Height uint64 }

func (p place) before(o place) bool {
	return p.Period < o.Period || p.Period == o.Period && p.Height < o.Height
}

// Open opens the state in dir, and creates it if it is missing. Errors: ErrInUse, ErrFormat,
// ErrDamaged, or an error of the file system.
func Open(dir string, o Options) (_ *DB, err error) {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = defaultCache
	}
	if o.MemTableBytes == 0 {
		o.MemTableBytes = defaultMemTable
	}
	if o.FlushEvery == 0 {
		o.FlushEvery = defaultFlushEvery
	}

	if !o.ReadOnly {
		if err := o.FS.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("state %s: %w", dir, err)
		}
	}

	lock, err := pebble.LockDirectory(dir, o.FS)
	if o.ReadOnly && (errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission)) {
		// Nobody can write here, so there is nobody to keep out.
		lock, err = pebble.LockDirectory(dir, unlocked{o.FS})
	}
	if err != nil {
		if !errors.As(err, new(*fs.PathError)) { // the lock file could be opened, so the lock was refused
			err = fmt.Errorf("%w: %w", ErrInUse, err)
		}
		return nil, fmt.Errorf("state %s: %w", dir, err)
	}

	if err := checkManifest(o.FS, dir); err != nil {
		return nil, fmt.Errorf("state %s: %w", dir, errors.Join(openError(err), lock.Close()))
	}

	d := &DB{dir: dir, o: o, lock: lock, failed: make(chan struct{}), keyHasher: apphash.NewHasher(),
		idHasher: apphash.NewHasher()}
	if d.pdb, err = pebble.Open(dir, d.pebbleOptions()); err != nil {
		return nil, fmt.Errorf("state %s: %w", dir, errors.Join(openError(err), lock.Close()))
	}
	if err := d.load(); err != nil {
		return nil, fmt.Errorf("state %s: %w", dir, errors.Join(classify(err), d.pdb.Close(), lock.Close()))
	}

	return d, nil
}

// checkManifest returns an error for a MANIFEST that has other bytes than were written. Pebble ends
// at such a place without an error. The state would then be an older one, in which numbers are used
// again that its tables already have, and a later compaction would fail.
func checkManifest(fs vfs.FS, dir string) error {
	desc, err := pebble.Peek(dir, fs)
	if err != nil || !desc.Exists {
		return err
	}
	f, err := fs.Open(desc.ManifestFilename)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := recordlog.Check(data); err != nil {
		return fmt.Errorf("%s: %w", fs.PathBase(desc.ManifestFilename), err)
	}
	return nil
}

// openError returns an error of pebble.Open with its class: ErrNone, or ErrDamaged for damaged
// files. The error of a disk that is full or failing stays as it is.
func openError(err error) error {
	if errors.Is(err, pebble.ErrDBDoesNotExist) {
		return fmt.Errorf("%w: %w", ErrNone, err)
	}
	if syserr.Is(err) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}

// unlocked is a file system on which locks exclude nobody.
type unlocked struct{ vfs.FS }

// Lock implements vfs.FS.
func (unlocked) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

func (d *DB) pebbleOptions() *pebble.Options {
	po := &pebble.Options{
		FS:                          manifestFirst{d.o.FS},
		Lock:                        d.lock,
		DisableWAL:                  true, // docs/adr/0022
		ReadOnly:                    d.o.ReadOnly,
		FormatMajorVersion:          pebble.FormatTableFormatV6,
		CacheSize:                   d.o.CacheBytes,
		MemTableSize:                d.o.MemTableBytes,
		MemTableStopWritesThreshold: 4,
		CompactionConcurrencyRange:  d.compactions,
		Logger:                      pebbleLogger{d},
		EventListener: &pebble.EventListener{
			BackgroundError: func(err error) { d.fail("in the background", err) },
			DataCorruption:  func(i pebble.DataCorruptionInfo) { d.fail("reading "+i.Path, i.Details) },
		},
	}

	for i := range po.Levels {
		po.Levels[i].FilterPolicy = bloom.FilterPolicy(10) // most looked up ids are new and therefore absent
	}
	return po
}

// compactions returns how many compactions may run. Until the first commit, none runs unless there
// is a backlog: after a crash, those that it cut off would take the processors from the redo.
func (d *DB) compactions() (lower, upper int) {
	if d.caughtUp.Load() {
		return 1, 1
	}
	return 0, 1
}

// pebbleLogger passes Pebble's diagnostics on, and keeps Pebble from ending the process by itself.
type pebbleLogger struct{ d *DB }

func (l pebbleLogger) Infof(format string, args ...any) {
	if l.d.o.Logger != nil {
		l.d.o.Logger.Infof(format, args...)
	}
}

func (l pebbleLogger) Errorf(format string, args ...any) {
	if l.d.o.Logger != nil {
		l.d.o.Logger.Errorf(format, args...)
	}
}

func (l pebbleLogger) Fatalf(format string, args ...any) {
	err := l.d.fail("beyond repair", fmt.Errorf(format, args...))
	if l.d.o.OnFatal != nil {
		l.d.o.OnFatal(err)
	}
	panic(err) // if Pebble went on, it would delete tables that its manifest may already name
}

// fail stores err as the error that all later calls return. If the DB has failed already, the first
// failure stays. fail returns the stored failure.
func (d *DB) fail(where string, err error) error {
	d.failOnce.Do(func() {
		d.failure = fmt.Errorf("state %s: %w %s: %w", d.dir, errFailed, where, classify(err))
		close(d.failed)
	})
	return d.failure
}

// classify wraps an error of Pebble in ErrDamaged if it says that a file is not as it was written:
// its bytes are not, it is shorter than it should be, or it is gone. Every error that reading the
// database returns goes through here.
func classify(err error) error {
	switch {
	case err == nil, errors.Is(err, ErrDamaged), errors.Is(err, ErrFormat):
		return err
	case pebble.IsCorruptionError(err), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

// Failed returns a channel that is closed when the DB fails; Err then returns the reason.
func (d *DB) Failed() <-chan struct{} { return d.failed }

// Err returns nil, or the failure of class errFailed that every operation returns since it
// happened.
func (d *DB) Err() error {
	select {
	case <-d.failed:
		return d.failure
	default:
		return nil
	}
}

// load reads the entries under spaceMeta, and turns an empty database into a state.
func (d *DB) load() error {
	format, found, err := d.get(metaFormat)
	if err != nil {
		return err
	}

	want := fmt.Appendf(nil, "%s%d", formatName, formatVersion)

	switch {
	case !found:
		it, err := d.pdb.NewIter(nil)
		if err != nil {
			return err
		}

		empty := !it.First()
		if err := errors.Join(it.Error(), it.Close()); err != nil {
			return err
		}
		if !empty {
			return fmt.Errorf("%w: the database has no %q key, so another program made it", ErrFormat, metaFormat)
		}

		if !d.o.ReadOnly {
			if err := d.pdb.Set(metaFormat, want, pebble.NoSync); err != nil {
				return err
			}
		}
	case string(format) != string(want):
		return fmt.Errorf("%w: format is %q, want %q", ErrFormat, clip(format), want)
	}

	p := new(published)

	if b, found, err := d.get(metaState); err != nil {
		return err
	} else if found {
		if p.record, err = decodeRecord(b); err != nil {
			return err
		}
	}

	if b, found, err := d.get(metaChain); err != nil {
		return err
	} else if found {
		p.chain = new(logv1.ChainStarted)
		if err := proto.Unmarshal(b, p.chain); err != nil {
			return fmt.Errorf("%w: ChainStarted: %w", ErrDamaged, err)
		}
	}

	if b, found, err := d.get(metaAccumulator); err != nil {
		return err
	} else if found {
		acc, err := apphash.Decode(b)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		d.acc = *acc
	}

	if b, found, err := d.get(metaPruned); err != nil {
		return err
	} else if found {
		if p.pruned, err = decodePlace(b); err != nil {
			return err
		}
	}

	if (p.chain != nil) != (p.ChainID != "") {
		return fmt.Errorf("%w: only one of ChainStarted and the state record is present", ErrDamaged)
	}

	if p.chain != nil && string(d.acc.Hash(p.Period)) != string(p.AppHash) {
		return fmt.Errorf("%w: the accumulator gives app hash %x, the state record has %x", ErrDamaged,
			d.acc.Hash(p.Period), p.AppHash)
	}

	if p.reset, err = d.loadReset(); err != nil {
		return err
	}
	if err := d.loadRecent(p.ClockNs); err != nil {
		return err
	}

	d.flushed = p.Index
	d.published.Store(p)

	return nil
}

// Close flushes what is committed and closes the state. After a failure of the DB it does not
// flush, and it drops the error of closing Pebble, because Err has the cause.
func (d *DB) Close() error {
	d.unpin()
	d.mu.Lock()
	defer d.mu.Unlock()

	var flush error

	if d.Err() == nil && !d.o.ReadOnly {
		var done <-chan struct{}
		if done, flush = d.askFlush(); flush == nil {
			flush = d.waitFlush(done)
		}
	}

	err := d.pdb.Close()
	if d.Err() != nil {
		err = nil
	}

	return errors.Join(flush, err, d.lock.Close())
}

// Reusable reports whether another incarnation of storage may use the DB: it has not failed, and
// each operation of the engine on it has returned, without a sign of damage. What the operations
// wrote is in it then, and what is staged is of no use any more.
func (d *DB) Reusable() bool { return !d.spoilt.Load() && !d.o.ReadOnly && d.Err() == nil }

// Renew prepares the DB for another incarnation of storage: no block is staged. It reports whether
// the DB is still reusable.
func (d *DB) Renew() bool {
	d.mu.Lock()
	defer d.mu.Unlock()

	d.staged = nil

	return d.Reusable()
}

// get returns a copy of the value of a key. key includes the byte of its space.
func (d *DB) get(key []byte) (value []byte, found bool, err error) {
	v, closer, err := d.pdb.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, d.fail(fmt.Sprintf("reading %q", clip(key)), err)
	}

	value = append([]byte{}, v...)
	return value, true, closer.Close()
}

// lookup calls found for each of the keys that exists, with its index in keys and its value. The
// memory of the value is valid only during the call. lookup visits the keys in order with one
// iterator, which costs half as much as single reads.
func (d *DB) lookup(keys [][]byte, found func(i int, value []byte) error) error {
	if len(keys) == 0 {
		return nil
	}
	order := make([]int, len(keys))
	for i := range order {
		order[i] = i
	}

	slices.SortFunc(order, func(a, b int) int { return bytes.Compare(keys[a], keys[b]) })
	it, err := d.pdb.NewIter(&pebble.IterOptions{UseL6Filters: true}) // most keys are absent
	if err != nil {
		return d.fail("reading", err)
	}
	defer it.Close()

	for _, i := range order {
		if it.SeekPrefixGE(keys[i]) {
			if err := found(i, it.Value()); err != nil {
				return d.fail("reading", err)
			}
		} else if err := it.Error(); err != nil {
			return d.fail(fmt.Sprintf("reading %q", clip(keys[i])), err)
		}
	}

	return nil
}

// commit applies a batch. Any failure makes the DB fail.
func (d *DB) commit(b *pebble.Batch, what string) error {
	if err := d.Err(); err != nil {
		b.Close()
		return err
	}
	if err := b.Commit(pebble.NoSync); err != nil {
		return d.fail(what, err)
	}
	return nil
}

// Started returns the record that began the chain, or nil if no chain has started. The caller must
// not change it.
func (d *DB) Started() *logv1.ChainStarted { return d.published.Load().chain }

// State returns the state of the committed chain.
func (d *DB) State() chain.State { return d.published.Load().state() }

func (p *published) state() chain.State {
	if p.chain == nil {
		return chain.State{}
	}
	return chain.State{
		ChainID: p.ChainID, Period: p.Period, InitialHeight: p.InitialHeight, Height: p.Height,
		BlockHash: p.BlockHash, Time: time.Unix(0, p.TimeNs), AppHash: p.AppHash, Index: p.Index,
		Params: p.chain.Params, Reset: p.reset,
	}
}
