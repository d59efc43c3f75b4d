package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/inspect"
	"github.com/coppice-go/coppice/node/plan"
	"github.com/coppice-go/coppice/node/recorder"
	"github.com/coppice-go/coppice/node/trouble"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	"github.com/coppice-go/coppice/supervisor"
)

// View shows the process to the admin service, and carries out kills for it.
type View struct {
	Root    func() *supervisor.Supervisor
	Plan    plan.Place
	Profile plan.Profile
	Down    func() string // the reason why the node does not serve; empty if it does
	Ready   func() consensus.Condition
	Version string // of the program
	Started time.Time
	Home    string
	News    api.EventSource
	End     func() // begins an orderly stop of the process

	Inspector *inspect.Inspector
	Recorder  *recorder.Recorder
	Watcher   *trouble.Watcher
	Level     func(level string) (before string, err error) // sets the level of the diagnostics; nil: nobody can
}

var (
	_ api.Host   = View{}
	_ api.Looker = View{}
)

// Supervisor returns the root of the tree.
func (h View) Supervisor() *supervisor.Supervisor { return h.Root() }

// Note returns what the child at path is there for, as the plan says.
func (h View) Note(path string) string {
	at := h.Plan
	for path != "" {
		var id string
		id, path, _ = strings.Cut(path, "/")
		i := slices.IndexFunc(at.Children, func(c plan.Place) bool { return c.ID == id })
		if i < 0 {
			return ""
		}
		at = at.Children[i]
	}
	return at.Note
}

// Engines returns what the engines are doing.
func (h View) Engines() []api.EngineStat { return h.Recorder.Engines() }

// Troubles returns what is wrong with the node.
func (h View) Troubles() []trouble.Trouble { return h.Watcher.Troubles() }

// SetLogLevel changes the level of the diagnostics.
func (h View) SetLogLevel(level string) (before string, err error) {
	if h.Level == nil {
		return "", fmt.Errorf("%w: this program does not let it be changed", api.ErrLogLevel)
	}
	before, err = h.Level(level)
	if err != nil {
		err = fmt.Errorf("%w: %w", api.ErrLogLevel, err)
	}
	return before, err
}

// Tree returns a snapshot of the tree. Paths leave out the id of the root.
func (h View) Tree() *apiv1.TreeResponse {
	tree := h.Root().Tree()
	children := tree.Children
	tree.Children = nil

	root := api.ChildOf(tree, tree.ID)
	for _, c := range children {
		root.Children = append(root.Children, api.ChildOf(c, c.ID))
	}

	return &apiv1.TreeResponse{Root: root, Profile: string(h.Profile), Pid: int64(os.Getpid())}
}

// Spec returns the plan of the tree.
func (h View) Spec() *apiv1.SpecResponse {
	return &apiv1.SpecResponse{Root: api.PlanOf(h.Plan), Profile: string(h.Profile), Text: h.Plan.String()}
}

// Health returns whether the node is ready, and if it is not, why.
func (h View) Health() consensus.Condition { return h.Ready() }

// Status returns facts about the process, whether or not the node serves.
func (h View) Status() api.HostStatus {
	why := h.Down()

	return api.HostStatus{
		Up: why == "", Reason: why, PID: os.Getpid(), Version: h.Version, Profile: string(h.Profile),
		Started: h.Started, Home: h.Home,
	}
}

// Stop begins an orderly stop of the process.
func (h View) Stop() { h.End() }

// Inspections returns the names of the parts that Inspect makes.
func (h View) Inspections() []string { return h.Inspector.Names() }

// Inspect makes one part of a report about the process.
func (h View) Inspect(ctx context.Context, part string) (data []byte, leftOut uint64, err error) {
	r, err := h.Inspector.Inspect(ctx, part)

	switch {
	case errors.Is(err, inspect.ErrNone):
		err = fmt.Errorf("%w: %w", api.ErrNoPart, err)
	case errors.Is(err, inspect.ErrBusy):
		err = fmt.Errorf("%w: %w", api.ErrInspecting, err)
	}

	return r.Data, r.LeftOut, err
}

// Events streams the events that q selects: see api.EventSource.
func (h View) Events(ctx context.Context, q api.EventsQuery, send func(*apiv1.EventsResponse) error) error {
	return h.News.Events(ctx, q, send)
}

// Down names the first place of the tree that does not run, and why. It returns "" if every place
// runs. Places at or below a path of except do not count.
func Down(t supervisor.Tree, except ...string) string {
	for _, path := range except {
		if t.Path == path {
			return ""
		}
	}

	if t.State != supervisor.Running {
		why := fmt.Sprintf("%s is %v", t.Path, t.State)
		if t.LastExit != nil {
			why += fmt.Sprintf(", after: %v", t.LastExit)
		}

		for _, c := range t.Children { // the child that it waits for says more
			if c.State == supervisor.Starting || c.State == supervisor.Restarting {
				return Down(c, except...)
			}
		}

		return why
	}

	if t.Kind == supervisor.DynamicKind {
		return ""
	}

	for _, c := range t.Children {
		if why := Down(c, except...); why != "" {
			return why
		}
	}

	return ""
}

