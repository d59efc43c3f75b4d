package comet

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	"go.uber.org/zap/zaptest/observer"

	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/supervisor"
)

// newHome makes the home of the only validator of a chain.
func newHome(t *testing.T, o comethome.Options) string {
	t.Helper()
	home := filepath.Join(t.TempDir(), "comet")
	o.P2P, o.RPC = "127.0.0.1:0", "127.0.0.1:0"
	id, err := comethome.Init(home, o)
	require.NoError(t, err)
	id.Validator.Power = 10
	require.NoError(t, comethome.WriteGenesis(home,
		comethome.Genesis{ChainID: "test", Time: time.Now().Add(-time.Second),
			Validators:    []comethome.Validator{id.Validator},
			MaxBlockBytes: 4 << 20}))

	return home
}

// drive runs the driver over c with a real CometBFT.
func drive(t *testing.T, home string, c *fakeCore) *supervisor.Run {
	t.Helper()
	log := zap.NewNop()
	if testing.Verbose() {
		log = zaptest.NewLogger(t)
	}

	d := Driver{Home: home, Intensity: supervisor.Intensity{Max: 1000, Period: time.Minute}, Log: log}
	sup, err := supervisor.New(supervisor.Spec{Name: "test",
		Build: supervisor.Children(supervisor.Child{ID: "consensus", Start: d.Start(c.core("test"))})})
	require.NoError(t, err)
	run, err := sup.Start(context.Background())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, run.Stop(context.Background())) })

	return run
}

func TestALoneValidatorCommitsAndComesBackWhereverItIsKilled(t *testing.T) {
	c := newFakeCore()
	home := newHome(t, comethome.Options{})
	run := drive(t, home, c)
	c.submit("first=1")
	c.await(t, func() bool { return len(c.pool) == 0 })

	pid := pidOf(t, home)
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	c.submit("second=2")
	c.await(t, func() bool { return len(c.pool) == 0 })
	require.NotEqual(t, pid, pidOf(t, home))

	// The process ends with a killed server: rest_for_one.
	pid = pidOf(t, home)
	require.NoError(t, run.Kill("consensus/"+childABCI, nil))
	c.submit("third=3")
	c.await(t, func() bool { return len(c.pool) == 0 })
	require.NotEqual(t, pid, pidOf(t, home))

	c.mu.Lock()
	defer c.mu.Unlock()

	require.Len(t, c.applied, 3)
	require.EqualValues(t, 2*c.state.Height, c.appends, "no block was logged twice")
}

func pidOf(t *testing.T, home string) int {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(home, "pid"))
	require.NoError(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	require.NoError(t, err)
	return pid
}

// The watchdog ends a process that lives but does nothing. This does not count against the
// supervisor's limit.
func TestAStoppedProcessIsRestarted(t *testing.T) {
	if os.Getenv("COPPICE_SOAK") == "" {
		t.Log("short form without the wait for the watchdog; COPPICE_SOAK=1 runs the whole test")
	}

	c := newFakeCore()
	home := newHome(t, comethome.Options{})
	run := drive(t, home, c)
	c.submit("first=1")
	c.await(t, func() bool { return len(c.pool) == 0 })
	pid := pidOf(t, home)
	require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))

	if os.Getenv("COPPICE_SOAK") == "" {
		require.NoError(t, run.Stop(context.Background()), "Stop also ends a process that SIGSTOP has halted")
		return
	}

	c.submit("second=2")
	c.await(t, func() bool { return len(c.pool) == 0 })
	require.NotEqual(t, pid, pidOf(t, home))
	for _, n := range run.Tree().Children[0].Children {
		require.Zero(t, n.Restarts, n.ID)
	}
}

// A process that made a block is started again at once. One that did not waits longer each time.
// (Found by SIGKILLs under load: when the delay grew with every restart, it soon was most of the
// time that a kill cost.)
func TestOnlyAProcessWithoutProgressIsWaitedFor(t *testing.T) {
	var r startStreak
	for height := range uint64(5) {
		require.Zero(t, r.delay(height))
	}

	for _, want := range []int{2, 8, 32, 128, 512, 1000, 1000, 1000, 1000, 1000, 1000} {
		require.Equal(t, time.Duration(want)*time.Millisecond, r.delay(4))
	}

	require.Zero(t, r.delay(5))
	require.Equal(t, 2*time.Millisecond, r.delay(5))
}

// The hundreds of lines about the torn write-ahead log of one process become one line. The next
// process gets a line of its own.
func TestATornWALIsToldOnce(t *testing.T) {
	core, logs := observer.New(zap.DebugLevel)
	tr := &tree{Driver: Driver{Log: zap.New(core), health: newHealth(nil)}, resets: idleResets()}

	for range 2 {
		tr.torn.Store(false) // as a start does
		tr.line([]byte("I[2026-11-22|12:00:00.000] Version info                                 module=main"))
		for range 300 {
			tr.line([]byte(`E[2026-11-22|12:00:00.000] Corrupted entry. Skipping...                 module=consensus wal=/w err="DataCorruptionError[checksums do not match]"`))
		}
		tr.line([]byte("E[2026-11-22|12:00:00.000] something else                               module=consensus"))
	}

	told := logs.FilterLevelExact(zap.WarnLevel).All()
	require.Len(t, told, 4)
	require.Contains(t, told[0].Message, "write-ahead log has entries that cannot be read")
	require.Contains(t, told[0].ContextMap()["first"], "checksums do not match")
	require.Contains(t, told[1].Message, "something else")
}

// At its start the driver logs the settings that leave the node open.
func TestTheDriverTellsOfWhatIsOpen(t *testing.T) {
	home := newHome(t, comethome.Options{})
	path := filepath.Join(home, "config", "config.toml")
	conf, err := os.ReadFile(path)
	require.NoError(t, err)
	conf = bytes.Replace(conf, []byte("\npex = false"), []byte("\npex = true"), 1)
	require.NoError(t, os.WriteFile(path, conf, 0o600))
	seen, logs := observer.New(zap.WarnLevel)
	tr := &tree{Driver: Driver{Home: home, Log: zap.New(seen), health: newHealth(nil)}, resets: idleResets(),
		core: newFakeCore().core("test")}
	_, err = tr.build(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, logs.FilterMessageSnippet("less careful").Len())
}
