package manager

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coppice-go/coppice/engines/consensus/comet/child"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/engines/consensus/comet/manager/bare"
	"github.com/coppice-go/coppice/supervisor"
)

// foreign is the Target of a bare home with somebody else's application.
type foreign struct {
	settings Settings
	journal  *Journal
	launcher *launcher
	rpc      rpc
	now      func() time.Time
	record   *record

	work    chan func(ctx context.Context)
	current atomic.Pointer[comet] // comet, for watch

	// These fields belong to the machine.
	home   *bare.Home
	comet  *comet       // nil if no process runs
	stuck  *comet       // a process that did not end
	unsaid string       // the line of a lost connection, which is told after the next start
	failed int          // starts in a row whose process did not live long
	stalls atomic.Int32 // gentle resets in a row for a chain that stands still
	timers sync.WaitGroup
	ended  chan struct{} // closed when the machine serves no more, however that came
}

var _ Target = (*foreign)(nil)

// Times of a process.
const (
	startWait = 3 * time.Second  // an answer waits so long for CometBFT to be up
	lived     = 10 * time.Second // a process that lived so long did not fail at its start
	pauseMin  = 100 * time.Millisecond
	pauseMost = 15 * time.Second
)

func rpcSocket(home string) string { return filepath.Join(comethome.SocketDir(home), "rpc.sock") }

// Begin starts CometBFT. If it cannot be started, the machine tries again; only a home that cannot
// be used at all is an error.
func (f *foreign) Begin(ctx context.Context) error {
	home, err := bare.Open(f.settings.Home)
	if err != nil {
		return err
	}
	f.home, f.stuck, f.unsaid, f.failed = home, nil, "", 0
	f.stalls.Store(0)
	f.run(nil)
	f.rpc, f.ended = newRPC(rpcSocket(home.Dir())), make(chan struct{})

	if err := f.start(ctx); err != nil {
		f.later(ctx, err.Error())
	} else {
		f.journal.Line("Monitoring thread started")
	}

	return supervisor.Go(ctx, func(ctx context.Context) error { return f.watch(ctx) })
}

// End ends the process.
func (f *foreign) End(ctx context.Context) {
	if f.ended == nil {
		return // it has not begun
	}
	close(f.ended)
	if f.comet != nil {
		// The supervisor of the processes bounds the stop.
		if err := f.launcher.stop(ctx, f.comet); err == nil {
			f.journal.Line("Monitoring thread terminated")
			f.journal.Line("Tendermint process stopped")
		}
		f.run(nil)
	}
	f.timers.Wait()
	f.rpc.close()
	f.ended = nil
	f.record.tell(Down, "the machine has stopped CometBFT")
}

// Work implements Target.
func (f *foreign) Work() <-chan func(ctx context.Context) { return f.work }

// do has the machine run g, unless ctx ends first.
func (f *foreign) do(ctx context.Context, g func(ctx context.Context)) {
	select {
	case f.work <- g:
	case <-ctx.Done():
	}
}

// start starts a process.
func (f *foreign) start(ctx context.Context) error {
	if f.stuck != nil {
		select {
		case <-f.stuck.ended:
			f.stuck = nil
		default:
			return errors.New("an earlier process of CometBFT has not ended, and two must not run in one home")
		}
	}

	signing, err := f.home.ForStart()
	if err != nil {
		return err
	}
	doc, err := f.home.Genesis()
	if err != nil {
		return err
	}
	c, err := f.launcher.start(ctx, f.now())
	if err != nil {
		return fmt.Errorf("CometBFT cannot be started: %w", err)
	}

	f.run(c)
	f.journal.Line("Tendermint process started")
	if f.unsaid != "" {
		f.journal.Line(SayDropped)
		f.journal.Line("\t\t " + f.unsaid)
		f.unsaid = ""
	}
	f.record.set(func(s *Status) {
		s.ChainID, s.PID, s.Failure, s.RPC, s.ABCI = doc.ChainID, c.pid(), "", "", ""
	})
	f.record.tell(Starting, "CometBFT was started"+told(signing))

	return supervisor.Go(ctx, func(ctx context.Context) error { f.follow(ctx, c); return nil })
}

