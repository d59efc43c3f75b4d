package command

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/engines/consensus/comet"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/engines/consensus/solo"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/home"
)

// initJSON is what "init --json" prints.
type initJSON struct {
	Home    string    `json:"home"`
	ChainID string    `json:"chain_id"`
	NodeID  string    `json:"node_id,omitempty"`
	Joins   *joinJSON `json:"joins,omitempty"`
}

// joinJSON is what "init --json" prints about the chain that the home joins. The nodes that --from
// names have given it.
type joinJSON struct {
	GenesisHash string   `json:"genesis_sha256"`
	Peers       []string `json:"peers"`
	TrustHeight int64    `json:"trust_height,omitempty"`
	TrustHash   string   `json:"trust_hash,omitempty"`
	Epoch       uint64   `json:"epoch,omitempty"`
}

func (a *app) initCommand() *cobra.Command {
	var o home.InitOptions
	var consensus string
	var cometOptions comet.InitOptions
	var chain chainFlags
	var set settingFlags
	var sync comethome.StateSync
	var from []string
	var agents string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make a home: configuration, genesis and tokens",
		Long: `Init makes the home that --home names. It overwrites nothing. The home gets:

  coppice.toml  this node's configuration, with the values given here
  genesis.json  the genesis, which all nodes of a chain share
  admin.token   lets its holder kill parts of the node
  submit.token  lets its holder submit to a node that listens beyond this machine, and read
  read.token    lets its holder read only

With --consensus cometbft the home contains a CometBFT home, comet: new keys, a configuration, and a
genesis with this node as the only validator. Its genesis includes ours, so nodes with other limits
belong to another chain. CometBFT listens on loopback only, unless --p2p and --rpc say otherwise.

With --import, the keys, signing state, configuration and genesis of an existing CometBFT home are
copied instead, without its blocks. The node joins that chain by block sync, if the chain's
application is this one. The imported home must not be running, and must never run again with these
keys.

With --from, the node joins the chain of running nodes. It asks their CometBFT RPC for the peers and
for the genesis; at least two nodes must agree on every byte of it. Init believes what they agree
on, so compare the printed hash with one from somebody you trust. Without --from, put the chain's
genesis.json and comet/config/genesis.json in place before the start, and the peers into
comet/config/config.toml.

A chain that was reset has no blocks of its earlier epochs. The node then begins with the state at
the newest reset, which the nodes of --set reset.peers=HOST:PORT,HOST:PORT give it: the addresses of
their APIs. They also give the certificates of all resets, which are checked one by one and must
lead to the genesis that --from has brought. With --state-sync the certificates are kept, and a
later state is taken.

A node without peers begins with the snapshot in a file if --from names one, which 'coppice snapshot
export' has written. The file brings the genesis. The chain goes on from there, on its own: compare
the printed app hash with one from somebody you trust.

With --state-sync, the node begins with a snapshot of the state that its peers offer, instead of the
first block. Its light client asks the nodes of --from, or those of --state-sync=RPC,RPC, for
headers. It trusts the block of --trust-height and --trust-hash. With --from, both may be left out:
then it trusts the oldest block in the later half of --trust-period that those nodes have and agree
on.`,
		Example: `  coppice init
  coppice init --home /srv/coppice --chain-id orchard --listen 127.0.0.1:0
  coppice init --from state.snapshot
  coppice init --consensus cometbft --p2p 10.0.0.7:26656
  coppice init --consensus cometbft --import ~/.cometbft
  coppice init --consensus cometbft --from 10.0.0.7:26657,10.0.0.8:26657
  coppice init --consensus cometbft --from 10.0.0.7:26657,10.0.0.8:26657 \
    --set reset.peers=10.0.0.7:7070,10.0.0.8:7070
  coppice init --consensus cometbft --from 10.0.0.7:26657,10.0.0.8:26657 --state-sync
  coppice init --consensus cometbft --from 10.0.0.7:26657,10.0.0.8:26657 --state-sync \
    --trust-height 12000 --trust-hash 5E0C...`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && slices.Equal(sync.RPC, []string{syncFrom}) {
				return fmt.Errorf("--state-sync %s: want --from %s --state-sync, or --state-sync=%s", args[0],
					args[0], args[0])
			}
			return words()(cmd, args)
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Set = set
			if cmd.Flags().Changed("consensus") {
				o.Set = append(o.Set, config.Assignment{Key: "consensus.kind", Value: consensus, Flag: "--consensus"})
			}

			if cmd.Flags().Changed("empty-every") {
				o.Set = append(o.Set, config.Assignment{Key: "consensus.empty_every", Value: chain.emptyEvery.String(),
					Flag: "--empty-every"})
			}

			if consensus != comet.Name {
				for _, f := range []string{"comet-profile", "p2p", "rpc", "import", "state-sync"} {
					if cmd.Flags().Changed(f) {
						return usageError(cmd, "--%s is for --consensus %s", f, comet.Name)
					}
				}
			}

			if cometOptions.Import != "" {
				for _, f := range []string{"comet-profile", "p2p", "rpc", "governance-key", "agents", "empty-every",
					"from", "reset-offset"} {
					if cmd.Flags().Changed(f) {
						return usageError(cmd, "--%s and --import do not go together: the imported home has its own", f)
					}
				}
			}

			var err error
			if cometOptions.Profile, o.GovernanceKey, err = chain.parse(cmd); err != nil {
				return err
			}

			if agents != "" && len(from) > 0 {
				return usageError(cmd, "--agents and --from do not go together: the chain to join has its own")
			}
			registered, err := readAgents(cmd, agents)
			if err != nil {
				return err
			}
			o.Agents, o.AgentThreshold = registered.Agents, registered.Threshold

			if err := syncFlags(cmd, &sync, from, consensus == comet.Name); err != nil {
				return err
			}

			if len(from) > 0 && consensus != comet.Name {
				return a.initFrom(cmd, from, o, asJSON)
			}
			if len(from) > 0 {
				c, err := comethome.Fetch(cmd.Context(), from, comethome.FetchOptions{
					StateSync: cmd.Flags().Changed("state-sync"), Height: sync.Height, Hash: sync.Hash,
					Period: sync.Period,
				})
				if err == nil {
					err = a.pastOf(cmd, &c, o)
				}
				if err != nil {
					return err
				}
				cometOptions.Join = &c
			} else if len(sync.RPC) > 0 {
				cometOptions.StateSync = &sync
			}

			if consensus == comet.Name {
				o.Consensus = cometOptions
			}
			g, err := home.Init(a.home, o)
			if err != nil {
				return err
			}
			id, err := nodeID(a.home, consensus)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), initJSON{a.home, g.ChainID, id, joined(cometOptions.Join)})
			}

			fmt.Fprintf(cmd.OutOrStdout(), "made home %s of chain %s\n", a.home, g.ChainID)

			if j := joined(cometOptions.Join); j != nil {
				fmt.Fprintf(cmd.OutOrStdout(), "  genesis  sha256 %s, of %d nodes\n  peers    %s\n", j.GenesisHash,
					len(from), strings.Join(j.Peers, "\n           "))
				if j.Epoch > 0 {
					fmt.Fprintf(cmd.OutOrStdout(), "  epoch    %d, by the certificates of its resets\n", j.Epoch)
				}
				if j.TrustHeight > 0 {
					fmt.Fprintf(cmd.OutOrStdout(), "  trust    block %d, %s\n", j.TrustHeight, j.TrustHash)
				}
			}

			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.ChainID, "chain-id", "", "name of the chain (default: a random one)")
	set.register(cmd)
	f.StringVar(&consensus, "consensus", solo.Name, "solo, or cometbft for a chain of several nodes")
	offer(cmd, "consensus", "solo\ta node without peers", "cometbft\tvalidators that agree")
	chain.register(cmd)
	f.StringVar(&agents, "agents", "", "JSON file with the agents of the chain's service of rounds")
	f.StringVar(&cometOptions.P2P, "p2p", "", "host:port of CometBFT for its peers (default: 127.0.0.1:26656)")
	f.StringVar(&cometOptions.RPC, "rpc", "", "host:port of CometBFT's RPC (default: 127.0.0.1:26657)")
	f.StringVar(&cometOptions.Import, "import", "", "CometBFT home to copy keys, configuration and genesis from")
	f.StringSliceVar(&from, "from", nil, "join the chain of these nodes: host:port of the CometBFT RPC of two or "+
		"more, separated by commas; or, without peers, begin with the snapshot in this file")

	f.StringSliceVar(&sync.RPC, "state-sync", nil,
		"begin with a snapshot of the state; without --from, =RPC,RPC names two or more nodes to ask for headers")
	f.Lookup("state-sync").NoOptDefVal = syncFrom
	f.Int64Var(&sync.Height, "trust-height", 0, "with --state-sync: height of a block that is known to be the chain's")
	f.StringVar(&sync.Hash, "trust-hash", "", "with --state-sync: hash of that block, in hexadecimal")
	f.DurationVar(&sync.Period, "trust-period", 7*24*time.Hour, "with --state-sync: how old that block may be")
	f.Uint64Var(&o.ResetOffset, "reset-offset", 0, "allow resets of the chain, each to this many heights later "+
		"(at least 10; 20 is usual); 0 is no resets")
	f.StringVar(&o.ResetMode, "reset-mode", "", "what a reset does: regenesis begins a new chain (default), prune "+
		"only drops old blocks, without --reset-offset")
	f.BoolVar(&asJSON, "json", false, "print JSON")

	return cmd
}

