package eventlog_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/eventlog"
)

const (
	childEnv   = "EVENTLOG_TEST_CHILD" // the directory of the log, and the number of the round
	killers    = 64                    // concurrent writers
	killedKeep = 4096                  // records that the child keeps when it truncates
)

// written returns the n-th record that a writer appends in a round.
func written(round, writer, n uint64) eventlog.Record {
	b := make([]byte, 0, 512)
	for _, v := range []uint64{round, writer, n} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}

	rng := rand.New(rand.NewPCG(round<<32|writer, n))
	for range rng.IntN(60) {
		b = binary.LittleEndian.AppendUint64(b, rng.Uint64())
	}

	return eventlog.Record{Kind: eventlog.Kind(writer), Data: b}
}

// childMain appends with many writers until it is killed, and prints each record that is
// acknowledged.
func childMain(arg string) int {
	ctx := context.Background()
	dir, number, _ := strings.Cut(arg, "|")
	round, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		panic(err)
	}

	l, err := eventlog.Open(dir, eventlog.Options{SegmentSize: 64 << 10})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}

	var wg sync.WaitGroup

	for w := range uint64(killers) {
		wg.Go(func() {
			for n := uint64(0); ; n++ {
				var first uint64
				p := l.Append(ctx, written(round, w, n))
				first, err := p.First(), p.Wait(ctx)
				if err == nil && w == 0 && n%64 == 0 && first > killedKeep {
					_, err = l.Truncate(first - killedKeep)
				}

				if err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}

				fmt.Fprintln(os.Stdout, first, w, n)
			}
		})
	}

	wg.Wait()

	return 0
}

// TestKill9 kills a process with 64 writers again and again. Every record that was acknowledged is
// there, at its index. Each writer's records are there without a gap. Past the acknowledged records
// there is at most one record of each writer.
func TestKill9(t *testing.T) {
	dir := t.TempDir()
	rng := rand.New(rand.NewPCG(9, 9))
	acks := 0

	for round := range uint64(soak(6, 1000)) {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s|%d", childEnv, dir, round))
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		acked := map[uint64]eventlog.Record{}
		var newest [killers]uint64 // number of acknowledged records of each writer
		lines := bufio.NewScanner(out)
		note := func() {
			var index, w, n uint64
			_, err := fmt.Sscan(lines.Text(), &index, &w, &n)
			require.NoError(t, err)
			acked[index] = written(round, w, n)
			newest[w] = max(newest[w], n+1)
		}

		for left := 1 + rng.IntN(500); left > 0 && lines.Scan(); left-- {
			note()
		}

		require.NoError(t, cmd.Process.Kill())
		for lines.Scan() { // what it printed before it died counts too
			note()
		}

		cmd.Wait()
		require.NotEmpty(t, acked)
		acks += len(acked)

		l, err := eventlog.Open(dir, eventlog.Options{})
		require.NoError(t, err)
		c, err := l.Cursor(l.First())
		require.NoError(t, err)
		var seen [killers]uint64

		want := l.First()
		for ; ; want++ {
			e, ok, err := c.TryNext()
			require.NoError(t, err)
			if !ok {
				break
			}

			require.Equal(t, want, e.Index)
			u := func(i int) uint64 { return binary.LittleEndian.Uint64(e.Data[8*i:]) }
			if u(0) != round {
				continue
			}

			rec := written(round, u(1), u(2))
			require.Equal(t, string(rec.Data), string(e.Data))
			require.True(t, seen[u(1)] == u(2) || l.First() > 1 && seen[u(1)] == 0,
				"a gap in the records of writer %d", u(1))
			seen[u(1)] = u(2) + 1

			if ack, ok := acked[e.Index]; ok {
				require.Equal(t, string(ack.Data), string(e.Data), "record %d", e.Index)
				delete(acked, e.Index)
			}
		}

		c.Close()
		require.Equal(t, l.Durable()+1, want)
		for index := range acked {
			require.Less(t, index, l.First(), "acknowledged and lost")
		}

		for w := range seen {
			require.LessOrEqual(t, seen[w], newest[w]+1, "writer %d", w)
		}

		require.NoError(t, l.Close())
	}

	t.Logf("%d records acknowledged", acks)
}
