package streams

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/eventlog"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
	"github.com/coppice-go/coppice/supervisor"
)

// rig is a log, and streams on it.
type rig struct {
	t       *testing.T
	dir     string
	log     *eventlog.Log
	streams *Streams
	sinks   map[string]*place // by slot
	without []string
	height  uint64
	stop    func()
	opts    func(*Options)
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, dir: t.TempDir(), sinks: map[string]*place{}}
	r.openLog()
	t.Cleanup(func() {
		r.down()
		r.log.Close()
	})
	return r
}

// began returns a rig that runs, with a stream "out" of this definition whose sink has the block a.
func began(t *testing.T, definition string) *rig {
	t.Helper()
	r := newRig(t)
	r.start()
	r.define("out", definition)
	r.up()
	r.block("a")
	r.reaches("out")
	return r
}

func (r *rig) openLog() {
	var err error
	r.log, err = eventlog.Open(filepath.Join(r.dir, "log"), eventlog.Options{SegmentSize: 1 << 16})
	require.NoError(r.t, err)
}

// Cursor, Stat and Retain make the rig a Log.
func (r *rig) Cursor(_ context.Context, from uint64) (*eventlog.Cursor, error) {
	return r.log.Cursor(from)
}
func (r *rig) Stat(context.Context) (eventlog.Stat, error) { return r.log.Stat(), nil }
func (r *rig) Retain(_ context.Context, n string, f uint64) (*eventlog.Retainer, error) {
	return r.log.Retain(n, f), nil
}

// append appends records and returns the index of the last.
func (r *rig) append(ms ...proto.Message) uint64 {
	r.t.Helper()
	var recs []eventlog.Record
	for _, m := range ms {
		rec, err := chain.NewRecord(m)
		require.NoError(r.t, err)
		recs = append(recs, rec)
	}
	require.NoError(r.t, r.log.Append(r.t.Context(), recs...).Wait(r.t.Context()))
	return r.log.Durable()
}

func (r *rig) start() {
	r.append(&logv1.ChainStarted{ChainId: "c", InitialHeight: 1, AppHash: []byte("genesis"),
		Validators: []*logv1.ValidatorUpdate{{KeyType: "ed25519", PubKey: []byte("v"), Power: 1}}})
}

// block appends a block in which a transaction writes each key.
func (r *rig) block(keys ...string) uint64 {
	r.height++
	h := r.height
	version := &logv1.Version{Height: h}
	tx, err := chain.Tx{Backend: "kv", Nonce: []byte{byte(h)}, ValidUntil: time.UnixMilli(1),
		Body: []byte("body")}.Encode()
	require.NoError(r.t, err)

	d := &logv1.OrderDecided{ChainId: "c", Height: h, BlockHash: fmt.Append(nil, "block", h), TimeNs: int64(h) * 1e9}
	c := &logv1.BlockCommitted{ChainId: "c", Height: h, BlockHash: d.BlockHash, TimeNs: d.TimeNs,
		AppHash: fmt.Append(nil, "app", h)}
	if len(keys) > 0 {
		d.Txs = [][]byte{tx}
		c.Results = []*logv1.TxResult{{Id: []byte("id"), Version: version, Events: []*logv1.Emitted{{Type: "e"}}}}
	}
	for _, k := range keys {
		c.Changes = append(c.Changes, &logv1.Change{Version: version, Key: []byte(k), Value: fmt.Append(nil, "v", h)})
	}
	return r.append(d, &logv1.TxLaunched{Tx: tx}, c)
}

// define writes a definition of the kind test.
func (r *rig) define(name, more string) {
	dir := filepath.Join(r.dir, "streams")
	require.NoError(r.t, os.MkdirAll(dir, 0o700))
	require.NoError(r.t, os.WriteFile(filepath.Join(dir, name+".toml"), []byte("kind = \"test\"\n"+more), 0o600))
	if r.sinks[name] == nil {
		r.sinks[name] = &place{}
	}
}

