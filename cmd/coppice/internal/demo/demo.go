// Package demo shows what the project is about. It runs a node under load, kills every part of its
// tree in every way that applies, and then kills the whole process. From outside, it counts the
// acknowledged transactions that were lost or applied twice.
package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/coppice-go/coppice/cmd/coppice/internal/rig"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// Config configures a demo.
type Config struct {
	Bin      string // the coppice binary
	Seed     uint64 // of the moments of the SIGKILLs and, if Shuffle, of the order
	Shuffle  bool
	Quick    bool // kill each path in only one way; the ways take turns
	SIGKILLs int
	Rate     float64 // of the load, in transactions per second
	Keep     bool

	Begun func(home string) // called with the node's home; may be nil
	Row   func(Row)         // called with each row when it is done; may be nil
	Doing func(string)      // called with what is being done; may be nil
}

// Row is one kill and its outcome.
type Row struct {
	Path         string
	How          string
	Restarted    []string      // the children that have a new incarnation since
	NextCommit   time.Duration // from the kill to the commit of a transaction submitted after it
	Acknowledged int
	Lost, Twice  int
	Problem      string // what went wrong, if anything
}

// Bad reports whether the kill had an outcome that it must not have.
func (r Row) Bad() bool { return r.Problem != "" || r.Lost+r.Twice > 0 }

// Result is the outcome of a demo.
type Result struct {
	Rows         []Row
	Acknowledged int
	Lost, Twice  int
	Unknown      int // submissions without an answer at the end
	Verify       error
	Elapsed      time.Duration
	Dir          string // where the home is, if kept
}

// Bad reports whether a transaction was lost, applied twice or left without an answer, or whether a
// kill or the final verification went wrong.
func (r Result) Bad() bool {
	return r.Lost+r.Twice+r.Unknown > 0 || r.Verify != nil || slices.ContainsFunc(r.Rows, Row.Bad)
}

const (
	profile  = "chaos"
	release  = 300 * time.Millisecond
	between  = 20 // acknowledgments before each kill, so that it strikes under load
	stopTime = 15 * time.Second
)

// Run runs the demo. It returns an error only if the demo itself fails: if the node could not be
// run at all, or if ctx ended.
func Run(ctx context.Context, c Config) (res Result, err error) {
	begin := time.Now()
	d := &demo{Config: c, rand: rand.New(rand.NewPCG(c.Seed, 0))}
	defer func() {
		if err != nil && ctx.Err() != nil {
			err = context.Cause(ctx) // and not the error of the step that it interrupted
		}
	}()

	d.doing("making a home and starting its node")
	if d.rig, err = rig.New(ctx, rig.Config{Bin: c.Bin, Profile: profile, Rate: c.Rate, Keep: c.Keep}); err != nil {
		return res, err
	}
	defer func() {
		res.Elapsed = time.Since(begin)
		err = errors.Join(err, d.rig.Close())
	}()

	if c.Begun != nil {
		c.Begun(d.rig.Home)
	}

	res.Dir = d.rig.Dir()
	targets, err := d.targets(ctx)
	if err != nil {
		return res, err
	}

	for i, t := range targets {
		if err := ctx.Err(); err != nil {
			return res, context.Cause(ctx)
		}
		d.doing(fmt.Sprintf("kill %d of %d: %s by %s", i+1, len(targets), t.path, howWord(t.how)))
		if err := d.row(ctx, &res, t); err != nil {
			return res, err
		}
	}

	return res, d.finish(ctx, &res)
}

type demo struct {
	Config
	rig  *rig.Rig
	rand *rand.Rand
}

func (d *demo) doing(s string) {
	if d.Doing != nil {
		d.Doing(s)
	}
}

// row makes one kill, checks its outcome, and reports a Row. A kill with a bad outcome is not an
// error: row returns one only if the demo cannot go on.
func (d *demo) row(ctx context.Context, res *Result, t target) error {
	r := Row{Path: t.path, How: howWord(t.how)}
	err := d.strike(ctx, t, &r)
	if err != nil && ctx.Err() == nil {
		r.Problem = err.Error()
		err = d.revive(ctx)
	}

	if err == nil {
		var n rig.Count
		if n, err = d.rig.Audit(ctx); err == nil {
			r.Acknowledged, r.Lost, r.Twice = n.Acknowledged, n.Lost, n.Twice
			if n.Bad() && r.Problem == "" {
				r.Problem = fmt.Sprint(n.Examples)
			}
		}
	}

	res.Rows = append(res.Rows, r)
	if d.Row != nil && ctx.Err() == nil {
		d.Row(r)
	}
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}

	return err
}

// revive restarts the node after a row that went wrong, so that later rows do not suffer from it.
func (d *demo) revive(ctx context.Context) error {
	d.rig.Process().Crash()
	return d.rig.Start(ctx)
}

// finish ends the load, reads the counters of all acknowledged transactions once more, and verifies
// the stopped home.
func (d *demo) finish(ctx context.Context, res *Result) error {
	d.doing("ending the load")
	var err error
	if res.Unknown, err = d.rig.Drain(ctx); err != nil {
		return fmt.Errorf("the load failed: %w", err)
	}

	d.doing("reading everything back")
	n, err := d.rig.AuditAll(ctx)
	if err != nil {
		return err
	}

	res.Acknowledged, res.Lost, res.Twice = n.Acknowledged, n.Lost, n.Twice
	d.doing("stopping the node and verifying its home")
	if err := d.rig.Process().Stop(ctx, stopTime); err != nil {
		return err
	}

	_, res.Verify = d.rig.Command(ctx, "verify")

	return ctx.Err()
}

func howWord(h apiv1.How) string {
	if h == sigkill {
		return "SIGKILL"
	}
	return rig.HowWord(h)
}
