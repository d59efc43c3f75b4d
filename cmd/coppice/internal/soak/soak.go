// Package soak kills a node's process over and over under load. Each time, while the node is down,
// it checks the home: log and state agree, and each height has the app hash that was seen before.
// When the node is up again, it checks that no acknowledged transaction was lost or applied twice.
package soak

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/coppice-go/coppice/cmd/coppice/internal/rig"
	"github.com/coppice-go/coppice/node/home"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// Config configures a soak.
type Config struct {
	Bin   string // the coppice binary
	Kills int
	Seed  uint64
	Rate  float64 // of the load, in transactions per second
	Keep  bool
	Init  []string    // flags of the home's init
	Round func(Round) // called after each kill; may be nil
}

// Round is one SIGKILL and the state of the home after it.
type Round struct {
	N      int
	Down   time.Duration // from the kill until the node was ready again, without the checks in between
	Height uint64        // committed, by the log of the stopped home
	rig.Count
}

// Result is the outcome of a soak.
type Result struct {
	Kills   int
	Height  uint64
	Hashes  int // heights whose app hash was compared with what was seen before
	Count   rig.Count
	Unknown int
	Dir     string
	Elapsed time.Duration
}

// burst bounds how many acknowledgments lie between a start and the next kill.
const burst = 300

// Run runs the soak. It returns an error for the first thing that did not hold, with the round.
func Run(ctx context.Context, c Config) (res Result, err error) {
	begin := time.Now()
	r, err := rig.New(ctx, rig.Config{Bin: c.Bin, Profile: "default", Rate: c.Rate, Keep: c.Keep, Init: c.Init})
	if err != nil {
		return res, err
	}

	res.Dir = r.Dir()
	defer func() {
		res.Elapsed = time.Since(begin)
		err = errors.Join(err, r.Close())
	}()

	s := &soak{rig: r, rand: rand.New(rand.NewPCG(c.Seed, 1)), chain: make(seenHashes)}

	for n := 1; n <= c.Kills; n++ {
		round, err := s.round(ctx, n)
		res.Kills, res.Height, res.Hashes = n, round.Height, s.compared
		if err != nil {
			return res, fmt.Errorf("kill %d: %w", n, err)
		}
		if c.Round != nil {
			c.Round(round)
		}
	}

	if res.Unknown, err = r.Drain(ctx); err != nil {
		return res, fmt.Errorf("the load failed: %w", err)
	}
	if res.Count, err = r.AuditAll(ctx); err != nil {
		return res, err
	}
	if err := r.Process().Stop(ctx, rig.ReadyWithin); err != nil {
		return res, err
	}
	if _, err := s.stopped(ctx); err != nil {
		return res, err
	}

	if res.Count.Bad() || res.Unknown > 0 {
		return res, fmt.Errorf("%d lost, %d twice, %d unknown: %v", res.Count.Lost, res.Count.Twice, res.Unknown,
			res.Count.Examples)
	}

	return res, nil
}

type soak struct {
	rig      *rig.Rig
	rand     *rand.Rand
	chain    seenHashes
	compared int
}

// round lets the load go on for a while, kills the process, and checks the stopped home. It then
// starts the node again, and checks the transactions that were acknowledged in this round.
func (s *soak) round(ctx context.Context, n int) (Round, error) {
	round := Round{N: n}
	if err := s.rig.Grow(ctx, 1+s.rand.IntN(burst)); err != nil {
		return round, err
	}
	seen, err := s.rig.Client.Status(ctx)
	if err != nil {
		return round, err
	}
	if err := s.note(seen); err != nil {
		return round, err
	}

	// The kill falls somewhere within the work of a block, not always right after the status above.
	select {
	case <-time.After(time.Duration(s.rand.IntN(20_000)) * time.Microsecond):
	case <-ctx.Done():
		return round, context.Cause(ctx)
	}

	s.rig.Process().Crash()
	if round.Height, err = s.stopped(ctx); err != nil {
		return round, err
	}

	begin := time.Now()
	if err := s.rig.Start(ctx); err != nil {
		return round, err
	}

	round.Down = time.Since(begin)
	if seen, err = s.rig.Client.Status(ctx); err != nil {
		return round, err
	}
	if seen.Height < round.Height {
		return round, fmt.Errorf("the node came back at height %d; its log had committed %d", seen.Height, round.Height)
	}
	if err := s.note(seen); err != nil {
		return round, err
	}
	if round.Count, err = s.rig.Audit(ctx); err != nil {
		return round, err
	}
	if round.Bad() {
		return round, fmt.Errorf("%d lost, %d twice: %v", round.Lost, round.Twice, round.Examples)
	}

	return round, nil
}

// note compares the app hash of a status with what was seen before, and remembers it.
func (s *soak) note(st *apiv1.StatusResponse) error {
	known, err := s.chain.note(st.Period, st.Height, st.AppHash)
	if known {
		s.compared++
	}
	return err
}

// stopped verifies the home of the ended process, and compares the app hashes in its log with those
// seen before. It returns the last height that the log has committed.
func (s *soak) stopped(ctx context.Context) (uint64, error) {
	if _, err := s.rig.Command(ctx, "verify"); err != nil {
		return 0, err
	}
	last, err := rig.Committed(home.LogDir(s.rig.Home), func(b *logv1.BlockCommitted) error {
		known, err := s.chain.note(b.Period, b.Height, b.AppHash)
		if known {
			s.compared++
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	if at := s.chain.highest(); at.height > last {
		return 0, fmt.Errorf("the node had shown height %d; its log has committed %d", at.height, last)
	}

	return last, nil
}
