package manager

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
)

// The published lines, in their order.
var (
	gentleLines = []string{"Monitoring thread terminated", "Tendermint process stopped", "Tendermint process started",
		"Monitoring thread started"}
	startLines = []string{"Tendermint process started", "Monitoring thread started"}
)

// hardLines returns the lines of a hard reset, with the one about the signing state.
func hardLines(signing string) []string {
	return []string{"Monitoring thread terminated", "Tendermint process stopped", "Removed existing address book",
		"Removed all blockchain history", signing, "Tendermint process started", "Monitoring thread started"}
}

const zeroedLine = "Reset private validator file to genesis state"

func (r *rig) published() []string {
	all, _ := r.console.get()
	return published(all)
}

// write writes a file of the home.
func (r *rig) write(name, text string) {
	r.t.Helper()
	path := filepath.Join(r.home, name)
	require.NoError(r.t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(r.t, os.WriteFile(path, []byte(text), 0o600))
}

func (r *rig) read(name string) string {
	r.t.Helper()
	data, err := os.ReadFile(filepath.Join(r.home, name))
	require.NoError(r.t, err)
	return string(data)
}

// sign makes the validator of the home one that has signed up to a height.
func (r *rig) sign(height int) {
	r.write("data/priv_validator_state.json", fmt.Sprintf(`{"height":"%d","round":0,"step":3}`, height))
}

func (r *rig) signed() string { return r.read("data/priv_validator_state.json") }

// Items 4 and 10.
func TestAGentleResetKeepsChainAndHeightAndSaysThePublishedLines(t *testing.T) {
	r := newRig(t, script{Height: 7})
	r.awaitState(Running)
	r.write("data/blockstore.db/000001.log", "blocks")
	r.sign(7)
	before := r.read("config/genesis.json")

	r.console.clear()
	ok, text := r.client().reset("/gentle_reset")
	require.True(t, ok, text)
	require.Equal(t, gentleLines, r.published())
	require.Equal(t, before, r.read("config/genesis.json"))
	require.Equal(t, "blocks", r.read("data/blockstore.db/000001.log"))
	require.Contains(t, r.signed(), `"7"`)
}

// Items 5, 6 and 10.
func TestAHardResetDropsTheChainKeepsTheKeysAndSaysThePublishedLines(t *testing.T) {
	r := newRig(t, script{Height: 7})
	r.awaitState(Running)
	keys := r.read("config/priv_validator_key.json") + r.read("config/node_key.json")
	began := r.genesis()["genesis_time"]
	for _, name := range []string{"data/blockstore.db/000001.log", "data/cs.wal/wal", "config/addrbook.json"} {
		r.write(name, "old")
	}
	r.sign(7)

	r.console.clear()
	ok, text := r.client().reset("/hard_reset?period_count=3&initial_height=0&genesis_time=2026-01-31T12:00:00.000000Z")
	require.True(t, ok, text)
	require.NotContains(t, text, "is_replay")
	require.Equal(t, hardLines(zeroedLine), r.published())

	g := r.genesis()
	require.Equal(t, "autonolas-3", g["chain_id"])
	require.Equal(t, "0", g["initial_height"])
	require.Equal(t, "2026-01-31T12:00:00.000000Z", g["genesis_time"])
	require.Equal(t, keys, r.read("config/priv_validator_key.json")+r.read("config/node_key.json"))
	for _, gone := range []string{"data/blockstore.db", "data/cs.wal", "config/addrbook.json"} {
		require.NoFileExists(t, filepath.Join(r.home, gone))
	}
	require.Contains(t, r.signed(), `"0"`)

	// The defaults.
	ok, text = r.client().reset("/hard_reset")
	require.True(t, ok, text)
	g = r.genesis()
	require.Equal(t, "autonolas-0", g["chain_id"])
	require.Equal(t, "1", g["initial_height"])
	require.Equal(t, "2026-01-31T12:00:00.000000Z", g["genesis_time"])
	require.NotEqual(t, began, g["genesis_time"])
}

// Item 6: a parameter that is wrong changes nothing, and the process goes on.
func TestAWrongParameterChangesNothing(t *testing.T) {
	r := newRig(t, script{Height: 7})
	pid := r.awaitState(Running).PID
	before := r.read("config/genesis.json")
	for query, want := range map[string]string{
		"period_count=x": "period_count", "period_count=-1": "period_count", "period_count=007": "period_count",
		"initial_height=-3": "initial_height", "initial_height=many": "initial_height",
		"genesis_time=noon":                       "genesis_time",
		"period_count=" + strings.Repeat("9", 21): "period_count",
	} {
		ok, text := r.client().reset("/hard_reset?" + query)
		require.False(t, ok, query)
		require.Contains(t, text, want)
		require.Contains(t, text, "nothing was changed")
	}
	require.Equal(t, before, r.read("config/genesis.json"))
	require.Equal(t, pid, r.awaitState(Running).PID)
	require.Equal(t, startLines, r.published())
}

// Item 7: if pruning fails, CometBFT is started again and the status is false.
func TestAFailedPruneStartsAgainAndSaysFalse(t *testing.T) {
	r := newRig(t, script{Height: 7})
	r.awaitState(Running)
	r.write("config/addrbook.json/nested", "a directory, which is no file to remove")

	r.console.clear()
	ok, text := r.client().reset("/hard_reset?period_count=4")
	require.False(t, ok)
	require.Contains(t, text, "address book")
	require.Contains(t, text, "started again")
	require.Equal(t, gentleLines, r.published())
	require.NotEqual(t, "autonolas-4", r.genesis()["chain_id"])
	r.awaitState(Running)
}

// Item 9: each dump has the whole home as it was, and the next number.
func TestAHardResetDumpsThePeriod(t *testing.T) {
	dumps := filepath.Join(t.TempDir(), "dumps")
	r := newRig(t, script{Height: 7}, func(s *Settings, _ *Options) { s.DumpDir, s.ID = dumps, "2" })
	r.awaitState(Running)
	r.write("data/blockstore.db/000001.log", "period 0")
	for n := range 2 {
		ok, text := r.client().reset(fmt.Sprintf("/hard_reset?period_count=%d", n+1))
		require.True(t, ok, text)
		r.write("data/blockstore.db/000001.log", fmt.Sprintf("period %d", n+1))
	}
	for n := range 2 {
		data, err := os.ReadFile(filepath.Join(dumps, fmt.Sprintf("period_%d", n), "node2", "data", "blockstore.db",
			"000001.log"))
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("period %d", n), string(data))
		require.FileExists(t, filepath.Join(dumps, fmt.Sprintf("period_%d", n), "node2/config/genesis.json"))
	}

	// Without DEV_MODE there is none.
	quiet := newRig(t, script{})
	quiet.awaitState(Running)
	ok, text := quiet.client().reset("/hard_reset")
	require.True(t, ok, text)
	entries, err := os.ReadDir(filepath.Dir(quiet.home))
	require.NoError(t, err)
	for _, e := range entries {
		require.False(t, strings.HasPrefix(e.Name(), "period_"))
	}
}