// follow tells the machine what happens to a process.
func (f *foreign) follow(ctx context.Context, c *comet) {
	up, lost := c.up, c.lost
	for {
		select {
		case <-up:
			up = nil
			f.do(ctx, func(context.Context) { f.came(c) })
		case <-lost:
			lost = nil
			f.do(ctx, func(ctx context.Context) { f.dropped(ctx, c) })
		case <-c.ended:
			f.do(ctx, func(ctx context.Context) { f.died(ctx, c) })
			return
		case <-ctx.Done():
			return
		}
	}
}

func (f *foreign) came(c *comet) {
	if f.comet == c && f.record.state() == Starting {
		f.record.tell(Running, "CometBFT is up")
	}
}

// run makes c the process that runs; nil is none.
func (f *foreign) run(c *comet) {
	f.comet = c
	f.current.Store(c)
}

// stop ends the process, if one runs.
func (f *foreign) stop(ctx context.Context) error {
	c := f.comet
	if c == nil {
		return nil
	}

	err := f.launcher.stop(ctx, c)
	if err != nil {
		if ctx.Err() == nil {
			f.run(nil)
			f.stuck = c
			f.record.tell(Stuck, err.Error())
		}
		return err
	}
	f.run(nil)
	f.record.set(func(s *Status) { s.PID = 0 })

	return nil
}

// halt makes the first half of a reset.
func (f *foreign) halt(ctx context.Context) error {
	f.unsaid = ""
	f.journal.Line("Monitoring thread terminated")
	if err := f.stop(ctx); err != nil {
		return err
	}
	f.journal.Line("Tendermint process stopped")
	return nil
}

