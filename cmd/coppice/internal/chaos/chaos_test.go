package chaos

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/cmd/coppice/internal/load"
	"github.com/coppice-go/coppice/cmd/coppice/internal/memnode"
	"github.com/coppice-go/coppice/cmd/coppice/internal/register"
	"github.com/coppice-go/coppice/cmd/coppice/internal/rig"
	"github.com/coppice-go/coppice/cmd/coppice/internal/testnet"
	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/node/plan"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// campaignOf returns a campaign on nodes in memory.
func campaignOf(t *testing.T, nodes ...*memnode.Node) *campaign {
	now := time.Now()
	n := &network{Net: &testnet.Net{Dir: t.TempDir(), Nodes: len(nodes)}}
	for _, m := range nodes {
		n.clients = append(n.clients, m.Serve(t))
	}
	return &campaign{
		Config: Config{Nodes: len(nodes), Profile: plan.Chaos}, began: now, court: newCourt(now), net: n,
		res:  &Result{Engines: map[string]int{}},
		out:  &output{file: new(bytes.Buffer), began: now},
		work: &work{net: n, court: newCourt(now), ledger: rig.NewLedger(), history: register.NewHistory()},
	}
}

func rules(found []Violation) (all []Rule) {
	for _, v := range found {
		all = append(all, v.Rule)
	}
	return all
}

func grow(t *testing.T, c *client.Client, txs int) {
	for i := range txs {
		body, err := kv.Encode(kv.Put([]byte("height"), []byte{byte(i)}))
		require.NoError(t, err)
		_, err = c.SubmitWait(context.Background(), chain.NewTx(kv.Name, body, time.Minute))
		require.NoError(t, err)
	}
}

// Without a quorum there is no new height, apart from heights that were decided before.
func TestHeightsWithoutAQuorumAreFoundOut(t *testing.T) {
	c := campaignOf(t, memnode.New(), memnode.New(), memnode.New(), memnode.New())
	e := episode{trouble: CutInTwo, nodes: []int{0, 1}}
	grow(t, c.net.clients[2], inFlight)
	c.stood(t.Context(), e, 0, 0)
	require.Empty(t, c.court.all())
	grow(t, c.net.clients[2], 1)
	c.stood(t.Context(), e, 0, 0)
	require.Equal(t, []Rule{Standing}, rules(c.court.all()))
	require.ErrorContains(t, fmt.Errorf("%v", c.court.all()[0]), "cut in two [0 1]: height 3 was committed")
}

// A watchdog that restarts CometBFT while there is no quorum is a violation, unless the campaign
// paused its node.
func TestWatchdogsThatActWithoutAQuorumAreFoundOut(t *testing.T) {
	c := campaignOf(t, memnode.New(), memnode.New(), memnode.New(), memnode.New())
	say := func(i int, text string) {
		_, err := fmt.Fprintf(c.out, "node%d 2026-11-22T08:00:00.000Z\tWARN\tcomet\t%s\n", i, text)
		require.NoError(t, err)
	}
	say(1, `restarting CometBFT: the committed height stands still	{"height": 5, "reason": "before"}`)
	since := time.Since(c.began)
	e := episode{trouble: PauseNodes, nodes: []int{0, 1}}
	say(2, `the committed height stands still	{"height": 5, "reason": "no quorum: too few validators are connected"}`)
	say(1, `restarting CometBFT: the committed height stands still	{"height": 5, "reason": "paused"}`)
	c.stood(t.Context(), e, since, 0)
	require.Empty(t, c.court.all())
	require.Equal(t, 1, c.out.noQuorum)
	say(2, `restarting CometBFT: the committed height stands still	{"height": 5, "for": 4.25, "reason": "it stood still before"}`)
	c.stood(t.Context(), e, since, 0)
	require.Empty(t, c.court.all(), "the quorum was there when it began")
	say(3, `restarting CometBFT: the committed height stands still	{"height": 5, "for": 0.0000001, "reason": "of its own"}`)
	c.stood(t.Context(), e, since, 0)
	require.Equal(t, []Rule{Silent}, rules(c.court.all()))
	require.Contains(t, c.court.all()[0].What, "of its own")
}

// A line that no node may print is a violation. So is a run in which no watchdog reported anything,
// because then its silence means nothing.
func TestOutputIsJudged(t *testing.T) {
	c := campaignOf(t, memnode.New())
	c.res.Register = register.Verdict{Count: register.Count{Keys: 1, Gets: 1, Puts: 1}}
	c.judge()
	require.Empty(t, c.court.all())

	for _, line := range []string{
		"node0 ERROR\tcomet\ttwo different blocks for one height", "node3 WARNING: DATA RACE",
		"node2 coppice: gave up: coppice: too many restarts",
	} {
		_, err := fmt.Fprintln(c.out, line)
		require.NoError(t, err)
	}

	c.res.Troubles = map[string]int{CutInTwo.String(): 2, PauseNodes.String(): 2}
	c.judge()
	require.Equal(t, []Rule{Silent, Orderly, Orderly, Orderly}, rules(c.court.all()))
	require.Contains(t, c.court.all()[3].What, "gave up")
}

// A tree may give up under so many blows only if its limits are not raised.
func TestATreeMayGiveUpByItsLimits(t *testing.T) {
	for profile, want := range map[plan.Profile]int{plan.Default: 1, plan.Strict: 1, plan.Chaos: 0} {
		c := campaignOf(t, memnode.New())
		c.Profile, c.res.Register = profile, register.Verdict{Count: register.Count{Keys: 1, Gets: 1, Puts: 1}}
		_, err := fmt.Fprintln(c.out, "node2 coppice: gave up: coppice: too many restarts")
		require.NoError(t, err)
		c.judge()
		require.Equal(t, want, c.res.GaveUp)
		require.Equal(t, want == 0, len(c.court.all()) == 1)
	}
}

