package pubsub

import (
	"context"
	"fmt"
	"time"

	"github.com/coppice-go/coppice/supervisor"
)

// The children's IDs. Agents are called agent-1, agent-2 and so on, counted within an incarnation;
// Stats has their chains.
const (
	registryID = "registry"
	brokerID   = "broker"
	filtersID  = "filters"
)

// DefaultMailbox is the bound of a mailbox in events, unless Options set another.
const DefaultMailbox = 4096

// Options configure a Bus. The zero value gives sensible defaults.
type Options struct {
	// Name is the supervisor's name if it is a root. Empty means "pubsub".
	Name string
	// Intensity is how often the bus may restart before it gives up. Zero means 3 in 10 s.
	Intensity supervisor.Intensity
	// Mailbox is how many events the broker, and each agent, may be behind before events are
	// dropped and leave a gap; at most MaxBuffer. Zero means DefaultMailbox.
	Mailbox int
}

// New returns a Bus, which is down until its Spec runs. An error is an ErrOptions.
func New[E any](o Options) (*Bus[E], error) {
	if o.Name == "" {
		o.Name = "pubsub"
	}
	if o.Intensity == (supervisor.Intensity{}) {
		o.Intensity = supervisor.Intensity{Max: 3, Period: 10 * time.Second}
	}
	if o.Mailbox == 0 {
		o.Mailbox = DefaultMailbox
	}

	if o.Mailbox < 1 || o.Mailbox > MaxBuffer {
		return nil, fmt.Errorf("%w: Mailbox is %d, want 1 to %d events, or 0 for %d", ErrOptions, o.Mailbox, MaxBuffer,
			DefaultMailbox)
	}

	b := &Bus[E]{options: o, changed: make(chan struct{})}
	b.standing.Store(&standing[E]{err: fmt.Errorf("%w: %w", ErrDown, errNotStarted)})

	return b, nil
}

// Spec returns the specification of the bus's supervisor: one_for_all over the registry, the broker
// and the filters, so that the three are always of one incarnation. Put it into one place of one
// tree.
func (b *Bus[E]) Spec() supervisor.Spec {
	return supervisor.Spec{
		Name:      b.options.Name,
		Strategy:  supervisor.OneForAll,
		Intensity: b.options.Intensity,
		Build: supervisor.Children(
			supervisor.Child{ID: registryID, Start: b.startRegistry},
			supervisor.Child{ID: brokerID, Start: b.startBroker},
			supervisor.Child{ID: filtersID, Start: b.startFilters},
		),
	}
}

// startRegistry begins the incarnation: in every start and restart of the three children, the
// registry starts first.
func (b *Bus[E]) startRegistry(context.Context) (supervisor.Service, error) {
	return &registry[E]{in: b.begin()}, nil
}

func (b *Bus[E]) startBroker(context.Context) (supervisor.Service, error) {
	in := b.latest()
	if in.ended() != nil { // the broker was started by hand, alone
		in.fence()
	}
	return member[E]{in, in.broker}, nil
}

// startFilters starts the last child. Once the filters run, the incarnation serves.
func (b *Bus[E]) startFilters(ctx context.Context) (supervisor.Service, error) {
	in := b.latest()
	if in.ended() != nil { // the filters were started by hand, alone: the broker's end restarts all three
		in.fence()
	}
	dynamic, err := supervisor.NewDynamic(supervisor.DynamicSpec[*agent[E]]{
		Name:      filtersID,
		Restart:   supervisor.Transient,
		Intensity: supervisor.Intensity{Max: 0, Period: time.Second}, // an agent that dies takes the bus down
		Start: func(_ context.Context, a *agent[E]) (supervisor.Service, error) {
			return member[E]{in, a}, nil
		},
		Observers: []supervisor.Observer{supervisor.ObserverFunc(func(e supervisor.Event) {
			if _, ok := e.(supervisor.SupervisorStarted); ok {
				b.up(in)
			}
		})},
	})

	if err != nil {
		return nil, err
	}

	in.filters.Store(&filters[E]{dynamic: dynamic, stopped: func() error {
		if ctx.Err() == nil {
			return nil
		}
		return fmt.Errorf("%s: %w", filtersID, context.Cause(ctx))
	}})
	// Once the filters are told to stop, no chain can grow. Subscribers learn it at once, not only
	// when the registry is stopped too.
	context.AfterFunc(ctx, in.endWithFilters)

	return dynamic, nil
}

// filters is the supervisor of the agents, as their incarnation knows it.
type filters[E any] struct {
	dynamic *supervisor.Dynamic[*agent[E]]
	stopped func() error // why it was told to stop, nil if it was not
}

// member is an agent, or the broker, as a service of its incarnation.
type member[E any] struct {
	in    *incarnation[E]
	agent *agent[E]
}

func (m member[E]) Serve(ctx context.Context) error {
	return m.in.serve(ctx, m.agent.name(), m.agent.run)
}

func (r *registry[E]) Serve(ctx context.Context) error { return r.in.serve(ctx, registryID, r.run) }

// serve runs a child of the bus, and ends the incarnation as soon as the child has ended.
func (in *incarnation[E]) serve(ctx context.Context, who string, run func(context.Context, faults) error) error {
	return in.guard(who, func() error {
		err := run(ctx, supervisor.Faults(ctx))
		if ctx.Err() != nil {
			in.endWithFilters()
		}
		return err
	})
}

// endWithFilters ends the incarnation if the filters were told to stop. They are stopped first, so
// their reason is the reason of all that follows.
func (in *incarnation[E]) endWithFilters() {
	if f := in.filters.Load(); f != nil {
		if why := f.stopped(); why != nil {
			in.end(why)
		}
	}
}
