package streams

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/coppice-go/coppice/eventlog"
)

// Options configure the streams of a node.
type Options struct {
	Definitions string // directory of NAME.toml
	Data        string // directory of the slot files, data/streams
	Factories   []Factory

	Log     func() (Log, error) // the log that is open now
	ChainID func() string       // of the node's chain now
	Request RequestDecoder      // nil: blocks have no votes
	Holder  string              // names the node, in claims
	Alone   bool                // nobody else makes blocks: a sink above the log is refused at once

	Memory   int64         // bytes that all slots together deliver without credit
	Deadline time.Duration // without credit and answer, after which a sink is given up
	Lease    time.Duration // after which a standby takes over from a writer without a sign of life

	Versions   Versions  // nil: no values before changes
	Snapshots  Snapshots // nil: no sink can be bootstrapped
	ChunkBytes int64     // of a bootstrap's chunk, about; 0: a default

	Without []string // slots that do not run in this process

	// Required reports whether a gate waits for a slot, which then has no caps by default. nil:
	// none does.
	Required func(name string) bool

	// Acked is called with each delivery that a sink has acknowledged, and how long it took. nil:
	// nobody asks.
	Acked func(slot string, took time.Duration)

	KeepsAll bool // the log is never truncated, so no slot holds anything of it

	// Scarce reports whether the disk has less free space than the node wants. It is called about
	// once in a second. nil: never.
	Scarce func() bool

	Diagnostics *zap.Logger
	Now         func() time.Time
}

// Streams are the slots of a node. They outlive the incarnations of the engine and of the log.
// Streams is safe for concurrent use.
type Streams struct {
	o Options

	mu      sync.Mutex
	slots   map[string]*slot
	broken  error // why truncation is held as a whole
	log     *eventlog.Log
	hostage *eventlog.Retainer // holds everything while broken is set
	changed chan struct{}

	readings atomic.Uint64 // makes the names of their retainers
}

// ErrNoSlot means that the node has no slot of a name.
var ErrNoSlot = errors.New("no such stream")

// New reads the definitions and the slot files. It returns an error for a definition that cannot be
// used. A slot file that cannot be read is no error: it holds the whole log (Hold).
func New(o Options) (*Streams, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.ChunkBytes == 0 {
		o.ChunkBytes = defaultChunk
	}
	if o.Diagnostics == nil {
		o.Diagnostics = zap.NewNop()
	}

	if o.Acked == nil {
		o.Acked = func(string, time.Duration) {}
	}

	s := &Streams{o: o, slots: make(map[string]*slot), changed: make(chan struct{})}
	files, err := readSlots(o.Data)
	s.broken = err

	defs, err := s.readDefinitions()
	if err != nil {
		return nil, err
	}
	for name, d := range defs {
		if err := s.add(d, files[name]); err != nil {
			return nil, err
		}
	}
	for name, f := range files {
		if _, ok := s.slots[name]; !ok {
			s.slots[name] = s.newSlot(name, f)
			s.slots[name].defErr = Fail(Misconfigured, fmt.Errorf("slot %s has no definition %s.toml", name, name))
		}
	}

	return s, nil
}

func (s *Streams) now() time.Time { return s.o.Now() }

func (s *Streams) newSlot(name string, f slotFile) *slot {
	fresh := f.Version == 0
	if fresh {
		f = slotFile{Version: 1, Name: name, State: Starting}
	}
	sl := &slot{s: s, name: name, file: f, fresh: fresh, dirty: fresh, poke: make(chan struct{}),
		counts: Counts{Retries: make(map[Class]uint64)}}
	sl.readParked()
	return sl
}

// add makes the slot of a definition. A file of descriptors that cannot be read fails the slot
// alone: a backup does not have it.
func (s *Streams) add(d Definition, f slotFile) error {
	sl := s.newSlot(d.Name, f)
	err := sl.define(d)
	if errors.Is(err, errDescriptors) {
		sl.def, sl.defErr = d, Fail(Misconfigured, err)
	} else if err != nil {
		return err
	}
	s.slots[d.Name] = sl
	return nil
}

// define checks a definition and makes it the slot's.
func (sl *slot) define(d Definition) error {
	i := slices.IndexFunc(sl.s.o.Factories, func(f Factory) bool { return f.Kind == d.Kind })
	if i < 0 {
		return d.bad("kind", fmt.Sprintf("is %q, want one of %s", d.Kind, strings.Join(sl.s.Kinds(), ", ")))
	}
	f := sl.s.o.Factories[i]
	secrets := NewSecrets(filepath.Dir(d.File))

	filter, err := ParseFilter(d.Filter)
	if err != nil {
		return d.bad("filter", err.Error())
	}
	if err := d.readDescriptors(); err != nil {
		return err
	}
	if _, err := d.codecList(); err != nil {
		return d.bad("codecs", err.Error())
	}
	if err := sl.s.checkBefore(d, filter); err != nil {
		return err
	}
	sink, err := f.New(d, secrets)
	if err != nil {
		return err
	}
	if err := sl.s.checkBootstrap(d, sink); err != nil {
		return err
	}

	sl.mu.Lock()
	defer sl.mu.Unlock()
	sl.def, sl.factory, sl.secrets, sl.defErr = d, f, secrets, nil
	sl.needVersions(sl.file.Versions)
	if f.AckOf != nil {
		sl.factory.Ack = f.AckOf(d)
	}

	return nil
}

// Kinds returns the names of the kinds of sinks that the program has.
func (s *Streams) Kinds() (names []string) {
	for _, f := range s.o.Factories {
		names = append(names, f.Kind)
	}
	return names
}

// readDefinitions reads all definitions.
func (s *Streams) readDefinitions() (map[string]Definition, error) {
	defs := make(map[string]Definition)
	entries, err := os.ReadDir(s.o.Definitions)
	if errors.Is(err, fs.ErrNotExist) {
		return defs, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDefinition, err)
	}

	var errs []error
	for _, e := range entries {
		if e.IsDir() || !strings.HasSuffix(e.Name(), ".toml") || e.Name() == "gates.toml" {
			continue
		}
		file := filepath.Join(s.o.Definitions, e.Name())
		text, err := readRegular(file, maxText)
		if err != nil {
			errs = append(errs, fmt.Errorf("%w: %w", ErrDefinition, err))
			continue
		}
		d, err := ParseDefinition(file, text)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		defs[d.Name] = d
	}

	return defs, errors.Join(errs...)
}

// Hold registers the retainers of all slots with a log that was just opened. It is called before
// anything can truncate the log. While a slot file cannot be read, nothing is truncated.
func (s *Streams) Hold(l *eventlog.Log) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.log = l
	if s.broken != nil {
		s.o.Diagnostics.Error("the log is not truncated", zap.Error(s.broken))
		s.hostage = l.Retain("streams: a slot file cannot be read", l.First())
	}
	for _, sl := range s.slots {
		sl.hold(l)
	}
}

// news wakes those who wait for a slot.
func (s *Streams) news() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
}

// Changed returns a channel that is closed when a slot has changed.
func (s *Streams) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// Names returns the names of the slots, sorted.
func (s *Streams) Names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()

	var names []string
	for name := range s.slots {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (s *Streams) slot(name string) (*slot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	sl, ok := s.slots[name]
	if !ok {
		return nil, fmt.Errorf("%w: %q", ErrNoSlot, name)
	}
	return sl, nil
}

func (s *Streams) all() (list []*slot) {
	for _, name := range s.Names() {
		if sl, err := s.slot(name); err == nil {
			list = append(list, sl)
		}
	}
	return list
}
