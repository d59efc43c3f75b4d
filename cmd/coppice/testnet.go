package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/cmd/coppice/internal/testnet"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/node"
)

func (a *app) testnetCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "testnet",
		Short: "Run several nodes of one chain on this machine",
		Long: `Testnet makes and runs nodes that agree by CometBFT, each a process of its own, all on loopback. The links between them go
through the process of "testnet start", which can cut them. The nodes' homes are node0, node1 … in --dir; every other command works on
one of them with --home.`,
		Example: `  coppice testnet start -n 4
  coppice testnet status
  coppice testnet kill 2
  coppice testnet partition 0,1 2,3 && coppice testnet partition --heal
  coppice tx put greeting hello --home ~/.coppice/testnet/node3`,
	}
	cmd.PersistentFlags().StringVar(&dir, "dir", "", "directory of the testnet (default testnet in --home)")
	open := func() (*testnet.Net, error) { return testnet.Open(a.testnetDir(dir)) }
	cmd.AddCommand(a.testnetInit(&dir), a.testnetStart(&dir), a.testnetStop(open), a.testnetStatus(open),
		a.testnetKill(open), a.testnetPartition(open), a.testnetChaos(&dir), a.testnetAdd(open))

	return cmd
}

func (a *app) testnetDir(dir string) string {
	if dir != "" {
		return dir
	}
	return filepath.Join(a.home, "testnet")
}

// testnetOptions are the flags of a new testnet.
type testnetOptions struct {
	testnet.InitOptions
	profile, comet, governance string
}

func (o *testnetOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.IntVarP(&o.Nodes, "nodes", "n", 4, "how many nodes")
	f.StringVar(&o.ChainID, "chain-id", "", "name of the chain (default a random one)")
	f.DurationVar(&o.EmptyEvery, "empty-every", time.Second,
		"make a block without work when there was none for so long; 0 is never")
	f.StringVar(&o.profile, "profile", string(node.Default), "limits of the nodes' trees: default, strict or chaos")
	f.StringVar(&o.governance, "governance-key", "",
		"ed25519 public key in base64, whose holder may change the validators")
	f.StringVar(&o.comet, "comet-profile", string(comethome.Tuned), "CometBFT's settings: tuned or stock")
	offer(cmd, "comet-profile", "tuned\tfor machines close to each other", "stock\tCometBFT's own")
}

func (o *testnetOptions) make(cmd *cobra.Command, dir string) (*testnet.Net, error) {
	var err error
	if o.Profile, err = node.ParseProfile(o.profile); err != nil {
		return nil, usageError(cmd, "--profile: %w", err)
	}
	if o.CometProfile, err = comethome.ParseProfile(o.comet); err != nil {
		return nil, usageError(cmd, "--comet-profile: %w", err)
	}
	if o.GovernanceKey, err = base64.StdEncoding.DecodeString(o.governance); err != nil {
		return nil, usageError(cmd, "--governance-key: want an ed25519 public key in base64: %w", err)
	}

	return testnet.Init(dir, o.InitOptions)
}

// madeNetJSON is what "testnet init --json" prints.
type madeNetJSON struct {
	Dir     string   `json:"dir"`
	ChainID string   `json:"chain_id"`
	Homes   []string `json:"homes"`
}

func (a *app) testnetInit(dir *string) *cobra.Command {
	var o testnetOptions
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "init",
		Short:   "Make the homes of a testnet",
		Example: "  coppice testnet init -n 4 --dir /tmp/net",
		Args:    words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := o.make(cmd, a.testnetDir(*dir))
			if err != nil {
				return err
			}

			if asJSON {
				j := madeNetJSON{Dir: n.Dir, ChainID: n.ChainID}
				for i := range n.Nodes {
					j.Homes = append(j.Homes, n.Home(i))
				}
				return printJSON(cmd.OutOrStdout(), j)
			}

			_, err = fmt.Fprintf(cmd.OutOrStdout(), "made %d homes of chain %s in %s\n", n.Nodes, n.ChainID, n.Dir)
			return err
		},
	}
	o.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")

	return cmd
}

func (a *app) testnetStart(dir *string) *cobra.Command {
	var o testnetOptions
	cmd := &cobra.Command{
		Use:   "start",
		Short: "Run a testnet in the foreground; make it first if there is none",
		Long: `Start runs the nodes of a testnet until it is told to stop, by a signal or by "testnet stop". A node that ends is started again.
What the nodes print goes to standard error, each line with the node's name before it.`,
		Example: "  coppice testnet start -n 4",
		Args:    words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := testnet.Open(a.testnetDir(*dir))
			switch {
			case errors.Is(err, fs.ErrNotExist):
				if n, err = o.make(cmd, a.testnetDir(*dir)); err != nil {
					return err
				}
			case err != nil:
				return err
			case cmd.Flags().Changed("nodes") && o.Nodes != n.Nodes:
				return usageError(cmd, "--nodes is %d, the testnet in %s has %d", o.Nodes, n.Dir, n.Nodes)
			}

			bin, err := os.Executable()
			if err != nil {
				return err
			}
			return n.Run(cmd.Context(), testnet.RunOptions{Bin: bin, Out: cmd.ErrOrStderr(), Starting: func() {
				fmt.Fprintf(cmd.OutOrStdout(), "running %d nodes of chain %s in %s\n", n.Nodes, n.ChainID, n.Dir)
			}})
		},
	}
	o.flags(cmd)
	return cmd
}

