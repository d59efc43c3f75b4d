package node_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"time"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/comet"
	"github.com/coppice-go/coppice/node"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/home"
)

// clock is a backend whose validators put the time into their votes, and whose state has the times
// that they said.
type clock struct{}

func (clock) Name() string { return "clock" }

func (clock) Check(body []byte) error {
	if len(body) != 8 {
		return fmt.Errorf("%d bytes, want 8", len(body))
	}
	return nil
}

func (clock) Execute(v chain.View, body []byte) ([]byte, error) {
	return nil, v.Put([]byte("clock"), body)
}

func (clock) ExtendVote(context.Context, consensus.Vote) ([]byte, error) {
	return binary.BigEndian.AppendUint64(nil, 1_700_000_000), nil // a real one would look at its clock
}

func (c clock) VerifyVoteExtension(_ context.Context, _ consensus.Vote, extension []byte) bool {
	return len(extension) == 0 || c.Check(extension) == nil
}

// Propose makes a transaction of the time that the strongest validator said.
func (c clock) Propose(_ context.Context, _ uint64, votes []consensus.ExtendedVote) ([][]byte, error) {
	best := votes[0]
	for _, v := range votes {
		if v.Power > best.Power {
			best = v
		}
	}
	tx, err := chain.NewTx(c.Name(), best.Extension, time.Minute).Encode()
	return [][]byte{tx}, err
}

// A backend extends votes from the second block on, as the genesis of the chain says.
func ExampleWithConsensus() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)

	_, err = home.Init(dir, home.InitOptions{
		Set:       []config.Assignment{{Key: "consensus.kind", Value: comet.Name}},
		Consensus: comet.InitOptions{VoteExtensionsHeight: 2},
	})

	if err != nil {
		panic(err)
	}
	config, err := config.Load(dir)
	if err != nil {
		panic(err)
	}
	n, err := node.New(dir, config, node.WithBackend(clock{}),
		node.WithConsensus(comet.Kind{Extender: clock{}}))
	if err != nil {
		panic(err)
	}

	fmt.Println("this validator's votes will carry the time") // n.Run(ctx) votes
	if err := n.Close(); err != nil {
		panic(err)
	}
	// Output: this validator's votes will carry the time
}
