package main

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/cmd/coppice/command"
	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/mempool"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/node"
	"github.com/coppice-go/coppice/supervisor"
)

// handmade is the oracle's four steps as a backend that somebody has written by hand: three of four
// votes end a step. It has no timeouts, no events and no offences. The figures of the rounds are
// shown beside it.
type handmade struct{}

// handState is the state of handmade, under handKey.
type handState struct {
	Step  uint64
	Votes map[string]int64
}

type handVote struct {
	Agent string
	Key   []byte
	Step  uint64
	Value int64
}

var handKey = []byte("hand")

func (handmade) Name() string       { return "hand" }
func (handmade) Check([]byte) error { return nil }

func (handmade) Execute(v chain.View, body []byte) ([]byte, error) {
	if len(body) < ed25519.SignatureSize {
		return nil, errors.New("too short")
	}
	var vote handVote
	if err := json.Unmarshal(body[ed25519.SignatureSize:], &vote); err != nil {
		return nil, err
	}
	if len(vote.Key) != ed25519.PublicKeySize ||
		!ed25519.Verify(vote.Key, body[ed25519.SignatureSize:], body[:ed25519.SignatureSize]) {
		return nil, errors.New("bad signature")
	}

	s := handState{}
	raw, found, err := v.Get(handKey)
	if err != nil {
		return nil, err
	}
	if found {
		if err := json.Unmarshal(raw, &s); err != nil {
			return nil, err
		}
	}
	if vote.Step != s.Step {
		return nil, errors.New("late")
	}

	if s.Votes == nil {
		s.Votes = map[string]int64{}
	}
	if s.Votes[vote.Agent] = vote.Value; len(s.Votes) == 3 {
		s = handState{Step: s.Step + 1}
	}
	if raw, err = json.Marshal(s); err != nil {
		return nil, err
	}
	return nil, v.Put(handKey, raw)
}

// handAgent votes in each step, as soon as it has seen the one before.
func handAgent(dir engines.Directory) supervisor.StartFunc {
	return func(context.Context) (supervisor.Service, error) {
		return supervisor.ServiceFunc(func(ctx context.Context) error {
			store, pool := storage.NewClient(dir), mempool.NewClient(dir, map[string]chain.Backend{"hand": handmade{}})
			public, private, err := ed25519.GenerateKey(nil)
			if err != nil {
				return err
			}

			voted := uint64(0)
			for ; ctx.Err() == nil; err = engines.Pause(ctx, 2*time.Millisecond) {
				raw, found, _, err := store.Get(ctx, handKey, 0)
				s := handState{}
				if err != nil || found && json.Unmarshal(raw, &s) != nil || voted > s.Step {
					continue
				}
				text, err := json.Marshal(handVote{hex.EncodeToString(public), public, s.Step, int64(s.Step)})
				if err != nil {
					return err
				}
				tx := chain.NewTx("hand", append(ed25519.Sign(private, text), text...), time.Minute)
				if raw, err = tx.Encode(); err != nil {
					return err
				}
				if out, err := pool.Submit(ctx, [][]byte{raw}); err == nil && out[0].Err == nil {
					voted = s.Step + 1
				}
			}
			return context.Cause(ctx)
		}), nil
	}
}

func byHand() {
	os.Exit(command.Main(command.Program{Backends: []chain.Backend{handmade{}},
		Node: []node.Option{node.WithEngine(node.Engine{ID: "hand", Start: handAgent})}}))
}

// handSteps returns the steps that handmade has ended.
func handSteps(ctx context.Context, c *client.Client) (uint64, error) {
	raw, found, err := c.Get(ctx, handKey)
	if err != nil || !found {
		return 0, err
	}
	var s handState
	if err := json.Unmarshal(raw, &s); err != nil {
		return 0, fmt.Errorf("the state of the handmade backend: %w", err)
	}
	return s.Step, nil
}
