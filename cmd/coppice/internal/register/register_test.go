package register

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/cmd/coppice/internal/memnode"
	"github.com/coppice-go/coppice/node/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// did returns an operation that lasted from call to ret.
func did(client int, call, ret int64, in Input, out Output) porcupine.Operation {
	in.Key = "k"
	return porcupine.Operation{ClientId: client, Input: in, Call: call, Output: out, Return: ret}
}

func put(v string) Input          { return Input{Kind: Put, Value: v} }
func cas(old, value string) Input { return Input{Kind: CAS, Expected: old, Value: value} }
func create(value string) Input   { return Input{Kind: CAS, Absent: true, Value: value} }
func read(v string) Output        { return Output{Found: true, Value: v} }
func check(ops ...porcupine.Operation) Verdict {
	h := NewHistory()
	h.ops = ops
	v, err := h.Check(time.Minute, "")
	if err != nil {
		panic(err)
	}
	return v
}

var (
	get      = Input{Kind: Get}
	done     = Output{}
	absent   = Output{}
	conflict = Output{Conflict: true}
	unknown  = Output{Unknown: true}
)

// The check can fail: it finds the history of a store that violates real time, and accepts that of
// a slow store.
func TestCheckTellsWhatIsLinearizable(t *testing.T) {
	for name, tt := range map[string]struct {
		ops []porcupine.Operation
		ok  bool
	}{
		"in turn": {[]porcupine.Operation{did(0, 1, 2, put("a"), done), did(1, 3, 4, get, read("a"))}, true},
		"a stale read": {[]porcupine.Operation{did(0, 1, 2, put("a"), done), did(0, 3, 4, put("b"), done),
			did(1, 5, 6, get, read("a"))}, false},
		"a lost write": {[]porcupine.Operation{did(0, 1, 2, put("a"), done), did(1, 3, 4, get, absent)}, false},
		"while it waits": {[]porcupine.Operation{did(0, 1, 9, put("a"), done), did(1, 2, 3, get, absent),
			did(1, 4, 5, get, read("a"))}, true},
		"seen, and then not": {[]porcupine.Operation{
			did(0, 1, 9, put("a"), done), did(1, 2, 3, get, read("a")), did(1, 4, 5, get, absent),
		}, false},
		"a value from nowhere": {[]porcupine.Operation{did(0, 1, 2, get, read("a"))}, false},
		"cas that both won": {[]porcupine.Operation{did(0, 1, 5, create("a"), done),
			did(1, 2, 6, create("b"), done)}, false},
		"cas that one won": {[]porcupine.Operation{did(0, 1, 5, create("a"), done), did(1, 2, 6, create("b"), conflict),
			did(0, 7, 8, cas("a", "c"), done), did(1, 9, 10, get, read("c"))}, true},
		"cas that was refused for nothing": {[]porcupine.Operation{
			did(0, 1, 2, put("a"), done), did(0, 3, 4, cas("a", "b"), conflict),
		}, false},
		"unknown, and never": {[]porcupine.Operation{did(0, 1, never, put("a"), unknown), did(1, 2, 3, get, absent),
			did(1, 4, 5, get, absent)}, true},
		"unknown, and late": {[]porcupine.Operation{did(0, 1, never, put("a"), unknown), did(1, 2, 3, get, absent),
			did(1, 4, 5, get, read("a"))}, true},
		"unknown, and undone": {[]porcupine.Operation{did(0, 1, never, put("a"), unknown),
			did(1, 2, 3, get, read("a")), did(1, 4, 5, get, absent)}, false},
		"unknown, applied twice": {[]porcupine.Operation{did(0, 1, never, put("a"), unknown),
			did(1, 2, 3, get, read("a")), did(1, 4, 5, put("b"), done), did(1, 6, 7, get, read("a"))}, false},
		"unknown cas": {[]porcupine.Operation{did(0, 1, never, create("a"), unknown),
			did(1, 2, 3, put("b"), done), did(1, 4, 5, get, read("b"))}, true},
		"unknown cas of another": {[]porcupine.Operation{did(0, 1, 2, put("b"), done),
			did(1, 3, never, cas("x", "a"), unknown), did(2, 4, 5, get, read("a"))}, false},
	} {
		t.Run(name, func(t *testing.T) {
			v := check(tt.ops...)
			require.Equal(t, tt.ok, v.Linearizable())
			require.Empty(t, v.Undecided)
			require.Equal(t, len(tt.ops), v.Operations())
		})
	}
}

