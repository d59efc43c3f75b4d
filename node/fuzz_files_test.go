package node

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
)

// Any configuration file is either valid and read in full, or refused with the name of the file
// (I10).
func FuzzConfig(f *testing.F) {
	f.Add([]byte(config.Defaults().Commented()))
	for _, seed := range []string{
		"", "profile = \"chaos\"\n", "[log]\nsegment_bytes = 1\n", "[pool]\nmax_txs = -1\n", "listen = \":0\"\n",
		"[consensus]\nempty_every = \"1h\"\n",
		"unknown = 1\n", "profile = 3\n", "[pool\n", "listen = \"127.0.0.1:0\"\nlisten = \"127.0.0.1:1\"\n", "\xff",
	} {
		f.Add([]byte(seed))
	}

	home := f.TempDir()
	path := filepath.Join(home, config.FileName)
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}

		c, err := config.Load(home)
		if err != nil {
			if !errors.Is(err, exit.ErrConfig) || exit.Code(err) != exit.Config ||
				strings.TrimSpace(err.Error()) == "" {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}

		if err := c.Validate(); err != nil {
			t.Fatalf("%q was taken, and is not valid: %v", text, err)
		}
	})
}

// Any genesis file either gives limits with which a chain can work, or is refused with the name of
// the file (I10).
func FuzzGenesis(f *testing.F) {
	for _, seed := range []string{
		`{"chain_id":"c","genesis_time":"2026-01-02T03:04:05Z","initial_height":1,"limits":{"window":"10m","max_tx_bytes":100,"max_tx_ops":1,"max_tx_steps":1,"max_result_bytes":1,"max_block_bytes":100}}`,
		`{"chain_id":""}`, `{"chain_id":"c","genesis_time":"9999-12-31T23:59:59Z"}`, `{"limits":{"window":"-1ns"}}`,
		`{} {}`, `[]`, "", "\xff", `{"initial_height":18446744073709551615}`,
	} {
		f.Add([]byte(seed))
	}

	path := filepath.Join(f.TempDir(), chain.GenesisFile)
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}

		_, g, err := home.ReadGenesisFile(path)
		if err != nil {
			if !errors.Is(err, exit.ErrConfig) || !strings.Contains(err.Error(), chain.GenesisFile) {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}

		p := g.Params
		if window := time.Duration(p.WindowNs); window < time.Second || window > 24*time.Hour {
			t.Fatalf("%q: window %v", text, window)
		}
		if g.ChainId == "" || g.InitialHeight == 0 || p.MaxTxBytes == 0 || p.MaxTxBytes > p.MaxBlockBytes {
			t.Fatalf("%q: %v", text, g)
		}
		if at := time.Unix(0, g.GenesisTimeNs); at.Year() < 1678 || at.Year() > 2261 {
			t.Fatalf("%q: genesis time %v", text, at)
		}
	})
}
