package manager

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/engines/consensus/comet/manager/bare"
	"github.com/coppice-go/coppice/internal/flock"
	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/process"
)

const lostLine = "E[2026-01-31|12:00:00.000] Stopping abci.socketClient for error: read message: EOF module=abci-client"

var restartedLines = []string{"Tendermint process stopped", "Tendermint process started",
	"Restarted the HTTP RPC server, as a connection was dropped with message:"}

// Items 10 and 11: the application is gone, by the end of its connection or its reset.
func TestALostApplicationRestartsCometBFTAndWatchingGoesOn(t *testing.T) {
	r := newRig(t, script{Height: 7})
	r.awaitState(Running)
	r.console.clear()
	r.fake(say(lostLine))
	all := r.console.await(t, lostLine, 2) // said by CometBFT, and told again
	require.Equal(t, restartedLines, published(all))
	require.Equal(t, "\t\t "+lostLine, all[len(all)-1])

	// Watching goes on.
	r.awaitState(Running)
	r.console.clear()
	r.fake(say(strings.Replace(lostLine, "EOF",
		"read tcp 127.0.0.1:1->127.0.0.1:2: read: connection reset by peer", 1)))
	require.Equal(t, restartedLines, published(r.console.await(t, "\t\t E[", 1)))
	r.awaitState(Running)
}

// Item 12: the RPC says that it has stopped, or stops without a word.
func TestAStoppedRPCRestartsCometBFT(t *testing.T) {
	r := newRig(t, script{Height: 7})
	r.awaitState(Running)
	r.console.clear()
	line := "E[2026-01-31|12:00:00.000] RPC HTTP server stopped module=rpc-server err=EOF"
	r.fake(say(line))
	require.Equal(t, restartedLines, published(r.console.await(t, "\t\t "+line, 1)))

	r.awaitState(Running)
	r.console.clear()
	r.fake("mute=1")
	require.Equal(t, restartedLines, published(r.console.await(t, "\t\t CometBFT's RPC does not answer", 1)))
	r.awaitState(Running)
}

// Item 27: however a process ends, it is started again.
func TestAChildThatDiesIsStartedAgain(t *testing.T) {
	r := newRig(t, script{Height: 7})
	r.awaitState(Running)
	require.NoError(t, dies(t, managed{r}))
	all, _ := r.console.get()
	require.NotContains(t, strings.Join(all, "\n"), "a connection was dropped")
}

// Item 27: starts that fail come with pauses that grow, and the reason is told. A reset does not
// wait for the end of a pause.
func TestAChildThatCannotStartIsTriedWithPausesThatGrow(t *testing.T) {
	status := 3
	r := newRig(t, script{Exit: &status, Say: "coppice: the configuration is wrong"})
	r.awaitEvent("the configuration is wrong; the next start comes in 200ms")
	r.awaitEvent("the configuration is wrong; the next start comes in 400ms")

	ok, text := r.client().reset("/gentle_reset")
	require.False(t, ok)
	require.Contains(t, text, "exit status 3: the configuration is wrong")

	r.script(script{})
	ok, text = r.client().reset("/gentle_reset")
	require.True(t, ok, text)
	r.awaitState(Running)

	require.Equal(t, pauseMost, pause(100))
	for n := range 20 {
		require.LessOrEqual(t, pause(n), pause(n+1))
	}
}

// Item 28: a process that ignores SIGTERM gets SIGKILL within 5 s; the answer is true, and the next
// reset works.
func TestAChildThatIgnoresSIGTERMIsKilled(t *testing.T) {
	r := newRig(t, script{Deaf: true, Height: 7})
	r.awaitState(Running)
	require.NoError(t, deaf(t, managed{r}))
	require.LessOrEqual(t, DefaultGrace+process.DrainTime, 5*time.Second)
}

