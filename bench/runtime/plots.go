package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/thejerf/suture/v4"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/eventlog"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
	"github.com/coppice-go/coppice/supervisor"
)

// plan is one plot: what an operation costs as the work grows. Each program runs with the sizes in
// turn, and at each size the programs take turns, as for the table.
type plan struct {
	file, title, x, y string
	from, to          int
	programs          func(size int) []program
	figures           []string // of a program with several; each is a line of its own. nil: the one without a name
}

// plans returns the plots in the order of docs/performance.md.
func plans(erlang *otpNode, most, lengths int) []plan {
	start := func(n int) []program {
		list := []program{{plain, plainMany}, {ours, oursMany}}
		if n > manyKids {
			return list // to stop more, the peers take minutes
		}
		list = append(list, program{sutures, sutureMany}, program{protoactor, protoMany})
		if p := erlang.program("D 100,000 children"); p != nil {
			list = append(list, program{otp, p})
		}
		return list
	}

	return []plan{
		{"start.svg", "Start of one of n children", "children", "ns a child", 10, most, start, []string{"start"}},
		{"restart.svg", "Restart of one of n children, by an error", "children", "ns a restart", 10, most,
			func(n int) []program {
				return []program{
					{plain, plainRestartAmong(n)}, {ours, oursRestartAmong(n)}, {sutures, sutureRestartAmong(n)},
				}
			}, nil},
		{"subscribers.svg", "Delivery of an event to one of n subscribers", "subscribers", "ns a delivery", 1,
			min(10_000, most),
			func(n int) []program {
				return []program{{plain, plainFanOut(n)}, {ours, oursFanOut(n)}, {protoactor, protoFanOut(n)}}
			}, nil},
		{"log.svg", "The log with n records of 100 bytes", "records", "ns", 1000, lengths,
			func(int) []program { return []program{{ours, logOfLength}} },
			[]string{"append of a record", "read of a record", "open, the whole log", "open, quick"}},
		{"keys.svg", "The state with n keys of 64 bytes", "keys", "ns a key", 1000, lengths,
			func(int) []program { return []program{{ours, stateOfKeys}} }, []string{"commit", "get"}},
	}
}

// plot runs the selected plans and writes their pictures.
func plot(o options, erlang *otpNode, files, columns *regexp.Regexp) error {
	if err := os.MkdirAll(o.plots, 0o755); err != nil {
		return err
	}

	for _, p := range plans(erlang, o.most, o.lengths) {
		if !files.MatchString(p.file) {
			continue
		}
		c, err := p.run(o, columns)
		if err != nil {
			return fmt.Errorf("%s: %w", p.file, err)
		}
		if err := os.WriteFile(filepath.Join(o.plots, p.file), c.svg(), 0o644); err != nil {
			return err
		}
		fmt.Printf("%s\n%s", filepath.Join(o.plots, p.file), c.text())
	}

	return nil
}

// run measures each program with each size: the median of the rounds.
func (p *plan) run(o options, columns *regexp.Regexp) (*chart, error) {
	c := &chart{title: p.title, x: p.x, y: p.y}

	for size := p.from; size <= p.to; size = nextSize(size) {
		programs := slices.DeleteFunc(p.programs(size), func(pr program) bool {
			return pr.by != plain && !columns.MatchString(pr.by)
		})

		t := newTable("")
		for range o.rounds {
			for _, pr := range programs {
				m := &meter{n: p.work(size)}
				if err := pr.run(m); err != nil {
					return nil, fmt.Errorf("%s with %d: %w", pr.by, size, err)
				}
				t.add(row{name: p.title}, pr.by, m)
			}
		}

		for _, pr := range programs {
			for _, what := range p.names() {
				if v, ok := t.medianOf(p.title, what, pr.by); ok {
					c.add(lineName(pr.by, what, len(p.names()) > 1), float64(size), v)
				}
			}
		}
	}

	return c, nil
}

func (p *plan) names() []string {
	if p.figures == nil {
		return []string{""}
	}
	return p.figures
}

