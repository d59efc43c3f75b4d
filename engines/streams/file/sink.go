package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/supervisor"
)

const (
	// maxFile is the size at which the next delivery begins a new file.
	maxFile = 256 << 20

	// maxPayload is the longest payload of a line; a longer one comes in parts.
	maxPayload = 8 << 20

	// flushAt is how many bytes of lines are written at once.
	flushAt = 1 << 20

	// leaseBound is how long a new writer waits for a write of the old one.
	leaseBound = 30 * time.Second
)

// options are the keys of a definition of the kind file.
type options struct {
	Dir string `toml:"dir"` // relative to the folder of the definition
}

// Factory returns the factory of the kind file.
func Factory() streams.Factory { return factory(osFS{}, maxFile) }

// factory returns the factory for a file system. Its sinks share the leases of their directories.
func factory(fsys FS, size int64) streams.Factory {
	leases := &leases{fs: fsys, open: make(map[string]*supervisor.Lease[*store])}
	return streams.Factory{
		Kind: "file", Version: "1", Ack: streams.Durable, Limits: streams.Limits{Payload: maxPayload},
		New: func(d streams.Definition, _ streams.Secrets) (streams.Sink, error) {
			var o options
			if err := d.Decode(&o); err != nil {
				return nil, err
			}
			if o.Dir == "" {
				return nil, d.Bad("dir", "is missing")
			}
			return &sink{definition: d, fs: fsys, dir: filepath.Clean(d.Path(o.Dir)), leases: leases, size: size}, nil
		},
	}
}

// leases has one lease for each directory, so that a writer of this process that was given up
// cannot write any more.
type leases struct {
	fs   FS
	mu   sync.Mutex
	open map[string]*supervisor.Lease[*store]
}

func (l *leases) of(dir string) *supervisor.Lease[*store] {
	l.mu.Lock()
	defer l.mu.Unlock()

	lease := l.open[dir]
	if lease == nil {
		open := func() (*store, error) { return openStore(l.fs, dir) }
		lease = supervisor.NewLease(open, (*store).close, leaseBound)
		l.open[dir] = lease
	}
	return lease
}

// sink implements streams.Sink, streams.Rewinder, streams.Checker and streams.Bootstrapper.
type sink struct {
	definition streams.Definition

	fs     FS
	dir    string
	leases *leases
	size   int64 // of a file at which the next one is begun

	grant   *supervisor.Grant[*store]
	opening streams.Opening
	cursor  streams.Cursor // after the last unit of a finished Write
	buf     []byte         // lines that are not written yet

	generation string // folder of the one that is being made
}

// Open takes the lock, cuts what follows the last whole unit, and writes the claim.
func (s *sink) Open(ctx context.Context, o streams.Opening) (streams.Cursor, error) {
	c, err := s.Observe(ctx)
	if err != nil {
		return streams.Cursor{}, err
	}
	if c.Epoch >= o.Epoch {
		return streams.Cursor{}, fenced(c.Epoch, o.Epoch)
	}

	s.grant, err = s.leases.of(s.dir).Acquire(ctx)
	if err != nil {
		return streams.Cursor{}, s.fail(err)
	}
	s.opening = o

	err = s.do(func(st *store) error {
		if err := st.recover(); err != nil {
			return err
		}
		if have := st.st.cursor.Epoch; have >= o.Epoch {
			return fenced(have, o.Epoch)
		}
		if err := st.claim(o); err != nil {
			return err
		}
		s.cursor = st.st.cursor
		return nil
	})
	if err != nil {
		return streams.Cursor{}, errors.Join(err, s.Close(ctx))
	}

	return s.cursor, nil
}

func fenced(have, want uint64) error {
	return streams.Fail(streams.Fenced, fmt.Errorf("the sink has seen epoch %d, the claim has %d", have, want))
}

// do runs f while the sink is the only writer.
func (s *sink) do(f func(*store) error) error {
	if s.grant == nil {
		return errors.New("the sink is not open")
	}
	return s.fail(s.grant.Do(f))
}