func (r *rig) options() Options {
	o := Options{
		Definitions: filepath.Join(r.dir, "streams"), Data: filepath.Join(r.dir, "data"),
		Log: func() (Log, error) { return r, nil }, ChainID: func() string { return "c" }, Holder: "test", Alone: true,
		Memory: 1 << 20, Deadline: 10 * time.Second, Lease: 200 * time.Millisecond,
		Factories: []Factory{{Kind: "test", Version: "1", Ack: Durable, Limits: Limits{Payload: 1000},
			New: func(d Definition, _ Secrets) (Sink, error) { return &testSink{to: r.sinks[d.Name]}, nil }}},
	}
	if r.opts != nil {
		r.opts(&o)
	}
	return o
}

// up starts the streams of the definitions.
func (r *rig) up() {
	r.t.Helper()
	s, err := New(r.options())
	require.NoError(r.t, err)
	s.Hold(r.log)
	r.streams = s
	r.stop = serve(r.t, s)
}

// serve runs an engine until the returned function is called.
func serve(t *testing.T, s *Streams) (stop func()) {
	manager, slots, err := s.Engine(supervisor.Intensity{Max: 10, Period: time.Minute})
	require.NoError(t, err)
	sup, err := supervisor.New(supervisor.Spec{Name: "streams", Strategy: supervisor.RestForOne,
		Intensity: supervisor.Intensity{Max: 10, Period: time.Minute},
		Build: func(context.Context) ([]supervisor.Child, error) {
			return []supervisor.Child{{ID: ManagerID, Start: manager}, {ID: SlotsID, Start: slots}}, nil
		}})
	require.NoError(t, err)

	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		sup.Serve(ctx)
	}()

	return func() {
		cancel()
		<-ended
	}
}

func (r *rig) down() {
	if r.stop != nil {
		r.stop()
		r.stop = nil
	}
}

// reaches waits until a slot has everything up to the newest block.
func (r *rig) reaches(name string) {
	r.t.Helper()
	r.waits(name, Position{Height: r.height})
}

// waits waits until a slot has everything up to a position.
func (r *rig) waits(name string, at Position) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	st, err := r.streams.Status(name, Head{}, r.log.Stat())
	require.NoError(r.t, err)
	require.NoError(r.t, r.streams.Wait(ctx, name, at), "%+v", st.Last)
}

// becomes waits until a slot is in a state.
func (r *rig) becomes(name string, want State) Status {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	for {
		changed := r.streams.Changed()
		st, err := r.streams.Status(name, Head{}, r.log.Stat())
		require.NoError(r.t, err)
		if st.State == want {
			return st
		}
		select {
		case <-changed:
		case <-ctx.Done():
			r.t.Fatalf("slot %s is %s (%v), want %s", name, st.State, st.Last, want)
		}
	}
}

// place is what a testSink writes to.
type place struct {
	mu     sync.Mutex
	cursor Cursor
	events []Event
	fail   func(op string) error // asked before each operation
	reject func(Event) error
	stall  chan struct{} // Write waits for it
	opens  int

	generation string
	next       *newer
}

func (p *place) text() (lines []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.events {
		lines = append(lines, string(AppendJSON(nil, e)))
	}
	return lines
}

// keys returns the keys of the changes that the place holds, by height.
func (p *place) keys() (keys []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.events {
		if c, ok := e.Body.(*Change); ok {
			keys = append(keys, fmt.Sprintf("%d:%s", e.Height, c.Key))
		}
	}
	return keys
}

// testSink is a right sink in memory.
type testSink struct {
	to *place
	o  Opening
}

func (s *testSink) failing(op string) error {
	if s.to.fail != nil {
		return s.to.fail(op)
	}
	return nil
}

func (s *testSink) Open(_ context.Context, o Opening) (Cursor, error) {
	s.to.mu.Lock()
	defer s.to.mu.Unlock()
	if err := s.failing("open"); err != nil {
		return Cursor{}, err
	}
	if s.to.cursor.Epoch >= o.Epoch {
		return Cursor{}, Fail(Fenced, errors.New("a newer epoch writes"))
	}
	s.o, s.to.cursor.Epoch = o, o.Epoch
	s.to.opens++
	return s.to.cursor, nil
}

