package logger_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/enginestest"
	"github.com/coppice-go/coppice/engines/logger"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a supervised logger over a log in a directory.
type rig struct {
	logger.Client
	run  *supervisor.Run
	rec  *suptest.Recorder
	news chan uint64
}

func start(t *testing.T) *rig {
	t.Helper()
	dir := new(enginestest.Directory)
	r := &rig{Client: logger.NewClient(dir), news: make(chan uint64, 100)}
	path := filepath.Join(t.TempDir(), "log")
	lease := supervisor.NewLease(func() (*eventlog.Log, error) {
		return eventlog.Open(path, eventlog.Options{SegmentSize: 1 << 20, MaxRecord: 1000})
	}, (*eventlog.Log).Close, time.Minute)
	t.Cleanup(func() { require.NoError(t, lease.Close()) })
	r.run, r.rec = suptest.Start(t,
		supervisor.Spec{Name: "test", Intensity: supervisor.Intensity{Max: 10, Period: time.Hour},
			Build: supervisor.Children(supervisor.Child{
				ID: "logger",
				Start: logger.Child(dir,
					logger.Config{Lease: lease, Publish: func(e eventlog.Entry) { r.news <- e.Index }}),
			})})

	return r
}

func record(size int) eventlog.Record {
	return eventlog.Record{Kind: chain.KindTxLaunched, Data: make([]byte, size)}
}

// A record for which Append has returned is durable and published, in order, once each. A fence
// covers the records that were not waited for.
func TestAppendFirstPublishThird(t *testing.T) {
	r := start(t)
	first, err := r.AppendNoSync(t.Context(), record(1))
	require.NoError(t, err)
	second, err := r.Append(t.Context(), record(1), record(1))
	require.NoError(t, err)
	require.Equal(t, first+1, second)
	third, err := r.AppendNoSync(t.Context(), record(1))
	require.NoError(t, err)
	last, err := r.Fence(t.Context())
	require.NoError(t, err)
	require.Equal(t, third, last)
	for want := first; want <= last; want++ {
		require.Equal(t, want, <-r.news)
	}

	then := make(chan uint64, 1)
	require.NoError(t, r.AppendThen(t.Context(), func(first uint64, err error) { then <- first }, record(1)))
	require.Equal(t, last+1, <-then)
}

// The file outlives the incarnation: the successor of a killed logger finds the same records and
// continues after them.
func TestASuccessorGoesOnBehindWhatIsDurable(t *testing.T) {
	r := start(t)
	last, err := r.Append(t.Context(), record(10))
	require.NoError(t, err)
	cur, err := r.Cursor(t.Context(), last)
	require.NoError(t, err)
	defer cur.Close()

	require.NoError(t, r.run.Kill("logger", nil))
	suptest.Wait(t, r.rec, 2, func(supervisor.ChildStarted) bool { return true })
	next, err := r.Append(t.Context(), record(10))
	require.NoError(t, err)
	require.Equal(t, last+1, next)
}

// A record that is too large is the fault of its sender: the sender gets the error, and the log
// continues.
func TestARecordThatIsTooLargeIsItsSendersFault(t *testing.T) {
	r := start(t)
	_, err := r.Append(t.Context(), record(1001))
	require.ErrorIs(t, err, eventlog.ErrTooLarge)
	_, err = r.Append(t.Context(), record(1))
	require.NoError(t, err)
	require.Zero(t, suptest.Count[supervisor.ChildExited](r.rec, nil))
}
