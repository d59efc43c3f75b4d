package worker

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
	"github.com/coppice-go/coppice/supervisor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// code is a backend whose Execute is the function itself.
type code func(v chain.View) ([]byte, error)

func (code) Name() string                                     { return "code" }
func (code) Check(body []byte) error                          { return nil }
func (c code) Execute(v chain.View, _ []byte) ([]byte, error) { return c(v) }

// store is a state of one value, and records what workers hand in.
type store struct {
	value   []byte
	err     error
	changes []*logv1.Change
	result  *logv1.TxResult
	at      chain.Version
}

func (s *store) Read(context.Context, chain.Version, []byte) ([]byte, bool, error) {
	return s.value, s.value != nil, s.err
}

func (s *store) Finish(_ context.Context, v chain.Version, c []*logv1.Change, r *logv1.TxResult) error {
	s.at, s.changes, s.result = v, c, r
	return nil
}

var place = chain.Placement{Version: chain.Version{Height: 3, Index: 7}, Time: time.UnixMilli(1_000)}

func job(s *store, c code) *Worker {
	j := &Worker{Store: s, Job: chain.Job{ID: chain.TxID{1}, Tx: chain.Tx{Backend: "code"}, Backend: c,
		Params: chain.DefaultParams(), Place: make(chan chain.Placement, 1)}}
	j.Place <- place
	return j
}

func run(t *testing.T, c code) *store {
	t.Helper()
	s := &store{}
	require.NoError(t, job(s, c).Serve(t.Context()))
	require.NotNil(t, s.result)
	require.Equal(t, place.Version, s.at)
	require.Equal(t, place.Version, chain.VersionFromProto(s.result.Version))
	return s
}

func TestWritesComeInOrderAndCarryTheVersion(t *testing.T) {
	s := run(t, func(v chain.View) ([]byte, error) {
		v.Put([]byte("a"), []byte("1"))
		v.Delete([]byte("b"))
		v.Put([]byte("a"), []byte("2"))
		own, found, err := v.Get([]byte("a"))
		require.NoError(t, err)
		require.True(t, found)
		return own, nil
	})
	require.Equal(t, logv1.Code_CODE_OK, s.result.Code)
	require.Equal(t, "2", string(s.result.Data), "a transaction reads its own writes")
	require.Len(t, s.changes, 3)
	for _, c := range s.changes {
		require.Equal(t, place.Version, chain.VersionFromProto(c.Version))
	}
}

// Fail is not crash: an error or panic of Execute that is deterministic is the result, and nothing
// is written.
func TestFailIsAResult(t *testing.T) {
	put := func(v chain.View) { v.Put([]byte("k"), []byte("v")) }
	for name, tc := range map[string]struct {
		code code
		want logv1.Code
		log  string
	}{
		"error": {func(v chain.View) ([]byte, error) {
			put(v)
			return nil, errors.New("too poor")
		}, logv1.Code_CODE_FAILED, "too poor"},
		"panic": {func(v chain.View) ([]byte, error) {
			put(v)
			panic("oh")
		}, logv1.Code_CODE_PANICKED, "panicked: oh"},
		"goexit": {func(v chain.View) ([]byte, error) {
			put(v)
			runtime.Goexit()
			return nil, nil
		}, logv1.Code_CODE_PANICKED, "ended its goroutine"},
		"operations": {func(v chain.View) ([]byte, error) {
			for range chain.DefaultParams().MaxTxOps + 1 {
				put(v)
			}
			return nil, nil // an exceeded limit counts, whatever the code returns
		}, logv1.Code_CODE_LIMIT, "more than 10000"},
		"steps": {func(v chain.View) ([]byte, error) {
			put(v)
			v.Step(1)
			return nil, v.Step(1 << 63)
		}, logv1.Code_CODE_LIMIT, "steps"},
		"key": {func(v chain.View) ([]byte, error) {
			put(v)
			return nil, v.Put(make([]byte, chain.MaxKeyBytes+1), nil)
		}, logv1.Code_CODE_LIMIT, "key too long"},
		"value": {func(v chain.View) ([]byte, error) {
			put(v)
			return nil, v.Put([]byte("k"), make([]byte, chain.MaxValueBytes+1))
		}, logv1.Code_CODE_LIMIT, "value too long"},
		"result": {func(v chain.View) ([]byte, error) {
			put(v)
			return make([]byte, 2<<20), nil
		}, logv1.Code_CODE_LIMIT, "result too big"},
		"empty": {func(v chain.View) ([]byte, error) {
			put(v)
			return nil, v.Put(nil, nil)
		}, logv1.Code_CODE_FAILED, "key is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &store{}
			ended := make(chan struct{})
			go func() { // Goexit ends the serving goroutine, as it ends a supervised one
				defer close(ended)
				job(s, tc.code).Serve(context.Background())
			}()

			<-ended
			require.NotNil(t, s.result, "the transaction has a result")
			require.Equal(t, tc.want, s.result.Code)
			require.Contains(t, s.result.Log, tc.log)
			require.Empty(t, s.changes)
		})
	}
}