func TestRegistersAreJudged(t *testing.T) {
	for want, v := range map[string]register.Verdict{
		"of 1 of 2 registers is not": {Count: register.Count{Keys: 2, Gets: 1, Puts: 1},
			Not: []string{"r1"}},
		"undecided": {Count: register.Count{Keys: 2, Gets: 1, Puts: 1},
			Undecided: []string{"r1"}},
		"there is no history: 0 reads, 3 writes": {Count: register.Count{Keys: 2, Puts: 3}},
	} {
		c := campaignOf(t, memnode.New())
		c.res.Register = v
		c.judge()
		require.Equal(t, []Rule{Linear}, rules(c.court.all()))
		require.Contains(t, c.court.all()[0].What, want)
	}
}

// I1, I2: everything acknowledged is read back from every node.
func TestAuditAsksEveryNode(t *testing.T) {
	honest, forgets, repeats := memnode.New(), memnode.New(), memnode.New()
	forgets.Betray = func(n int) int { return min(n-1, 1) } // the first is lost
	repeats.Betray = func(n int) int { return max(3-n, 1) } // the first is applied twice
	c := campaignOf(t, honest, forgets, repeats)
	var items []load.Item

	for i := range uint64(3) {
		it, err := load.Counters("x/")(i)
		require.NoError(t, err)
		for _, n := range c.net.clients {
			_, err := n.SubmitWait(t.Context(), chain.NewTx(kv.Name, it.Body, time.Minute))
			require.NoError(t, err)
		}
		items = append(items, it)
	}

	require.NoError(t, c.work.ledger.Write(items))
	require.NoError(t, c.work.audit(t.Context(), c.res))
	found := c.work.court.all()
	require.Equal(t, []Rule{NothingLost, NothingTwice}, rules(found))
	require.Contains(t, found[0].What, "node 1: 1 of 3 are not there: [x/0")
	require.Contains(t, found[1].What, "node 2: 1 of 3")
	require.Equal(t, []int{3, 1, 1}, []int{c.res.Acknowledged, c.res.Lost, c.res.Twice})
}

func TestAnAuditOfNothingIsNoProof(t *testing.T) {
	c := campaignOf(t, memnode.New())
	require.NoError(t, c.work.audit(t.Context(), c.res))
	require.Equal(t, []Rule{Orderly}, rules(c.work.court.all()))
}

// A run that is over before its work had an answer waits for one, and so does not blame its nodes.
func TestAShortRunWaitsForItsProof(t *testing.T) {
	c := campaignOf(t, memnode.New())
	c.work.prove(t.Context(), time.Millisecond) // nothing works, so there is nothing to wait for
	require.False(t, c.work.proven())

	var err error
	c.work, err = employ(Config{Nodes: 1, Rate: 10, Seed: 5}, c.net, c.court)
	require.NoError(t, err)
	defer c.work.close()
	c.work.prove(t.Context(), time.Minute)
	c.work.drain(t.Context(), time.Minute)
	require.NoError(t, c.work.audit(t.Context(), c.res))
	c.res.Register, err = c.work.history.Check(time.Minute, "")
	require.NoError(t, err)
	c.judge()
	require.Empty(t, c.court.all())
}

// The error for a chain that does not go on names the height of each node.
func TestBeyondTellsWhoStaysBehind(t *testing.T) {
	c := campaignOf(t, memnode.New(), memnode.New())
	grow(t, c.net.clients[1], 2)
	require.NoError(t, c.net.beyond(t.Context(), 1, 1, time.Minute))
	err := c.net.beyond(t.Context(), 1, 2, time.Second)
	require.ErrorContains(t, err, "1 of 2 nodes are past height 1 after 1s, want 2: they stand at map[0:0 1:2]")
}

func TestOneCauseIsNotTenThousandViolations(t *testing.T) {
	c := newCourt(time.Now())
	for i := range 10_000 {
		c.charge(NothingLost, "%d", i)
	}
	c.charge(Linear, "one")
	require.Len(t, c.all(), mostOfOne+1)
}

// The targets are every child in every way that applies, except the process itself.
func TestTargetsAreEveryPathInEveryWay(t *testing.T) {
	sup := func(path string, children ...*apiv1.Child) *apiv1.Child {
		return &apiv1.Child{Path: path, Type: apiv1.ChildType_CHILD_TYPE_SUPERVISOR, Spec: &apiv1.ChildSpec{},
			Children: children}
	}
	workers := sup("coppice/node/workers")
	workers.Spec.Strategy = apiv1.Strategy_STRATEGY_DYNAMIC
	root := sup("host", &apiv1.Child{Path: "admin"},
		sup("coppice", sup("coppice/node", &apiv1.Child{Path: "coppice/node/router"}, workers)))
	ways := map[string]int{}
	for _, x := range targets(root) {
		ways[x.path]++
	}

	require.Equal(t, map[string]int{"admin": 4, "coppice/node/router": 4, "coppice/node/workers": 1,
		"coppice/node/workers/*": 4, "coppice/node": 1}, ways)
	require.Equal(t, "admin by error", targets(root)[0].String())
	starting := sup("host", &apiv1.Child{Path: "admin"}, &apiv1.Child{Path: "coppice"})
	require.Len(t, targets(starting), 4, "a root that starts has no children yet, and is the process all the same")
}
