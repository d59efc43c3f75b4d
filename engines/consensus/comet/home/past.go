package home

import (
	"fmt"
	"os"

	"github.com/coppice-go/coppice/internal/durable"
)

// Past is how a chain came to its present epoch.
type Past struct {
	FirstGenesis []byte      // of epoch 0, in CometBFT's encoding
	Epochs       []PastEpoch // by number, from epoch 0 on
}

// PastEpoch is what proves how an epoch ended.
type PastEpoch struct {
	Certificate []byte // of the reset
	Next        []byte // the first light block of the next epoch; empty: not known
}

// FirstGenesisDoc returns the genesis of epoch 0 of a home, as it was written.
func FirstGenesisDoc(home string) ([]byte, error) {
	path := firstGenesisPath(home)
	if !exists(path) {
		path = GenesisPath(home)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHome, err)
	}
	return b, nil
}

// writePast writes how the chain of a home came to its epoch, and the genesis of epoch 0 beside
// that of the present epoch.
func writePast(home string, p Past) error {
	if err := durable.OS.Replace(firstGenesisPath(home), p.FirstGenesis, 0o644); err != nil {
		return fmt.Errorf("%w: %w", ErrHome, err)
	}

	for i, e := range p.Epochs {
		epoch := uint64(i)
		if err := Certificate.Write(home, epoch, e.Certificate); err != nil {
			return err
		}
		if len(e.Next) == 0 {
			continue
		}
		if err := FirstBlock.Write(home, epoch+1, e.Next); err != nil {
			return err
		}
	}

	return nil
}

// proof is a file of the proofs of a home.
type proof struct {
	kind  Proof
	epoch uint64
	data  []byte
}

// readProofs reads all proofs of a home.
func readProofs(home string) (list []proof, err error) {
	names, err := ProofFiles(home)
	if err != nil {
		return nil, err
	}

	for _, name := range names {
		kind, epoch, _ := ParseProof(name)
		data, err := kind.Read(home, epoch)
		if err != nil {
			return nil, err
		}
		list = append(list, proof{kind, epoch, data})
	}

	return list, nil
}
