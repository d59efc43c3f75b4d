package sinkfire

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/cmd/coppice/internal/load"
	"github.com/coppice-go/coppice/cmd/coppice/internal/rig"
	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/internal/servers"
	"github.com/coppice-go/coppice/node/home"
)

// smallest is the configuration in which the log is truncated as soon as it may be.
var smallest = []string{"--set", "log.retain=snapshot", "--set", "log.segment_bytes=1048576", "--set",
	"snapshots.keep=1", "--set", "snapshots.every_bytes=1", "--set", "retention.versions=2"}

// Items 20 and 50: the node is restarted at random with the smallest retention, while a slot is far
// behind. After each end the log still has the floor that the slot's file says. In the end the slot
// gets everything. COPPICE_SINK_RESTARTS is the number of restarts.
func TestTruncationNeverPassesASlot(t *testing.T) {
	campaign(t)
	m := alone(t, smallest...)
	server := servers.NATS(t)
	m.define("far", `kind = "nats"`, fmt.Sprintf("url = \"nats://%s\"", server.Addr), `sync_always = true`,
		`keep_behind = "0s"`)
	near(m)
	m.start()
	endPuts := puts(t, m)

	// The log is truncated while both slots are level.
	var first uint64
	m.until("the log is truncated", func() bool {
		first = logFirst(t, m)
		return first > 1
	}, func() any { return first })
	m.level("far")
	server.Kill()

	n := number(t, "COPPICE_SINK_RESTARTS", 300)
	require.NoError(t, restarts(t, m, n, "far", "near"))
	now, far := ended(t, m), floor(t, m, "far")
	t.Logf("%d restarts: the log begins at %d, slot far keeps %d, the newest record is %d", n, now.first, far, now.last)
	require.Greater(t, now.last, far+1000, "the slot is far behind")

	require.NoError(t, server.TryStart())
	m.start()
	endPuts()
	m.level("far")
	m.level("near")
	reports := []string{}
	for _, name := range []string{"far", "near"} {
		r := m.verify(name, 0)
		reports = append(reports, fmt.Sprintf("%s: %d blocks, %d events, no fault", name, r.Units, r.Events))
	}
	m.until("the log is truncated up to the slots", func() bool { return logFirst(t, m) > far },
		func() any { return far })
	m.kill()
	seen := byConsumer(t, server, "coppice-far")
	t.Logf("level again: %v; the second client saw %d blocks without a gap", reports, seen.blocks)
}

// Items 50 and 70: binaries with a seeded mistake are caught. Each truncates the log past the floor
// that the slot's file has, which is looked for while the node runs, and confirmed after a kill.
// The right binary does the same work first and is not found guilty.
func TestMistakesInRetentionAreCaught(t *testing.T) {
	campaign(t)

	t.Run("retainer ahead of the slot file", func(t *testing.T) {
		m := alone(t, smallest...)
		near(m)
		m.start()
		puts(t, m)
		for range 3 {
			require.False(t, passes(t, m, "near"), "without the mistake")
			m.kill()
			require.NoError(t, keeps(t, m, "near"), "without the mistake")
			m.start()
		}

		caught(t, m, "near", "engines/streams/slot.go",
			"\tif err := sl.file.write(sl.s.o.Data); err != nil {\n"+
				"\t\treturn fmt.Errorf(\"slot %s: %w\", sl.name, err)\n\t}\n",
			"\tfile, data := sl.file, sl.s.o.Data\n"+
				"\ttime.AfterFunc(3*time.Second, func() { fmt.Print(file.write(data)) })\n")
	})

	t.Run("retention before slots", func(t *testing.T) {
		m := alone(t, smallest...)
		m.define("far", `kind = "nats"`, fmt.Sprintf("url = \"nats://%s\"", freeAddr(t)), `sync_always = true`)
		m.start()
		puts(t, m)
		m.until("the slot is far behind", func() bool {
			ctx, cancel := m.ask()
			defer cancel()
			r, err := m.cl.Retention(ctx)
			require.NoError(t, err)
			return r.Last > r.First+2000
		}, func() any { return m.stream("far") })
		require.NoError(t, restarts(t, m, 5, "far"), "without the mistake")

		caught(t, m, "far", "engines/streams/streams.go", "\t\tsl.hold(l)\n",
			"\t\ttime.AfterFunc(time.Minute, func() { sl.hold(l) })\n")
	})
}