func TestAnUnknownBackendIsAResult(t *testing.T) {
	s := &store{}
	j := job(s, nil)
	j.Backend = nil
	require.NoError(t, j.Serve(t.Context()))
	require.Equal(t, logv1.Code_CODE_MALFORMED, s.result.Code)
	require.Contains(t, s.result.Log, `"code"`)
}

// A view that met anything that is not deterministic is poisoned. Whatever Execute then does, there
// is no result.
func TestAPoisonedViewCrashesTheWorker(t *testing.T) {
	broken := errors.New("storage is gone")
	for name, after := range map[string]func(error) ([]byte, error){
		"returns the error": func(err error) ([]byte, error) { return nil, err },
		"swallows it":       func(error) ([]byte, error) { return []byte("fine"), nil },
		"returns another":   func(error) ([]byte, error) { return nil, errors.New("business rule") },
	} {
		t.Run(name, func(t *testing.T) {
			s := &store{err: broken}
			err := job(s, func(v chain.View) ([]byte, error) {
				_, _, err := v.Get([]byte("k"))
				require.ErrorIs(t, v.Put([]byte("k"), nil), broken, "nothing works after that")
				return after(err)
			}).Serve(t.Context())
			require.ErrorIs(t, err, errNoResult)
			require.ErrorIs(t, err, broken)
			require.Nil(t, s.result)
		})
	}

	t.Run("panics", func(t *testing.T) {
		s := &store{err: broken}
		require.PanicsWithValue(t, "on top", func() {
			job(s, func(v chain.View) ([]byte, error) { v.Get([]byte("k")); panic("on top") }).Serve(t.Context())
		}, "the panic is the worker's own, with its stack")
		require.Nil(t, s.result)
	})
}

func TestAStopIsNoResult(t *testing.T) {
	s := &store{}
	j := job(s, func(v chain.View) ([]byte, error) { return nil, nil })
	<-j.Place
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, j.Serve(ctx), errNoResult)
	require.Nil(t, s.result)
}

func TestAWithdrawnJobEndsNormally(t *testing.T) {
	for _, late := range []bool{false, true} {
		s := &store{}
		j := job(s, func(v chain.View) ([]byte, error) { _, _, err := v.Get([]byte("k")); return nil, err })
		<-j.Place
		close(j.Place)
		j.Late = late
		require.NoError(t, j.Serve(t.Context()))
		require.Nil(t, s.result)
	}
}

