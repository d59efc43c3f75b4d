// Package child is the process that runs CometBFT: our own binary, which the driver executes again
// with Command as its first argument. In that process, CometBFT talks ABCI through our own client.
// The exit status and the last line of the process tell the driver whether another start may
// succeed.
package child

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	dbm "github.com/cometbft/cometbft-db"
	cfg "github.com/cometbft/cometbft/config"
	cmtflags "github.com/cometbft/cometbft/libs/cli/flags"
	cmtlog "github.com/cometbft/cometbft/libs/log"
	"github.com/cometbft/cometbft/node"
	"github.com/cometbft/cometbft/p2p"

	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/engines/consensus/comet/rpcserver"
)

// stopTime is how long CometBFT may take to stop. After that the process ends anyway: CometBFT
// sometimes hangs when the application has died under load.
const stopTime = 1500 * time.Millisecond

// heapFloor is the size of a block of memory that is reserved and never touched, so that it is not
// resident. Without it the garbage collector of a small heap runs all the time under load. With it
// the collector runs only when the heap has grown by about that size.
const heapFloor = 64 << 20

// Command is the hidden command of the coppice binary that runs CometBFT.
const Command = "comet-child"

// Run is the main function of the process that runs CometBFT. It returns when ctx has ended and
// CometBFT has stopped, or when stopTime is over. The process must then end with the Status of the
// error. Run may be called only once in a process, because CometBFT does not start twice in one
// process.
func Run(ctx context.Context, o Options) error {
	c, err := o.config()
	if err != nil {
		return err
	}

	// Without this top and pgrep show "exe", the name of the executed file (process.Self).
	_ = os.WriteFile("/proc/self/comm", []byte(filepath.Base(os.Args[0])), 0)
	if err := os.Remove(o.RPC); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("stale socket: %w", err)
	}
	if err := os.WriteFile(filepath.Join(o.Home, "pid"), fmt.Appendf(nil, "%d\n", os.Getpid()), 0o600); err != nil {
		return err
	}

	// CometBFT would replace a missing validator key by a new one, and become another validator.
	if err := comethome.Preflight(c); err != nil {
		return err
	}
	filtered, err := cmtflags.ParseLogLevel(c.LogLevel, cmtlog.NewTMLogger(cmtlog.NewSyncWriter(os.Stderr)),
		cfg.DefaultLogLevel)
	if err != nil {
		return fmt.Errorf("%w: log_level: %w", comethome.ErrHome, err)
	}
	key, err := p2p.LoadNodeKey(c.NodeKeyFile())
	if err != nil {
		return fmt.Errorf("%w: node key: %w", comethome.ErrHome, err)
	}
	facts := &peerFacts{notices: &notices{out: os.Stdout}, own: key.ID(), dupIP: c.P2P.AllowDuplicateIP}
	log := newPeerLog(filtered, facts)
	signer, own, err := signerOf(ctx, c, key, facts, log)
	if err != nil {
		return err
	}

	hellos := newGreeter(facts, c.GenesisFile())
	if err := comethome.ClearUnmade(c.DBDir()); err != nil {
		return err
	}

	options := []node.Option{node.CustomReactors(map[string]p2p.Reactor{"HELLO": hellos})}

	if c.StateSync.Enable {
		more, err := prepareStateSync(ctx, c, log)
		if err != nil {
			return unfit(err)
		}
		options = append(options, more...)
	}

	peers := newReporter(c.P2P.PersistentPeers)
	facts.refused = peers.refuse
	options = append(options, lookSoon, peers.watch, keepEarly) // lookSoon wants the reactor that watch wraps

	floor := make([]byte, heapFloor)
	defer runtime.KeepAlive(floor)

	if o.Signer != nil {
		signer = o.Signer(signer)
	}
	if signer, err = logVotes(signer); err != nil {
		return err
	}

	check := &guard{config: c, own: own, now: time.Now()}
	copies := &copier{log: log}
	n, err := o.made(ctx, func() (*node.Node, error) {
		return node.NewNode(c, signer, key, o.clients(ctx, log), node.DefaultGenesisDocProviderFunc(c),
			copies.provide(check.open), node.DefaultMetricsProvider(c.Instrumentation), log, options...)
	})
	if err != nil {
		return err
	}
	if own, err = n.PrivValidator().GetPubKey(); err != nil {
		return fmt.Errorf("validator key: %w", err)
	}

	hellos.introduce(hello{PubKey: own.Bytes(), Genesis: fingerprintOf(n.GenesisDoc())})

	public := c.RPC.ListenAddress
	c.RPC.ListenAddress = "" // CometBFT's own server does not start
	rpc, err := rpcserver.Serve(n, c.RPC, rpcserver.Options{Public: public, Private: o.RPC, Peers: hellos.present,
		Copy: copies}, log)
	if err != nil {
		return err
	}
	defer rpc.Close()

	if err := n.Start(); err != nil {
		return err
	}

	fmt.Println(UpLine)
	if sw, ok := n.Switch().(*p2p.Switch); ok {
		redialAll(ctx, switchDialler{sw}, c.P2P.PersistentPeers, facts)
		go peers.run(ctx, sw, os.Stdout)
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

// made returns the node that newNode makes. While it is made, CometBFT shakes hands with the
// application. If the two do not match, CometBFT returns an error or panics; made returns either as
// an error.
func made(newNode func() (*node.Node, error)) (n *node.Node, err error) {
	defer func() {
		if p := recover(); p != nil {
			fmt.Fprintf(os.Stderr, "%s", debug.Stack())
			err = unfit(&panicked{p})
		}
	}()
	n, err = newNode()
	return n, unfit(err)
}

// openDatabase opens a database of CometBFT. Its error names the database: that of goleveldb does
// not. A database that cannot be opened is damaged, unless the machine was busy.
func openDatabase(c *cfg.DBContext) (dbm.DB, error) {
	db, err := cfg.DefaultDBProvider(c)
	if err == nil || Busy(err) || errors.Is(err, fs.ErrPermission) {
		return db, err
	}
	return nil, fmt.Errorf("%w: the database %s: %w; %s", comethome.ErrChainDamage,
		filepath.Join(c.Config.DBDir(), c.ID+".db"), err, comethome.Cure)
}

// unfit wraps err in ErrChainDamage if err says that CometBFT's data is damaged or does not match
// ours. It judges by error texts, because the handshake loses the types of errors. A panic while a
// node is made counts as such an error, because it comes from the data that CometBFT read, unless
// the machine was busy (see Busy).
func unfit(err error) error {
	if err == nil || Busy(err) || errors.Is(err, comethome.ErrChainDamage) {
		return err
	}

	switch text := err.Error(); {
	case strings.Contains(text, "is higher than core"): // sm.ErrAppBlockHeightTooHigh
		return fmt.Errorf("%w: the home's own data is ahead of CometBFT's blocks: %w; %s",
			comethome.ErrChainDamage, err, comethome.Cure)
	case strings.Contains(text, "too far below block store base"): // sm.ErrAppBlockHeightTooLow
		return fmt.Errorf("%w: the home's own data is older than the oldest block that CometBFT has kept: %w; %s",
			comethome.ErrChainDamage, err, comethome.Cure)
	case errors.As(err, new(*panicked)), strings.Contains(text, "leveldb") && strings.Contains(text, "corrupt"):
		return fmt.Errorf("%w: CometBFT cannot go on with what is in its databases: %w; %s",
			comethome.ErrChainDamage, err, comethome.Cure)
	}

	return err
}
