package api

import (
	"cmp"
	"math"
	"path"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	"github.com/coppice-go/coppice/supervisor"
)

// ChildOf returns the snapshot t of a supervisor in its wire form. prefix is the path of the
// supervisor, and the paths of all its descendants begin with it. For the root, prefix is empty:
// the root's id is its own path, and is in no other path.
func ChildOf(t supervisor.Tree, prefix string) *apiv1.Child {
	c := &apiv1.Child{
		Path: cmp.Or(prefix, t.ID), Id: t.ID, Type: apiv1.ChildType_CHILD_TYPE_WORKER,
		Spec: &apiv1.ChildSpec{Restart: restarts[t.Restart], Significant: t.Significant,
			Shutdown: shutdownText(t.Shutdown)},
		Live: &apiv1.Live{
			State: states[t.State], Incarnation: t.Incarnation, Started: timestamp(t.Since), Restarts: t.Restarts,
		},
	}

	if t.LastExit != nil {
		c.Live.LastExit = t.LastExit.String()
	}

	switch t.Kind {
	case supervisor.SupervisorKind:
		c.Type = apiv1.ChildType_CHILD_TYPE_SUPERVISOR
		c.Spec.Strategy = strategies[t.Strategy]
		c.Spec.MaxRestarts, c.Spec.Period = uint32(clamp(t.Intensity.Max)), durationpb.New(t.Intensity.Period)
		c.Spec.AutoShutdown = t.AutoShutdown.String()
		c.Live.InWindow = uint32(clamp(t.InWindow))
	case supervisor.DynamicKind:
		c.Type = apiv1.ChildType_CHILD_TYPE_SUPERVISOR
		c.Spec.Strategy = apiv1.Strategy_STRATEGY_DYNAMIC
		c.Spec.MaxRestarts, c.Spec.Period = uint32(clamp(t.Intensity.Max)), durationpb.New(t.Intensity.Period)
		c.Live.InWindow = uint32(clamp(t.InWindow))
		c.Live.Instances = uint64(clamp(t.Instances))
	}

	for _, child := range t.Children {
		c.Children = append(c.Children, ChildOf(child, path.Join(prefix, child.ID)))
	}

	return c
}

var (
	restarts = map[supervisor.Restart]apiv1.Restart{
		supervisor.Permanent: apiv1.Restart_RESTART_PERMANENT,
		supervisor.Transient: apiv1.Restart_RESTART_TRANSIENT,
		supervisor.Temporary: apiv1.Restart_RESTART_TEMPORARY,
	}
	strategies = map[supervisor.Strategy]apiv1.Strategy{
		supervisor.OneForOne:  apiv1.Strategy_STRATEGY_ONE_FOR_ONE,
		supervisor.OneForAll:  apiv1.Strategy_STRATEGY_ONE_FOR_ALL,
		supervisor.RestForOne: apiv1.Strategy_STRATEGY_REST_FOR_ONE,
	}
	states = map[supervisor.State]apiv1.ChildState{
		supervisor.NotRunning: apiv1.ChildState_CHILD_STATE_STOPPED,
		supervisor.Starting:   apiv1.ChildState_CHILD_STATE_STARTING,
		supervisor.Running:    apiv1.ChildState_CHILD_STATE_RUNNING,
		supervisor.Restarting: apiv1.ChildState_CHILD_STATE_RESTARTING,
		supervisor.Stopping:   apiv1.ChildState_CHILD_STATE_STOPPING,
	}
)

func shutdownText(d time.Duration) string {
	switch d {
	case supervisor.Brutal:
		return "brutal"
	case supervisor.Infinity:
		return "infinity"
	default:
		return d.String()
	}
}

func clamp(n int) int { return min(max(n, 0), math.MaxInt32) }