// work is how many operations a program does with that size.
func (p *plan) work(size int) int {
	switch p.file {
	case "restart.svg":
		return 1000
	case "subscribers.svg":
		return max(1, min(40, 4000/size)) * window
	default:
		return size
	}
}

func lineName(by, what string, several bool) string {
	if several {
		return what
	}
	return by
}

// nextSize returns 10, 30, 100, 300 and so on.
func nextSize(n int) int {
	if s := strconv.Itoa(n); s[0] == '3' {
		return n / 3 * 10
	}
	return n * 3
}

// medianOf returns the median of one figure of a program.
func (t *table) medianOf(row, what, by string) (float64, bool) {
	name := row
	if what != "" {
		name += ", " + what
	}
	for _, l := range t.lines {
		if l.name == name && len(l.of[by]) > 0 {
			return median(values(l.of[by])), true
		}
	}
	return 0, false
}

// oursRestartAmong restarts one child beside n that wait.
func oursRestartAmong(n int) func(m *meter) error {
	return func(m *meter) error {
		starts, die := make(chan struct{}), make(chan struct{})
		list := make([]supervisor.Child, n)
		for i := range list {
			list[i] = supervisor.Child{ID: strconv.Itoa(i), Start: serving(waits)}
		}
		list[n/2].Start = serving(crashes(starts, die))

		s, err := supervisor.New(supervisor.Spec{Intensity: endless, Build: supervisor.Children(list...),
			Observers: []supervisor.Observer{supervisor.Discard}})
		if err != nil {
			return err
		}
		up := make(chan error, 1)
		var run *supervisor.Run
		go func() {
			var err error
			run, err = s.Start(context.Background())
			up <- err
		}()
		<-starts
		if err := <-up; err != nil {
			return err
		}

		restarts(m, die, starts)
		return run.Stop(context.Background())
	}
}

// restarts measures m.n restarts of the one who listens to die.
func restarts(m *meter, die, starts chan struct{}) {
	m.restarts(die, starts)
}

// plainRestartAmong restarts one goroutine beside n that wait.
func plainRestartAmong(n int) func(m *meter) error {
	return func(m *meter) error {
		beside := make([]hand, n-1)
		for i := range beside {
			beside[i] = startHand()
		}
		err := plainRestart(false)(m)
		for _, h := range beside {
			h.stop()
		}
		return err
	}
}

// sutureRestartAmong restarts one service beside n that wait.
func sutureRestartAmong(n int) func(m *meter) error {
	return func(m *meter) error {
		starts, die := make(chan struct{}), make(chan struct{})
		s := newSuture()
		for range n - 1 {
			s.Add(sutureFunc(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }))
		}
		s.Add(sutureFunc(func(ctx context.Context) error {
			select {
			case starts <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
			select {
			case <-die:
				return errCrash
			case <-ctx.Done():
				return suture.ErrDoNotRestart
			}
		}))
		ctx, cancel := context.WithCancel(context.Background())
		over := s.ServeBackground(ctx)
		<-starts

		restarts(m, die, starts)
		cancel()
		<-over
		return nil
	}
}

// appends is how many records are appended to a log, and read, to measure it.
const appends = 100_000