func config(nodes ...*client.Client) Config {
	stop := make(chan struct{})
	return Config{Nodes: nodes, PerNode: 3, Seed: 1, Prefix: "r", Every: 50 * time.Millisecond,
		Timeout: 10 * time.Second, Pause: time.Millisecond, Stop: stop}
}

// work runs the clients until there are n operations.
func work(t *testing.T, c Config, n int) *History {
	t.Helper()
	h := NewHistory()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx, c) }()

	for h.Count().Operations() < n {
		select {
		case err := <-ended:
			require.NoError(t, err)
		case <-time.After(time.Millisecond):
		}
	}

	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)

	return h
}

func TestClientsOfAnHonestNodeMakeALinearizableHistory(t *testing.T) {
	n := memnode.New()
	n.Down = func(call int) error { // attempts that are lost are made again
		if call%5 == 0 {
			return fmt.Errorf("%w: restarting", api.ErrUnavailable)
		}
		return nil
	}
	h := work(t, config(n.Serve(t), n.Serve(t)), 600)
	v, err := h.Check(time.Minute, "")
	require.NoError(t, err)
	require.True(t, v.Linearizable(), "%v", v)
	require.Greater(t, v.Keys, 1)
	require.Positive(t, v.Gets)
	require.Positive(t, v.Puts)
	require.Positive(t, v.CAS)
	require.Positive(t, v.Conflicts)
}

// The check finds a node that acknowledges a write and forgets it, by key, with a picture.
func TestClientsFindOutANodeThatForgetsWrites(t *testing.T) {
	n := memnode.New()
	n.Betray = func(tx int) int {
		if tx%5 == 0 {
			return 0
		}
		return 1
	}
	c := config(n.Serve(t))
	c.PerNode = 1
	h := work(t, c, 300)
	picture := filepath.Join(t.TempDir(), "register.html")
	v, err := h.Check(time.Minute, picture)
	require.NoError(t, err)
	require.NotEmpty(t, v.Not)
	require.False(t, v.Linearizable())
	html, err := os.ReadFile(picture)
	require.NoError(t, err)
	require.Contains(t, string(html), "get")
}

// With a node that does not answer, writes have an unknown outcome and reads are not recorded.
func TestUnknownWritesAreOpenAndUnknownReadsAreNothing(t *testing.T) {
	n := memnode.New()
	n.Down = func(int) error { return fmt.Errorf("%w: restarting", api.ErrUnavailable) }
	c := config(n.Serve(t))
	c.Timeout = 5 * time.Millisecond
	h := work(t, c, 30)
	count := h.Count()
	require.Equal(t, count.Operations(), count.Unknown)

	for _, op := range h.all() {
		require.NotEqual(t, Get, op.Input.(Input).Kind)
		require.EqualValues(t, int64(never), op.Return)
	}
}

// If no process listens, no operation is begun and none is recorded.
func TestWhatReachesNobodyIsNoOperation(t *testing.T) {
	asked := make(chan struct{}, 1000)
	c := client.New("", client.WithBackoff(time.Millisecond, time.Millisecond),
		client.WithResolver(func() (string, error) {
			select {
			case asked <- struct{}{}:
			default:
			}
			return "", errors.New("nobody")
		}))
	conf := config(c)
	conf.Timeout = 5 * time.Millisecond
	h := NewHistory()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx, conf) }()
	for range 200 {
		<-asked
	}

	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
	require.Zero(t, h.Count().Operations())
}
