package inflight

import (
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coppice-go/coppice/engines/chain"
)

// dieIn names the directory in which a re-executed test binary marks and dies; dieHow names the way
// in which it dies.
const (
	dieIn  = "INFLIGHT_DIE_IN"
	dieHow = "INFLIGHT_DIE_HOW"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(dieIn); dir != "" {
		die(dir, os.Getenv(dieHow))
	}
	goleak.VerifyTestMain(m)
}

// die marks three transactions, removes one mark, and ends the process.
func die(dir, how string) {
	t, err := Open(dir)
	if err != nil {
		panic(err)
	}

	ctx, stop := context.WithCancel(context.Background())
	stop() // with suspects, one goroutine would wait for itself to leave
	t.Enter(ctx, id(1), false)
	t.Leave(t.Enter(ctx, id(2), true))
	t.Enter(ctx, id(3), true)

	switch how {
	case "exit":
		os.Exit(77)
	case "fatal":
		new(sync.Mutex).Unlock() // a fatal error, which nothing recovers
	case "kill":
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}

	panic("still alive")
}

func id(n byte) chain.TxID { return chain.TxID{n, 0xab} }

// deaths holds the counted deaths of a transaction.
func deaths(t *Table, id chain.TxID) [2]int {
	eager, placed := t.Deaths(id)
	return [2]int{eager, placed}
}

// next opens dir as the next process would: the marks that the last one made and did not close are
// still there.
func next(t *testing.T, dir string) *Table {
	t.Helper()
	tab, err := open(dir, name{1})
	require.NoError(t, err)
	return tab
}

func TestMarksOutliveTheProcess(t *testing.T) {
	for _, how := range []string{"exit", "fatal", "kill"} {
		t.Run(how, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data", "inflight")
			for n := 1; n <= 2; n++ {
				cmd := exec.Command(os.Args[0])
				cmd.Env = append(os.Environ(), dieIn+"="+dir, dieHow+"="+how)
				require.Error(t, cmd.Run())
				require.False(t, how == "exit" && cmd.ProcessState.ExitCode() != 77, "it died too early")
			}

			tab, err := Open(dir)
			require.NoError(t, err)
			require.ElementsMatch(t, []Flight{{id(1), false}, {id(3), true}}, tab.Previous().Died)
			require.Equal(t, [2]int{2, 0}, deaths(tab, id(1)))
			require.Equal(t, [2]int{0, 0}, deaths(tab, id(2)), "it had left")
			require.Equal(t, [2]int{0, 2}, deaths(tab, id(3)))
		})
	}
}

// Only a process that did not stop in order has died.
func TestAClosedTableCountsForNothing(t *testing.T) {
	dir := t.TempDir()
	tab := next(t, dir)
	mark := tab.Enter(t.Context(), id(1), true)
	tab.Close()
	again := next(t, dir)
	require.Empty(t, again.Previous())
	require.Zero(t, deaths(again, id(1)))
	require.NoFileExists(t, again.File())

	// A worker that ignored the stop may still leave and enter, and is not mistaken for a worker of
	// the next process.
	tab.Leave(mark)
	tab.Enter(t.Context(), id(1), true)
	tab = nil
	runtime.GC()
	require.Empty(t, next(t, dir).Previous())
}

// A power cut is not the fault of a transaction.
func TestMarksOfAnotherBootDoNotCount(t *testing.T) {
	dir := t.TempDir()
	next(t, dir).Enter(t.Context(), id(1), true)
	tab, err := open(dir, name{2})
	require.NoError(t, err)
	require.Equal(t, Previous{Ignored: "the system was booted since"}, tab.Previous())
	require.Zero(t, deaths(tab, id(1)))
}

// A process that dies after it has counted, and before it has its own table, leaves the same marks
// again.
func TestADeathIsCountedOnce(t *testing.T) {
	dir := t.TempDir()
	tab := next(t, dir)
	tab.Enter(t.Context(), id(1), false)
	tab.Enter(t.Context(), id(1), false) // a replaced incarnation still runs the transaction
	left, err := os.ReadFile(filepath.Join(dir, marksFile))
	require.NoError(t, err)

	for range 3 {
		tab = next(t, dir)
		require.Equal(t, [2]int{1, 0}, deaths(tab, id(1)))
		require.NoError(t, os.WriteFile(filepath.Join(dir, marksFile), left, 0o600))
	}
}

