package comet

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/comet/child"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
)

// editJSON changes a JSON file of a home.
func editJSON(t *testing.T, path string, edit func(doc map[string]any)) {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	var doc map[string]any
	require.NoError(t, json.Unmarshal(data, &doc))
	edit(doc)
	data, err = json.Marshal(doc)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, data, 0o600))
}

func signingState(height string, round, step int) func(map[string]any) {
	return func(doc map[string]any) {
		doc["height"], doc["round"], doc["step"] = height, round, step
		delete(doc, "signature")
		delete(doc, "signbytes")
	}
}

// A signing state that the blocks contradict, and a genesis that the chain did not begin with, are
// refused by name before CometBFT runs with them, whether they are the file's or a value in it.
func TestAHomeThatItsOwnBlocksContradictIsRefused(t *testing.T) {
	home, c := blocks(t, 3)
	at := c.state.Height
	state := filepath.Join("data", "priv_validator_state.json")
	genesis := filepath.Join("config", "genesis.json")
	validator := func(doc map[string]any) map[string]any {
		return doc["validators"].([]any)[0].(map[string]any)
	}

	for _, k := range []struct {
		name, file string
		edit       func(doc map[string]any)
		is         error
		class      consensus.Class
		says       string
	}{
		{"reset", state, signingState("0", 0, 0), comethome.ErrSigningOld, consensus.Damage, "could sign twice"},
		{"one block older", state, signingState(itoa(at-1), 0, 3), comethome.ErrSigningOld, consensus.Damage, ""},
		{"one step older", state, signingState(itoa(at), 0, 2), comethome.ErrSigningOld, consensus.Damage, "step 2"},
		{"ahead of a lone validator", state, signingState(itoa(at+2), 0, 1), comethome.ErrSigningAhead,
			consensus.Damage, "the only validator"},
		{"far ahead", state, signingState("1000000000", 0, 3), comethome.ErrSigningAhead, consensus.Damage, ""},
		{"power edited", genesis, func(d map[string]any) { validator(d)["power"] = "11" }, comethome.ErrGenesisEdited,
			consensus.Config, "validators: the file has 1 of power 11"},
		{"validator replaced", genesis, func(d map[string]any) {
			key := ed25519.GenPrivKey().PubKey()
			validator(d)["address"] = key.Address().String()
			validator(d)["pub_key"] = map[string]any{"type": ed25519.PubKeyName, "value": key.Bytes()}
		}, comethome.ErrGenesisEdited, consensus.Config, "validators: "},
		{"time edited", genesis, func(d map[string]any) { d["genesis_time"] = "2020-01-01T00:00:00Z" },
			comethome.ErrGenesisEdited, consensus.Config, "genesis_time: the file has 2020"},
		{"parameters edited", genesis, func(d map[string]any) {
			d["consensus_params"].(map[string]any)["block"].(map[string]any)["max_bytes"] = "7000000"
		}, comethome.ErrGenesisEdited, consensus.Config, "consensus_params: "},
	} {
		t.Run(k.name, func(t *testing.T) {
			broken := filepath.Join(t.TempDir(), "comet")
			require.NoError(t, os.CopyFS(broken, os.DirFS(home)))
			own := newFakeCore()
			own.state = c.state
			editJSON(t, filepath.Join(broken, k.file), k.edit)

			require.ErrorIs(t, child.Verify(broken), k.is, "verify says what a start says")
			err := serve(t, broken, own)
			require.ErrorIs(t, err, k.is)
			require.ErrorIs(t, err, consensus.ErrFinal)
			require.Equal(t, k.class, comethome.Class(err))
			require.ErrorContains(t, err, filepath.Join(broken, k.file))
			require.ErrorContains(t, err, k.says)
			require.NotContains(t, err.Error(), "\n")
		})
	}

	t.Run("as it was, with another layout of the genesis", func(t *testing.T) {
		same := filepath.Join(t.TempDir(), "comet")
		require.NoError(t, os.CopyFS(same, os.DirFS(home)))
		editJSON(t, filepath.Join(same, genesis), func(d map[string]any) { validator(d)["name"] = "another name" })
		require.NoError(t, child.Verify(same))
		own := newFakeCore()
		own.state = c.state
		drive(t, same, own)
		own.submit("goes=on")
		own.await(t, func() bool { return len(own.pool) == 0 })
	})
}

func itoa(n uint64) string {
	data, _ := json.Marshal(n)
	return string(data)
}

// What is gone of a CometBFT home is named, with what to do.
func TestALostCometHomeGetsAdvice(t *testing.T) {
	for _, k := range []struct{ gone, says string }{
		{"", "keys, signing state and blocks are gone"},
		{"config", "no directory config"},
		{"config/genesis.json", "every node of the chain has the same file"},
		{"config/config.toml", "that of a new home"},
		{"config/node_key.json", "coppice keys generate node"},
	} {
		t.Run(k.gone, func(t *testing.T) {
			home := newHome(t, comethome.Options{})
			require.NoError(t, os.RemoveAll(filepath.Join(home, k.gone)))

			tr := &tree{Driver: Driver{Home: home, Log: zap.NewNop()}, resets: idleResets(),
				core: newFakeCore().core("test")}
			_, err := tr.build(t.Context())
			require.ErrorIs(t, err, comethome.ErrHome)
			require.ErrorContains(t, err, k.says)
			require.NotContains(t, err.Error(), "no such file")
			require.Equal(t, 1, strings.Count(err.Error(), comethome.ErrHome.Error()), err)

			if k.gone != "config/node_key.json" {
				_, err = Kind{}.Backends(filepath.Dir(home), chain.NewGenesis("test", time.Now()))
			}
			if k.gone == "" || strings.HasSuffix(k.gone, "genesis.json") || k.gone == "config" {
				require.ErrorContains(t, err, k.says)
			}
		})
	}
}

// The memory limit and the pace of the garbage collector are the process's too.
func TestTheProcessGetsTheMemoryLimit(t *testing.T) {
	t.Setenv("GOGC", "37")
	t.Setenv("GOMEMLIMIT", "512MiB")
	require.Contains(t, childEnv(0), "GOGC=37")
	require.Contains(t, childEnv(100), "GOMEMLIMIT=512MiB")

	home, c := newHome(t, comethome.Options{}), newFakeCore()
	drive(t, home, c)
	c.submit("a=1")
	c.await(t, func() bool { return len(c.pool) == 0 })

	environ, err := os.ReadFile(filepath.Join("/proc", itoa(uint64(pidOf(t, home))), "environ"))
	if os.IsNotExist(err) {
		t.Skip("this system has no /proc")
	}
	require.NoError(t, err)
	require.Contains(t, strings.Split(string(environ), "\x00"), "GOMEMLIMIT=512MiB")
	require.Contains(t, strings.Split(string(environ), "\x00"), "GOGC=37")
}
