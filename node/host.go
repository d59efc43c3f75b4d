package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/coppice-go/coppice/node/api"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	"github.com/coppice-go/coppice/supervisor"
)

// hostView shows the process to AdminService.
type hostView struct{ n *Node }

func (h hostView) Tree() *apiv1.TreeResponse {
	tree := h.n.host.Tree()
	children := tree.Children
	tree.Children = nil
	root := api.ChildOf(tree, tree.ID)
	for _, c := range children {
		root.Children = append(root.Children, api.ChildOf(c, c.ID)) // paths begin below the host
	}
	return &apiv1.TreeResponse{Root: root, Profile: string(h.n.config.Profile), Pid: int64(os.Getpid())}
}

func (h hostView) Spec() *apiv1.SpecResponse {
	return &apiv1.SpecResponse{Root: api.PlanOf(h.n.plan), Profile: string(h.n.config.Profile), Text: h.n.plan.String()}
}

func (h hostView) Health() (bool, string) {
	if why := h.n.whyDown(); why != "" {
		return false, why
	}
	return true, ""
}

func (h hostView) Status() api.HostStatus {
	why := h.n.whyDown()
	return api.HostStatus{
		Up: why == "", Reason: why, PID: os.Getpid(), Version: h.n.version, Profile: string(h.n.config.Profile),
		Started: h.n.started, Home: h.n.home,
	}
}

func (h hostView) Events(ctx context.Context, q api.EventsQuery, send func(*apiv1.EventsResponse) error) error {
	return h.n.news.Events(ctx, q, send)
}

// whyDown names the first place of the node that does not run, and why; empty when all do.
func (n *Node) whyDown() string {
	if n.host == nil {
		return "the node has not started"
	}
	tree, ok := n.host.Tree().Find("coppice")
	if !ok {
		return "the node has not started"
	}
	why := down(tree)
	if p, busy := n.Progress(); busy && why != "" {
		why = p.String() + "; " + why
	}

	return why
}

func down(t supervisor.Tree) string {
	if t.State != supervisor.Running {
		why := fmt.Sprintf("%s is %v", t.Path, t.State)
		if t.LastExit != nil {
			why += fmt.Sprintf(", after: %v", t.LastExit)
		}

		for _, c := range t.Children { // the place below that it waits for says more
			if c.State == supervisor.Starting || c.State == supervisor.Restarting {
				return down(c)
			}
		}

		return why
	}

	if t.Kind == supervisor.DynamicKind {
		return ""
	}

	for _, c := range t.Children {
		if why := down(c); why != "" {
			return why
		}
	}

	return ""
}

// errByHand is the reason of every kill that was asked for.
var errByHand = errors.New("asked for through the admin service")

// defaultRelease is how long a hung child hangs when nobody says: longer than the default shutdown
// time, so that it becomes an orphan.
const defaultRelease = 7 * time.Second

// takeFault is how long a child has to take a fault before it counts as one that takes none.
const takeFault = 2 * time.Second

// Kill strikes. A hang is told to stop at once, and ignores it until it is released. "*" strikes
// one that lives when the blow falls: what ended before that was not it.
func (h hostView) Kill(ctx context.Context, k api.Kill) (api.Killed, error) {
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

func (h hostView) strike(take context.Context, target supervisor.Tree, k api.Kill) (api.Killed, error) {
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
			return killed, fmt.Errorf("%w: %s is no supervisor", api.ErrHow, target.Path)
		}
		return killed, h.kill(target.Path)

	case apiv1.How_HOW_PANIC:
		fault.Do = func(context.Context) { panic(errByHand) }

	case apiv1.How_HOW_GOEXIT:
		fault.Do = func(context.Context) { runtime.Goexit() }

	case apiv1.How_HOW_HANG:
		release := k.ReleaseAfter
		if release <= 0 {
			release = defaultRelease
		}
		fault.Do = func(context.Context) { <-time.After(release) } // deaf to its context: that is the fault

	default:
		return killed, fmt.Errorf("%w: %v", api.ErrHow, k.How)
	}

	if err := h.n.host.Inject(take, target.Path, fault); err != nil {
		return killed, wireKill(target.Path, err)
	}
	if k.How == apiv1.How_HOW_HANG {
		return killed, h.kill(target.Path)
	}

	return killed, nil
}

func (h hostView) kill(path string) error { return wireKill(path, h.n.host.Kill(path, errByHand)) }

func wireKill(path string, err error) error {
	switch {
	case err == nil:
		return nil

	case errors.Is(err, supervisor.ErrNotFound):
		return fmt.Errorf("%w: %s: %w", api.ErrNoPath, path, err)

	case errors.Is(err, supervisor.ErrNotInjectable) && errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: %s: %w", api.ErrHow, path, err)

	case errors.Is(err, supervisor.ErrNotInjectable): // it is ending
		return fmt.Errorf("%w: %s: %w", api.ErrNotRunning, path, err)

	case errors.Is(err, supervisor.ErrNotRunning):
		return fmt.Errorf("%w: %s: %w", api.ErrNotRunning, path, err)
	}
	return err
}

// find resolves a path. Its last element may be "*": any living child there. The host itself is not
// in the tree that it hosts.
func (h hostView) find(path string) (supervisor.Tree, error) {
	tree := h.n.host.Tree()
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

	return at, fmt.Errorf("%w: nothing lives in %q", api.ErrNoPath, dir)
}