// resume makes the second half of a reset. It returns when CometBFT is up, or startWait is over. If
// the process ends before that, the error says why, and the next start comes by itself.
func (f *foreign) resume(ctx context.Context) (string, error) {
	f.failed = 0
	if err := f.start(ctx); err != nil {
		f.later(ctx, err.Error())
		return "", err
	}
	f.journal.Line("Monitoring thread started")

	c := f.comet
	wait := time.NewTimer(startWait)
	defer wait.Stop()

	select {
	case <-c.up:
		f.came(c)
		return "", nil
	case <-c.ended:
		return "", fmt.Errorf("CometBFT was started and has ended: %s", c.why())
	case <-wait.C:
		return " CometBFT was started; it has not shaken hands with the application yet.", nil
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// Gentle implements Target.
func (f *foreign) Gentle(ctx context.Context) (string, error) {
	if err := f.halt(ctx); err != nil {
		return "", err
	}
	return f.resume(ctx)
}

// Hard implements Target.
func (f *foreign) Hard(ctx context.Context, r Reset) (string, error) {
	id, err := f.settings.chainID(or(r.PeriodCount, "0"))
	if err != nil {
		return "", fmt.Errorf("%w; nothing was changed", err)
	}
	p := bare.Period{GenesisTime: r.GenesisTime, InitialHeight: or(r.InitialHeight, "1"), ChainID: id}
	if err := f.home.Check(p); err != nil {
		return "", fmt.Errorf("%w; nothing was changed", err)
	}

	if err := f.halt(ctx); err != nil {
		return "", err
	}

	text := f.dump()
	done := &steps{journal: f.journal}
	if err := f.home.Reset(p, done); err != nil {
		err = errors.Join(err, f.home.Forget())
		if _, again := f.resume(ctx); again != nil {
			return "", fmt.Errorf("%w; the start after it failed too: %w", err, again)
		}
		return "", fmt.Errorf("%w; CometBFT was started again", err)
	}

	f.stalls.Store(0)
	f.record.set(func(s *Status) { s.Height, s.HeightAt = 0, time.Time{} })
	more, err := f.resume(ctx)

	return text + done.text + more, err
}

// dump copies the home, if the settings say so. A dump that fails does not stop a reset.
func (f *foreign) dump() string {
	if f.settings.DumpDir == "" {
		return ""
	}
	path, err := f.home.Dump(f.settings.DumpDir, "node"+f.settings.ID)
	if err != nil {
		text := "Error occurred while dumping data: " + err.Error()
		f.journal.Line(text)
		return " " + text + "."
	}
	f.journal.Line("Dumped data for the period to " + path)
	return ""
}

// steps writes the published lines of a hard reset.
type steps struct {
	journal *Journal
	text    string // for the answer
}

// AddressBookRemoved implements bare.Told.
func (s *steps) AddressBookRemoved() { s.journal.Line("Removed existing address book") }

// HistoryRemoved implements bare.Told.
func (s *steps) HistoryRemoved() { s.journal.Line("Removed all blockchain history") }

// Signing implements bare.Told.
func (s *steps) Signing(x bare.Signing) {
	if x.Zeroed {
		s.journal.Line("Reset private validator file to genesis state")
	} else {
		s.journal.Line("Kept private validator state at height " + strconv.FormatInt(x.Height, 10))
	}
	s.text = told(x)
}

// told says what became of a signing state, in a sentence for an answer.
func told(x bare.Signing) string {
	switch {
	case x.Alone:
		return " The signing state was zeroed although this key has signed on the chain before: it is the key of the " +
			"only validator, which would otherwise sign nothing."
	case x.Waits && x.Height > 0:
		return fmt.Sprintf(" The signing state of this chain id is at height %d: this validator signs nothing up to "+
			"there. If all validators are so, the chain cannot move: use another period_count.", x.Height)
	}
	return ""
}

// died handles the end of a process that nobody asked for.
func (f *foreign) died(ctx context.Context, c *comet) {
	if f.comet != c {
		return
	}
	f.run(nil)
	f.journal.Line("Tendermint process stopped")
	f.record.set(func(s *Status) { s.PID = 0 })
	f.again(ctx, c, "CometBFT has ended: "+c.why())
}

// dropped handles the loss of a connection.
func (f *foreign) dropped(ctx context.Context, c *comet) {
	if f.comet != c {
		return
	}
	if err := f.stop(ctx); err != nil {
		return
	}
	f.journal.Line("Tendermint process stopped")
	f.again(ctx, c, "a connection was dropped: "+c.dropped())
}

// again starts CometBFT after a process that has ended or was ended for a fault: at once if it had
// lived long enough, and after a pause otherwise.
func (f *foreign) again(ctx context.Context, c *comet, why string) {
	f.record.set(func(s *Status) { s.Restarts++ })
	f.unsaid = c.dropped()
	if c.isUp() && f.now().Sub(c.began) >= lived {
		f.failed = 0
	}
	if f.failed > 0 {
		f.later(ctx, why)
		return
	}

	f.failed++
	f.record.tell("", why)
	if err := f.start(ctx); err != nil {
		f.later(ctx, err.Error())
	}
}

// pause returns how long the next start waits after so many failed ones.
func pause(failed int) time.Duration {
	d := pauseMin
	for range min(failed, 16) {
		d = min(2*d, pauseMost)
	}
	return d
}

// later starts CometBFT after a pause.
func (f *foreign) later(ctx context.Context, why string) {
	d := pause(f.failed)
	f.failed++
	f.record.tell(Waiting, fmt.Sprintf("%s; the next start comes in %v", why, d))

	ended := f.ended
	f.timers.Go(func() {
		timer := time.NewTimer(d)
		defer timer.Stop()

		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		case <-ended:
			return
		}

		select {
		case f.work <- f.retry:
		case <-ctx.Done():
		case <-ended: // ctx lives on if the machine has panicked
		}
	})
}

func (f *foreign) retry(ctx context.Context) {
	if f.comet != nil || f.record.state() != Waiting {
		return // a reset was faster
	}
	if err := f.start(ctx); err != nil {
		f.later(ctx, err.Error())
	}
}

// SetParams implements Target.
func (f *foreign) SetParams(body []byte) error { return f.home.SetParams(body) }

// Identity implements Target. It reads files that no reset changes.
func (f *foreign) Identity() (bare.Identity, error) { return bare.IdentityOf(f.settings.Home) }

// AppHash implements Target.
func (f *foreign) AppHash(ctx context.Context, height string) (string, error) {
	return AppHash(ctx, rpcSocket(absolute(f.settings.Home)), height)
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// options returns the command line of the process.
func (s Settings) options() child.Options {
	home := absolute(s.Home)
	return child.Options{Home: home, RPC: rpcSocket(home),
		Foreign: child.Foreign{ProxyApp: s.ProxyApp, P2P: s.P2P, RPC: s.RPC, EmptyBlocks: s.EmptyBlocks}}
}
