package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines/rounds"
	"github.com/coppice-go/coppice/node/home"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// measureFor is how long a figure is measured.
const measureFor = 10 * time.Second

// BenchmarkRoundsOnFourNodes shows the rounds per second of the oracle without its pause, and of a
// backend with the same four steps that is written by hand. Item 82.
func BenchmarkRoundsOnFourNodes(b *testing.B) {
	b.Run("oracle", func(b *testing.B) {
		n := newNet(b, "hurried", nil)
		n.rate(3 * time.Second)
		for b.Loop() {
			b.ReportMetric(n.rate(measureFor), "rounds/s")
		}
	})

	b.Run("byhand", func(b *testing.B) {
		n := newNet(b, "byhand", nil)
		<-time.After(3 * time.Second)
		for b.Loop() {
			before, err := handSteps(b.Context(), n.clients[0])
			require.NoError(b, err)
			began := time.Now()
			<-time.After(measureFor)
			after, err := handSteps(b.Context(), n.clients[0])
			require.NoError(b, err)
			b.ReportMetric(float64(after-before)/time.Since(began).Seconds(), "rounds/s")
		}
	})
}

// BenchmarkAnIdleService shows the CPU of a node with CometBFT whose service waits, and of one
// without a service, and how many blocks they make. Item 82.
func BenchmarkAnIdleService(b *testing.B) {
	for _, program := range []string{"idle", "plain"} {
		b.Run(program, func(b *testing.B) {
			n := newNet(b, program, nil)
			<-time.After(5 * time.Second)
			for b.Loop() {
				before, height := n.cpu(0), n.height(0)
				began := time.Now()
				<-time.After(measureFor)
				b.ReportMetric(100*float64(n.cpu(0)-before)/float64(time.Since(began)), "%cpu")
				b.ReportMetric(float64(n.height(0)-height), "blocks")
			}
		})
	}
}

func (n *net) height(i int) uint64 {
	n.t.Helper()
	status, err := n.clients[i].Status(n.t.Context())
	require.NoError(n.t, err)
	return status.Height
}

// Four nodes make no empty blocks, and one agent is silent: the timeout of each round comes in at
// most three blocks after its deadline, and between two of them no block comes that does nothing.
// How late it comes is printed. Item 71. COPPICE_SOAK=1 runs it.
func TestATimeoutOnFourNodes(t *testing.T) {
	if os.Getenv("COPPICE_SOAK") == "" {
		t.Skip("a long test: COPPICE_SOAK=1 runs it")
	}
	n := newNet(t, "impatient", func(dir string) {
		require.NoError(t, os.Remove(filepath.Join(dir, "node3", home.AgentKeyFile)))
	})

	const timeouts = 10
	var late []time.Duration
	var deadline time.Time // of the round that is open
	after := 0             // blocks since then
	enough := os.ErrDeadlineExceeded
	err := n.clients[0].Follow(t.Context(), client.FromNow, []string{"BlockCommitted"}, func(r client.Record) error {
		now, block := time.Now(), r.Message.(*logv1.BlockCommitted)
		if !deadline.IsZero() && now.After(deadline) {
			after++
		}

		var last *rounds.State[struct{}]
		for _, c := range block.Changes {
			if st, ok := readRound(t, c); ok {
				last = &st
			}
		}
		if last == nil {
			return nil
		}

		fired := last.Last.Place == (rounds.Place{Epoch: block.Period, Height: block.Height}) && !deadline.IsZero()
		if fired {
			require.Equal(t, rounds.Timeout, last.Last.Ended[0].Event)
			require.LessOrEqual(t, after, 3)
			late = append(late, now.Sub(deadline))
			after = 0
		}
		if d, armed := last.Deadline(); armed {
			deadline = d.At
		}
		if len(late) == timeouts {
			return enough
		}
		return nil
	})
	require.ErrorIs(t, err, enough)

	height := n.height(0)
	st, _ := n.state(0)
	t.Logf("%d timeouts came %v after their deadlines; %d blocks for %d rounds", len(late), late, height, st.Count)
	require.LessOrEqual(t, height, 7*st.Count+4, "one block at least for payloads, and two or three for a timeout")
}
