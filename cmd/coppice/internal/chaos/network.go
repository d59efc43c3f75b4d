package chaos

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"syscall"
	"time"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/cmd/coppice/internal/rig"
	"github.com/coppice-go/coppice/cmd/coppice/internal/testnet"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/node/home"
)

// network is a running testnet with a client of each of its nodes.
type network struct {
	*testnet.Net
	clients []*client.Client
	output  *output

	end   context.CancelFunc // stops the testnet in order
	ended chan struct{}      // closed when the testnet has stopped and err is set
	err   error
}

// begin makes a testnet in c.Dir and runs it until stop is called.
func begin(c Config, out *output) (*network, error) {
	t, err := testnet.Init(c.Dir, testnet.InitOptions{
		Nodes: c.Nodes, EmptyEvery: time.Second, Profile: c.Profile, CometProfile: comethome.Tuned,
	})
	if err != nil {
		return nil, err
	}

	n := &network{Net: t, output: out, ended: make(chan struct{})}

	for i := range c.Nodes {
		if c.made != nil {
			if err := c.made(t.Home(i)); err != nil {
				return nil, err
			}
		}
		if err := n.reach(i); err != nil {
			return nil, err
		}
	}

	ctx, cancel := context.WithCancel(context.Background())
	n.end = cancel
	go func() {
		defer close(n.ended)
		n.err = t.Run(ctx, testnet.RunOptions{Bin: c.Bin, Out: out})
	}()

	return n, nil
}

// reach adds the client of node i.
func (n *network) reach(i int) error {
	c, err := rig.Dial(n.Home(i), 5*time.Millisecond, 50*time.Millisecond)
	if err != nil {
		return err
	}

	n.clients = append(n.clients, c)
	return nil
}

// stop stops the nodes in order. It first wakes all of them, because a paused process handles no
// other signal.
func (n *network) stop() error {
	for i := range n.Nodes {
		for _, child := range []bool{false, true} {
			// Signal fails only for a process that does not run. Such a process is not paused.
			_ = n.Signal(context.Background(), i, child, syscall.SIGCONT)
		}
	}

	n.end()
	<-n.ended
	for _, c := range n.clients {
		c.CloseIdle()
	}

	return n.err
}

// died returns an error if the testnet has ended by itself.
func (n *network) died() error {
	select {
	case <-n.ended:
		return fmt.Errorf("the testnet ended: %w", errors.Join(errors.New("it was not stopped"), n.err))
	default:
		return nil
	}
}

// askTime bounds how long heights waits for the nodes.
const askTime = time.Second

// heights returns the height of each node that is ready.
func (n *network) heights(ctx context.Context) map[int]uint64 {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()

	at := make(map[int]uint64)
	var mu sync.Mutex
	var all sync.WaitGroup

	for i, c := range n.clients {
		all.Go(func() {
			s, err := c.Status(ctx)
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			at[i] = s.Height
		})
	}

	all.Wait()

	return at
}

// beyond waits until the number of nodes that are past the given height is at least nodes. It
// returns an error if that takes longer than limit.
func (n *network) beyond(ctx context.Context, height uint64, nodes int, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()

	at := make(map[int]uint64) // the last known height of each

	for {
		maps.Copy(at, n.heights(ctx))
		past := 0

		for _, h := range at {
			if h > height {
				past++
			}
		}

		if past >= nodes {
			return nil
		}

		if err := rig.Pause(ctx, 50*time.Millisecond); err != nil {
			return fmt.Errorf("%d of %d nodes are past height %d after %v, want %d: they stand at %v", past, n.Nodes,
				height, limit, nodes, at)
		}
	}
}

// verify runs 'coppice verify' on the stopped homes, one after the other.
func (n *network) verify(ctx context.Context, bin string) error {
	for i := range n.Nodes {
		if _, err := rig.Command(ctx, bin, n.Home(i), "verify"); err != nil {
			return fmt.Errorf("node %d: %w", i, err)
		}
	}
	return nil
}

// logs checks the logs of the stopped nodes against each other and against the blocks in c.
func (n *network) logs(c *sightings) error {
	for i := range n.Nodes {
		if err := c.read(i, home.LogDir(n.Home(i))); err != nil {
			return fmt.Errorf("node %d: %w", i, err)
		}
	}
	return nil
}
