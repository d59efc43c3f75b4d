package comet

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	rpchttp "github.com/cometbft/cometbft/rpc/client/http"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus/comet/ladder"
	"github.com/coppice-go/coppice/supervisor"
)

// watched is a watchdog over a CometBFT that gives the answers that the test sets, and never
// commits.
type watched struct {
	*watchdog
	starts  atomic.Int32 // of CometBFT
	moves   atomic.Bool  // the height moves with each request
	asked   atomic.Int32 // how often CometBFT was asked for its peers
	stopped atomic.Int64 // for how long everything stops at the next look for work
	cut     atomic.Int32 // how many of the next requests end without an answer
	deaf    atomic.Bool  // no process listens
	// The time (Unix nanoseconds) at which a stopped CometBFT continues. It then answers, and has a
	// block wakesFor later.
	wakes atomic.Int64

	catchingUp atomic.Bool  // as CometBFT reports
	idle       atomic.Int64 // for how long CometBFT has not heard from its peer
}

// rpcAnswers are the answers of CometBFT's RPC: this node is one of four validators, and its peer
// is at height 9.
var rpcAnswers = map[string]string{
	"validators":           `{"block_height":"5","count":"0","total":"4"}`,
	"dump_consensus_state": `{"peers":[{"node_address":"aa@127.0.0.1:1","peer_state":{"round_state":{"height":"9"}}}]}`,
}

// RoundTrip answers a request to CometBFT.
func (w *watched) RoundTrip(r *http.Request) (*http.Response, error) {
	var q struct {
		ID     json.RawMessage `json:"id"`
		Method string          `json:"method"`
	}

	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		return nil, err
	}
	if w.deaf.Load() {
		return nil, &net.OpError{Op: "dial", Net: "unix", Err: syscall.ENOENT}
	}
	if w.cut.Add(-1) >= 0 {
		return nil, io.EOF
	}

	if at := w.wakes.Load(); at > 0 {
		select {
		case <-time.After(time.Until(time.Unix(0, at))):
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
		if w.wakes.CompareAndSwap(at, 0) {
			time.AfterFunc(wakesFor, func() { w.app.height.Add(1) })
		}
	}

	if w.moves.Load() {
		w.app.height.Add(1)
	}
	if q.Method == "dump_consensus_state" {
		w.asked.Add(1)
	}

	answer := rpcAnswers[q.Method]

	switch q.Method {
	case "status":
		answer = fmt.Sprintf(`{"validator_info":{"address":"AA"},"sync_info":{"catching_up":%t}}`, w.catchingUp.Load())
	case "net_info":
		answer = fmt.Sprintf(`{"n_peers":"1","peers":[{"node_info":{"id":"aa"},"connection_status":{"RecvMonitor":{"Idle":"%d"}}}]}`, w.idle.Load())
	}

	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":%s}`, q.ID, answer)
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)),
		Request: r}, nil
}

// wakesFor is shorter than a round.
const wakesFor = 800 * time.Millisecond

// Offer returns a transaction: there is always work.
func (w *watched) Offer(context.Context, uint64, int, int, bool) ([][]byte, uint64, error) {
	if d := w.stopped.Swap(0); d > 0 {
		<-time.After(time.Duration(d))
	}
	return [][]byte{{1}}, 1, nil
}

func (w *watched) Check([]byte, chain.State, time.Time) error   { return nil }
func (w *watched) Recheck([]byte, chain.State, time.Time) error { return nil }
func (w *watched) Sender([]byte) (string, chain.Bounds)         { return "", chain.Bounds{} }
func (w *watched) Premature([]byte, time.Time) bool             { return false }

// watchOver starts the watchdog. The end of the test stops it.
func watchOver(t *testing.T, set ...func(*watched)) *watched {
	t.Helper()
	w := &watched{watchdog: &watchdog{timing: timing{bound: 4 * time.Second}, app: &app{}, health: newHealth(nil),
		resets: idleResets().machine, log: zap.NewNop(),
		climbing: func() bool { return false }, attempts: new(attempts), asks: askPeersEvery}}
	w.climb = func(ctx context.Context, _ ladder.Rung) error { return supervisor.Recycle(ctx, w.sup, childProcess) }
	w.app.agreeing.Store(true)
	hc := &http.Client{Transport: w}
	c, err := rpchttp.NewWithClient("http://comet", "/websocket", hc)
	require.NoError(t, err)
	w.pool, w.rpc = w, rpc{c, hc}
	w.sup, err = supervisor.New(supervisor.Spec{Name: "consensus", Build: supervisor.Children(
		supervisor.Child{ID: childProcess, Start: func(context.Context) (supervisor.Service, error) {
			w.starts.Add(1)
			return supervisor.ServiceFunc(func(ctx context.Context) error {
				<-ctx.Done()
				return context.Cause(ctx)
			}), nil
		}},
		supervisor.Child{ID: childWatchdog, Start: func(context.Context) (supervisor.Service, error) {
			return w.watchdog, nil
		}},
	)})
	require.NoError(t, err)
	for _, f := range set {
		f(w)
	}
	run, err := w.sup.Start(context.Background())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, run.Stop(context.Background())) })

	return w
}

// after lets fake time pass.
func after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// A height that stands still while peers are ahead is CometBFT's fault. Past the bound CometBFT is
// restarted, and each time in a row later.
func TestTheWatchdogRestartsACometBFTThatStandsStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watchOver(t)
		after(3900 * time.Millisecond)
		require.EqualValues(t, 1, w.starts.Load())
		after(time.Second)
		require.EqualValues(t, 2, w.starts.Load())
		after(7 * time.Second)
		require.EqualValues(t, 2, w.starts.Load(), "its patience has doubled")
		after(2 * time.Second)
		require.EqualValues(t, 3, w.starts.Load())
	})
}

