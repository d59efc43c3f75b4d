package load_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/cmd/coppice/internal/load"
	"github.com/coppice-go/coppice/cmd/coppice/internal/memnode"
	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/node/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func config(c *client.Client, next func(uint64) (load.Item, error)) load.Config {
	return load.Config{Client: c, Backend: kv.Name, ValidFor: time.Minute, Next: next, Clients: 3, Batch: 7, Count: 100}
}

func run(t *testing.T, c load.Config) load.Report {
	t.Helper()
	r, err := load.New(c)
	require.NoError(t, err)
	rep, err := r.Run(context.Background())
	require.NoError(t, err)
	return rep
}

func TestLoadSubmitsExactlyTheCount(t *testing.T) {
	n := memnode.New()
	var acked bytes.Buffer
	c := config(n.Serve(t), load.Puts(load.NewPrefix(), 16))
	c.Acked = load.WriteAcked(&acked)
	rep := run(t, c)
	require.Equal(t, 100, n.Txs())
	require.EqualValues(t, 100, rep.Submitted)
	require.EqualValues(t, 100, rep.Acked)
	require.EqualValues(t, 100, rep.Committed)
	require.Zero(t, rep.Failed+rep.Unknown)
	require.Positive(t, rep.PerSecond(false))

	var wrong []load.Mismatch
	lines, err := load.Check(context.Background(), c.Client, &acked, func(m load.Mismatch) { wrong = append(wrong, m) })
	require.NoError(t, err)
	require.EqualValues(t, 100, lines)
	require.Empty(t, wrong)
}

// I2: a load goes on through an outage with the same ids, so that nothing is applied twice.
func TestLoadGoesOnThroughAnOutage(t *testing.T) {
	n := memnode.New()
	n.Down = func(call int) error {
		if call%3 != 0 {
			return fmt.Errorf("%w: restarting", api.ErrUnavailable)
		}
		return nil
	}
	rep := run(t, config(n.Serve(t), load.Counters(load.NewPrefix())))
	require.EqualValues(t, 100, rep.Committed)
	require.Equal(t, 100, n.Txs())
}

// The check can fail: it names the item that a node has forgotten.
func TestCheckFindsWhatIsNotThere(t *testing.T) {
	n := memnode.New()
	n.Betray = func(tx int) int {
		if tx == 42 {
			return 0
		}
		return 1
	}
	var acked bytes.Buffer
	c := config(n.Serve(t), load.Puts(load.NewPrefix(), 16))
	c.Acked = load.WriteAcked(&acked)
	run(t, c)
	lines := acked.String()
	acked.WriteString("load/torn") // was being written when the writer was killed
	var wrong []load.Mismatch
	count, err := load.Check(context.Background(), c.Client, &acked, func(m load.Mismatch) { wrong = append(wrong, m) })
	require.NoError(t, err)
	require.EqualValues(t, 100, count)
	require.Len(t, wrong, 1)
	require.False(t, wrong[0].Found)
	require.Contains(t, lines, wrong[0].Key+" "+wrong[0].Want+"\n")

	line, _, _ := strings.Cut(lines, "\n")
	wrong = nil
	_, err = load.Check(context.Background(), c.Client, strings.NewReader(line+"x\n"), func(m load.Mismatch) {
		wrong = append(wrong, m)
	})
	require.NoError(t, err)
	require.Len(t, wrong, 1)
	require.Contains(t, wrong[0].String(), "want")
}

func TestCheckNamesTheLineThatIsNone(t *testing.T) {
	c := memnode.New().Serve(t)
	for _, text := range []string{"key\n", " value\n", "a b c\n"} {
		_, err := load.Check(context.Background(), c, strings.NewReader(text), func(load.Mismatch) {})
		require.ErrorIs(t, err, load.ErrLine)
		require.ErrorContains(t, err, "line 1")
	}
}

func TestStopEndsTheLoadInOrder(t *testing.T) {
	stop := make(chan struct{})
	c := config(memnode.New().Serve(t), load.Counters(load.NewPrefix()))
	c.Count, c.Stop = 0, stop
	acks := 0
	c.Acked = func(items []load.Item) error {
		if acks++; acks == 5 {
			close(stop)
		}
		return nil
	}
	rep := run(t, c)
	require.Equal(t, rep.Submitted, rep.Committed)
}

func TestAFailureOfTheAccountEndsTheRun(t *testing.T) {
	full := errors.New("no space left")
	c := config(memnode.New().Serve(t), load.Counters(load.NewPrefix()))
	c.Count = 0
	c.Acked = func([]load.Item) error { return full }
	r, err := load.New(c)
	require.NoError(t, err)
	_, err = r.Run(context.Background())
	require.ErrorIs(t, err, full)
}

func TestBadConfigurationIsNamed(t *testing.T) {
	good := config(nil, nil)
	for field, spoil := range map[string]func(*load.Config){
		"clients":   func(c *load.Config) { c.Clients = 0 },
		"batch":     func(c *load.Config) { c.Batch = 10_001 },
		"rate":      func(c *load.Config) { c.Rate = -1 },
		"valid for": func(c *load.Config) { c.ValidFor = 0 },
	} {
		c := good
		spoil(&c)
		_, err := load.New(c)
		require.ErrorContains(t, err, field+":")
	}
}

func TestPrefixesAndValuesHaveNoBlanks(t *testing.T) {
	p := load.NewPrefix()
	require.NotEqual(t, p, load.NewPrefix())
	it, err := load.Puts(p, 1000)(3)
	require.NoError(t, err)
	require.Len(t, it.Value, 1000)
	require.NotContains(t, it.Key+it.Value, " ")
	require.Equal(t, p+"3", it.Key)
}
