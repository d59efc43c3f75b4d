package offline

import (
	"context"
	"fmt"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/host"
	"github.com/coppice-go/coppice/node/inflight"
)

// checkFiles reads the files of a home that a start reads beside the log, the state and the files
// of the consensus. It returns an error if a start would refuse one of them. A home that was
// restored does not have its certificate yet, because a backup has none.
func checkFiles(dir string, restored bool) error {
	c, err := config.Load(dir)
	if err != nil {
		return err
	}
	if _, _, err := home.ReadTokens(dir); err != nil {
		return err
	}
	if _, err := home.ReadGenesis(dir); err != nil {
		return err
	}
	if !restored {
		if _, err := host.LoadCertificate(dir, c.TLS); err != nil {
			return err
		}
	}

	k, ok := consensus.Lookup(c.Consensus.Kind)
	if !ok {
		return fmt.Errorf("%w: consensus.kind = %q: this program has no such kind", exit.ErrConfig, c.Consensus.Kind)
	}
	if err := home.CheckKind(dir, k); err != nil {
		return err
	}

	return exit.Classify(inflight.Check(home.InflightDir(dir)))
}

// checkConsensus reads the files of the home's kind of consensus. s is the state to which the log
// leads.
func checkConsensus(ctx context.Context, dir string, s chain.State) error {
	c, err := config.Load(dir)
	if err != nil {
		return err
	}
	k, ok := consensus.Lookup(c.Consensus.Kind)
	v, verifies := k.(consensus.Verifier)
	if !ok || !verifies {
		return nil
	}

	g, err := home.ReadGenesis(dir)
	if err != nil {
		return err
	}
	return exit.Classify(v.Verify(ctx, c.ConsensusHome(dir, g), s))
}