func (s *testSink) Write(ctx context.Context, d Delivery) error {
	s.to.mu.Lock()
	events, cursor, stall := s.to.events, s.to.cursor, s.to.stall
	err := s.failing("write")
	s.to.mu.Unlock()
	if err != nil {
		return err
	}
	if stall != nil {
		select {
		case <-stall:
		case <-ctx.Done():
			return ctx.Err()
		}
	}

	for {
		e, err := d.Next(ctx)
		if err == io.EOF {
			return s.commit(events, cursor)
		}
		if err != nil {
			return err
		}
		if s.to.reject != nil {
			if err := s.to.reject(e); err != nil {
				return Reject(e.Place, err)
			}
		}
		if !cursor.Empty() && e.Position.Compare(cursor.Position) <= 0 {
			continue
		}

		b, err := AppendProto(nil, e)
		if err != nil {
			return err
		}
		kept, err := ParseProto(b)
		if err != nil {
			return err
		}
		events = append(events[:len(events):len(events)], kept)
		d.Credit(e.Size())
		if end, ok := e.Body.(*End); ok {
			if !cursor.Carries(end) {
				return Fail(BadOrder, fmt.Errorf("height %d after %s rests on %v", e.Height, cursor, end.After))
			}
			cursor = s.o.Cursor(e)
			cursor.BlockHash, cursor.AppHash, cursor.Digest = bytes.Clone(cursor.BlockHash),
				bytes.Clone(cursor.AppHash), bytes.Clone(cursor.Digest)
		}
	}
}

func (s *testSink) commit(events []Event, c Cursor) error {
	s.to.mu.Lock()
	defer s.to.mu.Unlock()
	if s.to.cursor.Epoch != s.o.Epoch {
		return Fail(Fenced, errors.New("a newer epoch writes"))
	}
	c.Beat = s.to.cursor.Beat + 1
	s.to.events, s.to.cursor = events, c
	return nil
}

func (s *testSink) Observe(context.Context) (Cursor, error) {
	s.to.mu.Lock()
	defer s.to.mu.Unlock()
	return s.to.cursor, s.failing("observe")
}

func (s *testSink) Read(_ context.Context, from, to Position, f func(Event) error) error {
	s.to.mu.Lock()
	defer s.to.mu.Unlock()
	for _, e := range s.to.events {
		if e.Position.Compare(from) < 0 || e.Position.Compare(to) > 0 {
			continue
		}
		if err := s.failing("read"); err != nil {
			return err
		}
		if err := f(e); err != nil {
			return err
		}
	}
	return nil
}

// Rewind implements Rewinder.
func (s *testSink) Rewind(_ context.Context, to *Position) (Cursor, error) {
	s.to.mu.Lock()
	defer s.to.mu.Unlock()
	if err := s.failing("rewind"); err != nil {
		return Cursor{}, err
	}

	c := Cursor{Epoch: s.to.cursor.Epoch, Beat: s.to.cursor.Beat}
	n := 0
	for i, e := range s.to.events {
		if to == nil || e.Position.Compare(*to) > 0 {
			break
		}
		if _, ok := e.Body.(*End); ok {
			n = i + 1
			beat := c.Beat
			c = s.o.Cursor(e)
			c.Beat = beat
		}
	}
	s.to.events, s.to.cursor = s.to.events[:n:n], c

	return c, nil
}

// Forget implements Forgetter.
func (s *testSink) Forget(context.Context) error {
	s.to.mu.Lock()
	defer s.to.mu.Unlock()
	if err := s.failing("forget"); err != nil {
		return err
	}
	s.to.events, s.to.cursor = nil, Cursor{}
	return nil
}

func (s *testSink) Close(context.Context) error { return nil }