// Item 30.
func TestAPlannedStopTellsNoDroppedConnection(t *testing.T) {
	r := newRig(t, script{Farewell: "I[2026-01-31|12:00:00.000] RPC HTTP server stopped err=closed"})
	r.awaitState(Running)
	require.NoError(t, planned(t, managed{r}))
	require.Zero(t, r.m.Machine.Status(0).Restarts)
}

// Item 32: the process lives, its RPC says that all is well, and the consensus has ended.
func TestAConsensusFailureInALivingChildIsTold(t *testing.T) {
	r := newRig(t, script{Height: 7})
	r.awaitState(Running)
	r.fake(say(`E[2026-01-31|12:00:00.000] CONSENSUS FAILURE!!! err="app hash" module=consensus`))
	s := r.awaitState(Broken)
	require.Contains(t, s.Failure, "CONSENSUS FAILURE")
	require.NotZero(t, s.PID)
	require.Zero(t, s.Restarts)

	ok, text := r.client().reset("/gentle_reset")
	require.True(t, ok, text)
	require.Empty(t, r.awaitState(Running).Failure)
}

// A start that waits for its application is answered truly, and does not take the place of others.
func TestASlowStartIsAnsweredTruly(t *testing.T) {
	r := newRig(t, script{NotUp: true})
	r.awaitState(Starting)
	ok, text := r.client().reset("/gentle_reset")
	require.True(t, ok, text)
	require.Contains(t, text, "has not shaken hands with the application yet")

	// During the slow start, other requests are served.
	r.script(script{})
	ok, text = r.client().reset("/hard_reset?period_count=1")
	require.True(t, ok, text)
	require.NotContains(t, text, "has not shaken hands")
	r.awaitState(Running)
}

// Two managers do not run in one home.
func TestAHomeHasOneManager(t *testing.T) {
	r := prepare(t)
	dir := comethome.SocketDir(r.home)
	require.NoError(t, os.MkdirAll(dir, 0o700))
	other, err := flock.TryLock(filepath.Join(dir, "lock")) // as another process has it
	require.NoError(t, err)
	defer other.Close()

	s, err := FromEnvironment(func(string) string { return "" })
	require.NoError(t, err)
	s.Home, s.ProxyApp = r.home, "tcp://127.0.0.1:1"
	_, err = New(t.Context(), s, Options{Access: Access{Listen: "127.0.0.1:0"}, Command: []string{"/bin/false"}})
	require.ErrorIs(t, err, flock.ErrLocked)
}

// ladder returns a foreign whose ladder is tried without processes: each restart fails, as the
// launcher has no supervisor that runs.
func ladder(t *testing.T, restart bool) (*foreign, func(height int64)) {
	r := prepare(t)
	j, err := NewJournal(r.console, "", 0)
	require.NoError(t, err)
	s := Settings{Home: r.home, StallAfter: time.Minute, RestartStalled: restart}
	f := &foreign{settings: s, journal: j, now: time.Now, work: make(chan func(context.Context), 1)}
	f.record = newRecord(time.Now, nil)
	f.launcher, err = newLauncher(launcher{journal: j, grace: time.Second})
	require.NoError(t, err)
	f.home, err = bare.Open(r.home)
	require.NoError(t, err)
	t.Cleanup(f.timers.Wait)
	return f, func(height int64) {
		c := newComet(time.Now())
		close(c.ended) // its stop succeeds
		f.run(c)
		f.stalled(t.Context(), c, height, time.Minute)
	}
}

// A chain that stands still may have lost its quorum: it is told, and CometBFT is not restarted
// unless the settings say so.
func TestAStallIsToldAndRestartedOnlyByPolicy(t *testing.T) {
	f, stall := ladder(t, false)
	stall(7)
	s, _ := f.record.since(0)
	require.Equal(t, Stalled, s.State)
	require.Zero(t, s.Restarts)
	require.Contains(t, s.Events[0].Text, "no block after 7 for 1m0s: a quorum may be missing")
}

