package sinkfire

import (
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/internal/servers"
)

// Items 18 and 45: a server is put back to an older copy of its data while the node runs. Inside
// the rewind margin the sink is filled again from where it stands; beyond it the stream says that
// there is a gap, and writes nothing.
func TestARewoundServer(t *testing.T) {
	campaign(t)
	for _, kind := range []string{"postgres", "nats", "kafka"} {
		t.Run(kind, func(t *testing.T) {
			t.Run("inside the margin", func(t *testing.T) {
				m := alone(t)
				out := targets[kind](t, m)
				m.start()
				before, after := rewound(t, m, out.server, "live")
				height := m.level("ledger")
				r := m.verify("ledger", 0)
				s := m.stream("ledger")
				require.NotZero(t, s.Rewinds, "%v", s)
				m.kill()
				seen := out.witness()
				require.EqualValues(t, r.Units, seen.blocks)
				t.Logf("put back from height %d to about %d: filled again to %d, %d events, no fault, the second "+
					"client agrees", after, before, height, r.Events)
			})

			t.Run("beyond the margin", func(t *testing.T) {
				m := alone(t, smallest...)
				out := targets[kind](t, m)
				m.amend("ledger", `keep_behind = "0s"`)
				m.start()
				puts(t, m)
				before, after := rewound(t, m, out.server, "gap")
				s := m.stream("ledger")
				require.Equal(t, "gap", s.LastCause.Class)
				t.Logf("put back from height %d to about %d: %s", after, before, s.LastCause.Text)
			})
		})
	}
}

// rewound makes blocks, and puts the server back to an older copy of its data. It returns the
// heights of the sink at the copy and before the server was put back. The stream then comes to a
// state.
func rewound(t *testing.T, m *machine, server *servers.Server, state string) (before, after uint64) {
	t.Helper()
	load := startLoad(t, 100, m)
	load.grow(100)
	before = m.level("ledger")
	server.Kill()
	saved := server.Dir + ".saved"
	run(t, "cp", "-a", server.Dir, saved)
	t.Cleanup(func() { run(t, "rm", "-rf", saved) })
	server.Start()
	load.grow(200)
	after = m.level("ledger")
	if state == "gap" {
		keeps := floor(t, m, "ledger")
		m.until("the log has lost what the old copy needs", func() bool {
			return logFirst(t, m) > keeps && m.level("ledger") > after
		}, func() any { return keeps })
	}
	load.end()

	server.Kill()
	run(t, "rm", "-rf", server.Dir)
	run(t, "cp", "-a", saved, server.Dir)
	server.Start()
	if state == "gap" {
		m.becomes("ledger", state)
	} else { // the state alone does not show that the node has noticed; Kafka's writer does at a block
		more := startLoad(t, 20, m)
		more.grow(5)
		more.end()
		m.until("the sink is found to be put back", func() bool { return m.stream("ledger").GetRewinds() > 0 },
			func() any { return m.stream("ledger") })
	}

	return before, after
}

// run runs a program.
func run(t *testing.T, name string, args ...string) {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	require.NoError(t, err, "%s %v: %s", name, args, out)
}
