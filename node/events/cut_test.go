package events_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/node/nodetest"
	"github.com/coppice-go/coppice/node/plan"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cuts is the number of times that each follower is cut off.
const cuts = 100

// cutter is a TCP proxy. It cuts each connection after some of the node's bytes, in the middle of
// anything, as often as it is told, and then no more.
type cutter struct {
	to   string
	l    net.Listener
	left atomic.Int64 // number of cuts that remain
	done sync.WaitGroup

	mu    sync.Mutex
	rng   *rand.Rand
	conns map[net.Conn]bool
}

func newCutter(t *testing.T, to string, seed uint64) *cutter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c := &cutter{to: to, l: l, rng: rand.New(rand.NewPCG(seed, seed)), conns: map[net.Conn]bool{}}
	c.left.Store(cuts)
	c.done.Go(c.accept)
	t.Cleanup(c.close)
	return c
}

func (c *cutter) close() {
	c.l.Close()
	c.mu.Lock()
	for conn := range c.conns {
		conn.Close()
	}
	c.mu.Unlock()
	c.done.Wait()
}

func (c *cutter) accept() {
	for {
		in, err := c.l.Accept()
		if err != nil {
			return
		}

		out, err := net.Dial("tcp", c.to)
		if err != nil {
			in.Close()
			continue
		}

		c.mu.Lock()
		c.conns[in], c.conns[out] = true, true
		after := c.rng.Int64N(2_500) + 1
		c.mu.Unlock()

		c.done.Go(func() { // to the node
			io.Copy(out, in)
			out.Close()
		})

		c.done.Go(func() { // from the node
			defer in.Close()
			defer out.Close()
			if c.left.Load() > 0 {
				if _, err := io.CopyN(in, out, after); err == nil && c.left.Add(-1) >= 0 {
					return
				}
			}
			io.Copy(in, out)
		})
	}
}

// load submits transactions until it is told to stop.
func load(ctx context.Context, c *client.Client) error {
	for i := 0; ; i++ {
		body, err := kv.Encode(kv.Add([]byte(fmt.Sprintf("key/%d", i%16)), 1))
		if err != nil {
			return err
		}

		if _, err := c.Submit(ctx, chain.NewTx(kv.Name, body, time.Minute)); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
}

// order checks that a stream of records has each index once, in order, and leaves none out.
type order struct{ last uint64 }

func (o *order) take(index uint64) error {
	if index != o.last+1 {
		return fmt.Errorf("record %d came after record %d", index, o.last)
	}
	o.last = index
	return nil
}

// underLoad runs a follower while transactions are submitted. until stops the load and returns the
// end of the log.
func underLoad(t *testing.T, n *nodetest.Node, follow func(ctx context.Context, until func() uint64) error) {
	t.Helper()
	c := n.Client()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()

	loading, stop := context.WithCancel(ctx)
	loaded := make(chan error, 1)
	go func() { loaded <- load(loading, c) }()
	var end atomic.Uint64 // end of the log; 0 while it grows
	err := follow(ctx, func() uint64 {
		if e := end.Load(); e != 0 {
			return e
		}

		stop()
		require.NoError(t, <-loaded)
		// The transactions that were accepted last are committed before the log is at rest.
		n.Await("the pool is empty", func() bool {
			s, err := c.Status(ctx)
			if err != nil || s.PoolSize > 0 || s.AppliedIndex != s.LogIndex {
				return false
			}
			end.Store(s.LogIndex)
			return true
		})
		return end.Load()
	})
	require.NoError(t, err)
}

var errWhole = errors.New("all were seen")

// A client that is cut off 100 times while it follows events under load receives each record of the
// log exactly once, in order.
func TestAClientThatIsCutOffSeesEachRecordOnce(t *testing.T) {
	n := nodetest.Start(t)
	proxy := newCutter(t, n.Address(), 1)
	c := client.New(proxy.l.Addr().String(), client.WithBackoff(time.Millisecond, 5*time.Millisecond))
	t.Cleanup(c.CloseIdle)
	underLoad(t, n, func(ctx context.Context, until func() uint64) error {
		var seen order
		err := c.Events(ctx, client.EventsOptions{}, func(e client.Event) error {
			if e.Record != nil {
				if err := seen.take(e.Record.Index); err != nil {
					return err
				}
			}

			if proxy.left.Load() <= 0 && seen.last >= until() {
				return errWhole
			}
			return nil
		})

		if !errors.Is(err, errWhole) {
			return err
		}
		return nil
	})
}

// The same with server-sent events, by a client that behaves like an EventSource: it remembers the
// last id of a complete block, and comes back with it.
func TestABrowserThatIsCutOffSeesEachRecordOnce(t *testing.T) {
	n := nodetest.Start(t)
	proxy := newCutter(t, n.Address(), 2)
	h := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(h.CloseIdleConnections)
	underLoad(t, n, func(ctx context.Context, until func() uint64) error {
		var seen order
		last := "0"

		for {
			err := eventSource(ctx, h, "http://"+proxy.l.Addr().String()+"/events", &last,
				func(event string, id uint64) error {
					if event == "record" {
						if err := seen.take(id); err != nil {
							return err
						}
					}

					if proxy.left.Load() <= 0 && seen.last >= until() {
						return errWhole
					}
					return nil
				})
			switch {
			case errors.Is(err, errWhole):
				return nil
			case ctx.Err() != nil:
				return ctx.Err()
			case errors.Is(err, errRefused):
				return err
			}
		}
	})
}

var errRefused = errors.New("refused")

// eventSource reads one connection: blocks of lines, each of which counts once its empty line has
// arrived (HTML, 9.2.6).
func eventSource(ctx context.Context, h *http.Client, url string, last *string,
	handle func(event string, id uint64) error) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}

	req.Header.Set("Last-Event-ID", *last)
	res, err := h.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()

	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: %s", errRefused, res.Status)
	}

	lines := bufio.NewReader(res.Body)
	id, event, data := *last, "", ""

	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return err // an incomplete block does not count
		}

		switch field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": "); field {
		case "id":
			id = value

		case "event":
			event = value

		case "data":
			data = value

		case "":
			if value != "" || strings.HasPrefix(line, ":") {
				continue // a comment
			}

			*last = id

			if data != "" || event == "" {
				at, err := client.ParseCursor(id)
				if err != nil {
					return fmt.Errorf("%w: %w", errRefused, err)
				}
				if err := handle(event, at.Index); err != nil {
					return err
				}
			}

			event, data = "", ""
		}
	}
}

