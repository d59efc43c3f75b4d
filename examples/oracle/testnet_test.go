package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Four nodes make reports, and with each report one of them is killed by SIGKILL, also the one
// whose reports are shown. Each number is published once, and all homes verify. COPPICE_SOAK=1 runs
// it.
func TestKillsOfNodesChangeNoReport(t *testing.T) {
	if os.Getenv("COPPICE_SOAK") == "" {
		t.Skip("a long test: COPPICE_SOAK=1 runs it")
	}

	const nodes, reports = 4, 12
	dir := tempDir(t)
	run := script(t, fmt.Sprintf("exec oracle run -dir %s -nodes %d -reports %d", dir, nodes, reports))
	run.Stderr = os.Stderr
	out, err := run.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, run.Start())

	made := 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		t.Log(lines.Text())
		if !strings.HasPrefix(lines.Text(), "report ") {
			continue
		}
		if made++; made < reports {
			text, err := script(t, fmt.Sprintf("oracle testnet kill %d --dir %s", made%nodes, dir)).CombinedOutput()
			require.NoError(t, err, "%s", text)
		}
	}
	require.NoError(t, run.Wait())

	require.GreaterOrEqual(t, len(readReports(t, filepath.Join(dir, "reports"))), reports)
	for i := range nodes {
		text, err := script(t, fmt.Sprintf("oracle verify --home %s/node%d", dir, i)).CombinedOutput()
		require.NoError(t, err, "%s", text)
	}
}
