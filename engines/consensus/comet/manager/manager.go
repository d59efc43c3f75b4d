package manager

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/coppice-go/coppice/engines/consensus/comet/child"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/engines/consensus/comet/manager/bare"
	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/process"
)

// Options are the parts of a manager that do not come from its environment.
type Options struct {
	Access  Access
	Journal *Journal

	// Command is a program that calls child.Run, and its arguments; nil stands for this program
	// with child.Command.
	Command []string

	// Grace is how long CometBFT may take to end before it gets SIGKILL; 0 means DefaultGrace.
	Grace time.Duration

	// Now returns the wall clock's time; nil means time.Now.
	Now func() time.Time

	// Observe, if set, gets the events of the machine, and Observers those of the tree.
	Observe   func(Event)
	Observers []supervisor.Observer
}

// Manager runs CometBFT in a bare home.
type Manager struct {
	Machine *Machine
	sup     *supervisor.Supervisor
	address string
	release func() // of the home's sockets
}

// New returns a manager. It holds the home and listens already, so that a home that is in use or
// invalid, and a wrong address, are errors here. Serve must follow, once.
func New(ctx context.Context, s Settings, o Options) (_ *Manager, err error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	if err := o.Access.Check(); err != nil {
		return nil, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Grace == 0 {
		o.Grace = DefaultGrace
	}

	argv0 := ""
	if o.Command == nil {
		self, name, err := process.Self()
		if err != nil {
			return nil, err
		}
		o.Command, argv0 = []string{self, child.Command}, name
	}

	f := &foreign{settings: s, journal: o.Journal, now: o.Now, work: make(chan func(context.Context))}
	l, err := newLauncher(launcher{command: o.Command, argv0: argv0, options: s.options(), grace: o.Grace,
		journal: o.Journal, failed: f.failure})
	if err != nil {
		return nil, err
	}
	f.launcher = l

	m := &Manager{Machine: NewMachine(f, o.Now, o.Observe)}
	f.record = m.Machine.record

	release, err := comethome.HoldSockets(absolute(s.Home))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			release()
		}
	}()
	m.release = release
	if _, err = bare.Open(s.Home); err != nil {
		return nil, err
	}

	first, err := new(net.ListenConfig).Listen(ctx, "tcp", o.Access.Listen)
	if err != nil {
		return nil, fmt.Errorf("%w: --listen: %w", ErrSettings, err)
	}
	m.address = first.Addr().String()
	server := NewServer(m.Machine, o.Access, listeners(first), o.Journal.Line)

	m.sup, err = supervisor.New(supervisor.Spec{
		Name: "manager", Strategy: supervisor.OneForAll, Intensity: supervisor.Intensity{Max: 5, Period: time.Minute},
		Observers: o.Observers,
		Build: supervisor.Children(
			supervisor.Child{ID: "processes", Kind: supervisor.DynamicKind,
				Start: func(context.Context) (supervisor.Service, error) { return l.sup, nil }},
			supervisor.Child{ID: "machine", Shutdown: 2 * (o.Grace + process.DrainTime + killTime),
				Start: func(context.Context) (supervisor.Service, error) { return m.Machine, nil }},
			supervisor.Child{ID: "api",
				Start: func(context.Context) (supervisor.Service, error) { return server, nil }},
		),
	})

	return m, err
}

// listeners returns a function that returns first, and then new listeners at its address.
func listeners(first net.Listener) func() (net.Listener, error) {
	var mu sync.Mutex
	address := first.Addr()
	return func() (net.Listener, error) {
		mu.Lock()
		defer mu.Unlock()
		if l := first; l != nil {
			first = nil
			return l, nil
		}
		return net.Listen(address.Network(), address.String())
	}
}

// Addr returns where the API listens.
func (m *Manager) Addr() string { return m.address }

// Serve runs the manager until ctx ends.
func (m *Manager) Serve(ctx context.Context) error {
	defer m.release()
	return m.sup.Serve(ctx)
}