// logOfLength makes a log of m.n records, appends more, opens it, and reads the last of them.
func logOfLength(m *meter) (err error) {
	dir, err := os.MkdirTemp("", "bench-log-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	const batch = 100
	records := make([]eventlog.Record, batch)
	for i := range records {
		records[i] = eventlog.Record{Kind: 1, Data: make([]byte, 100)}
	}

	l, err := eventlog.Open(dir, eventlog.Options{})
	if err != nil {
		return err
	}
	ctx := context.Background()
	add := func(records []eventlog.Record, batches int) error {
		for range batches {
			if _, err := l.AppendNoSync(ctx, records...); err != nil {
				return err
			}
		}
		return l.Sync(ctx)
	}
	if err := add(records, m.n/batch); err != nil {
		return err
	}

	m.begin()
	if err := add(records, appends/batch); err != nil {
		return err
	}
	m.end("append of a record", appends)

	if err := l.Close(); err != nil {
		return err
	}
	for _, quick := range []bool{false, true} {
		m.begin()
		if l, err = eventlog.Open(dir, eventlog.Options{QuickOpen: quick}); err != nil {
			return err
		}
		if quick {
			m.end("open, quick", 1)
			break
		}
		m.end("open, the whole log", 1)
		if err := l.Close(); err != nil {
			return err
		}
	}

	c, err := l.Cursor(uint64(max(1, m.n-appends)))
	if err != nil {
		return err
	}
	defer c.Close()

	m.begin()
	for range min(m.n, appends) {
		if _, ok, err := c.TryNext(); err != nil || !ok {
			return fmt.Errorf("read: %t, %w", ok, err)
		}
	}
	m.end("read of a record", min(m.n, appends))
	return l.Close()
}

// commits is how many blocks are committed to a state to measure it.
const commits = 10

// stateOfKeys makes a state of m.n keys, block by block, commits more, and gets some of them.
func stateOfKeys(m *meter) (err error) {
	dir, err := os.MkdirTemp("", "bench-state-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	d, err := storage.Open(dir, storage.Options{})
	if err != nil {
		return err
	}
	genesis := time.Unix(1_700_000_000, 0).UTC()
	if err := d.StartChain(1, startOfChain(genesis)); err != nil {
		return err
	}

	const block = 1000
	key := func(i int) []byte { return fmt.Appendf(nil, "key-%012d", i) }
	blocks := m.n/block + commits
	for b := range blocks {
		changes := make([]*logv1.Change, block)
		for i := range changes {
			changes[i] = &logv1.Change{Key: key(b*block + i), Value: make([]byte, 64)}
		}
		if b == blocks-commits {
			m.begin()
		}
		if err := commitBlock(d, uint64(b+2), genesis, changes); err != nil {
			return err
		}
	}
	m.end("commit", commits*block)

	const gets = 5000
	m.begin()
	for i := range gets {
		k := key(int(uint64(i) * 0x9e3779b97f4a7c15 % uint64(blocks*block)))
		if _, found, _, err := d.Get(k, 0); err != nil || !found {
			return fmt.Errorf("get of %s: found %t, %w", k, found, err)
		}
	}
	m.end("get", gets)
	return d.Close()
}

func startOfChain(genesis time.Time) *logv1.ChainStarted {
	return &logv1.ChainStarted{ChainId: "bench-1", Period: 1, InitialHeight: 1, GenesisTimeNs: genesis.UnixNano(),
		Params: chain.DefaultParams()}
}

// commitBlock commits a block of one transaction that makes the changes.
func commitBlock(d *storage.DB, index uint64, genesis time.Time, changes []*logv1.Change) error {
	raw, err := chain.Tx{Backend: "kv", Nonce: fmt.Append(nil, index), ValidUntil: genesis.Add(time.Minute)}.Encode()
	if err != nil {
		return err
	}

	s := d.State()
	b := chain.Block{ChainID: s.ChainID, Period: s.Period, Height: s.Next(), Txs: [][]byte{raw},
		Time: genesis.Add(time.Duration(index) * time.Millisecond)}
	b.Hash = b.ContentHash()
	if _, err := d.Begin(b); err != nil {
		return err
	}

	v := chain.Version{Period: s.Period, Height: b.Height}
	for _, c := range changes {
		c.Version = v.Proto()
	}
	if err := d.Finish(v, changes, new(logv1.TxResult)); err != nil {
		return err
	}

	staged, err := d.Seal()
	if err != nil {
		return err
	}
	return d.Commit(index, &logv1.BlockCommitted{ChainId: b.ChainID, Period: b.Period, Height: b.Height,
		BlockHash: b.Hash, TimeNs: b.Time.UnixNano(), Results: staged.Results, Changes: staged.Changes,
		AppHash: staged.AppHash})
}