// An eager worker runs until its first read, and only then waits for its place.
func TestAnEagerWorkerRunsToItsFirstRead(t *testing.T) {
	reached := make(chan string, 2)
	s := &store{value: []byte("v")}
	j := job(s, func(v chain.View) ([]byte, error) {
		v.Put([]byte("own"), nil)
		reached <- "before the read"
		_, _, err := v.Get([]byte("k"))
		at, _ := v.BlockTime()
		require.Equal(t, place.Time, at)
		return nil, err
	})
	<-j.Place
	ended := make(chan error, 1)
	go func() { ended <- j.Serve(context.Background()) }()
	require.Equal(t, "before the read", <-reached)
	require.Nil(t, s.result)
	j.Place <- place
	require.NoError(t, <-ended)
}

// An injected fault is the death of the worker, wherever it strikes, and never the result of its
// transaction.
func TestAFaultIsNoResult(t *testing.T) {
	for name, do := range map[string]func(context.Context){
		"panic":  func(context.Context) { panic("fault") },
		"goexit": func(context.Context) { runtime.Goexit() },
	} {
		t.Run(name, func(t *testing.T) {
			s := &store{}
			j := job(s, func(v chain.View) ([]byte, error) { _, _, err := v.Get([]byte("k")); return nil, err })
			<-j.Place
			sup, err := supervisor.New(supervisor.Spec{Name: "t", Build: supervisor.Children(supervisor.Child{
				ID: "w", Restart: supervisor.Temporary, Start: func(context.Context) (supervisor.Service, error) {
					return j, nil
				},
			})})
			require.NoError(t, err)
			run, err := sup.Start(context.Background())
			require.NoError(t, err)
			info, err := run.WhichChild("w")
			require.NoError(t, err)
			exit := supervisor.Monitor(info.Ref)
			require.NoError(t, run.Inject(t.Context(), "w", supervisor.Fault{Name: name, Do: do}))
			require.Equal(t, supervisor.Abnormal, (<-exit).Class)
			require.Nil(t, s.result)
			require.NoError(t, run.Stop(t.Context()))
		})
	}
}

// marks records the entries, and counts how many transactions are inside.
type marks struct {
	entered []bool // per entry: whether the transaction was at its place
	inside  int
	onEnter func()
}

func (m *marks) Enter(_ context.Context, id chain.TxID, placed bool) uint64 {
	if m.onEnter != nil {
		m.onEnter()
	}
	if id != (chain.TxID{1}) {
		panic("another transaction's mark")
	}

	m.entered = append(m.entered, placed)
	m.inside++

	return uint64(len(m.entered))
}

func (m *marks) Leave(mark uint64) {
	if mark != uint64(len(m.entered)) {
		panic("a mark that is not the last")
	}
	m.inside--
}

// watching is a store that fails the test if it is called while backend code is marked as running.
type watching struct {
	*store
	t *testing.T
	m *marks
}

func (w watching) Read(ctx context.Context, v chain.Version, key []byte) ([]byte, bool, error) {
	require.Zero(w.t, w.m.inside, "waiting for a read is not running")
	return w.store.Read(ctx, v, key)
}

func (w watching) Finish(ctx context.Context, v chain.Version, c []*logv1.Change, r *logv1.TxResult) error {
	require.Zero(w.t, w.m.inside, "handing in a result is not running")
	return w.store.Finish(ctx, v, c, r)
}

