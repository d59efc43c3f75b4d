package streams

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/encoding/protowire"
)

// Versions reads old versions of the node's state, for the values before changes (R16).
type Versions interface {
	// At returns the value that a key had after the unit at a position. The error ErrNoVersion
	// means that the node no longer has it, or never had it.
	At(ctx context.Context, key []byte, at Position) (value []byte, found bool, err error)

	// Oldest returns the oldest position that At can read.
	Oldest(ctx context.Context) (Position, error)
}

// ErrNoVersion means that the state does not have an old version.
var ErrNoVersion = errors.New("the state does not have the version")

// previous finds the values before the changes of one block: the key's earlier change in the block,
// else what the state had at the end of the block before.
type previous struct {
	of func(key []byte, at Position) (value []byte, found bool, err error)

	// strict: the filter asks about the value, so one that is unavailable is an error. Otherwise
	// two nodes would deliver different events.
	strict bool

	// earlier says where in the record the newest change so far of each key lies. Values stay where
	// they are, so a block costs memory by its number of changes, not by its size.
	earlier map[[sha256.Size / 2]byte]field
	buf     []byte
}

func (p *previous) restart() { p.earlier = make(map[[sha256.Size / 2]byte]field) }

// find returns the value before a change, whose field of the record is f.
func (p *previous) find(r io.ReaderAt, unit Position, key []byte, f field) (Before, error) {
	sum := sha256.Sum256(key)
	id := [sha256.Size / 2]byte(sum[:])
	at, again := p.earlier[id]
	p.earlier[id] = f
	if again {
		return p.inBlock(r, at)
	}

	if unit.Height > 0 {
		unit.Height--
	}
	value, found, err := p.of(key, unit)
	switch {
	case errors.Is(err, ErrNoVersion) && p.strict:
		return Before{}, Fail(GapInLog, fmt.Errorf("the filter asks for the value of %.80q at height %s: %w", key, unit,
			err))
	case errors.Is(err, ErrNoVersion):
		return Before{State: BeforeUnavailable}, nil
	case err != nil:
		return Before{}, Fail(Unreachable, fmt.Errorf("the value of %.80q at height %s: %w", key, unit, err))
	case !found:
		return Before{State: BeforeAbsent}, nil
	}

	return Before{State: BeforeValue, Value: value}, nil
}

// inBlock returns what an earlier change of the block wrote.
func (p *previous) inBlock(r io.ReaderAt, f field) (b Before, err error) {
	if int64(cap(p.buf)) < f.size || cap(p.buf) > largeField {
		p.buf = make([]byte, f.size)
	}
	p.buf = p.buf[:f.size]
	if _, err := r.ReadAt(p.buf, f.at); err != nil && err != io.EOF {
		return b, err
	}

	b.State = BeforeValue
	err = eachField(p.buf, func(num protowire.Number, value uint64, content []byte) error {
		switch {
		case num == 3:
			b.Value = content
		case num == 4 && value != 0:
			b.State = BeforeAbsent
		}
		return nil
	})

	return b, err
}

// fit leaves out the value before a change if it has no room in an event of the sink.
func (c *Change) fit(limit int) {
	if len(c.Before.Value) > 0 && len(c.Value)+len(c.Before.Value)+len(c.Decoded) > limit {
		c.Before = Before{State: BeforeTooLarge}
	}
}

// previousValues returns what reads values before changes for a slot that wants them, or nil.
func (w *writer) previousValues(ctx context.Context, f Filter) *previous {
	if !w.def.Before {
		return nil
	}
	return &previous{strict: f.asksForValues(), of: func(key []byte, at Position) ([]byte, bool, error) {
		return w.s.o.Versions.At(ctx, key, at)
	}}
}

// checkBefore returns an error for a definition whose values before changes cannot be had.
func (s *Streams) checkBefore(d Definition, f Filter) error {
	switch {
	case f.asksForValues() && !d.Before:
		return d.bad("filter", "has changed=value, which wants before = true")
	case d.Before && s.o.Versions == nil:
		return d.bad("before", "is not possible: this program keeps no old versions")
	}
	return nil
}

// comparable returns the first position from which Verify can tell what the filter leaves: a filter
// that asks for values before changes needs the versions before the unit.
func (o *options) comparable(ctx context.Context, v Versions, from Position) (Position, error) {
	if o.previous == nil || !o.previous.strict {
		o.previous = nil // they are outside of the digest
		return from, nil
	}
	oldest, err := v.Oldest(ctx)
	oldest.Height++
	if err == nil && from.Compare(oldest) < 0 {
		from = oldest
	}
	return from, err
}

// HoldsVersions returns the oldest position of the state that a slot needs; ok is false if none
// needs any. While a slot file cannot be read, all versions are needed.
func (s *Streams) HoldsVersions() (oldest Position, ok bool) {
	s.mu.Lock()
	broken := s.broken != nil
	s.mu.Unlock()
	if broken {
		return Position{}, true
	}

	files := make(map[string]slotFile)
	for _, sl := range s.all() {
		files[sl.name] = sl.snapshot()
	}
	return heldVersions(files)
}

// HeldVersions is HoldsVersions for the slot files below data, of a node that does not run.
func HeldVersions(data string) (oldest Position, ok bool, err error) {
	files, err := readSlots(data)
	if err != nil {
		return Position{}, true, err
	}
	oldest, ok = heldVersions(files)
	return oldest, ok, nil
}

func heldVersions(files map[string]slotFile) (oldest Position, ok bool) {
	for _, f := range files {
		if f.Versions == nil || f.Lost {
			continue
		}
		if !ok || f.Versions.Compare(oldest) < 0 {
			oldest, ok = *f.Versions, true
		}
	}
	return oldest, ok
}

// needVersions notes the oldest position of which the slot needs versions; all if at is nil. A slot
// that does not want values before changes needs none.
func (sl *slot) needVersions(at *Position) {
	switch {
	case !sl.def.Before:
		at = nil
	case at == nil:
		at = &Position{}
	}

	same := at == nil && sl.file.Versions == nil || at != nil && sl.file.Versions != nil && *at == *sl.file.Versions
	if !same {
		sl.file.Versions, sl.dirty = at, true
	}
}
