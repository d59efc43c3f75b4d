package comet

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	cfg "github.com/cometbft/cometbft/config"
	cmtflags "github.com/cometbft/cometbft/libs/cli/flags"
	cmtlog "github.com/cometbft/cometbft/libs/log"
	"github.com/cometbft/cometbft/node"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/privval"
)

// stopTime is how long CometBFT may take to stop before the process ends without that. It hangs now and then when the
// application has died under load.
const stopTime = 1500 * time.Millisecond

// heapFloor is memory that is reserved and never touched, so it is not resident. The collector of a small heap runs all the time under
// load; with the floor it runs when the heap has grown by as much again.
const heapFloor = 64 << 20

// RunChild is the main function of the process that runs CometBFT: our own binary, re-executed. It returns when ctx ends and
// CometBFT has stopped, or when stopTime is over; the process is to end then. It must be called at most once per process:
// CometBFT does not start twice in one.
func RunChild(ctx context.Context, o ChildOptions) error {
	c, err := loadConfig(o.Home)
	if err != nil {
		return err
	}
	c.ProxyApp, c.ABCI = "unix://"+o.ABCI, "socket"
	if err := os.Remove(o.RPC); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("stale socket: %w", err)
	}
	if err := os.WriteFile(filepath.Join(o.Home, "pid"), fmt.Appendf(nil, "%d\n", os.Getpid()), 0o600); err != nil {
		return err
	}
	c.RPC.ListenAddress = joinAddresses(c.RPC.ListenAddress, "unix://"+o.RPC)
	log, err := cmtflags.ParseLogLevel(c.LogLevel, cmtlog.NewTMLogger(cmtlog.NewSyncWriter(os.Stderr)), cfg.DefaultLogLevel)
	if err != nil {
		return fmt.Errorf("%w: log_level: %w", ErrHome, err)
	}
	key, err := p2p.LoadNodeKey(c.NodeKeyFile())
	if err != nil {
		return fmt.Errorf("%w: node key: %w", ErrHome, err)
	}
	for _, f := range []string{c.PrivValidatorKeyFile(), c.PrivValidatorStateFile()} {
		if _, err := os.Stat(f); err != nil { // CometBFT would make a new key, and be another validator
			return fmt.Errorf("%w: validator key: %w", ErrHome, err)
		}
	}
	if err := clearUnmade(c.DBDir()); err != nil {
		return err
	}
	var options []node.Option
	if c.StateSync.Enable {
		if options, err = prepareStateSync(ctx, c, log); err != nil {
			return err
		}
	}
	floor := make([]byte, heapFloor)
	defer runtime.KeepAlive(floor)
	n, err := node.NewNode(c, privval.LoadFilePV(c.PrivValidatorKeyFile(), c.PrivValidatorStateFile()), key,
		clients(o.ABCI), node.DefaultGenesisDocProviderFunc(c), cfg.DefaultDBProvider,
		node.DefaultMetricsProvider(c.Instrumentation), log, options...)
	if err != nil {
		return err
	}
	if err := n.Start(); err != nil {
		return err
	}
	if sw, ok := n.Switch().(*p2p.Switch); ok {
		redialAll(ctx, sw, key.ID(), c.P2P.PersistentPeers)
	}
	<-ctx.Done()
	stopped := make(chan error, 1)
	go func() {
		err := n.Stop()
		n.Wait()
		stopped <- err
	}()
	select {
	case err := <-stopped:
		return err
	case <-time.After(stopTime):
		return fmt.Errorf("CometBFT did not stop within %v", stopTime)
	}
}

// ChildOptions are the command line of the process.
type ChildOptions struct {
	Home string // of CometBFT
	ABCI string // the path of the socket to connect to
	RPC  string // the path of a socket to serve RPC on, beside those of the configuration
}

// Flags defines the options in f, so that parsing it sets them: what Args makes.
func (o *ChildOptions) Flags(f *flag.FlagSet) {
	f.StringVar(&o.Home, "home", "", "CometBFT's home")
	f.StringVar(&o.ABCI, "abci", "", "path of the socket to connect to")
	f.StringVar(&o.RPC, "rpc", "", "path of the socket to serve RPC on")
}

// Args are the options as flags.
func (o ChildOptions) Args() []string {
	return []string{"--home", o.Home, "--abci", o.ABCI, "--rpc", o.RPC}
}