// syncFrom is the value of --state-sync if the user gives it none. It means the nodes of --from.
const syncFrom = "--from"

// joined returns what is printed about the chain to join, or nil if there is none.
func joined(c *comethome.Chain) *joinJSON {
	if c == nil {
		return nil
	}
	j := &joinJSON{GenesisHash: fmt.Sprintf("%x", sha256.Sum256(c.GenesisDoc)), Peers: c.Peers,
		TrustHeight: c.StateSync.Height, TrustHash: c.StateSync.Hash}
	if c.Past != nil {
		j.Epoch = uint64(len(c.Past.Epochs))
	}
	return j
}

// syncFlags checks the flags for joining a chain against each other. cometRPC says that --from
// names the RPC of nodes.
func syncFlags(cmd *cobra.Command, s *comethome.StateSync, from []string, cometRPC bool) error {
	f := cmd.Flags()
	bare := slices.Equal(s.RPC, []string{syncFrom})

	switch {
	case f.Changed("from") && f.Changed("governance-key"):
		return usageError(cmd, "--governance-key is for a new chain; the genesis of --from has its own")

	case f.Changed("from") && f.Changed("reset-offset"):
		return usageError(cmd, "--reset-offset is for a new chain; the genesis of --from has its own")

	case f.Changed("from") && cometRPC && len(from) == 1 && isFile(from[0]):
		return usageError(cmd, "--from %s is a file, and a node of consensus %s begins with a snapshot of its peers "+
			"(--state-sync): 'coppice snapshot import --offer' gives the file to one of them", from[0], comet.Name)

	case f.Changed("from") && cometRPC && len(from) < 2:
		return usageError(cmd, "--from %s: want the RPC of two nodes at least, separated by commas",
			strings.Join(from, ","))

	case f.Changed("from") && f.Changed("state-sync") && !bare:
		return usageError(cmd, "--state-sync=%s: with --from it takes no value and asks those nodes",
			strings.Join(s.RPC, ","))

	case bare && !f.Changed("from"):
		return usageError(cmd, "--state-sync needs nodes to ask: --from RPC,RPC, which also takes genesis and peers "+
			"from them, or --state-sync=RPC,RPC")
	}

	if !f.Changed("state-sync") {
		for _, other := range []string{"trust-height", "trust-hash", "trust-period"} {
			if f.Changed(other) {
				return usageError(cmd, "--%s is for --state-sync", other)
			}
		}
		return nil
	}

	hash, err := hex.DecodeString(s.Hash)
	told := f.Changed("trust-height") || f.Changed("trust-hash") || !f.Changed("from")

	switch {
	case f.Changed("import"):
		return usageError(cmd, "--import brings its own configuration: set the section [statesync] there instead of "+
			"--state-sync")

	case len(s.RPC) < 2 && !bare:
		return usageError(cmd, "--state-sync=%s: want the RPC of two nodes at least, separated by commas",
			strings.Join(s.RPC, ","))

	case told && s.Height < 1:
		return usageError(cmd, "--state-sync wants --trust-height and --trust-hash: a block that is known to be "+
			"the chain's")

	case told && (err != nil || len(hash) != sha256.Size):
		return usageError(cmd, "--trust-hash %q: want %d hexadecimal digits", s.Hash, 2*sha256.Size)

	case s.Period <= 0:
		return usageError(cmd, "--trust-period %v: want a time above 0", s.Period)
	}

	return nil
}
