package node

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/offline"
	"github.com/coppice-go/coppice/node/plan"
)

// work adds n blocks to a home, and stops its node. Each run of a node begins a segment of its own.
func work(t *testing.T, home string, n int) {
	t.Helper()
	h := driveHome(t, home)
	for range n {
		b := h.next(h.tx(kv.Add([]byte("n"), 1), time.Minute))
		h.order(b)
		h.commit(b)
	}
	h.close()
}

// aside copies a directory of a home. It returns a function that puts the copy back in place of the
// directory.
func aside(t *testing.T, dir string) (back func()) {
	t.Helper()
	copied := filepath.Join(t.TempDir(), "copy")
	require.NoError(t, os.CopyFS(copied, os.DirFS(dir)))
	return func() {
		require.NoError(t, os.RemoveAll(dir))
		require.NoError(t, os.CopyFS(dir, os.DirFS(copied)))
	}
}

func segments(t *testing.T, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(home.LogDir(dir), "*.seg"))
	require.NoError(t, err)
	slices.Sort(list)
	return list
}

// loseFront removes all segments but the newest, behind the log's back.
func loseFront(t *testing.T, home string) {
	t.Helper()
	list := segments(t, home)
	require.Greater(t, len(list), 2)
	for _, path := range list[:len(list)-1] {
		require.NoError(t, os.Remove(path))
	}
}

func logID(t *testing.T, dir string) [16]byte {
	t.Helper()
	l, err := eventlog.OpenReadOnly(home.LogDir(dir), eventlog.Options{})
	require.NoError(t, err)
	defer l.Close()
	return l.ID()
}

// truncateFront removes the oldest segments in order, and returns the first record that is left.
func truncateFront(t *testing.T, dir string) (first uint64) {
	t.Helper()
	l, err := eventlog.Open(home.LogDir(dir), eventlog.Options{})
	require.NoError(t, err)
	removed, err := l.Truncate(l.Durable() + 1)
	require.NoError(t, err)
	require.NotZero(t, removed)
	first = l.First()
	require.NoError(t, l.Close())

	return first
}

// refused checks that neither a start nor verify takes a home, and that both say why.
func refused(t *testing.T, home string, says ...string) {
	t.Helper()
	_, err := offline.Verify(t.Context(), home, offline.VerifyOptions{})
	require.Equal(t, exit.Damage, exit.Code(err), "verify: %v", err)
	code, startErr := startCode(t, home)
	require.Equal(t, exit.Damage, code, "start: %v", startErr)

	for _, s := range says {
		require.ErrorContains(t, err, s)
		require.ErrorContains(t, startErr, s)
	}
}

// I4: the state is ahead of the log.
func TestAStateAheadOfItsLogIsRefused(t *testing.T) {
	dir := stopped(t)
	back := aside(t, home.LogDir(dir))
	work(t, dir, 3)
	back()
	refused(t, dir, "the state is ahead", "the log ends at 7")
}

// I4: the record numbers of one log say nothing about another log.
func TestAStateOfAnotherLogIsRefused(t *testing.T) {
	dir, other := stopped(t), stopped(t)
	require.NoError(t, os.RemoveAll(home.StateDir(dir)))
	require.NoError(t, os.Rename(home.StateDir(other), home.StateDir(dir)))
	refused(t, dir, "the state belongs to another event log")
}

// I4: even if the two identities were made to agree, the record that led to the state must be in
// the log.
func TestAStateOfAnotherChainIsRefused(t *testing.T) {
	dir := stopped(t)
	other := t.TempDir()
	_, err := home.Init(other, home.InitOptions{ChainID: "another", Listen: "127.0.0.1:0", Profile: plan.Chaos})
	require.NoError(t, err)
	h := driveHome(t, other)
	_, err = h.ordering.InitChain(t.Context(), h.genesis)
	require.NoError(t, err)

	for range 3 {
		b := h.next(h.tx(kv.Add([]byte("n"), 1), time.Minute))
		h.order(b)
		h.commit(b)
	}

	h.close()
	require.NoError(t, os.RemoveAll(home.StateDir(dir)))
	require.NoError(t, os.Rename(home.StateDir(other), home.StateDir(dir)))
	db, err := storage.Open(home.StateDir(dir), storage.Options{})
	require.NoError(t, err)
	require.NoError(t, db.Adopt(logID(t, dir), db.State().Index))
	require.NoError(t, db.Close())
	refused(t, dir, "the state is of chain another (period 0)", "of the log is of test")
}

// I4: the applied index of the state was made to fit, but its record did not lead to this state.
func TestAStateThatItsRecordDidNotLeadToIsRefused(t *testing.T) {
	dir := stopped(t)
	db, err := storage.Open(home.StateDir(dir), storage.Options{})
	require.NoError(t, err)
	id, _, err := db.LogID()
	require.NoError(t, err)
	require.NoError(t, db.Adopt(id, db.State().Index-2))
	require.NoError(t, db.Close())
	refused(t, dir, "by record 5 of the log (BlockCommitted) the state is at height 2")
}

// I4: a log whose front is gone is refused, even if the state is intact and needs nothing of the
// front. A log that was truncated is not refused.
func TestALogWithoutItsFrontIsRefusedUnlessItWasTruncated(t *testing.T) {
	dir := stopped(t)
	for range 3 {
		work(t, dir, 2)
	}

	back := aside(t, home.LogDir(dir))
	loseFront(t, dir)
	refused(t, dir, "segment is missing")
	back()
	require.Greater(t, truncateFront(t, dir), uint64(1))
	work(t, dir, 1)
}

// I4: the records between the end of the state and the start of the log are missing. Without a
// state, all records before the start of the log are.
func TestAGapBetweenStateAndLogIsRefused(t *testing.T) {
	dir := stopped(t)
	back := aside(t, home.StateDir(dir))
	for range 3 {
		work(t, dir, 2)
	}

	truncateFront(t, dir)
	back()
	refused(t, dir, "there is a gap: the state has applied record 7")
	require.NoError(t, os.RemoveAll(home.StateDir(dir)))
	code, err := startCode(t, dir)
	require.Equal(t, exit.Damage, code)
	require.ErrorContains(t, err, "there is no state, but the log begins at record")
	require.ErrorContains(t, err, "coppice snapshot restore")
}
