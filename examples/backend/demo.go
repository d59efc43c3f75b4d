package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/solo"
	"github.com/coppice-go/coppice/node"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/home"
)

// run runs a node with the bank inside the process. Package node is for programs that need more
// than the command line.
func run() error {
	consensus.Register(solo.Kind{}) // the default of the configuration
	dir, err := os.MkdirTemp("", "bank")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	homeDir := filepath.Join(dir, "home")
	if _, err := home.Init(homeDir, home.InitOptions{ChainID: "bank", Listen: "127.0.0.1:0"}); err != nil {
		return err
	}
	config, err := config.Load(homeDir)
	if err != nil {
		return err
	}
	n, err := node.New(homeDir, config, node.WithBackend(Bank{}))
	if err != nil {
		return err
	}

	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	err = transfers(ctx, n)
	stop()
	if end := <-ended; end != nil {
		return end
	}

	return err
}

func transfers(ctx context.Context, n *node.Node) error {
	address, err := n.Addr(ctx)
	if err != nil {
		return err
	}

	c := client.New(address)
	defer c.CloseIdle()

	for _, t := range []Transfer{{"", "alice", 100}, {"alice", "bob", 30}, {"bob", "alice", 50}} {
		result, err := c.SubmitWait(ctx, Tx(t))
		if err != nil {
			return err
		}
		fmt.Printf("%d from %q to %q: %v %s\n", t.Amount, t.From, t.To, result.Code, result.Log)
	}

	for _, account := range []string{"alice", "bob"} {
		holds, err := Balance(ctx, c, account)
		if err != nil {
			return err
		}
		fmt.Println(account, "holds", holds)
	}

	return nil
}

// Tx returns a transaction that makes the transfer.
func Tx(t Transfer) chain.Tx { return chain.NewTx(Name, t.Encode(), time.Minute) }

// Balance returns the amount of an account at the newest block.
func Balance(ctx context.Context, c *client.Client, account string) (uint64, error) {
	value, found, err := c.Get(ctx, key(account))
	if err != nil || !found {
		return 0, err
	}
	return amount(value)
}
