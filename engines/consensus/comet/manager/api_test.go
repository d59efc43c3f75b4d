package manager

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/supervisor"
)

// The numbers in the comments of these tests are those of the checklist of the specification of
// consensus control.

// Item 1: methods, keys and codes.
func TestEndpointsAnswerAsPublished(t *testing.T) {
	r := newRig(t, script{Height: 7})
	r.awaitState(Running)
	c := r.client()

	code, out, _ := c.call(http.MethodGet, "/params", nil)
	require.Equal(t, http.StatusOK, code)
	require.Len(t, out, 3)
	require.Equal(t, true, out["status"])
	require.Contains(t, out, "error")
	require.Nil(t, out["error"])
	params := out["params"].(map[string]any)
	require.Len(t, params, 3)
	require.Len(t, params["address"], 40)
	require.Len(t, params["peer_id"], 40)
	require.Equal(t, "tendermint/PubKeyEd25519", params["pub_key"].(map[string]any)["type"])

	code, out, _ = c.call(http.MethodPost, "/params", body(params))
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, map[string]any{"status": true, "error": nil}, out)

	for _, path := range []string{"/gentle_reset", "/hard_reset"} {
		code, out, text := c.call(http.MethodGet, path, nil)
		require.Equal(t, http.StatusOK, code)
		require.Len(t, out, 2, text)
		require.Equal(t, true, out["status"], text)
		require.Contains(t, out["message"], "Reset successful.")
	}

	code, out, text := c.call(http.MethodGet, "/nothing", nil)
	require.Equal(t, http.StatusNotFound, code)
	require.Equal(t, "Not Found", text)
	require.Nil(t, out)

	for _, call := range [][2]string{{"POST", "/hard_reset"}, {"DELETE", "/params"}, {"HEAD", "/gentle_reset"}} {
		code, _, _ = c.call(call[0], call[1], nil)
		require.Equal(t, http.StatusMethodNotAllowed, code, call)
	}
}

// Item 1: what is not foreseen has status 500 and the published text.
func TestWhatIsNotForeseenIsA500(t *testing.T) {
	r := newRig(t, script{}, func(_ *Settings, o *Options) { o.Observers = []supervisor.Observer{supervisor.Discard} })
	r.awaitState(Running)
	r.m.Machine.target.(*foreign).home = nil // a fault of ours: the next use panics
	code, _, text := r.client().call(http.MethodGet, "/hard_reset", nil)
	require.Equal(t, http.StatusInternalServerError, code)
	require.Equal(t, "Error Closing Node", text)

	r.console.await(t, "Tendermint process started", 2) // the supervisor has started all of it again
	r.awaitState(Running)
}

// Item 1: on failure the params are empty.
func TestParamsAreEmptyOnFailure(t *testing.T) {
	r := newRig(t, script{})
	r.awaitState(Running)
	require.NoError(t, os.Remove(filepath.Join(r.home, "config", "priv_validator_key.json")))
	code, out, _ := r.client().call(http.MethodGet, "/params", nil)
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, map[string]any{}, out["params"])
	require.Equal(t, false, out["status"])
	require.Contains(t, out["error"], "priv_validator_key.json")
}

// Item 2.
func TestThePrivateKeyNeverLeaves(t *testing.T) {
	r := newRig(t, script{Height: 7})
	r.awaitState(Running)
	data, err := os.ReadFile(filepath.Join(r.home, "config", "priv_validator_key.json"))
	require.NoError(t, err)
	var file struct {
		Priv struct{ Value string } `json:"priv_key"`
	}
	require.NoError(t, json.Unmarshal(data, &file))
	require.NotEmpty(t, file.Priv.Value)

	for _, path := range []string{"/params", "/status", "/app_hash", "/gentle_reset", "/hard_reset"} {
		_, _, text := r.client().call(http.MethodGet, path, nil)
		require.NotContains(t, text, file.Priv.Value, path)
		require.NotContains(t, text, "priv_key", path)
	}
	all, _ := r.console.get()
	require.NotContains(t, strings.Join(all, "\n"), file.Priv.Value)
}

