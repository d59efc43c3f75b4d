package seek

import (
	"bytes"
	"fmt"

	"github.com/cometbft/cometbft/types"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/comet/certificate"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/engines/storage/apphash"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// way is the sequence of certificates from the epoch of a node on, each of which was checked.
type way struct {
	list  []consensus.Certificate
	point consensus.ResetPoint // of the newest
}

func (w *way) newest() consensus.Certificate { return w.list[len(w.list)-1] }

// check checks the certificates of the last one of some answers, one by one, for a node in state s.
// The others may have signed the same. What is trusted is the set with which the epoch of s began.
func (k *Seeker) check(s chain.State, answers []answer) (*way, error) {
	g, err := comethome.ReadGenesis(k.Home)
	if err != nil {
		return nil, err
	}
	name := chain.NameOf(s.ChainID, s.Period)
	if g.ChainID != s.ChainID {
		return nil, fmt.Errorf("%w: %s is of %q, the chain of %q", comethome.ErrGenesis, comethome.GenesisPath(k.Home),
			g.ChainID, s.ChainID)
	}

	list := answers[len(answers)-1].list
	trusted, height := certificate.SetOf(g), s.Height
	certs := make([]certificate.Certificate, len(list))

	for i, c := range list {
		certs[i], err = k.checkOne(s, name, c, trusted, answers)
		if err != nil {
			return nil, fmt.Errorf("epoch %d: %w", c.Epoch, err)
		}
		if at := uint64(certs[i].Decided.Height); at < height {
			return nil, fmt.Errorf("epoch %d: it ended at height %d, and height %d was before", c.Epoch, at, height)
		}
		trusted, height = certs[i].After, uint64(certs[i].Held.Height)
	}

	last := certs[len(certs)-1]
	epoch := list[len(list)-1].Epoch
	w := &way{list: list, point: consensus.ResetPoint{
		ChainID: chain.EpochID(name, epoch), Epoch: epoch, Height: uint64(last.Decided.Height), Root: last.Root,
		AppHash: apphash.Of(last.Root, epoch), BlockHash: last.Decided.Hash(), Time: last.Decided.Time,
	}}
	w.point.Started, err = k.started(s, name, epoch, certs)

	return w, err
}

// checkOne checks the certificate of one epoch. At least a third of the power that is trusted must
// have signed its block, as a light client requires. That a reset was decided there is in our own
// state, or the first block of the next epoch says it, or the agents do: more than may be faulty.
func (k *Seeker) checkOne(s chain.State, name string, c consensus.Certificate, trusted *types.ValidatorSet,
	answers []answer) (certificate.Certificate, error) {
	cert, err := certificate.Decode(c.Proof)
	if err != nil {
		return cert, err
	}
	if c.Epoch == s.Period && s.InHold() {
		return cert, cert.Check(s)
	}

	if err := cert.Follows(chain.EpochID(name, c.Epoch), c.Epoch, trusted); err != nil {
		return cert, err
	}
	if uint64(cert.Decided.Height) != c.Height || !bytes.Equal(cert.Root, c.Root) {
		return cert, fmt.Errorf("%w: it is of height %d, its point of height %d", certificate.ErrBlock,
			cert.Decided.Height, c.Height)
	}

	if len(c.First) == 0 {
		if k.vouched(c, answers) {
			return cert, nil
		}
		return cert, fmt.Errorf("%w: neither the first block of the next epoch nor enough agents say that block %d "+
			"decided one", certificate.ErrNoReset, c.Height)
	}
	first, err := certificate.DecodeBlock(c.First)
	if err != nil {
		return cert, err
	}

	return cert, cert.Begins(chain.EpochID(name, c.Epoch+1), c.Epoch+1, first)
}

// vouched reports whether more agents than may be faulty have signed the point of a certificate.
func (k *Seeker) vouched(c consensus.Certificate, answers []answer) bool {
	if k.Agents == 0 {
		return false
	}

	signed := make(map[string]bool)
	for _, a := range answers {
		for _, o := range a.list {
			if o.Agent != "" && o.Epoch == c.Epoch && o.Height == c.Height && bytes.Equal(o.Root, c.Root) {
				signed[o.Agent] = true
			}
		}
	}

	faulty := k.Agents - (2*k.Agents+1+2)/3
	return len(signed) > faulty
}

// started returns the record that began an epoch, which follows from the certificate of the epoch
// before.
func (k *Seeker) started(s chain.State, name string, epoch uint64, certs []certificate.Certificate) (
	*logv1.ChainStarted, error) {
	if epoch == 0 {
		return k.Core.Genesis, nil
	}

	var before certificate.Certificate
	if len(certs) > 1 {
		before = certs[len(certs)-2]
	} else {
		kept, err := comethome.ReadCertificate(k.Home, epoch-1)
		if err == nil && kept == nil {
			err = fmt.Errorf("%w: the home has no certificate of epoch %d", certificate.ErrMissing, epoch-1)
		}
		if err == nil {
			before, err = certificate.Decode(kept)
		}
		if err != nil {
			return nil, err
		}
	}

	return &logv1.ChainStarted{
		ChainId: chain.EpochID(name, epoch), Period: epoch,
		InitialHeight: uint64(before.Decided.Height) + s.Params.GetResetOffset(),
		GenesisTimeNs: before.Decided.Time.UnixNano(), AppHash: apphash.Of(before.Root, epoch), Params: s.Params,
		Validators: before.Validators(), AppState: k.Core.Genesis.GetAppState(),
	}, nil
}
