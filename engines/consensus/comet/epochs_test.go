package comet

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/supervisor"
)

// localPeer is a peer in this process.
type localPeer struct {
	consensus.Peer
	driver Driver
	down   *atomic.Bool
}

func (p localPeer) String() string { return p.driver.Home }

func (p localPeer) Certificates(_ context.Context, from uint64) ([]consensus.Certificate, error) {
	if p.down.Load() {
		return nil, engines.ErrDown
	}
	return p.driver.Certificates(from, 1<<20)
}

// validators are drivers of one chain, each with a real CometBFT and a core of its own.
type validators struct {
	cores []*fakeCore
	homes []string
	runs  []*supervisor.Run
	down  []*atomic.Bool // the peers get no answer
}

// newValidators starts n validators. It is for make soak, because four of them take long. Otherwise
// TestResetsUnderFire and TestAServiceOfFourValidatorsResetsTheirChain reset four validators.
func newValidators(t *testing.T, n int) *validators {
	t.Helper()
	if os.Getenv("COPPICE_SOAK") == "" {
		t.Skip("for make soak: COPPICE_SOAK is not set")
	}
	v := new(validators)
	var set []comethome.Validator
	var ids, p2p []string

	for range n {
		home, err := os.MkdirTemp("", "epochs") // t.TempDir is too long for a socket's path
		require.NoError(t, err)
		t.Cleanup(func() { os.RemoveAll(home) })
		home = filepath.Join(home, "comet")
		id, err := comethome.Init(home, comethome.Options{P2P: "127.0.0.1:0", RPC: "127.0.0.1:0"})
		require.NoError(t, err)
		id.Validator.Power = 10
		set, ids, p2p = append(set, id.Validator), append(ids, id.NodeID), append(p2p, freeAddress(t))
		core := newFakeCore()
		core.idle = true
		v.homes, v.cores, v.down = append(v.homes, home), append(v.cores, core), append(v.down, new(atomic.Bool))
	}

	began := time.Now().Add(-time.Second)
	for i, home := range v.homes {
		require.NoError(t, comethome.WriteGenesis(home, comethome.Genesis{ChainID: "test", Time: began, Validators: set,
			MaxBlockBytes: 4 << 20}))
		var peers []string
		for j := range v.homes {
			if j != i {
				peers = append(peers, ids[j]+"@"+p2p[j])
			}
		}
		require.NoError(t, comethome.SetNetwork(home, comethome.Network{P2P: p2p[i], RPC: "127.0.0.1:0", Peers: peers}))
	}

	for i, home := range v.homes {
		core := v.cores[i].core("test")
		for j := range v.homes {
			if j != i {
				core.Peers = append(core.Peers, localPeer{driver: Driver{Home: v.homes[j]}, down: v.down[j]})
			}
		}
		d := Driver{Home: home, Intensity: supervisor.Intensity{Max: 1000, Period: time.Minute}, Log: zap.NewNop()}
		sup, err := supervisor.New(supervisor.Spec{Name: "test", Intensity: supervisor.Intensity{Max: 1000,
			Period: time.Minute}, Build: supervisor.Children(supervisor.Child{ID: "consensus", Start: d.Start(core)})})
		require.NoError(t, err)
		run, err := sup.Start(context.Background())
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, run.Stop(context.Background())) })
		v.runs = append(v.runs, run)
	}

	return v
}

// freeAddress returns an address of this machine on which nobody listens. Its port is below those
// that the system gives to connections, which would take it while nobody listens there.
func freeAddress(t *testing.T) string {
	t.Helper()
	for {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10240+rand.IntN(20000)))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
}

// await waits until all validators have a block of an epoch, and checks that they agree.
func (v *validators) await(t *testing.T, epoch uint64) {
	t.Helper()
	for i, c := range v.cores {
		c.await(t, func() bool { return c.state.Period == epoch && c.state.Height > 0 })
		c.mu.Lock()
		require.EqualValues(t, epoch, c.resets, "validator %d: one reset for each decision", i)
		require.Empty(t, c.broken, "validator %d", i)
		c.mu.Unlock()
	}
}

