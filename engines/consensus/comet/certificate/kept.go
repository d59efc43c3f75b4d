package certificate

import (
	"github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/types"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
)

// Kept is a certificate that a home keeps, as it was written.
type Kept struct {
	Epoch uint64 // that ended
	Bytes []byte
	Certificate
}

// List returns the certificates that a home keeps, of the epochs from the given one on, the oldest
// first and without gaps. It returns at most maxBytes bytes of them, but at least one if there is
// any.
func List(home string, from uint64, maxBytes int) (list []Kept, err error) {
	for epoch, size := from, 0; ; epoch++ {
		b, err := comethome.ReadCertificate(home, epoch)
		if err != nil || b == nil {
			return list, err
		}
		if size += len(b); size > maxBytes && len(list) > 0 {
			return list, nil
		}

		c, err := Decode(b)
		if err != nil {
			return list, err
		}
		list = append(list, Kept{epoch, b, c})
	}
}

// Served returns what List returns in the form in which peers get it, each with the first block
// after it if the home has that.
func Served(home string, from uint64, maxBytes int) (out []consensus.Certificate, err error) {
	list, err := List(home, from, maxBytes)
	for _, c := range list {
		first, err := comethome.FirstBlock.Read(home, c.Epoch+1)
		if err != nil {
			return out, err
		}
		out = append(out, consensus.Certificate{Epoch: c.Epoch, Height: uint64(c.Decided.Height), Root: c.Root,
			Proof: c.Bytes, First: first})
	}

	return out, err
}

// Complete reports whether a home has the certificate of the reset that is due in state s.
func Complete(home string, s chain.State) bool {
	b, err := comethome.ReadCertificate(home, s.Period)
	if err != nil || b == nil {
		return false
	}
	c, err := Decode(b)
	return err == nil && c.Check(s) == nil
}

// SetOf returns the validators with which the epoch of a genesis begins.
func SetOf(g comethome.Genesis) *types.ValidatorSet {
	var members []*types.Validator
	for _, v := range g.Validators {
		members = append(members, types.NewValidator(ed25519.PubKey(v.PubKey), v.Power))
	}
	return types.NewValidatorSet(members)
}
