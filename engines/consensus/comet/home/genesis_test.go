package home

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// CometBFT panics at such a genesis, wherever it comes from.
func TestAGenesisWhoseKeysAreMissingOrShortIsNamed(t *testing.T) {
	for name, key := range map[string]any{
		"missing":      nil,
		"short":        map[string]string{"type": "tendermint/PubKeyEd25519", "value": "AAAA"},
		"another type": map[string]string{"type": "tendermint/PubKeySecp256k1", "value": "AAAA"},
	} {
		home := ownHome(t)
		data, err := os.ReadFile(GenesisPath(home))
		require.NoError(t, err)
		var doc map[string]any
		require.NoError(t, json.Unmarshal(data, &doc))
		doc["validators"].([]any)[0].(map[string]any)["pub_key"] = key
		data, err = json.Marshal(doc)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(GenesisPath(home), data, 0o600))

		_, err = ReadGenesis(home)
		require.ErrorIs(t, err, ErrHome, name)
		require.ErrorContains(t, err, GenesisPath(home), name)
		require.ErrorContains(t, err, `validators[0]`, name)
		require.ErrorContains(t, err, "pub_key: want a key of type tendermint/PubKeyEd25519 with 32 bytes", name)

		require.ErrorContains(t, JoinChain(home, Chain{GenesisDoc: data}), "validators[0]", name)
		_, err = GenesisSum(data)
		require.ErrorContains(t, err, "validators[0]", name)
		require.ErrorContains(t, Install(home, NetworkFile{Genesis: data}), "validators[0]", name)
		_, err = readGenesisDoc(data)
		require.ErrorContains(t, err, "validators[0]", name)
	}
}