// body returns the body of a POST /params with two validators, of which the first has the key of an
// answer to GET /params.
func body(params map[string]any) map[string]any {
	return map[string]any{
		"genesis_config": map[string]any{
			"genesis_time": "2022-05-20T16:00:21.735122717Z", "chain_id": "chain-c4daS1", "voting_power": "10",
			"consensus_params": map[string]any{
				"block": map[string]any{"max_bytes": "22020096", "max_gas": "-1", "time_iota_ms": "1000"},
				"evidence": map[string]any{"max_age_num_blocks": "100000", "max_age_duration": "172800000000000",
					"max_bytes": "1048576"},
				"validator": map[string]any{"pub_key_types": []string{"ed25519"}},
				"version":   map[string]any{},
			},
		},
		"validators": []map[string]any{
			{"hostname": "localhost", "p2p_port": 26656, "peer_id": params["peer_id"], "address": params["address"],
				"pub_key": params["pub_key"], "power": "10", "name": "node0"},
			{"hostname": "node1", "p2p_port": 26657, "peer_id": strings.Repeat("b", 40),
				"address": "630DCD2966C4336691125448BBB25B4FF412A49C", "power": 10, "name": "node1",
				"pub_key": map[string]any{"type": "tendermint/PubKeyEd25519",
					"value": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}},
		},
		"external_address": "node0:26656",
	}
}

// identity returns the params of the rig's home.
func (r *rig) identity() map[string]any {
	_, out, _ := r.client().call(http.MethodGet, "/params", nil)
	return out["params"].(map[string]any)
}

// Item 3.
func TestParamsRewriteGenesisPeersAndExternalAddress(t *testing.T) {
	r := newRig(t, script{})
	r.awaitState(Running)
	own := r.identity()
	code, out, text := r.client().call(http.MethodPost, "/params", body(own))
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, true, out["status"], text)

	g := r.genesis()
	require.Equal(t, "2022-05-20T16:00:21.735122717Z", g["genesis_time"])
	require.Equal(t, "chain-c4daS1", g["chain_id"])
	require.Equal(t, "0", g["initial_height"])
	require.Empty(t, g["app_hash"])
	require.Len(t, g["validators"], 2)
	require.Equal(t, "10", g["validators"].([]any)[1].(map[string]any)["power"])

	config, err := comethome.ReadConfig(r.home)
	require.NoError(t, err)
	require.Equal(t, own["peer_id"].(string)+"@localhost:26656,"+strings.Repeat("b", 40)+"@node1:26657",
		config.P2P.PersistentPeers)
	require.Equal(t, "node0:26656", config.P2P.ExternalAddress)

	doc, err := r.m.Machine.target.(*foreign).home.Genesis()
	require.NoError(t, err)
	require.EqualValues(t, 1, doc.InitialHeight) // 0 is read as 1

	// No restart.
	all, _ := r.console.get()
	require.Equal(t, []string{"Tendermint process started", "Monitoring thread started"}, published(all))
}

// Item 3: each bad body names what is wrong, and writes nothing.
func TestABadBodyWritesNothing(t *testing.T) {
	r := newRig(t, script{})
	r.awaitState(Running)
	own := r.identity()
	genesis, err := os.ReadFile(comethome.GenesisPath(r.home))
	require.NoError(t, err)
	path := filepath.Join(r.home, "config", "config.toml")
	config, err := os.ReadFile(path)
	require.NoError(t, err)

	good := func() (map[string]any, map[string]any, map[string]any) {
		b := body(own)
		return b, b["genesis_config"].(map[string]any), b["validators"].([]map[string]any)[0]
	}
	for name, change := range map[string]func(b, g, v map[string]any){
		"genesis_config":              func(b, _, _ map[string]any) { delete(b, "genesis_config") },
		"chain_id":                    func(_, g, _ map[string]any) { g["chain_id"] = "" },
		"too long":                    func(_, g, _ map[string]any) { g["chain_id"] = strings.Repeat("x", 51) },
		"genesis_config.genesis_time": func(_, g, _ map[string]any) { delete(g, "genesis_time") },
		"genesis":                     func(_, g, _ map[string]any) { g["genesis_time"] = "yesterday" },
		"consensus_params":            func(_, g, _ map[string]any) { delete(g, "consensus_params") },
		"MaxBytes": func(_, g, _ map[string]any) {
			g["consensus_params"] = map[string]any{"block": map[string]any{"max_bytes": "0", "max_gas": "-1"}}
		},
		"validators":             func(b, _, _ map[string]any) { delete(b, "validators") },
		"external_address":       func(b, _, _ map[string]any) { delete(b, "external_address") },
		"want printable ASCII":   func(b, _, _ map[string]any) { b["external_address"] = "node\"0\nmoniker = 1" },
		"validators[0].power":    func(_, _, v map[string]any) { v["power"] = "0" },
		"validators[0].p2p_port": func(_, _, v map[string]any) { v["p2p_port"] = 70000 },
		"validators[0].hostname": func(_, _, v map[string]any) { delete(v, "hostname") },
		"no comma":               func(_, _, v map[string]any) { v["hostname"] = "a,b" },
		"hexadecimal digits":     func(_, _, v map[string]any) { v["peer_id"] = "xyz" },
		"validators[0] (\"node0\")": func(_, _, v map[string]any) {
			v["pub_key"] = map[string]any{"type": "tendermint/PubKeyEd25519", "value": "AAAA"}
		},
		"incorrect address":       func(_, _, v map[string]any) { v["address"] = strings.Repeat("0", 40) },
		"is there twice":          func(b, _, v map[string]any) { b["validators"] = []map[string]any{v, v} },
		"validators[0].pub_key":   func(_, _, v map[string]any) { v["pub_key"] = nil },
		"cannot unmarshal string": func(b, _, _ map[string]any) { b["validators"] = "all" },
		"genesis: validators[0] (\"no-": func(_, _, v map[string]any) {
			v["name"] = "no-key"
			v["pub_key"] = map[string]any{}
		},
	} {
		b, g, v := good()
		change(b, g, v)
		code, out, text := r.client().call(http.MethodPost, "/params", b)
		require.Equal(t, http.StatusOK, code, name)
		require.Equal(t, false, out["status"], "%s: %s", name, text)
		require.Contains(t, out["error"], name)

		now, err := os.ReadFile(comethome.GenesisPath(r.home))
		require.NoError(t, err)
		require.Equal(t, string(genesis), string(now), name)
		now, err = os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, string(config), string(now), name)
	}

	b, _, _ := good()
	b["padding"] = strings.Repeat("x", mostOfBody)
	_, out, _ := r.client().call(http.MethodPost, "/params", b)
	require.Equal(t, false, out["status"])
	require.Contains(t, out["error"], "too large")
}

