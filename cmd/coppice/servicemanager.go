package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/coppice-go/coppice/cmd/coppice/internal/sdnotify"
	"github.com/coppice-go/coppice/node"
)

// onHangup takes SIGHUP, which would end the process otherwise.
func onHangup() (<-chan os.Signal, func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGHUP)
	return c, func() { signal.Stop(c) }
}

// service is a running node as its service manager sees it.
type service struct {
	node     *node.Node
	manager  *sdnotify.Manager
	hangup   <-chan os.Signal
	log      *zap.Logger
	level    zap.AtomicLevel
	settings node.Settings // in force
	resolve  func() (node.Settings, error)
	changed  chan struct{} // holds one: the tree is not as it was
}

// change notes that the tree changed. It does not wait.
func (s *service) change() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// lookAgain is how often a node that is not ready is looked at although nothing was told of it.
const lookAgain = time.Second

// report tells the service manager how the node is until ctx ends, and does what SIGHUP asks for.
// Stopping is closed when the node was told to stop.
func (s *service) report(ctx context.Context, stopping <-chan struct{}) {
	look := time.NewTicker(lookAgain)
	defer look.Stop()

	var beat <-chan time.Time

	if every := s.manager.Watchdog() / 3; every > 0 {
		t := time.NewTicker(every)
		defer t.Stop()
		beat = t.C
	}

	ready, stops, told := false, false, ""

	for {
		why := s.node.Down()
		switch {
		case stops:
			why = "stopping: " + why
		case why == "" && !ready:
			ready = true
			s.tell(s.manager.Ready())
			fallthrough
		case why == "":
			why = "ready"
		}

		if why != told {
			s.tell(s.manager.Status(why))
			if why == "ready" {
				s.log.Info("ready: all of the tree runs")
			}
			told = why
		}

		select {
		case <-ctx.Done():
			return

		case <-stopping:
			stopping, stops = nil, true
			s.tell(s.manager.Stopping())
		case <-s.changed:
		case <-look.C:
		case <-beat:
			s.beat(ctx, ready && !stops)

		case <-s.hangup:
			s.reload(ready)
		}
	}
}

// beat gives the watchdog its sign of life, if there is life. Before the node is ready nobody
// watches, and in the stop its root is busy with that, which the manager bounds otherwise.
func (s *service) beat(ctx context.Context, ask bool) {
	if ask {
		within, cancel := context.WithTimeout(ctx, s.manager.Watchdog()/3)
		defer cancel()
		if err := s.node.Alive(within); err != nil && ctx.Err() == nil {
			s.log.Error("no sign of life for the watchdog", zap.Error(err))
			return
		}
	}
	s.tell(s.manager.Alive())
}

// progress asks the manager for more time while a long start goes on: it is told of each step that
// comes further.
func (s *service) progress(p node.Progress) {
	s.tell(s.manager.Extend(extension))
	s.tell(s.manager.Status(p.String()))
}

// extension is how much more time a start that goes on asks for, each time that it has come
// further.
const extension = 30 * time.Second

// reload reads the configuration again. Where it is not valid everything stays as it was.
func (s *service) reload(ready bool) {
	s.tell(s.manager.Reloading())
	now, err := s.resolve()
	if err == nil {
		err = s.node.Reload()
	}

	if err != nil {
		s.log.Error("configuration was not read again; what was in force stays so", zap.Error(err))
	} else {
		s.apply(now)
	}

	if ready {
		s.tell(s.manager.Ready())
	}
}

// apply takes what can change while the node runs, and tells what can not.
func (s *service) apply(now node.Settings) {
	level := zap.NewAtomicLevel()
	_ = level.UnmarshalText([]byte(now.Config.Diagnostics.Level)) // it was checked
	if level.Level() < s.level.Level() {
		s.level.SetLevel(level.Level()) // before, so that it is told of
	}

	for _, k := range s.settings.Changed(now) {
		was, is := k.TOML(s.settings.Config), k.TOML(now.Config)
		if k.Live {
			s.log.Info("configuration changed", zap.String("key", k.Name), zap.String("was", was), zap.String("is", is))
			continue
		}
		s.log.Warn("configuration changed, and takes effect at the next start", zap.String("key", k.Name),
			zap.String("running", was), zap.String("configured", is))
	}

	s.log.Info("configuration read again")
	s.level.SetLevel(level.Level())
	s.settings.Config.Diagnostics.Level = now.Config.Diagnostics.Level
}

// tell notes what the manager did not get. It must not keep the node from its work.
func (s *service) tell(err error) {
	if err != nil {
		s.log.Warn("service manager was not told", zap.Error(err))
	}
}