// strike sets what the last validator does before each operation. The others commit the held block
// only once the last one has the decision, so that it is never left below it: a fake core cannot
// join.
func (v *validators) strike(fail func(what string) error) {
	last, has := v.cores[3], new(atomic.Bool)
	for _, c := range v.cores[:3] {
		c.mu.Lock()
		c.fail = func(what string) error {
			if what == "commit" && c.state.InHold() && !has.Load() {
				return &engines.DownError{Engine: "ordering"}
			}
			return nil
		}
		c.mu.Unlock()
	}

	last.mu.Lock()
	defer last.mu.Unlock()
	last.fail = func(what string) error {
		if last.state.InHold() {
			has.Store(true)
		}
		return fail(what)
	}
}

// together waits until all validators have a transaction. One that is starting may be left below
// the next decision, and has to join the later epoch then, which a fake core cannot.
func (v *validators) together(t *testing.T, tx string) {
	t.Helper()
	v.cores[0].submit(tx)
	for _, c := range v.cores {
		c.await(t, func() bool { return c.applied[chain.HashTx([]byte(tx))] })
	}
}

// point is a moment of a reset, at which an operation of a core begins.
type point struct {
	name string
	what string                 // the operation
	is   func(c *fakeCore) bool // with c.mu held
}

// points are the moments between the decision and the second block of the next epoch. Steps 2, 4
// and 5, and 7 to 9, come between the operations that are named here.
var points = []point{
	{"1: F is decided", "commit", func(c *fakeCore) bool { return decides(c) }},
	{"1: F is committed", "order", func(c *fakeCore) bool { return c.state.InHold() && c.reset == nil }},
	{"3: F+1 is decided", "commit", func(c *fakeCore) bool { return c.state.InHold() }},
	{"4: the certificate is written", "reset", func(c *fakeCore) bool { return c.reset == nil }},
	{"6: ChainReset is durable", "reset logged", func(*fakeCore) bool { return true }},
	{"9: the child runs", "init", func(c *fakeCore) bool { return c.reset != nil }},
	{"10: ChainStarted is durable", "init logged", func(*fakeCore) bool { return true }},
	{"11: the first block is decided", "order", begins},
	{"12: the first block is to be committed", "commit", begins},
}

// decides reports whether the block under way decides on a reset.
func decides(c *fakeCore) bool {
	if c.decided == nil {
		return false
	}
	for _, tx := range c.decided.Txs {
		if strings.HasPrefix(string(tx), "reset=") {
			return true
		}
	}
	return false
}

// begins reports whether the next block is the first one after a reset.
func begins(c *fakeCore) bool { return c.reset == nil && c.state.Reset != nil && !c.state.InHold() }

// Four validators are reset, and one of them is killed at a step: its CometBFT by SIGKILL, or all
// of its driver. Each reset is made once, by all, and each with a certificate. Item 39;
// COPPICE_SOAK kills at every step, once and twice in a row.
func TestFourValidatorsAreResetWhereverOneIsKilled(t *testing.T) {
	v := newValidators(t, 4)
	v.cores[0].submit("first=1")
	victim, epoch := v.cores[3], uint64(0)

	chosen := []point{points[2], points[4], points[6]}
	times := []int64{1}
	if os.Getenv("COPPICE_SOAK") != "" {
		chosen, times = points, []int64{1, 2}
	}

	for _, p := range chosen {
		for _, n := range times {
			for _, whole := range []bool{false, true} {
				if len(times) == 1 && whole != (p.what == "reset logged") {
					continue
				}

				var kills atomic.Int64
				epoch++
				v.together(t, fmt.Sprintf("together=%d", epoch))
				v.strike(func(what string) error {
					if what != p.what || kills.Load() == n || !p.is(victim) {
						return nil
					}
					kills.Add(1)
					go v.kill(whole)
					return &engines.DownError{Engine: "ordering"}
				})
				v.cores[0].submit(fmt.Sprintf("reset=%d", epoch))
				v.cores[0].submit(fmt.Sprintf("after=%d", epoch))
				v.await(t, epoch)
				require.NotZero(t, kills.Load(), p.name)
			}
		}
	}
}

