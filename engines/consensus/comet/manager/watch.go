package manager

import (
	"context"
	"fmt"
	"time"
)

// Bounds of the watch.
const (
	watchEvery  = time.Second
	askAppEvery = 10 * time.Second
	mostMisses  = 3 // questions in a row that CometBFT does not answer
	mostStalls  = 5 // gentle resets in a row for a chain that stands still
)

// watch asks the process whether it lives, as long as one is up. Its log shows most faults at once;
// watch finds those that leave no line: an RPC or an application that does not answer, and a chain
// that stands still.
func (f *foreign) watch(ctx context.Context) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	w := &watched{foreign: f}

	for {
		select {
		case <-tick.C:
			w.look(ctx)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// watched is what watch knows of the process that it watches.
type watched struct {
	*foreign
	comet   *comet
	misses  int
	askedAt time.Time
	height  int64
	movedAt time.Time
	toldAt  time.Time // zero: no stall was told
}

func (w *watched) look(ctx context.Context) {
	c := w.current.Load()
	if c == nil || !c.isUp() {
		return
	}
	now := w.now()
	if c != w.comet {
		*w = watched{foreign: w.foreign, comet: c, height: -1, movedAt: now}
	}

	height, err := w.rpc.height(ctx)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		w.missed(err)
		return
	}
	w.misses = 0
	w.record.set(func(s *Status) { s.RPC = "" })

	if height != w.height {
		w.moved(ctx, height, now)
	}
	if now.Sub(w.askedAt) >= askAppEvery {
		w.askedAt = now
		w.askApplication(ctx)
	}
	w.judge(ctx, now)
}

func (w *watched) missed(err error) {
	w.misses++
	w.record.set(func(s *Status) { s.RPC = err.Error() })
	if w.misses >= mostMisses {
		w.misses = 0
		w.comet.drop("CometBFT's RPC does not answer: " + err.Error())
	}
}

func (w *watched) moved(ctx context.Context, height int64, now time.Time) {
	first := w.height < 0
	w.height, w.movedAt = height, now
	w.record.set(func(s *Status) {
		if s.Height != height {
			s.Height, s.HeightAt = height, now
		}
	})
	if first {
		return
	}

	w.toldAt = time.Time{}
	f, c := w.foreign, w.comet // w belongs to watch
	f.do(ctx, func(context.Context) { f.unstall(c) })
}

// unstall notes that the chain has moved.
func (f *foreign) unstall(c *comet) {
	if f.comet != c {
		return
	}
	f.stalls.Store(0)
	if s := f.record.state(); s == Stalled || s == Abandoned {
		f.record.tell(Running, "the chain goes on")
	}
}

func (w *watched) askApplication(ctx context.Context) {
	text := ""
	if err := w.rpc.application(ctx); err != nil {
		text = "the application does not answer: " + err.Error()
	}

	was := ""
	w.record.set(func(s *Status) { was, s.ABCI = s.ABCI, text })
	switch {
	case text != "" && was == "":
		w.record.tell("", text)
	case text == "" && was != "":
		w.record.tell("", "the application answers again")
	}
}

// judge tells a chain that stands still. After each restart it waits twice as long. The chain may
// have lost its quorum, which is no fault of CometBFT.
func (w *watched) judge(ctx context.Context, now time.Time) {
	stood := now.Sub(w.movedAt)
	if stood < w.settings.StallAfter<<w.stalls.Load() || !w.toldAt.IsZero() || w.idle(ctx) {
		return
	}
	w.toldAt = now
	f, c, height := w.foreign, w.comet, w.height // w belongs to watch
	f.do(ctx, func(ctx context.Context) { f.stalled(ctx, c, height, stood) })
}

// idle reports whether the chain makes no block because there is no work.
func (w *watched) idle(ctx context.Context) bool {
	empty := w.settings.EmptyBlocks != "false"
	if w.settings.EmptyBlocks == "" {
		c, err := w.home.Config()
		empty = err != nil || c.Consensus.CreateEmptyBlocks &&
			c.Consensus.CreateEmptyBlocksInterval < w.settings.StallAfter
	}
	if empty {
		return false
	}
	n, err := w.rpc.pending(ctx)
	return err == nil && n == 0
}

// stalled makes a step of the ladder for a chain that stands still: it tells it, and restarts
// CometBFT if the settings say so. Nothing that was committed is taken back.
func (f *foreign) stalled(ctx context.Context, c *comet, height int64, stood time.Duration) {
	if f.comet != c {
		return
	}

	why := fmt.Sprintf("no block after %d for %v: a quorum may be missing, or CometBFT stands still", height,
		stood.Round(time.Second))
	switch {
	case !f.settings.RestartStalled:
		f.record.tell(Stalled, why)
		return
	case f.stalls.Load() >= mostStalls:
		f.record.tell(Abandoned, fmt.Sprintf("%s; %d restarts have not helped, and there will be no more", why,
			mostStalls))
		return
	}

	f.record.tell(Stalled, fmt.Sprintf("%s; restarting CometBFT, %d of %d", why, f.stalls.Add(1), mostStalls))
	f.record.set(func(s *Status) { s.Restarts++ })
	if err := f.halt(ctx); err != nil {
		return
	}
	if _, err := f.resume(ctx); err != nil {
		f.record.tell("", err.Error())
	}
}

// failure notes that the consensus of a living process has ended. CometBFT's RPC still says that
// all is well.
func (f *foreign) failure(_ *comet, line string) {
	f.record.set(func(s *Status) { s.Failure = line })
	f.record.tell(Broken, "CometBFT's consensus has failed, and its process lives on: "+line)
}