// A process that has only begun to start gets more time than one whose consensus has begun. (Found
// by SIGKILLs on a busy machine: starts that took 3 s were ended, one after the other.)
func TestAStartHasABoundOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watchOver(t)
		w.app.agreeing.Store(false)
		after(watchPatience - time.Second)
		require.EqualValues(t, 1, w.starts.Load())
		w.app.agreeing.Store(true)
		after(3 * time.Second)
		require.EqualValues(t, 1, w.starts.Load(), "its consensus has only just begun")
		after(2 * time.Second)
		require.EqualValues(t, 2, w.starts.Load(), "its consensus stands still")
		w.app.agreeing.Store(false)
		after(2*watchPatience - time.Second)
		require.EqualValues(t, 2, w.starts.Load())
		after(2 * time.Second)
		require.EqualValues(t, 3, w.starts.Load(), "a start does not get unlimited time")
	})
}

// A CometBFT that was stopped (SIGSTOP) and continues while it is asked, or just before, answers
// before it has a block. It is not restarted.
func TestACometBFTThatWakesIsLeftAlone(t *testing.T) {
	for name, after := range map[string]time.Duration{
		"before the question": 0, "as it is asked": 4 * time.Second, "while it is asked": 6 * time.Second,
		"as its time is over": 7500 * time.Millisecond,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := watchOver(t)
				w.wakes.Store(time.Now().Add(after).UnixNano())
				<-time.After(max(after, 4*time.Second) + wakesFor)
				synctest.Wait()
				require.EqualValues(t, 1, w.starts.Load())
				require.EqualValues(t, 1, w.app.height.Load(), "it was asked, and has continued")
			})
		})
	}
}

// A CometBFT that does not continue is restarted no later than without the question.
func TestACometBFTThatAnswersNobodyIsRestarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watchOver(t)
		w.wakes.Store(time.Now().Add(time.Hour).UnixNano())
		after(4*time.Second + rpcTime)
		require.EqualValues(t, 2, w.starts.Load())
	})
}

// If the height moves while the watchdog asks, CometBFT is not restarted.
func TestAHeightThatMovesMeanwhileIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watchOver(t)
		w.moves.Store(true)
		after(time.Minute)
		require.EqualValues(t, 1, w.starts.Load())
		require.Positive(t, w.asked.Load())
	})
}

// Time in which the watchdog itself did not run does not count. If the whole node was stopped
// (SIGSTOP, a sleeping laptop, a virtual machine that is moved), a height that stands still is not
// the fault of CometBFT, which ran on and only waited for the application.
func TestTimeInWhichTheNodeWasStoppedIsNotHeldAgainstCometBFT(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watchOver(t)
		after(time.Second)
		w.stopped.Store(int64(15 * time.Second))
		after(16 * time.Second)
		require.Zero(t, w.asked.Load(), "it is too early to ask CometBFT")
		require.EqualValues(t, 1, w.starts.Load())
		after(3 * time.Second)
		require.EqualValues(t, 2, w.starts.Load(), "a height that still does not move is CometBFT's fault")
	})
}

// A lost quorum is not CometBFT's fault. However long it lasts, CometBFT is not restarted.
func TestTheWatchdogIsSilentWithoutAQuorum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watchOver(t)
		w.app.height.Store(8) // the peers work on the next height, as we do
		after(2 * time.Minute)
		require.EqualValues(t, 1, w.starts.Load())
		require.Positive(t, w.asked.Load())
	})
}

// A request that is cut off is no sign of a hang: the supervisor, not the watchdog, restarts a
// CometBFT that was just killed. A CometBFT that answers no request is restarted.
func TestARequestThatIsCutOffIsMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watchOver(t)
		w.app.height.Store(8)
		w.cut.Store(1)
		after(20 * time.Second)
		require.EqualValues(t, 1, w.starts.Load())
		w.cut.Store(1 << 20)
		after(8 * time.Second)
		require.EqualValues(t, 2, w.starts.Load())
	})
}

// What a peer said before the network was cut says nothing about now. A peer that was ahead and is
// silent does not cause a restart.
func TestAPeerThatIsSilentIsNotAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watchOver(t)
		w.idle.Store(int64(4 * time.Second))
		after(time.Minute)
		require.EqualValues(t, 1, w.starts.Load())
		w.idle.Store(int64(100 * time.Millisecond))
		after(6 * time.Second)
		require.EqualValues(t, 2, w.starts.Load(), "once the peer is heard again")
	})
}

// A CometBFT that is slow to begin gets more time, but not unlimited time.
func TestACometBFTThatBeginsIsGivenTime(t *testing.T) {
	for name, begins := range map[string]func(*watched){
		// It dials at random moments, and asks every 10 s which peer has which blocks.
		"it fetches blocks": func(w *watched) { w.catchingUp.Store(true) },
		// It starts, which takes long on a busy machine.
		"it does not listen yet": func(w *watched) { w.deaf.Store(true) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := watchOver(t)
				begins(w)
				after(watchPatience - time.Second)
				require.EqualValues(t, 1, w.starts.Load())
				after(2 * time.Second)
				require.EqualValues(t, 2, w.starts.Load(), "the time is limited")
			})
		})
	}
}