func TestForget(t *testing.T) {
	dir := t.TempDir()
	tab := next(t, dir)
	tab.Enter(t.Context(), id(1), false)
	tab.Enter(t.Context(), id(2), false)
	tab = next(t, dir)
	require.NoError(t, tab.Forget([]chain.TxID{id(1), id(9)}))
	require.Zero(t, deaths(tab, id(1)))
	tab = next(t, dir)
	require.Zero(t, deaths(tab, id(1)), "durably")
	require.Equal(t, [2]int{1, 0}, deaths(tab, id(2)))
	require.NoError(t, tab.Forget([]chain.TxID{id(2)}))
	require.NoFileExists(t, tab.File())
	require.NoError(t, tab.Forget([]chain.TxID{id(2)}))

	tab = next(t, dir)
	tab.Enter(t.Context(), id(3), true)
	tab.Enter(t.Context(), id(4), true)
	tab = next(t, dir)
	require.NoError(t, os.RemoveAll(dir))
	require.Error(t, tab.Forget([]chain.TxID{id(3)}))
	require.Equal(t, [2]int{0, 1}, deaths(tab, id(3)), "what is not durable has not happened")
}

// Removing the file forgets all deaths. It is the way out for people.
func TestRemovingTheFileForgets(t *testing.T) {
	dir := t.TempDir()
	next(t, dir).Enter(t.Context(), id(1), true)
	tab := next(t, dir)
	tab.Close()
	require.NoError(t, os.Remove(tab.File()))
	require.Zero(t, deaths(next(t, dir), id(1)))
}

// The file keeps the transactions that died last.
func TestTheFileIsBounded(t *testing.T) {
	var l ledger
	for n := range maxKept/Slots + 2 {
		var flights []Flight
		for i := range Slots {
			flights = append(flights, Flight{ID: chain.TxID{byte(n), byte(i), byte(i >> 8)}})
		}
		flights = append(flights, Flight{ID: id(200)})
		require.True(t, l.count(name{byte(n)}, flights))
	}

	require.Len(t, l.Transactions, maxKept)
	known := l.known()
	require.Equal(t, maxKept/Slots+2, known[id(200)].Eager)
	require.NotContains(t, known, chain.TxID{0, 1})
	require.Contains(t, known, chain.TxID{maxKept/Slots + 1, 1})
}

// A transaction that finds no slot runs unmarked, and leaves like any other.
func TestOverflow(t *testing.T) {
	dir := t.TempDir()
	tab := next(t, dir)

	marks := make([]uint64, Slots)
	for i := range marks {
		marks[i] = tab.Enter(t.Context(), chain.TxID{byte(i), byte(i >> 8)}, false)
		require.NotZero(t, marks[i])
	}

	over := tab.Enter(t.Context(), id(255), false)
	tab.Leave(over)
	tab.Leave(marks[5])
	tab.Enter(t.Context(), id(254), true)
	died := next(t, dir).Previous().Died
	require.Len(t, died, Slots)
	require.Contains(t, died, Flight{id(254), true})
	require.NotContains(t, died, Flight{chain.TxID{5}, false})
}

