package chain_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
)

func withAgents(n int) chain.Genesis {
	g := chain.NewGenesis("test", time.Unix(1, 0))
	for i := range n {
		g.Agents = append(g.Agents, chain.Agent{Name: fmt.Sprint("agent", i), Key: bytes.Repeat([]byte{byte(i)}, 32),
			Validator: fmt.Sprintf("0%d", i)})
	}
	return g
}

func TestAgentsOfAGenesisStandInTheRecord(t *testing.T) {
	g := withAgents(4)
	g.AgentThreshold = 4
	text, err := json.Marshal(g)
	require.NoError(t, err)
	again, err := chain.ParseGenesis("genesis.json", text)
	require.NoError(t, err)
	rec, err := again.ChainStarted()
	require.NoError(t, err)
	require.Len(t, rec.Params.Agents, 4)
	require.Equal(t, "agent3", rec.Params.Agents[3].Name)
	require.Equal(t, []byte{3}, rec.Params.Agents[3].Validator)
	require.EqualValues(t, 4, rec.Params.AgentThreshold)

	plain, err := json.Marshal(withAgents(0))
	require.NoError(t, err)
	require.NotContains(t, string(plain), "agent", "a chain without agents has the genesis that it had before")
}

func TestAWrongAgentIsNamed(t *testing.T) {
	for want, edit := range map[string]func(g *chain.Genesis){
		"agents[1].name: 0 bytes, want 1 to 64":       func(g *chain.Genesis) { g.Agents[1].Name = "" },
		"agents[3].name: \"agent1\" is registered":    func(g *chain.Genesis) { g.Agents[3].Name = "agent1" },
		"agents[2].key: 0 bytes, want 32":             func(g *chain.Genesis) { g.Agents[2].Key = nil },
		"agents[2].key: another agent has it":         func(g *chain.Genesis) { g.Agents[2].Key = g.Agents[0].Key },
		"agents[0].validator: encoding/hex":           func(g *chain.Genesis) { g.Agents[0].Validator = "x" },
		"agents[3].validator: another agent has it":   func(g *chain.Genesis) { g.Agents[3].Validator = "00" },
		"agent_threshold: 2 of 4 agents, want 3 to 4": func(g *chain.Genesis) { g.AgentThreshold = 2 },
		"agent_threshold: 5 of 4 agents, want 3 to 4": func(g *chain.Genesis) { g.AgentThreshold = 5 },
		"agent_threshold: 1 of 0 agents, want 1 to 0": func(g *chain.Genesis) { g.Agents, g.AgentThreshold = nil, 1 },
	} {
		g := withAgents(4)
		edit(&g)
		_, err := g.ChainStarted()
		require.ErrorIs(t, err, chain.ErrGenesis)
		require.ErrorContains(t, err, "genesis.json: "+want)
	}
}