// The ladder makes five attempts and gives up with a clear error. A block begins it anew.
func TestTheLadderGivesUpAfterFiveAttempts(t *testing.T) {
	f, stall := ladder(t, true)
	for range 7 {
		stall(7)
	}
	s, _ := f.record.since(0)
	require.Equal(t, Abandoned, s.State)
	require.Equal(t, mostStalls, s.Restarts)
	require.Contains(t, s.Events[len(s.Events)-1].Text, "5 restarts have not helped, and there will be no more")

	f.unstall(f.comet)
	require.Equal(t, Running, f.record.state())
	stall(8)
	s, _ = f.record.since(0)
	require.Equal(t, mostStalls+1, s.Restarts)
}

// The watch tells a stall after the time that the settings give, and not before.
func TestAStallIsTimedFromTheLastBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &foreign{settings: Settings{StallAfter: time.Minute, EmptyBlocks: "true"}, now: time.Now,
			work: make(chan func(context.Context), 1)}
		f.record = newRecord(time.Now, nil)
		c := newComet(time.Now())
		f.run(c)
		w := &watched{foreign: f, comet: c, height: 7, movedAt: time.Now()}

		<-time.After(59 * time.Second)
		w.judge(t.Context(), time.Now())
		require.Empty(t, f.work)
		<-time.After(time.Second)
		w.judge(t.Context(), time.Now())
		(<-f.work)(t.Context())
		require.Equal(t, Stalled, f.record.state())

		w.judge(t.Context(), time.Now()) // it is told once
		require.Empty(t, f.work)
		w.moved(t.Context(), 8, time.Now())
		(<-f.work)(t.Context())
		require.Equal(t, Running, f.record.state())
	})
}

// The journal takes the published lines and CometBFT's own, and its size has a bound.
func TestTheLogFileTakesAllLinesAndHasABound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tendermint.log")
	r := newRig(t, script{Say: "I[2026-01-31] a line of CometBFT"}, func(s *Settings, _ *Options) {
		s.LogFile, s.LogBytes = path, 1000
	})
	r.awaitState(Running)
	r.console.await(t, "a line of CometBFT", 1)
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Contains(t, string(data), "Tendermint process started\n")
	require.Contains(t, string(data), "a line of CometBFT\n")

	j, err := NewJournal(new(lines), path, 1000)
	require.NoError(t, err)
	for range 100 {
		j.Line(strings.Repeat("x", 99))
	}
	require.NoError(t, j.Close())
	for _, p := range []string{path, path + ".1"} {
		info, err := os.Stat(p)
		require.NoError(t, err)
		require.LessOrEqual(t, info.Size(), int64(1000))
		require.Positive(t, info.Size())
	}
}

// A manager that cannot listen leaves the home to others.
func TestAManagerThatCannotListenHoldsNothing(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()

	r := prepare(t)
	s, err := FromEnvironment(func(string) string { return "" })
	require.NoError(t, err)
	s.Home, s.ProxyApp = r.home, "tcp://127.0.0.1:1"
	_, err = New(t.Context(), s, Options{Access: Access{Listen: taken.Addr().String()},
		Command: []string{"/bin/false"}})
	require.ErrorIs(t, err, ErrSettings)
	lock, err := flock.TryLock(filepath.Join(comethome.SocketDir(r.home), "lock"))
	require.NoError(t, err)
	require.NoError(t, lock.Close())
}

// A machine that fails while a start waits for the end of a pause ends, and is started again.
func TestAMachineThatFailsDuringAPauseIsStartedAgain(t *testing.T) {
	status := 1
	r := newRig(t, script{Exit: &status, Say: "no"}, func(_ *Settings, o *Options) {
		o.Observers = []supervisor.Observer{supervisor.Discard}
	})
	r.awaitEvent("the next start comes in 200ms")
	err := r.m.Machine.ask(t.Context(), func(context.Context) { panic("a fault of ours") })
	require.ErrorIs(t, err, ErrCut)
	r.script(script{})
	r.awaitState(Running)
}