// While there are suspects, they run alone and the others together, so that the next death has one
// suspect.
func TestASuspectRunsAlone(t *testing.T) {
	dir := t.TempDir()
	next(t, dir).Enter(t.Context(), id(1), true)
	synctest.Test(t, func(t *testing.T) {
		tab := next(t, dir)
		entered := make(chan byte, 10)
		enter := func(n byte, out *uint64) {
			go func() { *out = tab.Enter(t.Context(), id(n), true); entered <- n }()
			synctest.Wait()
		}
		var a, b, suspect, late uint64
		enter(2, &a)
		enter(3, &b)
		require.Len(t, entered, 2, "others run together")
		enter(1, &suspect)
		enter(4, &late)
		require.Len(t, entered, 2, "the suspect waits for them, and who comes later for it")
		tab.Leave(a)
		tab.Leave(b)
		synctest.Wait()
		require.Len(t, entered, 3)
		data, err := os.ReadFile(filepath.Join(dir, marksFile))
		require.NoError(t, err)
		f, err := parseMarks(data)
		require.NoError(t, err)
		require.Equal(t, []Flight{{id(1), true}}, f.flights)
		require.NoError(t, tab.Forget([]chain.TxID{id(1)}))
		tab.Leave(suspect)
		synctest.Wait()
		require.Len(t, entered, 4)
		tab.Leave(late)

		// A stop ends the wait, not the marking: the code may run one last time.
		next := next(t, dir) // id(1) is forgotten
		require.Zero(t, deaths(next, id(1)))
		next.Enter(t.Context(), id(1), true)
	})
	tab := next(t, dir)
	suspect := tab.Enter(t.Context(), id(1), true)
	stopped, stop := context.WithCancel(t.Context())
	stop()
	other := tab.Enter(stopped, id(2), false)
	require.Equal(t, []Flight{{id(1), true}, {id(2), false}}, sorted(next(t, dir).Previous().Died))
	tab.Leave(other)
	tab.Leave(suspect)
	tab.Leave(tab.Enter(t.Context(), id(1), true)) // all turns were returned
}

func sorted(f []Flight) []Flight {
	if len(f) == 2 && f[0].ID[0] > f[1].ID[0] {
		f[0], f[1] = f[1], f[0]
	}
	return f
}

// Any number of transactions may enter and leave at once, with suspects and without. None is marked
// twice, and all marks are returned.
func TestConcurrentUse(t *testing.T) {
	dir := t.TempDir()
	for _, suspects := range []bool{false, true} {
		tab := next(t, dir)
		require.Equal(t, suspects, tab.known.Load() != nil)
		var wg sync.WaitGroup

		for g := range byte(16) {
			wg.Go(func() {
				for range 300 {
					m := tab.Enter(t.Context(), id(g), rand.N(2) == 0)
					if at := uint32(m); tab.slots[at-1].id != id(g) {
						t.Errorf("%v has the slot of %v", id(g), tab.slots[at-1].id)
					}
					tab.Leave(m)
				}
				if g == 3 {
					tab.Forget([]chain.TxID{id(3)})
				}
			})
		}

		wg.Wait()
		data, err := os.ReadFile(filepath.Join(dir, marksFile))
		require.NoError(t, err)
		f, err := parseMarks(data)
		require.NoError(t, err)
		require.Empty(t, f.flights)
		stopped, stop := context.WithCancel(t.Context())
		stop()
		tab.Enter(stopped, id(3), false) // the next round's suspects
		tab.Enter(stopped, id(4), true)
	}
}

// Whatever a power cut leaves of the marks, the node starts, and reports that it ignores them.
func TestMarksThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	next(t, dir).Enter(t.Context(), id(1), true)
	path := filepath.Join(dir, marksFile)
	good, err := os.ReadFile(path)
	require.NoError(t, err)

	damaged := func(at int, v byte) string { b := []byte(string(good)); b[at] ^= v; return string(b) }
	for name, tc := range map[string]struct{ data, want string }{
		"empty":      {"", "0 bytes, want 65600"},
		"torn":       {string(good[:4096]), "4096 bytes, want 65600"},
		"too long":   {string(good) + "x", "65601 bytes"},
		"zeros":      {strings.Repeat("\x00", marksSize), `want "coppmark"`},
		"format":     {damaged(8, 2), "format 3"},
		"slots":      {damaged(12, 1), "with 1025"},
		"slot state": {damaged(headerSize+7*slotSize+1, 0x40), "slot 7 has state"},
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, os.WriteFile(path, []byte(tc.data), 0o600))
			tab := next(t, dir)
			require.Contains(t, tab.Previous().Ignored, errMarks.Error())
			require.Contains(t, tab.Previous().Ignored, tc.want)
			require.Empty(t, tab.Previous().Died)
			tab.Leave(tab.Enter(t.Context(), id(1), true))
			require.Empty(t, next(t, dir).Previous(), "a fresh table has taken its place")
		})
	}
}

