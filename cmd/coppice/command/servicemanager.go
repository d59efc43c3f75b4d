package command

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/coppice-go/coppice/cmd/coppice/internal/sdnotify"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/node"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/progress"
)

// onHangup returns a channel that receives SIGHUP, so that this signal does not end the process.
// The returned function restores the default: SIGHUP ends the process again.
func onHangup() (<-chan os.Signal, func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGHUP)
	return c, func() { signal.Stop(c) }
}

// service reports a running node to its service manager, and reloads its configuration.
type service struct {
	node     *node.Node
	manager  *sdnotify.Manager
	hangup   <-chan os.Signal
	log      *zap.Logger
	level    zap.AtomicLevel
	settings config.Settings // in force
	resolve  func() (config.Settings, error)
	changed  chan struct{} // buffers one signal: the tree has changed
}

// change signals that the tree has changed. It does not wait.
func (s *service) change() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// lookAgain is how often report looks at the node's state if no change is signalled.
const lookAgain = time.Second

// report tells the service manager the node's state until ctx ends, and reloads the configuration
// on SIGHUP. stopping is closed when the node has been told to stop.
func (s *service) report(ctx context.Context, stopping <-chan struct{}) {
	look := time.NewTicker(lookAgain)
	defer look.Stop()

	var beat <-chan time.Time

	if every := s.manager.Watchdog() / 3; every > 0 {
		t := time.NewTicker(every)
		defer t.Stop()
		beat = t.C
	}

	up, stops, told := false, false, ""

	for {
		// A node that waits, for its peers for example, has started: the manager must not end it
		// because that takes long. The status says what it waits for.
		c := s.node.Condition()

		switch begun := s.node.Up(); {
		case up || stops || !begun:
		case c.State == consensus.Starting: // only the consensus is on its way
			s.tell(s.manager.Extend(extension))
		default:
			up = true
			s.tell(s.manager.Ready())
		}

		why := c.String()
		if stops {
			why = "stopping: " + s.node.Down()
		}
		if why != told {
			s.tell(s.manager.Status(why))
			told = why
		}

		select {
		case <-ctx.Done():
			return

		case <-stopping:
			stopping, stops = nil, true
			s.log.Info("stopping in order")
			s.tell(s.manager.Stopping())
		case <-s.changed:
		case <-look.C:
		case <-beat:
			s.beat(ctx, up && !stops)

		case <-s.hangup:
			s.reload(up)
		}
	}
}

// beat sends a sign of life to the watchdog of the service manager. If ask is set, it first asks
// the node for a sign of life, and sends nothing if the node does not answer. report does not set
// ask before the node is up, or while it stops. The node may be too busy to answer then, and the
// manager has other timeouts for these times.
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

// progress asks the manager for more time while a long start goes on. The node calls it each time a
// step of the start makes progress.
func (s *service) progress(p progress.Step) {
	s.tell(s.manager.Extend(extension))
	s.tell(s.manager.Status(p.String()))
}

// extension is how much more time a start asks for at once.
const extension = 30 * time.Second

// reload reads the configuration again. If it is not valid, nothing changes.
func (s *service) reload(up bool) {
	s.tell(s.manager.Reloading())
	now, err := s.resolve()
	if err == nil {
		err = s.node.Reload(now.Config)
	}
	if err != nil {
		s.log.Error("configuration was not read again; the old one stays in force", zap.Error(err))
	} else {
		s.apply(now)
	}

	if up {
		s.tell(s.manager.Ready())
	}
}

// apply puts the settings in force that can change while the node runs. It logs the changes that
// take effect only at the next start.
func (s *service) apply(now config.Settings) {
	level := zap.NewAtomicLevel()
	_ = level.UnmarshalText([]byte(now.Config.Diagnostics.Level)) // it was checked
	if level.Level() < s.level.Level() {
		s.level.SetLevel(level.Level()) // first, so that the changes are logged at a more verbose level
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
	s.settings.Config.AllowedHosts = now.Config.AllowedHosts
	s.settings.Config.AllowedOrigins = now.Config.AllowedOrigins
}

// tell logs a failed notification of the manager. Such a failure must not stop the node.
func (s *service) tell(err error) {
	if err != nil {
		s.log.Warn("service manager was not told", zap.Error(err))
	}
}