// A transaction is marked exactly while the code of its backend runs. If the process ends then,
// that code has ended it.
func TestMarkedWhileTheBackendsCodeRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &marks{}
		j := job(&store{}, func(v chain.View) ([]byte, error) {
			require.Equal(t, 1, m.inside)
			v.Put([]byte("own"), nil)
			v.Get([]byte("own"))
			require.Equal(t, []bool{false}, m.entered, "the code did not wait, so it still runs under the same mark")
			v.Version()
			require.Equal(t, []bool{false, true}, m.entered)
			_, _, err := v.Get([]byte("k"))
			require.Equal(t, []bool{false, true, true}, m.entered)
			require.Equal(t, 1, m.inside)

			return nil, err
		})
		<-j.Place
		j.Marks, j.Store = m, watching{&store{}, t, m}
		ended := make(chan error, 1)
		go func() { ended <- j.Serve(t.Context()) }()
		synctest.Wait()
		require.Zero(t, m.inside, "waiting for a place is not running")
		require.Equal(t, []bool{false}, m.entered)
		j.Place <- place
		require.NoError(t, <-ended)
		require.Zero(t, m.inside)
	})

	for name, c := range map[string]code{
		"returns": func(chain.View) ([]byte, error) { return nil, nil },
		"fails":   func(chain.View) ([]byte, error) { return nil, errors.New("no") },
		"panics":  func(chain.View) ([]byte, error) { panic("oh") },
		"goexit":  func(chain.View) ([]byte, error) { runtime.Goexit(); return nil, nil },
	} {
		t.Run(name, func(t *testing.T) {
			m, s := &marks{}, &store{}
			j := job(s, c)
			j.Marks, j.Store, j.Late = m, watching{s, t, m}, true
			ended := make(chan struct{})
			go func() { defer close(ended); j.Serve(context.Background()) }()
			<-ended
			require.NotNil(t, s.result)
			require.Equal(t, []bool{true}, m.entered, "a late transaction is marked only at its place")
			require.Zero(t, m.inside)
		})
	}

	t.Run("poisoned", func(t *testing.T) {
		m := &marks{}
		s := &store{err: errors.New("gone")}
		j := job(s, func(v chain.View) ([]byte, error) {
			v.Get([]byte("k"))
			require.Equal(t, 1, m.inside, "its code still runs")
			panic("on top")
		})
		j.Marks, j.Store = m, watching{s, t, m}
		require.Panics(t, func() { j.Serve(t.Context()) })
		require.Zero(t, m.inside)
	})
}

// A worker that is told to stop while it waits for its turn begins nothing.
func TestAStopBeforeItsTurn(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s, m := &store{}, &marks{onEnter: cancel}
	j := job(s, func(chain.View) ([]byte, error) { t.Error("it ran"); return nil, nil })
	j.Marks = m
	require.ErrorIs(t, j.Serve(ctx), errNoResult)
	require.Nil(t, s.result)
	require.Zero(t, m.inside)
}

func TestSettledLimitsNameThemselves(t *testing.T) {
	for _, err := range []error{chain.ErrTooManyOps, chain.ErrTooManySteps, chain.ErrKeyTooLong,
		chain.ErrValueTooLong, chain.ErrResultTooBig} {
		require.True(t, isLimit(err))
		require.True(t, strings.HasPrefix(err.Error(), "limit: "))
	}
}

// badCheck is a backend whose Check panics.
type badCheck struct{ code }

func (badCheck) Check([]byte) error { panic("cannot even look") }

func TestAPanicOfCheckIsAResult(t *testing.T) {
	s := &store{}
	j := job(s, nil)
	j.Backend = badCheck{}
	require.NoError(t, j.Serve(t.Context()))
	require.Equal(t, logv1.Code_CODE_PANICKED, s.result.Code)
}

// sealed is a backend whose transactions have the nonce 7.
type sealed struct{ code }

func (sealed) CheckSeal(tx chain.Tx) error {
	if string(tx.Nonce) != "7" {
		return errors.New("the nonce is not 7")
	}
	return nil
}

// A block refuses a body in a transaction that it was not made for (chain.Sealed), also one that no
// pool has seen.
func TestABrokenSealIsAResult(t *testing.T) {
	for nonce, want := range map[string]logv1.Code{"7": logv1.Code_CODE_OK, "8": logv1.Code_CODE_MALFORMED} {
		s := &store{}
		w := job(s, nil)
		w.Backend = sealed{func(chain.View) ([]byte, error) { return nil, nil }}
		w.Tx.Nonce = []byte(nonce)
		require.NoError(t, w.Serve(t.Context()))
		require.Equal(t, want, s.result.Code)
	}
}
