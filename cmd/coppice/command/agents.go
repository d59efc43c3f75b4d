package command

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/engines/chain"
)

// agentsFile is the content of the file that --agents names, with the keys of genesis.json.
type agentsFile struct {
	Agents    []chain.Agent `json:"agents"`
	Threshold uint64        `json:"agent_threshold"`
}

// readAgents reads the file of --agents; an empty path gives none.
func readAgents(cmd *cobra.Command, path string) (f agentsFile, err error) {
	if path == "" {
		return f, nil
	}
	data, err := readDocument(path, "a list of agents", maxDocument)
	if err != nil {
		return f, usageError(cmd, "--agents: %w", err)
	}

	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return f, usageError(cmd, "--agents: %s: %w", path, chain.JSONError(err))
	}
	if len(f.Agents) == 0 {
		return f, fmt.Errorf(`--agents: %s has no agents: want {"agents": [{"name", "key", "validator"}]}`, path)
	}

	return f, nil
}
