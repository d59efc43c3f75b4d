package demo

import (
	"path"
	"testing"

	"github.com/stretchr/testify/require"

	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// sup returns a supervisor of a test tree and kid a worker. number sets their paths and
// incarnations.
func sup(id string, strategy apiv1.Strategy, max uint32, children ...*apiv1.Child) *apiv1.Child {
	return &apiv1.Child{Id: id, Type: apiv1.ChildType_CHILD_TYPE_SUPERVISOR,
		Spec: &apiv1.ChildSpec{Strategy: strategy, MaxRestarts: max}, Children: children}
}

func kid(id string) *apiv1.Child {
	return &apiv1.Child{Id: id, Type: apiv1.ChildType_CHILD_TYPE_WORKER, Spec: &apiv1.ChildSpec{}}
}

func number(c *apiv1.Child, dir string, next *uint64) {
	c.Path = path.Join(dir, c.Id)
	*next++
	c.Live = &apiv1.Live{State: apiv1.ChildState_CHILD_STATE_RUNNING, Incarnation: *next}
	below := c.Path
	if c.Id == "host" {
		c.Path, below = "host", ""
	}

	for _, child := range c.Children {
		number(child, below, next)
	}
}

const (
	one     = apiv1.Strategy_STRATEGY_ONE_FOR_ONE
	all     = apiv1.Strategy_STRATEGY_ONE_FOR_ALL
	rest    = apiv1.Strategy_STRATEGY_REST_FOR_ONE
	dynamic = apiv1.Strategy_STRATEGY_DYNAMIC
)

func newTree() *apiv1.TreeResponse {
	t := &apiv1.TreeResponse{Pid: 1, Root: sup("host", one, 3, kid("admin"), sup("coppice", all, 3,
		sup("pubsub", all, 3, kid("registry"), kid("broker")),
		sup("node", all, 5, kid("router"),
			sup("transactions", all, 3, kid("storage"),
				sup("mempool", all, 0, kid("pool"), sup("workers", dynamic, 0, kid("w1")))),
			sup("engines", one, 10, kid("consensus"), kid("api"))),
		sup("after", rest, 1, kid("a"), kid("b"), kid("c"))))}
	number(t.Root, "", new(uint64))
	return t
}

// again gives new incarnation numbers to the children at places and everything below them.
func again(t *apiv1.TreeResponse, paths ...string) *apiv1.TreeResponse {
	next := uint64(1000)
	for _, p := range paths {
		c := lookup(t.Root, p)
		number(c, path.Dir(c.Path), &next)
	}
	return t
}

func TestScopeIsWhatTheSpecificationRestarts(t *testing.T) {
	for killed, want := range map[string][]string{
		"admin":                    {"admin"},
		"coppice":                  {"coppice"},
		"coppice/pubsub/broker":    {"coppice/pubsub/registry", "coppice/pubsub/broker"},
		"coppice/node/engines/api": {"coppice/node/engines/api"},
		"coppice/after/b":          {"coppice/after/b", "coppice/after/c"},
		"coppice/node/transactions/mempool/pool": {"coppice/node/transactions/storage",
			"coppice/node/transactions/mempool"},
		"coppice/node/transactions/mempool/workers": {"coppice/node/transactions/storage",
			"coppice/node/transactions/mempool"},
		"coppice/node/transactions/mempool/workers/w1": {"coppice/node/transactions/storage",
			"coppice/node/transactions/mempool"},
		"coppice/node/engines": {"coppice/node/router", "coppice/node/transactions", "coppice/node/engines"},
	} {
		require.Equal(t, want, scope(newTree(), killed), killed)
	}
}

func TestWiderThanSpecified(t *testing.T) {
	const killed = "coppice/node/transactions/mempool/pool"
	in := []string{"coppice/node/transactions/storage", "coppice/node/transactions/mempool"}
	require.Empty(t, wider(newTree(), again(newTree(), in...), killed))
	require.Empty(t, wider(newTree(), again(newTree(), append(in, "coppice/node/engines/consensus")...), killed),
		"a worker that met the failure of another one may fail too")
	require.Equal(t, []string{"coppice/node/transactions"},
		wider(newTree(), again(newTree(), "coppice/node/transactions"), killed),
		"the supervisor above the scope gave up")
}

func TestRestartedIsToldInShort(t *testing.T) {
	for _, tt := range []struct {
		changed []string
		want    []string
	}{
		{nil, nil},
		{[]string{"admin"}, []string{"admin"}},
		{[]string{"coppice/node/transactions/storage", "coppice/node/transactions/mempool"},
			[]string{"transactions/*"}},
		{[]string{"coppice/node/transactions"}, []string{"transactions"}},
		{[]string{"coppice/node/transactions/mempool/workers/w1"}, nil},
		{[]string{"coppice/pubsub/broker", "coppice/node/engines/api"}, []string{"broker", "api"}},
	} {
		require.Equal(t, tt.want, restarted(newTree(), again(newTree(), tt.changed...)), "%v", tt.changed)
	}

	other := newTree()
	other.Pid = 2
	require.Equal(t, []string{"the process"}, restarted(newTree(), other))
}

func TestWholeMeansAnotherIncarnationOfTheScope(t *testing.T) {
	tree := newTree()
	api := lookup(tree.Root, "coppice/node/engines/api")
	old := incarnationsOf(tree.Root, scope(tree, api.Path))
	require.Equal(t, map[string]uint64{api.Path: api.Live.Incarnation}, old)
	require.Empty(t, notRunning(tree.Root, nil))
	require.Equal(t, api.Path, notRunning(tree.Root, old))
	api.Live.Incarnation++
	require.Empty(t, notRunning(tree.Root, old))
	api.Live.State = apiv1.ChildState_CHILD_STATE_RESTARTING
	require.Equal(t, api.Path, notRunning(tree.Root, old))
	api.Live.State = apiv1.ChildState_CHILD_STATE_RUNNING
	lookup(tree.Root, "coppice/node/transactions/mempool/workers/w1").Live.State = apiv1.ChildState_CHILD_STATE_STOPPING
	require.Empty(t, notRunning(tree.Root, old), "children of dynamic supervisors come and go")
}

// The targets are every path of the tree in every way, except the host, which is the process.
func TestTargetsAreEveryPathInEveryWay(t *testing.T) {
	d := &demo{Config: Config{SIGKILLs: 2}}
	all := d.targetsOf(newTree())
	ways := map[string][]string{}
	for _, tg := range all {
		ways[tg.path] = append(ways[tg.path], howWord(tg.how))
	}

	four := []string{"error", "panic", "goexit", "hang"}
	require.Equal(t, map[string][]string{
		"admin": four, "coppice/pubsub/registry": four, "coppice/pubsub/broker": four, "coppice/pubsub": {"stop"},
		"coppice/node/router": four, "coppice/node/transactions/storage": four,
		"coppice/node/transactions/mempool/pool":      four,
		"coppice/node/transactions/mempool/workers/*": four, "coppice/node/transactions/mempool/workers": {"stop"},
		"coppice/node/transactions/mempool": {"stop"}, "coppice/node/transactions": {"stop"},
		"coppice/node/engines/consensus": four,
		"coppice/node/engines/api":       four, "coppice/node/engines": {"stop"}, "coppice/node": {"stop"},
		"coppice/after/a": four, "coppice/after/b": four, "coppice/after/c": four, "coppice/after": {"stop"},
		"coppice": {"stop"}, "(the process)": {"SIGKILL", "SIGKILL"},
	}, ways)

	d.Quick = true
	seen := map[string]int{}
	for _, tg := range d.targetsOf(newTree()) {
		seen[tg.path]++
	}

	require.Len(t, seen, len(ways))
	require.Equal(t, 1, seen["admin"])
}
