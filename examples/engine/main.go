// Command engine runs a node with an engine of its own under coppice/node/engines: a counter that
// follows the event log.
//
// An engine is a mailbox and handlers (counter.go). node.WithEngine puts it into the node's tree.
// There it is supervised, can be killed by path, and is shown by `coppice tree`, like every other
// engine. Its start function gets a directory in which it finds the node's engines. The test beside
// this file kills the counter and the engines that it depends on, and compares its numbers.
//
//	go run ./examples/engine
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/solo"
	"github.com/coppice-go/coppice/node"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/home"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	consensus.Register(solo.Kind{}) // the default of the configuration
	dir, err := os.MkdirTemp("", "counter")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	homeDir := filepath.Join(dir, "home")
	if _, err := home.Init(homeDir, home.InitOptions{ChainID: "counter", Listen: "127.0.0.1:0"}); err != nil {
		return err
	}
	config, err := config.Load(homeDir)
	if err != nil {
		return err
	}
	n, err := node.New(homeDir, config, node.WithEngine(Counter))
	if err != nil {
		return err
	}

	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	err = count(ctx, n)
	stop()
	if end := <-ended; end != nil {
		return end
	}

	return err
}

func count(ctx context.Context, n *node.Node) error {
	address, err := n.Addr(ctx)
	if err != nil {
		return err
	}

	c := client.New(address)
	defer c.CloseIdle()

	for range 3 {
		if err := Add(ctx, c); err != nil {
			return err
		}
	}

	for {
		counted, err := Ask(ctx, n)
		if err != nil {
			return err
		}

		if counted.Transactions == 3 {
			fmt.Printf("%d transactions in %d blocks\n", counted.Transactions, counted.Blocks)
			return nil
		}

		select { // the counter follows the log a moment later
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Add submits a transaction and waits for its result.
func Add(ctx context.Context, c *client.Client) error {
	body, err := kv.Encode(kv.Add([]byte("n"), 1))
	if err != nil {
		return err
	}
	_, err = c.SubmitWait(ctx, chain.NewTx(kv.Name, body, time.Minute))
	return err
}
