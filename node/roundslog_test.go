package node

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/consensus/solo"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/plan"
)

// A node writes the lines that readers of an agent's log look for, in the order in which the rounds
// came, and answers /healthcheck at an address of its own and nothing else there. Item 78.
func TestANodeWritesTheLogOfItsAgent(t *testing.T) {
	keys, agents := agentKeys(1)
	dir := t.TempDir()
	_, err := home.Init(dir, home.InitOptions{ChainID: "test", Listen: "127.0.0.1:0", Profile: plan.Chaos,
		Agents: agents, ResetOffset: 20, Set: []config.Assignment{{Key: "rounds.log_file", Value: "logs/agent.txt"},
			{Key: "rounds.healthcheck", Value: "127.0.0.1:0"}}})
	require.NoError(t, err)
	writeAgentKey(t, dir, keys[0])

	done := make(chan struct{})
	h := driveHome(t, dir, WithRounds(resetting(3, 2, done)), WithDriver(solo.Solo{}))
	<-done
	address := "http://" + h.healthAddr.Load().(string)
	get := func(path string) (int, []byte) {
		res, err := http.Get(address + path)
		require.NoError(t, err)
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		return res.StatusCode, body
	}
	code, body := get("/healthcheck")
	require.Equal(t, http.StatusOK, code)
	var health map[string]any
	require.NoError(t, json.Unmarshal(body, &health))
	require.Contains(t, health, "seconds_since_last_transition")
	code, _ = get("/")
	require.Equal(t, http.StatusNotFound, code)
	h.close()
	_, err = http.Get(address + "/healthcheck")
	require.Error(t, err, "the listener has ended with the node")

	data, err := os.ReadFile(filepath.Join(dir, "logs", "agent.txt"))
	require.NoError(t, err)
	row := regexp.MustCompile(`^\[[-\d]{10} [:\d]{8},\d{3}\] \[INFO\] \[agent0\] (.*)$`)
	var texts, moves []string
	for _, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		m := row.FindStringSubmatch(line)
		require.NotNil(t, m, line)
		texts = append(texts, m[1])
		if strings.Contains(m[1], "' round ") {
			moves = append(moves, m[1])
		}
	}

	all := strings.Join(texts, "\n")
	require.Contains(t, all, "Entered in the 'add' behaviour")
	require.Contains(t, all, "Entered in the 'reset_and_pause' behaviour")
	require.Regexp(t, `arrived block with timestamp: 20\d\d-`, all)
	require.Regexp(t, `current AbciApp time: 20\d\d-`, all)
	require.Regexp(t, `scheduling timeout of 5\.01 seconds for event Event\.RESET_AND_PAUSE_TIMEOUT with deadline 20`, all)
	require.Contains(t, strings.Join(moves, "\n"), strings.Join([]string{
		"'add' round is done with event: Event.DONE",
		"Entered in the 'reset_and_pause' round for period 0",
		"'reset_and_pause' round is done with event: Event.DONE",
		"Entered in the 'add' round for period 1",
		"'add' round is done with event: Event.DONE",
		"Entered in the 'reset_and_pause' round for period 1",
	}, "\n"))
}

// A log file that cannot be opened is an error of the configuration, and so is an address beyond
// loopback without insecure.
func TestTheLogOfAnAgentIsChecked(t *testing.T) {
	_, agents := agentKeys(1)
	dir := t.TempDir()
	_, err := home.Init(dir, home.InitOptions{ChainID: "test", Listen: "127.0.0.1:0", Profile: plan.Default,
		Agents: agents})
	require.NoError(t, err)
	c, err := config.Load(dir)
	require.NoError(t, err)
	service := adding(func(context.Context, tallied) (int, error) { return 1, nil }, time.Second)

	c.Rounds.LogFile = "genesis.json/agent.txt"
	_, err = New(dir, c, WithDriver(byHand{}), WithRounds(service))
	require.ErrorContains(t, err, "rounds.log_file")
	c.Rounds.LogFile, c.Rounds.Healthcheck = "", "0.0.0.0:8716"
	_, err = New(dir, c, WithDriver(byHand{}), WithRounds(service))
	require.ErrorContains(t, err, "rounds.healthcheck")
	require.ErrorContains(t, err, "not a loopback address")
}
