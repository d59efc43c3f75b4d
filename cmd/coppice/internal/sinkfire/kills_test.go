package sinkfire

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/cmd/coppice/internal/rig"
	"github.com/coppice-go/coppice/internal/servers"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// target is a sink of a machine, with what can be killed besides the node.
type target struct {
	server  *servers.Server // nil: it has none
	plugin  bool
	witness func() *sequence // reads what the sink holds by other means
}

// targets make the sinks of a machine, each under the name "ledger".
var targets = map[string]func(testing.TB, *machine) *target{
	"postgres": func(t testing.TB, m *machine) *target {
		s := servers.Postgres(t)
		watchCommits(t, s)
		m.write("pg.dsn", servers.PostgresURL(s, "postgres"))
		m.define("ledger", `kind = "postgres"`, `dsn_file = "pg.dsn"`)
		return &target{server: s, witness: func() *sequence {
			w := commits(t, s, "ledger")
			return &sequence{blocks: w.blocks, events: w.events + w.blocks} // the ends are the rows of blocks
		}}
	},
	"kafka": func(t testing.TB, m *machine) *target {
		s := servers.Kafka(t)
		m.define("ledger", `kind = "kafka"`, fmt.Sprintf("brokers = [%q]", s.Addr))
		return &target{server: s, witness: func() *sequence { return byKcat(t, s, "coppice-ledger") }}
	},
	"nats": func(t testing.TB, m *machine) *target {
		s := servers.NATS(t)
		m.define("ledger", `kind = "nats"`, fmt.Sprintf("url = \"nats://%s\"", s.Addr), `sync_always = true`)
		return &target{server: s, witness: func() *sequence { return byConsumer(t, s, "coppice-ledger") }}
	},
	"file": func(t testing.TB, m *machine) *target {
		dir := filepath.Join(m.home, "out")
		m.define("ledger", `kind = "file"`, fmt.Sprintf("dir = %q", dir))
		return &target{witness: func() *sequence { return byLines(t, filepath.Join(dir, "*.jsonl")) }}
	},
	"plugin": func(t testing.TB, m *machine) *target {
		program := build(t, "examples/blockfiles")
		text, err := os.ReadFile(program)
		require.NoError(t, err)
		dir := filepath.Join(m.home, "out")
		m.define("ledger", `kind = "plugin"`, fmt.Sprintf("path = %q", program),
			fmt.Sprintf("sha256 = \"%x\"", sha256.Sum256(text)), `plugin = "blockfiles"`, `[settings]`,
			fmt.Sprintf("dir = %q", dir))
		return &target{plugin: true, witness: func() *sequence { return byLines(t, filepath.Join(dir, "*.jsonl")) }}
	},
}

// Items 14, 15, 24, 28 to 31 and 60: node, server, plugin and the slot's writer are killed at
// random under load, alone or together. Verify ends each round, and in the end a second client of
// each sink reads all. COPPICE_SINK_ROUNDS is the number of rounds.
func TestKillsOfNodeServerAndSink(t *testing.T) {
	campaign(t)
	for _, kind := range []string{"file", "plugin", "postgres", "nats", "kafka"} {
		t.Run(kind, func(t *testing.T) {
			m := alone(t)
			out := targets[kind](t, m)
			m.start()
			killRounds(t, m, out, number(t, "COPPICE_SINK_ROUNDS", 100))
		})
	}
}

func killRounds(t *testing.T, m *machine, out *target, rounds int) {
	t.Helper()
	load := startLoad(t, 100, m)
	kills := map[string]int{}
	verified := uint64(0)

	for round := range rounds {
		load.grow(20 + rand.IntN(40))
		require.NoError(t, rig.Pause(t.Context(), time.Duration(rand.IntN(50))*time.Millisecond))

		victims := chosen(out)
		for _, v := range victims {
			kills[v]++
			strike(t, m, out, v)
		}
		for _, v := range victims {
			if v == "server" {
				require.NoError(t, out.server.TryStart())
			}
		}
		if m.proc == nil {
			m.start()
		}

		// Level with what the chain has now, and unharmed since the last round.
		height := m.level("ledger")
		from := max(verified, 5) - 5
		if round%10 == 9 {
			from = 0
		}
		m.verify("ledger", from)
		verified = height
	}

	load.end()
	acked := load.kept(m)
	height := m.level("ledger")
	r := m.verify("ledger", 0)
	s := m.stream("ledger")
	m.kill()
	seen := out.witness()
	require.EqualValues(t, r.Units, seen.blocks)
	require.EqualValues(t, r.Events, seen.events)
	t.Logf("%d rounds, killed %v; %d blocks to height %d, %d events, epoch %d, no fault, the second client agrees; "+
		"%d transactions kept", rounds, kills, r.Units, height, r.Events, s.GetEpoch(), acked)
}

// chosen returns what a round kills: one of what the target has, or all.
func chosen(out *target) []string {
	all := []string{"writer", "node"} // the node last, because the writer is killed through it
	if out.plugin {
		all = append([]string{"plugin"}, all...)
	}
	if out.server != nil {
		all = append([]string{"server"}, all...)
	}
	if n := rand.IntN(len(all) + 1); n < len(all) {
		return all[n : n+1]
	}
	return all
}

// strike kills one of the parts.
func strike(t *testing.T, m *machine, out *target, what string) {
	t.Helper()
	switch what {
	case "node":
		m.kill()
	case "server":
		out.server.Kill()
	case "plugin":
		if pid := pluginOf(t, m); pid > 0 { // it may be starting
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	case "writer":
		ways := []apiv1.How{apiv1.How_HOW_ERROR, apiv1.How_HOW_PANIC, apiv1.How_HOW_GOEXIT}
		ctx, cancel := m.ask()
		defer cancel()
		// It may be between two incarnations: then the blow hits nothing.
		_, _ = m.cl.Kill(ctx, "coppice/node/engines/streams/slots/ledger/writer", ways[rand.IntN(len(ways))], 0)
	}
}

// pluginOf returns the process id of the node's plugin, or 0.
func pluginOf(t *testing.T, m *machine) int {
	t.Helper()
	parent := strconv.Itoa(m.proc.PID())
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	require.NoError(t, err)
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if len(fields) > 1 && fields[1] == parent {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			return pid
		}
	}
	return 0
}