// A dump that fails does not stop the reset, and the answer says so.
func TestADumpThatFailsIsTold(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	r := newRig(t, script{}, func(s *Settings, _ *Options) { s.DumpDir = file })
	r.awaitState(Running)
	ok, text := r.client().reset("/hard_reset?period_count=1")
	require.True(t, ok, text)
	require.Contains(t, text, "Error occurred while dumping")
	require.Equal(t, "autonolas-1", r.genesis()["chain_id"])
}

// Item 5: the line says what is true of the signing state, and so does the answer.
func TestTheSigningStateIsKeptWhereItProtects(t *testing.T) {
	r := newRig(t, script{Height: 7})
	r.awaitState(Running)
	b := body(r.identity()) // two validators: the key is not alone
	_, out, text := r.client().call(http.MethodPost, "/params", b)
	require.Equal(t, true, out["status"], text)
	hard := func(query, line string, height string) string {
		r.console.clear()
		ok, text := r.client().reset("/hard_reset?" + query)
		require.True(t, ok, text)
		require.Contains(t, r.published(), line, text)
		require.Contains(t, r.signed(), `"`+height+`"`)
		return text
	}

	hard("period_count=1", "Kept private validator state at height 0", "0") // it has signed nothing
	r.sign(50)
	hard("period_count=2", zeroedLine, "0") // a chain id of which nothing is known
	r.sign(20)
	text = hard("period_count=1", "Kept private validator state at height 50", "50") // the id returns
	require.Contains(t, text, "use another period_count")
	text = hard("period_count=1", "Kept private validator state at height 50", "50") // the id stays
	require.Contains(t, text, "at height 50")
	hard("period_count=3&initial_height=51", "Kept private validator state at height 50", "50") // an offset height
	hard("period_count=2", "Kept private validator state at height 20", "20")
}

// Item 5: the key of the only validator is zeroed, because the kept state would stop it for ever,
// and the answer says so.
func TestALoneValidatorIsZeroedAndTold(t *testing.T) {
	r := newRig(t, script{Height: 7})
	r.awaitState(Running)
	r.sign(50)
	ok, text := r.client().reset("/hard_reset?period_count=1")
	require.True(t, ok, text)
	r.sign(60)
	r.console.clear()
	ok, text = r.client().reset("/hard_reset?period_count=1")
	require.True(t, ok, text)
	require.Contains(t, text, "only validator")
	require.Contains(t, r.published(), zeroedLine)
	require.Contains(t, r.signed(), `"0"`)
}

// A start sets what the published one sets.
func TestAStartDialsNobodyButThePersistentPeers(t *testing.T) {
	r := prepare(t)
	require.NoError(t, comethome.EditConfig(r.home, comethome.Setting{Section: "p2p", Key: "pex", Value: "true"},
		comethome.Setting{Section: "p2p", Key: "max_num_outbound_peers", Value: "10"}))
	r.script(script{})
	r.start()
	r.awaitState(Running)
	c, err := comethome.ReadConfig(r.home)
	require.NoError(t, err)
	require.False(t, c.P2P.PexReactor)
	require.Zero(t, c.P2P.MaxNumOutboundPeers)
}

// Item 29: 32 resets and POSTs at once. The genesis is whole at every instant, and each answer is
// true.
func TestConcurrentRequestsAreDoneOneByOne(t *testing.T) {
	r := newRig(t, script{Height: 7})
	r.awaitState(Running)
	require.NoError(t, concurrent(t, managed{r}))
}

// A caller that has gone before its turn changes nothing.
func TestACallerThatIsGoneIsNotServed(t *testing.T) {
	r := newRig(t, script{Deaf: true}, func(_ *Settings, o *Options) { o.Grace = 2 * time.Second })
	r.awaitState(Running)
	var slow sync.WaitGroup
	slow.Go(func() { r.client().reset("/gentle_reset") }) // takes the time of a SIGKILL
	r.awaitEvent("a gentle reset has begun")

	hc := &http.Client{Timeout: 200 * time.Millisecond, Transport: &http.Transport{DisableKeepAlives: true}}
	_, err := hc.Get("http://" + r.m.Addr() + "/hard_reset?period_count=9")
	require.Error(t, err)
	slow.Wait()
	r.awaitState(Running)
	require.NotEqual(t, "autonolas-9", r.genesis()["chain_id"])
}
