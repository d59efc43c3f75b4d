package comet

import (
	"fmt"

	abci "github.com/cometbft/cometbft/abci/types"
	pc "github.com/cometbft/cometbft/proto/tendermint/crypto"

	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// updateRecord returns a validator in the form of the event log.
func updateRecord(v abci.ValidatorUpdate) (*logv1.ValidatorUpdate, error) {
	key := v.PubKey.GetEd25519()
	if key == nil {
		return nil, fmt.Errorf("validator key of kind %T, want %s", v.PubKey.Sum, comethome.KeyEd25519)
	}
	return &logv1.ValidatorUpdate{KeyType: comethome.KeyEd25519, PubKey: key, Power: v.Power}, nil
}

// updates returns validators in CometBFT's form.
func updates(recs []*logv1.ValidatorUpdate) ([]abci.ValidatorUpdate, error) {
	var out []abci.ValidatorUpdate
	for _, r := range recs {
		if r.KeyType != comethome.KeyEd25519 {
			return nil, fmt.Errorf("validator key of kind %q, want %s", r.KeyType, comethome.KeyEd25519)
		}
		out = append(out, abci.ValidatorUpdate{PubKey: pc.PublicKey{Sum: &pc.PublicKey_Ed25519{Ed25519: r.PubKey}},
			Power: r.Power})
	}

	return out, nil
}
