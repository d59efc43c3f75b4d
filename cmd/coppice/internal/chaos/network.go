package chaos

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/cmd/coppice/internal/testnet"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/node"
	"github.com/coppice-go/coppice/node/api"
)

// network is a testnet that runs, and a client of each of its nodes.
type network struct {
	*testnet.Net
	clients []*client.Client
	output  *output

	end   context.CancelFunc // has the testnet stop in order
	ended chan struct{}      // closed when it has, and err is set
	err   error
}

// begin makes a testnet in the directory and runs it. It goes on when ctx has ended, until close.
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

// reach makes the client of a node.
func (n *network) reach(i int) error {
	home := n.Home(i)
	token, err := os.ReadFile(filepath.Join(home, api.TokenFileName))
	if err != nil {
		return err
	}

	n.clients = append(n.clients, client.New("", client.WithToken(strings.TrimSpace(string(token))),
		client.WithBackoff(5*time.Millisecond, 50*time.Millisecond), client.WithResolver(func() (string, error) {
			f, err := api.ReadNodeFile(home)
			return f.Address, err
		})))

	return nil
}

// stop stops the nodes in order. A stopped process takes no other signal, so all are woken first.
func (n *network) stop() error {
	for i := range n.Nodes {
		for _, child := range []bool{false, true} {
			_ = n.Signal(context.Background(), i, child, syscall.SIGCONT) // one that does not run is not stopped either
		}
	}

	n.end()
	<-n.ended
	for _, c := range n.clients {
		c.CloseIdle()
	}

	return n.err
}

// died is the error of a testnet that has ended by itself, else nil.
func (n *network) died() error {
	select {
	case <-n.ended:
		return fmt.Errorf("the testnet ended: %w", errors.Join(errors.New("nobody stopped it"), n.err))
	default:
		return nil
	}
}

// askTime bounds a look at a node's height.
const askTime = time.Second

// heights are where the nodes stand that are ready; of the others it has none.
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

// beyond waits until so many nodes are past a height, for at most the limit.
func (n *network) beyond(ctx context.Context, height uint64, nodes int, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()

	at := make(map[int]uint64) // where each was last seen

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

		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return fmt.Errorf("%d of %d nodes are past height %d after %v, want %d: they stand at %v", past, n.Nodes,
				height, limit, nodes, at)
		}
	}
}

// pause waits, unless ctx ends first, and then answers its cause.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// verify has the stopped homes verified, one after the other.
func (n *network) verify(ctx context.Context, bin string) error {
	for i := range n.Nodes {
		if err := run(ctx, bin, "verify", "--home", n.Home(i)); err != nil {
			return fmt.Errorf("node %d: %w", i, err)
		}
	}
	return nil
}

// logs reads what the stopped nodes have committed.
func (n *network) logs(c *sightings) error {
	for i := range n.Nodes {
		if err := c.read(i, node.LogDir(n.Home(i))); err != nil {
			return fmt.Errorf("node %d: %w", i, err)
		}
	}
	return nil
}