// Write appends the lines of a delivery, and syncs once.
func (s *sink) Write(ctx context.Context, d streams.Delivery) error {
	w := writer{sink: s, cursor: s.cursor}
	err := s.do(func(st *store) error {
		if st.at >= s.size {
			if err := st.begin(s.cursor); err != nil {
				st.failed = err
				return err
			}
		}
		w.seq, w.synced = st.seq, st.at
		return st.failed
	})
	if err != nil {
		return err
	}

	s.buf = s.buf[:0]
	for {
		e, err := d.Next(ctx)
		if err == io.EOF {
			return w.finish()
		}
		if err != nil {
			return err
		}
		if err := w.add(e); err != nil {
			return err
		}
		d.Credit(e.Size())
	}
}

// writer writes one delivery.
type writer struct {
	*sink
	cursor streams.Cursor // after the last whole unit
	seq    uint64
	synced int64
	wrote  bool
}

func (w *writer) add(e streams.Event) error {
	if !w.cursor.Empty() && e.Position.Compare(w.cursor.Position) <= 0 {
		return nil // the sink has the unit
	}

	w.wrote = true
	w.seq++
	w.buf = appendEvent(w.buf, w.seq, e, w.synced)
	if end, ok := e.Body.(*streams.End); ok {
		if err := w.rests(e, end); err != nil {
			return err
		}
		w.cursor = clone(w.opening.Cursor(e))
	}

	if len(w.buf) >= flushAt {
		return w.flush()
	}
	return nil
}

// rests returns an error if a unit does not rest on the cursor.
func (w *writer) rests(e streams.Event, end *streams.End) error {
	if w.cursor.Carries(end) {
		return nil
	}
	after := "nothing"
	if end.After != nil {
		after = "height " + end.After.String()
	}
	return streams.Fail(streams.BadOrder, fmt.Errorf("height %s rests on %s, the sink stands at %s", e.Position, after,
		w.cursor))
}

// clone copies the memory of an event that a cursor refers to.
func clone(c streams.Cursor) streams.Cursor {
	c.BlockHash, c.AppHash, c.Digest = bytes.Clone(c.BlockHash), bytes.Clone(c.AppHash), bytes.Clone(c.Digest)
	return c
}

func (w *writer) flush() error {
	return w.do(func(st *store) error {
		err := st.write(w.buf)
		st.seq = w.seq
		w.buf = w.buf[:0]
		return err
	})
}

func (w *writer) finish() error {
	if !w.wrote {
		return w.do(func(st *store) error { return st.failed })
	}
	if err := w.flush(); err != nil {
		return err
	}
	if err := w.do(func(st *store) error { return st.sync(w.cursor) }); err != nil {
		return err
	}
	w.sink.cursor = w.cursor
	return nil
}

// Observe reads the newest file.
func (s *sink) Observe(context.Context) (streams.Cursor, error) {
	dir, err := current(s.fs, s.dir)
	if err != nil {
		return streams.Cursor{}, s.fail(err)
	}
	st, err := scan(s.fs, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return streams.Cursor{}, nil
	}
	if err != nil {
		return streams.Cursor{}, s.fail(err)
	}
	return st.cursor, nil
}

// Close gives the directory back.
func (s *sink) Close(context.Context) error {
	if s.grant == nil {
		return nil
	}
	err := s.grant.Release()
	s.grant = nil
	if errors.Is(err, supervisor.ErrFenced) {
		return nil
	}
	return s.fail(err)
}

// fail gives an error its class.
func (s *sink) fail(err error) error {
	class := streams.Unreachable
	switch {
	case err == nil:
		return nil
	case errors.Is(err, supervisor.ErrFenced):
		class = streams.Fenced
	case errors.Is(err, supervisor.ErrLeaseStuck):
		class = streams.Bug
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		class = streams.Full
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		class = streams.Unauthorised
	case errors.Is(err, errLine):
		class = streams.Misconfigured
	}
	return streams.Fail(class, fmt.Errorf("%s: %w", s.dir, err))
}
