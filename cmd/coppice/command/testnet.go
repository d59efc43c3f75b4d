package command

import (
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/cmd/coppice/internal/testnet"
	"github.com/coppice-go/coppice/node/plan"
)

func (a *app) testnetCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "testnet",
		Short: "Run several nodes of one chain on this machine",
		Long: `Testnet makes and runs nodes that agree by CometBFT, each in a process of its own, all on loopback.
The links between them go through the process of 'testnet start', which can cut them. The homes of
the nodes are node0, node1 and so on in --dir. Every other command works on one of them by --home.`,
		Example: `  coppice testnet start -n 4
  coppice testnet status
  coppice testnet kill 2
  coppice testnet partition 0,1 2,3 && coppice testnet partition --heal
  coppice tx put greeting hello --home ~/.coppice/testnet/node3`,
	}
	cmd.PersistentFlags().StringVar(&dir, "dir", "", "directory of the testnet (default: testnet in --home)")
	open := func() (*testnet.Net, error) { return testnet.Open(a.testnetDir(dir)) }
	cmd.AddCommand(a.testnetInit(&dir), a.testnetStart(&dir), a.testnetStop(open), a.testnetStatus(open),
		a.testnetKill(open), a.testnetPartition(open), a.testnetChaos(&dir), a.testnetAdd(open))

	return cmd
}

// testnetDir returns the directory that --dir names, or the one in the home.
func (a *app) testnetDir(dir string) string {
	if dir != "" {
		return dir
	}
	return filepath.Join(a.home, "testnet")
}

// at returns the app for the home of one node of a testnet.
func (a *app) at(home string) *app {
	at := *a
	at.home, at.address, at.token = home, "", ""
	return &at
}

// testnetOptions are the flags of a new testnet.
type testnetOptions struct {
	testnet.InitOptions
	chainFlags
	profile string
}

func (o *testnetOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	o.emptyEvery = time.Second
	f.IntVarP(&o.Nodes, "nodes", "n", 4, "how many nodes")
	f.StringVar(&o.ChainID, "chain-id", "", "name of the chain (default: a random one)")
	f.StringVar(&o.profile, "profile", string(plan.Default), "limits of the nodes' trees: default, strict or chaos")
	f.Uint64Var(&o.ResetOffset, "reset-offset", 0, "allow resets of the chain, each to this many heights later (20 is "+
		"usual)")
	profiles(cmd, "profile")
	o.chainFlags.register(cmd)
}

// make makes a testnet. If the program has a service of rounds, each node gets an agent.
func (o *testnetOptions) make(cmd *cobra.Command, p Program, dir string) (*testnet.Net, error) {
	var err error
	if o.Profile, err = plan.ParseProfile(o.profile); err != nil {
		return nil, usageError(cmd, "--profile: %w", err)
	}
	if o.CometProfile, o.GovernanceKey, err = o.parse(cmd); err != nil {
		return nil, err
	}

	o.EmptyEvery, o.Agents = o.emptyEvery, p.Rounds != nil
	return testnet.Init(dir, o.InitOptions)
}