// caught runs a machine whose binary has a mistake until the log was truncated past a slot.
func caught(t *testing.T, m *machine, slot, file, was, is string) {
	t.Helper()
	m.kill()
	m.bin = mistaken(t, file, was, is)
	m.start()
	m.until("the mistake shows", func() bool { return passes(t, m, slot) }, func() any { return m.stream(slot) })
	m.kill()
	err := keeps(t, m, slot)
	require.ErrorIs(t, err, errPassed)
	t.Log("caught: ", err)
}

// passes waits for a truncation of the log, and reports whether it went past a slot's file: the
// file is read later than the log's beginning, so that it may only say more.
func passes(t *testing.T, m *machine, slot string) bool {
	t.Helper()
	was, now := logFirst(t, m), uint64(0)
	m.until("the log is truncated", func() bool {
		now = logFirst(t, m)
		return now > was
	}, func() any { return now })
	return now > floor(t, m, slot)
}

// near defines a file sink whose floor follows it at once.
func near(m *machine) {
	m.define("near", `kind = "file"`, fmt.Sprintf("dir = %q", filepath.Join(m.home, "near")), `keep_behind = "0s"`)
}

// mistaken returns a coppice in whose source a text is replaced.
func mistaken(t *testing.T, file, was, is string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("../../../..", file))
	require.NoError(t, err)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(string(text), was), "the place of the mistake in %s", file)

	dir := t.TempDir()
	other := filepath.Join(dir, "mistake.go")
	require.NoError(t, os.WriteFile(other, []byte(strings.Replace(string(text), was, is, 1)), 0o600))
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{path: other}})
	require.NoError(t, err)
	list := filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(list, overlay, 0o600))

	return build(t, "cmd/coppice", "-overlay", list)
}

var errPassed = errors.New("the log was truncated past a slot")

// restarts ends the node n times at a random moment, by SIGKILL or in order, looks whether the log
// has what the slots need, and starts it again, but not after the last time.
func restarts(t *testing.T, m *machine, n int, slots ...string) error {
	t.Helper()
	for i := range n {
		if m.proc == nil {
			m.start()
		}
		require.NoError(t, rig.Pause(t.Context(), time.Duration(rand.IntN(1500))*time.Millisecond))
		if rand.IntN(3) == 0 {
			require.NoError(t, m.proc.Signal(syscall.SIGTERM))
			<-m.proc.Done()
			m.proc = nil
		} else {
			m.kill()
		}

		if err := keeps(t, m, slots...); err != nil {
			return fmt.Errorf("restart %d: %w", i, err)
		}
	}
	return nil
}

// keeps returns errPassed if the log of a node that has ended lacks what a slot needs.
func keeps(t *testing.T, m *machine, slots ...string) error {
	t.Helper()
	log := ended(t, m)
	for _, name := range slots {
		if f := floor(t, m, name); log.first > f {
			return fmt.Errorf("%w: it begins at %d, slot %s needs %d", errPassed, log.first, name, f)
		}
	}
	return nil
}

// extent is where a log begins and ends.
type extent struct{ first, last uint64 }

// ended returns the extent of the log of a node that has ended.
func ended(t *testing.T, m *machine) extent {
	t.Helper()
	l, err := eventlog.OpenReadOnly(home.LogDir(m.home), eventlog.Options{})
	require.NoError(t, err)
	defer l.Close()
	return extent{l.First(), l.Durable()}
}

// logFirst returns the first record of the log of a running node.
func logFirst(t *testing.T, m *machine) uint64 {
	t.Helper()
	ctx, cancel := m.ask()
	defer cancel()
	r, err := m.cl.Retention(ctx)
	require.NoError(t, err)
	return r.First
}

// floor returns the floor in a slot's file.
func floor(t *testing.T, m *machine, slot string) uint64 {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(home.StreamsDataDir(m.home), "slots", slot+".json"))
	require.NoError(t, err)
	var file struct {
		Floor uint64
	}
	require.NoError(t, json.Unmarshal(text, &file))
	return file.Floor
}

// puts writes values until the returned function is called.
func puts(t *testing.T, m *machine) (end func()) {
	t.Helper()
	b := &burden{t: t, ledger: rig.NewLedger(), stop: make(chan struct{}), cancel: func() {}}
	run, err := load.New(load.Config{Client: m.cl, Backend: kv.Name, ValidFor: 9 * time.Minute, Clients: 4, Batch: 10,
		Rate: 300, Next: load.Puts(load.NewPrefix(), 2000), Stop: b.stop,
		Failed: func(load.Item, error) bool { return true }})
	require.NoError(t, err)
	ctx := t.Context()
	b.all.Go(func() { _, _ = run.Run(ctx) })
	t.Cleanup(b.all.Wait)

	return b.end
}