// Item 8.
func TestAppHashByHeight(t *testing.T) {
	r := newRig(t, script{Height: 7})
	r.awaitState(Running)
	for query, want := range map[string]string{"": "C0FFEE", "?height=7": "C0FFEE"} {
		code, out, _ := r.client().call(http.MethodGet, "/app_hash"+query, nil)
		require.Equal(t, http.StatusOK, code)
		require.Equal(t, map[string]any{"app_hash": want}, out)
	}
	for query, want := range map[string]string{"?height=9": "must be less than", "?height=x": `height: "x"`,
		"?height=-1": `height: "-1"`} {
		code, out, _ := r.client().call(http.MethodGet, "/app_hash"+query, nil)
		require.Equal(t, http.StatusOK, code)
		require.Len(t, out, 1)
		require.Contains(t, out["error"], want)
	}
}

// Item 31: loopback, or a token, or the flag.
func TestTheAPIIsClosedBeyondLoopback(t *testing.T) {
	for listen, ok := range map[string]bool{"127.0.0.1:0": true, "localhost:0": true, "[::1]:0": true,
		"0.0.0.0:0": false, ":0": false, "192.0.2.1:0": false, "agent.example:0": false} {
		err := Access{Listen: listen}.Check()
		require.Equal(t, ok, err == nil, "%s: %v", listen, err)
		if !ok {
			require.ErrorIs(t, err, ErrOpen)
		}
		require.NoError(t, Access{Listen: listen, Token: "secret"}.Check())
		require.NoError(t, Access{Listen: listen, AllowUnauthenticated: true}.Check())
	}
	require.ErrorIs(t, Access{Listen: "nowhere"}.Check(), ErrSettings)

	r := newRig(t, script{}, func(_ *Settings, o *Options) { o.Access.Token = "secret" })
	r.awaitState(Running)
	for token, want := range map[string]int{"": http.StatusUnauthorized, "secre": http.StatusUnauthorized,
		"secret": http.StatusOK} {
		c := r.client()
		c.token = token
		for _, path := range []string{"/params", "/status", "/gentle_reset"} {
			code, _, _ := c.call(http.MethodGet, path, nil)
			require.Equal(t, want, code, "%q %s", token, path)
		}
	}
}

// A page in a browser of this machine cannot reset the chain.
func TestAForeignPageCannotReset(t *testing.T) {
	r := newRig(t, script{})
	r.awaitState(Running)
	for name, change := range map[string]func(*http.Request){
		"another site": func(q *http.Request) { q.Header.Set("Sec-Fetch-Site", "cross-site") },
		"another name": func(q *http.Request) { q.Host = "evil.example:8080" },
	} {
		req, err := http.NewRequest(http.MethodGet, "http://"+r.m.Addr()+"/hard_reset", nil)
		require.NoError(t, err)
		change(req)
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, http.StatusForbidden, resp.StatusCode, name)
	}
	require.Zero(t, r.m.Machine.Status(0).Resets)
}
