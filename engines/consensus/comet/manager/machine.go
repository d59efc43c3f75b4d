package manager

import (
	"context"
	"errors"
	"time"

	"github.com/coppice-go/coppice/engines/consensus/comet/manager/bare"
	"github.com/coppice-go/coppice/supervisor"
)

// Answer is the answer to a reset.
type Answer struct {
	Message string `json:"message"`
	Status  bool   `json:"status"`
}

// Reset is what a hard reset asks for. Empty values stand for the defaults: the time in the
// genesis, "1" and "0".
type Reset struct {
	GenesisTime, InitialHeight, PeriodCount string
}

// Target is what a machine controls. The machine makes all calls of it, except those of Identity
// and AppHash, one after another.
type Target interface {
	// Begin is called when the machine starts, and End when it has stopped. The context of End has
	// not ended.
	Begin(ctx context.Context) error
	End(ctx context.Context)

	// Gentle and Hard make a reset. The text, or the error, is told to the caller.
	Gentle(ctx context.Context) (string, error)
	Hard(ctx context.Context, r Reset) (string, error)

	// SetParams takes the body of a POST /params.
	SetParams(body []byte) error

	// Work yields what the target itself wants to be done in the machine.
	Work() <-chan func(ctx context.Context)

	Identity() (bare.Identity, error)
	AppHash(ctx context.Context, height string) (string, error)
}

// Machine controls a Target: it makes one change after another, and tells each caller the outcome.
// It is a service of a supervisor and may be served again; requests that wait meanwhile are then
// served by its next life.
type Machine struct {
	target   Target
	record   *record
	requests chan *request
}

// request is something to be done in the machine.
type request struct {
	do   func(ctx context.Context)
	done chan struct{}
	cut  bool // the machine ended before it was done
}

// NewMachine returns a machine of a target. observe, if set, gets its events, one after another.
func NewMachine(t Target, now func() time.Time, observe func(Event)) *Machine {
	if now == nil {
		now = time.Now
	}
	return &Machine{target: t, record: newRecord(now, observe), requests: make(chan *request)}
}

// ErrCut is the error for a request during which the machine has ended. Whether it was carried out
// is not known.
var ErrCut = errors.New("the machine ended while it worked on the request, and is started again: whether the request " +
	"was carried out is not known, so ask for the status or repeat it")

// String names the service in reports.
func (*Machine) String() string { return "machine of resets" }

// Serve runs the machine until ctx ends.
func (m *Machine) Serve(ctx context.Context) error {
	defer m.target.End(context.WithoutCancel(ctx))
	if err := m.target.Begin(ctx); err != nil {
		return err
	}
	faults := supervisor.Faults(ctx)

	for {
		select {
		case r := <-m.requests:
			r.run(ctx)
		case work := <-m.target.Work():
			work(ctx)
		case f := <-faults:
			f.Do(ctx)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// run does what r asks for. If it panics, the caller learns that first.
func (r *request) run(ctx context.Context) {
	r.cut = true
	defer close(r.done)
	r.do(ctx)
	r.cut = ctx.Err() != nil
}

// ask has f run in the machine, and returns when it has. If ctx ends before f has begun, f does not
// run. Once it runs, it is not interrupted.
func (m *Machine) ask(ctx context.Context, f func(ctx context.Context)) error {
	r := &request{do: f, done: make(chan struct{})}

	select {
	case m.requests <- r:
	case <-ctx.Done():
		return context.Cause(ctx)
	}

	<-r.done
	if r.cut {
		return ErrCut
	}

	return nil
}

// Gentle restarts CometBFT. The chain id and the height stay.
func (m *Machine) Gentle(ctx context.Context) (a Answer, err error) {
	return m.reset(ctx, Gentle, m.target.Gentle)
}

// Hard restarts CometBFT with a chain that begins anew.
func (m *Machine) Hard(ctx context.Context, r Reset) (a Answer, err error) {
	return m.reset(ctx, Hard, func(ctx context.Context) (string, error) { return m.target.Hard(ctx, r) })
}

func (m *Machine) reset(ctx context.Context, kind State,
	f func(context.Context) (string, error)) (a Answer, err error) {
	err = m.ask(ctx, func(ctx context.Context) {
		before := m.record.state()
		m.record.tell(kind, "a "+string(kind)+" reset has begun")
		text, err := f(ctx)

		a = Answer{"Reset successful." + text, true}
		if err != nil {
			a = Answer{"Reset failed: " + err.Error(), false}
		}

		m.record.set(func(s *Status) {
			s.Last = string(kind) + ": " + a.Message
			if a.Status {
				s.Resets++
			}
		})
		after := m.record.state()
		if after == kind { // it was refused, and changed nothing
			after = before
		}
		m.record.tell(after, "the "+string(kind)+" reset has ended: "+a.Message)
	})

	return a, err
}

// SetParams takes the body of a POST /params. The first error is about the body, or the home.
func (m *Machine) SetParams(ctx context.Context, body []byte) (refused, err error) {
	err = m.ask(ctx, func(context.Context) {
		if refused = m.target.SetParams(body); refused == nil {
			m.record.tell("", "genesis and peers were rewritten")
		}
	})
	return refused, err
}

// Note notes an event of the target, and changes the status if set is not nil.
func (m *Machine) Note(s State, text string, set func(*Status)) {
	if set != nil {
		m.record.set(set)
	}
	if s == Running {
		m.record.set(func(now *Status) { now.Failure = "" })
	}
	m.record.tell(s, text)
}

// Status returns the status, with the events after the one with the number seq.
func (m *Machine) Status(seq uint64) Status {
	s, _ := m.record.since(seq)
	return s
}

// Wait returns the status once there is an event after the one with the number seq. It returns it
// without one if ctx ends.
func (m *Machine) Wait(ctx context.Context, seq uint64) Status { return m.record.wait(ctx, seq) }
