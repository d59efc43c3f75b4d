package child

import (
	"context"
	"flag"
	"fmt"
	"strconv"

	cfg "github.com/cometbft/cometbft/config"
	cmtlog "github.com/cometbft/cometbft/libs/log"
	"github.com/cometbft/cometbft/node"
	"github.com/cometbft/cometbft/proxy"
	"github.com/cometbft/cometbft/types"

	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
)

// Options are the command line of the process.
type Options struct {
	Home string // of CometBFT
	ABCI string // the path of the socket to connect to
	RPC  string // the path of a socket to serve RPC on, in addition to the configured addresses

	// Foreign is for the home of an application that is not ours.
	Foreign Foreign

	// Signer, if set, returns the signer to use instead of the home's own. It is for programs that
	// call Run themselves.
	Signer func(types.PrivValidator) types.PrivValidator
}

// Foreign describes an application of somebody else, and what the command line says in place of the
// home's configuration.
type Foreign struct {
	// ProxyApp is the application's address, tcp://host:port or unix://path. If it is empty, the
	// application is ours, at Options.ABCI.
	ProxyApp string

	// The addresses on which CometBFT listens, and whether it makes empty blocks ("true" or
	// "false"); empty leaves them to the configuration.
	P2P, RPC, EmptyBlocks string
}

// Flags defines the flags of the options in f. When f parses the result of Args, o gets its values.
func (o *Options) Flags(f *flag.FlagSet) {
	f.StringVar(&o.Home, "home", "", "CometBFT's home")
	f.StringVar(&o.ABCI, "abci", "", "path of the socket to connect to")
	f.StringVar(&o.RPC, "rpc", "", "path of the socket to serve RPC on")
	f.StringVar(&o.Foreign.ProxyApp, "proxy-app", "", "address of an application that is not ours")
	f.StringVar(&o.Foreign.P2P, "p2p-laddr", "", "address for peers, in place of the configured one")
	f.StringVar(&o.Foreign.RPC, "rpc-laddr", "", "addresses for RPC, in place of the configured ones")
	f.StringVar(&o.Foreign.EmptyBlocks, "empty-blocks", "", "true or false, in place of the configured value")
}

// Args returns the options as flags.
func (o Options) Args() []string {
	args := []string{"--home", o.Home, "--abci", o.ABCI, "--rpc", o.RPC}
	if o.Foreign != (Foreign{}) {
		args = append(args, "--proxy-app", o.Foreign.ProxyApp, "--p2p-laddr", o.Foreign.P2P,
			"--rpc-laddr", o.Foreign.RPC, "--empty-blocks", o.Foreign.EmptyBlocks)
	}
	return args
}

// config reads the configuration of the home, with what the options say in its place.
func (o Options) config() (*cfg.Config, error) {
	if o.Foreign.ProxyApp == "" {
		c, err := comethome.LoadConfig(o.Home)
		if err == nil {
			c.ProxyApp, c.ABCI = "unix://"+o.ABCI, "socket"
		}
		return c, err
	}

	c, err := comethome.ReadConfig(o.Home)
	if err != nil {
		return nil, err
	}

	c.ProxyApp, c.ABCI = o.Foreign.ProxyApp, "socket"
	if o.Foreign.P2P != "" {
		c.P2P.ListenAddress = o.Foreign.P2P
	}
	if o.Foreign.RPC != "" {
		c.RPC.ListenAddress = o.Foreign.RPC
	}
	if o.Foreign.EmptyBlocks != "" {
		if c.Consensus.CreateEmptyBlocks, err = strconv.ParseBool(o.Foreign.EmptyBlocks); err != nil {
			return nil, fmt.Errorf("%w: --empty-blocks: %q, want true or false", comethome.ErrHome,
				o.Foreign.EmptyBlocks)
		}
	}

	return c, nil
}

// clients returns the creator of the connections to the application.
func (o Options) clients(ctx context.Context, log cmtlog.Logger) proxy.ClientCreator {
	if o.Foreign.ProxyApp == "" {
		return Clients(o.ABCI)
	}
	return foreignClients{addr: o.Foreign.ProxyApp, log: log, ended: ctx.Done()}
}

// made returns the node that newNode makes. A foreign application may be down, or may not answer,
// for any time; made then ends with ctx.
func (o Options) made(ctx context.Context, newNode func() (*node.Node, error)) (*node.Node, error) {
	if o.Foreign.ProxyApp == "" {
		return made(newNode)
	}

	type result struct {
		n   *node.Node
		err error
	}
	done := make(chan result, 1)
	go func() {
		n, err := made(newNode)
		done <- result{n, err}
	}()

	select {
	case r := <-done:
		return r.n, r.err
	case <-ctx.Done():
		return nil, fmt.Errorf("told to stop while the application at %s had not shaken hands", o.Foreign.ProxyApp)
	}
}
