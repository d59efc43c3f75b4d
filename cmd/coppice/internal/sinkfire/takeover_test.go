package sinkfire

import (
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/cmd/coppice/internal/rig"
	"github.com/coppice-go/coppice/cmd/coppice/internal/testnet"
	"github.com/coppice-go/coppice/internal/servers"
)

// Items 27, 36 and 65: four validators, one PostgreSQL. The node that writes is killed again and
// again, and each fourth time it is stopped for a while instead, so that it comes back as a writer.
// Another one goes on at the exact next block; the old one is fenced, and watches. Verify on each
// node and PostgreSQL's own log find neither gap nor duplicate.
// COPPICE_TAKEOVERS is how often the writer is killed.
func TestAnotherValidatorGoesOn(t *testing.T) {
	campaign(t)
	const lease = 2 * time.Second
	server := servers.Postgres(t)
	watchCommits(t, server)
	nodes := network(t, 4, testnet.InitOptions{}, "--set", "streams.lease="+lease.String())
	for _, m := range nodes {
		m.write("pg.dsn", servers.PostgresURL(server, "postgres"))
		m.define("ledger", `kind = "postgres"`, `dsn_file = "pg.dsn"`, `standby = true`)
		m.begin()
	}
	for _, m := range nodes {
		m.ready()
	}
	load := startLoad(t, 60, nodes...)
	load.grow(50)
	conn := connect(t, server)

	kills, stops := number(t, "COPPICE_TAKEOVERS", 20), 0
	var claims, blocks []time.Duration
	for round := 0; round < kills+stops; round++ {
		w := writer(t, nodes)
		load.grow(20)
		stop := round%5 == 4
		if stop {
			stops++
			require.NoError(t, w.proc.Signal(syscall.SIGSTOP))
		} else {
			w.kill()
		}
		at := time.Now()
		was := cursor(t, conn, "ledger")

		var claimed, wrote time.Duration
		for late := at.Add(most); wrote == 0; {
			now := cursor(t, conn, "ledger")
			if now.epoch > was.epoch && claimed == 0 {
				claimed = time.Since(at)
			} else if now.epoch == was.epoch {
				was = now // a commit that was under way
			}
			if now.epoch > was.epoch && now.height > was.height {
				wrote = time.Since(at)
			}
			require.True(t, time.Now().Before(late), "nobody goes on: %+v, was %+v", now, was)
			require.NoError(t, rig.Pause(t.Context(), 5*time.Millisecond))
		}
		claims, blocks = append(claims, claimed), append(blocks, wrote)
		t.Logf("round %d (stopped: %v): claimed after %v, next block after %v, at height %d in epoch %d", round, stop,
			claimed.Round(time.Millisecond), wrote.Round(time.Millisecond), was.height, was.epoch+1)

		if stop {
			require.NoError(t, w.proc.Signal(syscall.SIGCONT))
		} else {
			w.start()
		}
		w.becomes("ledger", "standby")
	}

	load.end()
	for i, m := range nodes {
		m.ready()
		m.level("ledger")
		r := m.verify("ledger", 0)
		t.Logf("node %d: %d blocks, %d events, no fault; %d transactions kept", i, r.Units, r.Events, load.kept(m))
	}
	for _, m := range nodes {
		m.kill()
	}
	seen := commits(t, server, "ledger")
	require.EqualValues(t, cursor(t, conn, "ledger").height+1, seen.blocks)
	slices.Sort(claims)
	slices.Sort(blocks)
	t.Logf("%d kills, %d stops, lease %v: claimed after p50 %v, max %v; next block after p50 %v, max %v; the witness "+
		"saw %d blocks, %d events, %d epochs", kills, stops, lease, claims[len(claims)/2], claims[len(claims)-1],
		blocks[len(blocks)/2], blocks[len(blocks)-1], seen.blocks, seen.events, seen.epochs)
	require.LessOrEqual(t, blocks[len(blocks)/2], lease+time.Second, "the median of a takeover")
}

// writer returns the machine that writes, once there is exactly one.
func writer(t testing.TB, nodes []*machine) (w *machine) {
	t.Helper()
	var states []string
	nodes[0].until("one node writes and the others watch", func() bool {
		states, w = states[:0], nil
		n := 0
		for _, m := range nodes {
			s := m.stream("ledger")
			states = append(states, s.GetState())
			switch s.GetState() {
			case "live":
				w, n = m, n+1
			case "standby":
			default:
				return false
			}
		}
		return n == 1
	}, func() any { return states })

	return w
}