// ErrByHand is the exit error of a child that was killed through the admin service.
var ErrByHand = errors.New("asked for through the admin service")

// defaultRelease is how long a hanging child hangs if the client does not set a time. It is longer
// than the default shutdown time, so that the child becomes an orphan.
const defaultRelease = 7 * time.Second

// takeFault is how long a child may take to accept an injected fault. After that, Kill treats it as
// a child that accepts no faults.
const takeFault = 2 * time.Second

// Kill makes the child at k.Path fail in the way that k.How names. A hanging child is told to stop
// at once, and it ignores that until it is released. A path that ends in "*" selects any living
// child. If that child ends before the kill reaches it, Kill selects another.
func (h View) Kill(ctx context.Context, k api.Kill) (api.Killed, error) {
	take, cancel := context.WithTimeout(ctx, takeFault)
	defer cancel()

	for {
		target, err := h.find(k.Path)
		if err != nil {
			return api.Killed{}, err
		}

		killed, err := h.strike(take, target, k)
		if err == nil || target.Path == k.Path || take.Err() != nil ||
			errors.Is(err, api.ErrHow) && !errors.Is(err, supervisor.ErrNotInjectable) {
			return killed, err
		}
	}
}

// strike kills target in the way that k.How names, and returns what it killed. If the way is an
// injected fault, strike fails unless target accepts the fault before take ends.
func (h View) strike(take context.Context, target supervisor.Tree, k api.Kill) (api.Killed, error) {
	killed := api.Killed{Path: target.Path, Incarnation: target.Incarnation, Type: apiv1.ChildType_CHILD_TYPE_WORKER}
	supervises := target.Kind != supervisor.Worker

	if supervises {
		killed.Type = apiv1.ChildType_CHILD_TYPE_SUPERVISOR
		if k.How != apiv1.How_HOW_ERROR && k.How != apiv1.How_HOW_STOP {
			return killed, fmt.Errorf("%w: %s is a supervisor: stop it", api.ErrHow, target.Path)
		}
	}

	fault := supervisor.Fault{Name: strings.ToLower(strings.TrimPrefix(k.How.String(), "HOW_"))}

	switch k.How {
	case apiv1.How_HOW_ERROR:
		return killed, h.kill(target.Path)

	case apiv1.How_HOW_STOP:
		if !supervises {
			return killed, fmt.Errorf("%w: %s is not a supervisor", api.ErrHow, target.Path)
		}
		return killed, h.kill(target.Path)

	case apiv1.How_HOW_PANIC:
		fault.Do = func(context.Context) { panic(ErrByHand) }

	case apiv1.How_HOW_GOEXIT:
		fault.Do = func(context.Context) { runtime.Goexit() }

	case apiv1.How_HOW_HANG:
		release := k.ReleaseAfter
		if release <= 0 {
			release = defaultRelease
		}

		fault.Do = func(context.Context) { <-time.After(release) } // the fault is to ignore the context

	default:
		return killed, fmt.Errorf("%w: %v", api.ErrHow, k.How)
	}

	if err := h.Root().Inject(take, target.Path, fault); err != nil {
		return killed, wireKill(target.Path, err)
	}

	if k.How == apiv1.How_HOW_HANG {
		return killed, h.kill(target.Path)
	}

	return killed, nil
}

// kill ends the child at path with the supervisor's Kill.
func (h View) kill(path string) error { return wireKill(path, h.Root().Kill(path, ErrByHand)) }

// wireKill returns the error of the admin service that corresponds to err, which is an error of the
// supervisor.
func wireKill(path string, err error) error {
	switch {
	case err == nil:
		return nil

	case errors.Is(err, supervisor.ErrNotFound):
		return fmt.Errorf("%w: %s: %w", api.ErrNoPath, path, err)

	case errors.Is(err, supervisor.ErrNotInjectable) && errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: %s: %w", api.ErrHow, path, err)

	case errors.Is(err, supervisor.ErrNotInjectable), // the child is ending
		errors.Is(err, supervisor.ErrNotRunning):
		return fmt.Errorf("%w: %s: %w", api.ErrNotRunning, path, err)
	}

	return err
}

// find returns the child at a path. The last element of the path may be "*", which selects any
// running child there. The root of the tree has no path, so it cannot be found.
func (h View) find(path string) (supervisor.Tree, error) {
	tree := h.Root().Tree()
	dir, any := strings.CutSuffix(path, "/*")
	at, ok := tree.Find(dir)

	if !ok || dir == "" {
		return at, fmt.Errorf("%w: %q", api.ErrNoPath, path)
	}
	if !any {
		return at, nil
	}

	for _, c := range at.Children {
		if c.State == supervisor.Running {
			return c, nil
		}
	}

	return at, fmt.Errorf("%w: no child of %q is running", api.ErrNoPath, dir)
}
