package api_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/node/api"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	"github.com/coppice-go/coppice/supervisor"
)

func TestChildOfNamesPathsFromThePrefix(t *testing.T) {
	c := api.ChildOf(supervisor.Tree{
		ID: "coppice", Kind: supervisor.SupervisorKind, State: supervisor.Running, Strategy: supervisor.OneForAll,
		Intensity: supervisor.Intensity{Max: 3, Period: time.Minute}, InWindow: 1, Shutdown: supervisor.Infinity,
		Restart: supervisor.Temporary, Significant: true,
		Children: []supervisor.Tree{
			{ID: "router", State: supervisor.Restarting, Incarnation: 7, Restarts: 2, Shutdown: 5 * time.Second,
				LastExit: &supervisor.Exit{Class: supervisor.Abnormal}},
			{ID: "filters", Kind: supervisor.DynamicKind, State: supervisor.Running, Instances: 300,
				Shutdown: supervisor.Brutal},
		},
	}, "coppice")

	require.Equal(t, "coppice", c.Path)
	require.Equal(t, apiv1.ChildType_CHILD_TYPE_SUPERVISOR, c.Type)
	require.Equal(t, apiv1.Strategy_STRATEGY_ONE_FOR_ALL, c.Spec.Strategy)
	require.Equal(t, apiv1.Restart_RESTART_TEMPORARY, c.Spec.Restart)
	require.True(t, c.Spec.Significant)
	require.Equal(t, "infinity", c.Spec.Shutdown)
	require.EqualValues(t, 3, c.Spec.MaxRestarts)
	require.EqualValues(t, 1, c.Live.InWindow)
	require.Nil(t, c.Live.Started, "no incarnation, no time")

	router, filters := c.Children[0], c.Children[1]
	require.Equal(t, "coppice/router", router.Path)
	require.Equal(t, apiv1.ChildType_CHILD_TYPE_WORKER, router.Type)
	require.Equal(t, apiv1.ChildState_CHILD_STATE_RESTARTING, router.Live.State)
	require.EqualValues(t, 7, router.Live.Incarnation)
	require.NotEmpty(t, router.Live.LastExit)
	require.Equal(t, "5s", router.Spec.Shutdown)
	require.Equal(t, apiv1.Strategy_STRATEGY_DYNAMIC, filters.Spec.Strategy)
	require.Equal(t, "brutal", filters.Spec.Shutdown)
	require.EqualValues(t, 300, filters.Live.Instances)
}

func TestTheRootIsInNoPathButItsOwn(t *testing.T) {
	c := api.ChildOf(supervisor.Tree{ID: "host",
		Children: []supervisor.Tree{{ID: "admin"}, {ID: "coppice", Children: []supervisor.Tree{{ID: "node"}}}}}, "")
	require.Equal(t, "host", c.Path)
	require.Equal(t, "admin", c.Children[0].Path)
	require.Equal(t, "coppice/node", c.Children[1].Children[0].Path)
}