// A slot whose id is being written does not run anything yet.
func TestAClaimedSlotIsNoMark(t *testing.T) {
	dir := t.TempDir()
	tab := next(t, dir)
	tab.slots[9].state.Store(claimed)
	tab.slots[9].id = id(1)
	require.Empty(t, next(t, dir).Previous())
}

// A file of deaths that cannot be read is never ignored, and the error names the problem and its
// place.
func TestDeathsThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, deathsFile)

	ok := `{"format":1,"counted":"","transactions":[{"id":"` + id(1).String() + `","eager":1,"placed":2}]}`
	for name, tc := range map[string]struct{ data, want string }{
		"empty":    {"", "EOF"},
		"torn":     {ok[:40], "unexpected EOF"},
		"garbage":  {"\x00\x01", "invalid character"},
		"trailing": {ok + "{}", "there is more"},
		"unknown":  {strings.Replace(ok, "counted", "county", 1), `unknown field "county"`},
		"format":   {strings.Replace(ok, `"format":1`, `"format":9`, 1), "format 9, want 1"},
		"id":       {strings.Replace(ok, id(1).String(), "abcd", 1), "entry 0: transaction id"},
		"negative": {strings.Replace(ok, `"eager":1`, `"eager":-1`, 1), "entry 0: -1 and 2 deaths"},
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, os.WriteFile(path, []byte(tc.data), 0o600))
			_, err := Open(dir)
			require.ErrorIs(t, err, ErrDeaths)
			require.ErrorContains(t, err, path)
			require.ErrorContains(t, err, tc.want)
			data, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, tc.data, string(data), "nothing is repaired behind anybody's back")
		})
	}

	require.NoError(t, os.WriteFile(path, []byte(ok), 0o600))
	require.Equal(t, [2]int{1, 2}, deaths(next(t, dir), id(1)))
}

// Another process left the table, so it may hold any bytes at all.
func FuzzParseMarks(f *testing.F) {
	dir := f.TempDir()
	tab, err := open(dir, name{1})
	require.NoError(f, err)
	tab.Enter(f.Context(), id(1), true)
	tab.Enter(f.Context(), id(2), false)
	good, err := os.ReadFile(filepath.Join(dir, marksFile))
	require.NoError(f, err)
	f.Add(good)
	f.Add(good[:100])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		found, err := parseMarks(b)
		if err != nil {
			require.ErrorIs(t, err, errMarks)
			require.Empty(t, found.flights)
			return
		}

		require.LessOrEqual(t, len(found.flights), Slots)
		var l ledger
		if l.count(found.run, found.flights) {
			require.False(t, l.count(found.run, found.flights))
		}

		require.LessOrEqual(t, len(l.Transactions), len(found.flights))
	})
}

func BenchmarkEnterLeave(b *testing.B) {
	run := func(b *testing.B, tab *Table) {
		b.ReportAllocs()
		var workers atomic.Uint32
		b.RunParallel(func(pb *testing.PB) {
			ctx, id := context.Background(), id(byte(2+workers.Add(1)))
			for pb.Next() {
				tab.Leave(tab.Enter(ctx, id, true))
			}
		})
	}
	dir := b.TempDir()
	tab, err := Open(dir)
	require.NoError(b, err)
	b.Run("alone", func(b *testing.B) {
		b.ReportAllocs()
		ctx := context.Background()
		for b.Loop() {
			tab.Leave(tab.Enter(ctx, id(2), true))
		}
	})
	b.Run("parallel", func(b *testing.B) { run(b, tab) })
	tab.Enter(context.Background(), id(1), true)
	tab, err = Open(dir)
	require.NoError(b, err)
	b.Run("with suspects", func(b *testing.B) { run(b, tab) })
}