// The stream stays open while the node is down, sends what happens to the tree, and continues with
// the log after the last record.
func TestTheStreamOutlivesTheNode(t *testing.T) {
	n := nodetest.Start(t, nodetest.Profile(plan.Chaos))
	c := n.Client()
	ctx, cancel := context.WithTimeout(t.Context(), nodetest.Timeout)
	defer cancel()

	submit := func() {
		body, err := kv.Encode(kv.Add([]byte("a"), 1))
		require.NoError(t, err)
		_, err = c.SubmitWait(ctx, chain.NewTx(kv.Name, body, time.Minute))
		require.NoError(t, err)
	}
	submit()
	var seen order
	live := make(chan struct{})
	gone := make(chan string, 100)
	blocks := make(chan uint64, 100)
	ended := make(chan error, 1)
	go func() {
		first := true
		ended <- c.Events(ctx, client.EventsOptions{}, func(e client.Event) error {
			if first {
				close(live)
				first = false
			}

			switch {
			case e.Record != nil:
				if err := seen.take(e.Record.Index); err != nil {
					return err
				}
				if e.Record.Kind == "BlockCommitted" {
					blocks <- e.Record.Index
				}
			case e.Tree != nil && e.Tree.Kind == "ChildExited":
				gone <- e.Tree.Path
			}

			return nil
		})
	}()

	<-live
	<-blocks

	for _, path := range []string{"coppice/node/logger", "coppice/node", "coppice/pubsub/broker",
		"coppice/node/transactions/storage"} {
		n.Cut(path)
		for got := ""; got != path; {
			select {
			case got = <-gone:
			case err := <-ended:
				t.Fatalf("the stream ended: %v", err)
			case <-ctx.Done():
				t.Fatalf("the end of %s was never told", path)
			}
		}

		submit()

		select {
		case <-blocks:
		case <-ctx.Done():
			t.Fatalf("no block after the end of %s", path)
		}
	}

	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
}

// An agent of the bus runs a filter, and lives as long as its stream.
func TestAFilterIsAnAgent(t *testing.T) {
	n := nodetest.Start(t)
	c := n.Client()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- c.Events(ctx, client.EventsOptions{After: client.FromNow, Filter: "kind=BlockCommitted"},
			func(client.Event) error {
				return nil
			})
	}()

	agents := func() []string {
		var chains []string
		for _, a := range n.Node().Bus().Stats().Agents {
			chains = append(chains, a.Chain)
		}
		return chains
	}
	n.Await("there is an agent", func() bool { a := agents(); return len(a) == 1 && a[0] == "kind=BlockCommitted" })
	at, ok := n.Supervisor().Tree().Find("coppice/pubsub/filters")
	require.True(t, ok)
	require.Equal(t, 1, at.Instances)
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
	n.Await("the agent has ended", func() bool { return len(agents()) == 0 })
}
