package sinktest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"testing"
	"time"

	"github.com/coppice-go/coppice/engines/streams"
)

// Rig is what the kit needs of a sink's package.
type Rig struct {
	// Target makes an empty target, which is removed when the test ends.
	Target func(t testing.TB) Target

	// Timeout limits each call of the sink; 0 means a minute.
	Timeout time.Duration

	// Every is the distance between the events at which a delivery is cut; 0 means one. It is for
	// sinks that take long to open.
	Every int
}

// Target is a place to write to.
type Target struct {
	Definition streams.Definition
	Secrets    streams.Secrets

	// Kill ends what stores the data as kill -9 does, and starts it again. It is called after
	// sinks were abandoned without Close. nil: there is nothing to kill but the sink.
	Kill func() error

	// Damage plants faults in what is stored at and after height 2, for Verify to find; nil: none.
	Damage map[streams.Fault]func() error
}

// Run tests the sinks of a factory.
func Run(t *testing.T, f streams.Factory, rig Rig) {
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			if err := c.run(newKit(t, f, rig)); err != nil {
				t.Fatal(err)
			}
		})
	}

	t.Run("damage", func(t *testing.T) { testDamage(t, f, rig) })
}

// check is one property of a sink. It returns an error instead of failing a test, so that the kit
// can be tested by sinks with planted mistakes.
type check struct {
	name string
	run  func(*kit) error
}

var checks = []check{
	{"empty", checkEmpty},
	{"write", checkWrite},
	{"beat", checkBeat},
	{"skip", checkSkip},
	{"order", checkOrder},
	{"fence", checkFence},
	{"resume", checkResume},
	{"kills", checkKills},
	{"parts", checkParts},
	{"rewind", checkRewind},
	{"bootstrap", checkBootstrap},
}

// kit is one target under test.
type kit struct {
	t       testing.TB
	factory streams.Factory
	target  Target
	timeout time.Duration
	every   int
	epoch   uint64
}

func newKit(t testing.TB, f streams.Factory, rig Rig) *kit {
	k := &kit{t: t, factory: f, target: rig.Target(t), timeout: rig.Timeout, every: max(1, rig.Every)}
	if k.timeout == 0 {
		k.timeout = time.Minute
	}
	return k
}

func (k *kit) ctx() (context.Context, context.CancelFunc) {
	return context.WithTimeout(k.t.Context(), k.timeout)
}

func (k *kit) limit() int { return k.factory.Limits.PayloadLimit() }

// sink makes a sink that is not opened.
func (k *kit) sink() (streams.Sink, error) {
	return k.factory.New(k.target.Definition, k.target.Secrets)
}

func (k *kit) opening() streams.Opening {
	k.epoch++
	return k.again()
}

// again returns the opening of the newest epoch.
func (k *kit) again() streams.Opening {
	return streams.Opening{Slot: k.target.Definition.Name, ChainID: ChainID, Definition: "d1", Epoch: k.epoch,
		Holder: "sinktest"}
}

// open makes a sink and opens it with the next epoch.
func (k *kit) open() (streams.Sink, streams.Cursor, error) {
	s, err := k.sink()
	if err != nil {
		return nil, streams.Cursor{}, fmt.Errorf("New: %w", err)
	}
	ctx, cancel := k.ctx()
	defer cancel()
	c, err := s.Open(ctx, k.opening())
	if err != nil {
		return nil, c, fmt.Errorf("Open with epoch %d: %w", k.epoch, err)
	}
	return s, c, nil
}

// limitOf returns the longest payload that a sink takes. It is for an opened sink.
func (k *kit) limitOf(s streams.Sink) (int, error) {
	l, ok := s.(streams.Limiter)
	if !ok {
		return k.limit(), nil
	}
	ctx, cancel := k.ctx()
	defer cancel()
	limits, err := l.Limits(ctx)
	return limits.PayloadLimit(), err
}

func (k *kit) write(s streams.Sink, units ...Unit) error {
	limit, err := k.limitOf(s)
	if err != nil {
		return fmt.Errorf("Limits: %w", err)
	}
	return k.deliver(s, deliver(limit, units...))
}

func (k *kit) deliver(s streams.Sink, d streams.Delivery) error {
	ctx, cancel := k.ctx()
	defer cancel()
	return s.Write(ctx, d)
}

func (k *kit) close(s streams.Sink) error {
	ctx, cancel := k.ctx()
	defer cancel()
	return s.Close(ctx)
}

// stands returns an error if a cursor is not the one after a unit.
func stands(c streams.Cursor, u Unit) error {
	want := streams.Opening{}.Cursor(u.End())
	if !c.SameUnit(want) || c.Events != want.Events {
		return fmt.Errorf("the cursor is %s with %d events, want %s with %d", c, c.Events, want, want.Events)
	}
	return nil
}

// holds returns an error if the sink does not hold exactly these units, or if Observe says
// something else.
func (k *kit) holds(units ...Unit) error {
	s, err := k.sink()
	if err != nil {
		return err
	}
	ctx, cancel := k.ctx()
	defer cancel()
	defer s.Close(ctx) //nolint:errcheck // it was only observed

	c, err := s.Observe(ctx)
	if err != nil {
		return fmt.Errorf("Observe: %w", err)
	}
	if len(units) == 0 {
		if !c.Empty() {
			return fmt.Errorf("Observe: the cursor is %s, want empty", c)
		}
		return nil
	}
	if err := stands(c, units[len(units)-1]); err != nil {
		return fmt.Errorf("Observe: %w", err)
	}

	limit, err := k.limitOf(s)
	if err != nil {
		return err
	}
	report, err := k.verify(ctx, s, limit, units...)
	if errors.Is(err, streams.ErrNoRead) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("Read: %w", err)
	}
	if report.Faults > 0 {
		return fmt.Errorf("Read: %d faults, the first: %s", report.Faults, report.Findings[0])
	}

	return nil
}

// everything is the range of all positions.
var everything = [2]streams.Position{{}, {Period: math.MaxUint64, Height: math.MaxUint64}}

func (k *kit) verify(ctx context.Context, s streams.Sink, limit int, units ...Unit) (streams.Report, error) {
	events := split(limit, units...)
	return streams.Verify(ctx, s, everything[0], everything[1], func(context.Context) (streams.Event, error) {
		if len(events) == 0 {
			return streams.Event{}, io.EOF
		}
		e := events[0]
		events = events[1:]
		return e, nil
	})
}

// Thinned returns n, as a distance of cuts for a sink whose server takes long to come back, or for
// a second form of a sink. In long campaigns, with COPPICE_SOAK set, it returns 1.
func Thinned(n int) int {
	if os.Getenv("COPPICE_SOAK") != "" {
		return 1
	}
	return n
}
