package chain_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
)

// An error in a genesis file names the byte at which it is, or none.
func TestAnErrorOfAGenesisSaysWhere(t *testing.T) {
	pad := strings.Repeat(" ", 100)
	for text, want := range map[string]string{
		`{"chain_id": "a",` + pad + `x}`:        "near byte 118: invalid character 'x'",
		`{"chain_id":` + pad + ` 7` + pad + "}": "near byte 114: json: cannot unmarshal number",
		`{"chain": "a"` + pad + "}":             `genesis.json: json: unknown field "chain"`,
		`{"chain_id": "a",`:                     "genesis.json: unexpected EOF",
	} {
		_, err := chain.ParseGenesis("genesis.json", []byte(text))
		require.ErrorContains(t, err, want)
	}
}