// kill kills the last validator: its CometBFT, or all of its driver.
func (v *validators) kill(whole bool) {
	if whole {
		_ = v.runs[3].Kill("consensus", nil) // it may be down already
		return
	}
	data, err := os.ReadFile(filepath.Join(v.homes[3], "pid"))
	if err != nil {
		return
	}
	if pid, err := strconv.Atoi(strings.TrimSpace(string(data))); err == nil {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// A validator that has F, and cannot get the held block any more, leaves with the certificate of a
// peer, also if the only other peer that answers has none. Items 37 and 40.
func TestAValidatorLeavesWithThePeersCertificate(t *testing.T) {
	v := newValidators(t, 4)
	v.down[0].Store(true)
	late := v.cores[3]
	var freed atomic.Bool

	v.together(t, "together=0")
	v.strike(func(what string) error { // F+1 never comes to be decided here
		if what == "order" && late.state.InHold() && late.reset == nil && !freed.Load() {
			return &engines.DownError{Engine: "ordering"}
		}
		return nil
	})

	v.cores[0].submit("reset=1")
	v.await(t, 1)
	late.mu.Lock()
	require.EqualValues(t, 1, late.resets)
	late.mu.Unlock()

	freed.Store(true)
	v.together(t, "together=1")
	v.strike(func(string) error { return nil })
	v.cores[0].submit("reset=2")
	v.await(t, 2)
}

// The mistakes in the order of a reset that are planted here are seen by what the tests above
// check. Items 37 and 39.
func TestMistakesOfAResetAreCaught(t *testing.T) {
	for m, want := range map[mistake]string{
		leaveAtF:                "no certificate",
		leaveWithoutCertificate: "no certificate",
		dataFirst:               "the data went before the log knew",
	} {
		c := newFakeCore()
		c.idle = true
		home := newHome(t, comethome.Options{})
		c.ends = func() { // with c.mu held
			if _, err := os.Stat(filepath.Join(home, "data", "blockstore.db")); err != nil {
				c.broken = append(c.broken, "the data went before the log knew")
			}
		}

		d := Driver{Home: home, Intensity: supervisor.Intensity{Max: 1000, Period: time.Minute}, Log: zap.NewNop(),
			mistake: m}
		sup, err := supervisor.New(supervisor.Spec{Name: "test",
			Build: supervisor.Children(supervisor.Child{ID: "consensus", Start: d.Start(c.core("test"))})})
		require.NoError(t, err)
		run, err := sup.Start(context.Background())
		require.NoError(t, err)

		c.submit("reset=1")
		require.Eventually(t, func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.resets == 1
		}, time.Minute, 10*time.Millisecond, string(m))
		require.NoError(t, run.Stop(context.Background()))
		c.mu.Lock()
		require.NotEmpty(t, c.broken, string(m))
		require.Contains(t, c.broken[0], want, string(m))
		c.mu.Unlock()
	}
}

// A restart does not begin the time on the old chain anew: a validator that is killed again and
// again would never leave. Item 37.
func TestTheTimeOnTheOldChainDoesNotBeginAnew(t *testing.T) {
	now := time.Now()
	s := chain.State{ChainID: "test", Height: 7, Reset: &chain.Reset{Height: 7, Offset: 20}}
	held := s
	held.Height = 8

	a := &app{health: newHealth(nil), holds: make(chan struct{}, 1)}
	a.note(s)
	a.note(held)
	require.Greater(t, a.lingers(now), linger/2)
	require.Zero(t, a.lingers(now.Add(time.Second)))

	again := func(m mistake) time.Duration {
		a := &app{health: newHealth(nil), holds: make(chan struct{}, 1), mistake: m}
		a.note(held) // as the first answer of the core says
		return a.lingers(now)
	}
	require.Zero(t, again(""))
	require.NotZero(t, again(lingerAnew), "the mistake is caught")
}