// stoppedNetJSON is what "testnet stop --json" prints.
type stoppedNetJSON struct {
	Dir     string `json:"dir"`
	Stopped bool   `json:"stopped"`
}

func (a *app) testnetStop(open func() (*testnet.Net, error)) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "stop",
		Short:   "Stop a running testnet in order",
		Example: "  coppice testnet stop",
		Args:    words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := open()
			if err != nil {
				return err
			}
			if err := n.Stop(cmd.Context()); err != nil || !asJSON {
				return err
			}
			return printJSON(cmd.OutOrStdout(), stoppedNetJSON{n.Dir, true})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) testnetKill(open func() (*testnet.Net, error)) *cobra.Command {
	var signal, how string
	cmd := &cobra.Command{
		Use:   "kill INDEX [PATH | comet]",
		Short: "Kill a node, its CometBFT, or a part of its tree",
		Long: `Kill sends a signal to a node's process, SIGKILL unless --signal says otherwise; with "comet" to its CometBFT; with a path of the
tree it kills that child as "coppice kill" does. Whatever was killed comes back.`,
		Example: `  coppice testnet kill 2
  coppice testnet kill 2 comet
  coppice testnet kill 0 coppice/node/transactions/storage
  coppice testnet kill 1 --signal STOP && coppice testnet kill 1 --signal CONT`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return fmt.Errorf("%d arguments, want INDEX and perhaps PATH or comet", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := open()
			if err != nil {
				return err
			}
			i, err := strconv.Atoi(args[0])
			if err != nil || i < 0 || i >= n.Nodes {
				return usageError(cmd, "node %q: want 0 to %d", args[0], n.Nodes-1)
			}
			sig, ok := signals[strings.TrimPrefix(strings.ToUpper(signal), "SIG")]
			if !ok {
				return usageError(cmd, "--signal %q: want KILL, TERM, STOP or CONT", signal)
			}
			if len(args) == 1 || args[1] == "comet" {
				return n.Signal(cmd.Context(), i, len(args) == 2, sig)
			}

			at := *a
			at.home, at.address, at.token = n.Home(i), "", ""
			kill := at.killCommand()
			kill.SetArgs([]string{args[1], "--how", how})
			kill.SilenceUsage, kill.SilenceErrors = true, true
			kill.SetOut(cmd.OutOrStdout())

			return kill.ExecuteContext(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&signal, "signal", "KILL", "KILL, TERM, STOP or CONT")
	offer(cmd, "signal", "KILL", "TERM", "STOP", "CONT")
	cmd.Flags().StringVar(&how, "how", "error", "how a child of the tree is killed: see 'coppice kill --help'")

	return cmd
}

var signals = map[string]syscall.Signal{"KILL": syscall.SIGKILL, "TERM": syscall.SIGTERM, "STOP": syscall.SIGSTOP,
	"CONT": syscall.SIGCONT}

func (a *app) testnetPartition(open func() (*testnet.Net, error)) *cobra.Command {
	var heal bool
	cmd := &cobra.Command{
		Use:   "partition GROUP...",
		Short: "Cut the links between groups of nodes, or heal them all",
		Long: `Partition cuts every link between nodes of different groups: what is sent does not arrive, and nobody is told. Nodes that are in no
group are one more. A new partition replaces the one before.`,
		Example: `  coppice testnet partition 3
  coppice testnet partition 0,1 2,3
  coppice testnet partition --heal`,
		Args: func(_ *cobra.Command, args []string) error {
			if heal != (len(args) == 0) {
				return errors.New("want groups such as 0,1 2,3, or --heal")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			groups := make([][]int, 0, len(args))
			for _, a := range args {
				var g []int
				for w := range strings.SplitSeq(a, ",") {
					i, err := strconv.Atoi(w)
					if err != nil {
						return usageError(cmd, "group %q: want numbers with commas between them", a)
					}
					g = append(g, i)
				}

				groups = append(groups, g)
			}

			n, err := open()
			if err != nil {
				return err
			}
			if _, err := n.GroupOf(groups); err != nil {
				return usageError(cmd, "%w", err)
			}

			return n.Partition(cmd.Context(), groups)
		},
	}
	cmd.Flags().BoolVar(&heal, "heal", false, "open all links")
	return cmd
}
