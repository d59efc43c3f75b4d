package eventlog_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"

	"github.com/coppice-go/coppice/eventlog"
	"github.com/stretchr/testify/require"
)

const childEnv = "EVENTLOG_TEST_CHILD"

// childMain appends until it is killed, and prints each index that is acknowledged.
func childMain(dir string) int {
	ctx := context.Background()
	l, err := eventlog.Open(dir, eventlog.Options{SegmentSize: 64 << 10})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for next := l.Durable() + 1; ; next += 2 {
		if _, err := l.AppendNoSync(ctx, recordAt(next)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		if err := l.Append(ctx, recordAt(next+1)).Wait(ctx); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		if next > 200 {
			if _, err := l.Truncate(next - 200); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
		}
		fmt.Println(next + 1)
	}
}

// TestKill9 kills a process that appends, again and again: what it had acknowledged is there.
func TestKill9(t *testing.T) {
	dir := t.TempDir()
	rng := rand.New(rand.NewPCG(9, 9))
	for range soak(8, 500) {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		var acked uint64
		lines := bufio.NewScanner(out)
		for left := 1 + rng.IntN(80); left > 0 && lines.Scan(); left-- {
			_, err := fmt.Sscan(lines.Text(), &acked)
			require.NoError(t, err)
		}
		require.NoError(t, cmd.Process.Kill())
		for lines.Scan() { // what it said before it died counts too
			_, err := fmt.Sscan(lines.Text(), &acked)
			require.NoError(t, err)
		}
		cmd.Wait()

		l, err := eventlog.Open(dir, eventlog.Options{})
		require.NoError(t, err)
		require.NotZero(t, acked)
		require.GreaterOrEqual(t, l.Durable(), acked)
		require.LessOrEqual(t, l.Durable(), acked+2)
		require.NoError(t, readAll(l))
		require.NoError(t, l.Close())
	}
}
