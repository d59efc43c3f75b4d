package metrics_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/nodetest"
)

// A node that works and had a child killed shows both in its metrics, on the listener of its API.
func TestANodeTellsItsFigures(t *testing.T) {
	n := nodetest.Start(t)
	c := n.Client()

	for range 3 {
		body, err := kv.Encode(kv.Add([]byte("a"), 1))
		require.NoError(t, err)
		_, err = c.SubmitWait(t.Context(), chain.NewTx(kv.Name, body, time.Minute))
		require.NoError(t, err)
	}

	_, err := c.SubmitMany(t.Context(), [][]byte{{1, 0xff, 0}}, false)
	require.NoError(t, err)
	n.Cut("coppice/node/transactions/storage")
	_, err = c.WaitReady(t.Context())
	require.NoError(t, err)

	h := &http.Client{Transport: &http.Transport{}}
	defer h.CloseIdleConnections()

	res, err := h.Get("http://" + n.Address() + "/metrics")
	require.NoError(t, err)
	defer res.Body.Close()

	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	text := "\n" + string(body)

	for _, line := range []string{
		`coppice_up 1`, `coppice_ready 1`, `coppice_readiness_state{state="ready"} 1`,
		`coppice_readiness_state{state="no_quorum"} 0`, `coppice_scrape_answered{part="eventlog"} 1`, `coppice_scrape_answered{part="pool"} 1`,
		`coppice_scrape_answered{part="storage"} 1`,
		`coppice_eventlog_records_total{kind="TxLaunched"} 3`, `coppice_block_height 3`,
		`coppice_block_transactions_sum 3`,
		`coppice_storage_keys 1`, `coppice_pool_transactions 0`, `coppice_pool_refused_total{code="malformed"} 1`,
		`coppice_pool_refused_total{code="pool_full"} 0`,
		`coppice_tree_restarts_total{path="coppice/node/transactions/storage"} 1`,
		`coppice_tree_exits_total{class="abnormal",path="coppice/node/transactions/storage"} 1`,
		`coppice_engine_up{engine="storage"} 1`, `coppice_api_requests_total{code="ok",method="NodeService/Submit"} 4`,
	} {
		require.Contains(t, text, "\n"+line+"\n")
	}

	for _, count := range []string{`coppice_eventlog_sync_duration_seconds_count`,
		`coppice_engine_call_duration_seconds_count{engine="pool"}`} {
		require.NotContains(t, text, "\n"+count+" 0\n")
		require.Contains(t, text, "\n"+count+" ")
	}

	problems, err := promlint.New(strings.NewReader(string(body))).Lint()
	require.NoError(t, err)

	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "coppice_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// series returns the lines of the node's metrics that begin with prefix.
func series(t *testing.T, n *nodetest.Node, prefix string) (lines []string) {
	t.Helper()
	h := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := h.Get("http://" + n.Address() + "/metrics")
	require.NoError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)

	for line := range strings.Lines(string(body)) {
		if strings.HasPrefix(line, prefix) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}

	return lines
}

// The metrics of snapshots tell what was taken and what failed, and those on disk outlive the
// process.
func TestSnapshotsAreMeasured(t *testing.T) {
	n := nodetest.Start(t, nodetest.OnDisk())
	c := n.Client()
	put := func() {
		t.Helper()
		body, err := kv.Encode(kv.Add([]byte("a"), 1))
		require.NoError(t, err)
		_, err = c.SubmitWait(t.Context(), chain.NewTx(kv.Name, body, time.Minute))
		require.NoError(t, err)
	}
	require.Equal(t, []string{`coppice_snapshots{kind="local"} 0`}, series(t, n, "coppice_snapshots{"))
	require.Empty(t, series(t, n, "coppice_snapshot_age_seconds"), "there is none")

	put()
	s, _, err := c.CreateSnapshot(t.Context())
	require.NoError(t, err)

	when := float64(s.Created.AsTime().UnixNano()) / 1e9
	last := fmt.Sprintf(`coppice_snapshot_last_success_timestamp_seconds{kind="local"} %v`, when)
	require.Equal(t, []string{last}, series(t, n, "coppice_snapshot_last_success"))
	require.Equal(t, []string{fmt.Sprintf(`coppice_snapshot_bytes{kind="local"} %v`, s.Bytes)},
		series(t, n, "coppice_snapshot_bytes"))
	require.Equal(t, []string{`coppice_snapshots_taken_total{kind="local"} 1`}, series(t, n, "coppice_snapshots_taken"))
	require.Len(t, series(t, n, "coppice_snapshot_age_seconds"), 1)

	// There is a file where the directory of the snapshots should be.
	put()
	dir := home.SnapshotDir(n.Home())
	require.NoError(t, os.Rename(dir, dir+".aside"))
	require.NoError(t, os.WriteFile(dir, nil, 0o600))
	_, _, err = c.CreateSnapshot(t.Context())
	require.Error(t, err)
	require.Equal(t, []string{`coppice_snapshot_failures_total{kind="local"} 1`}, series(t, n, "coppice_snapshot_fail"))
	require.Equal(t, []string{last}, series(t, n, "coppice_snapshot_last_success"), "the newest one is what it was")

	require.NoError(t, os.Remove(dir))
	require.NoError(t, os.Rename(dir+".aside", dir))
	n.Restart()
	require.Equal(t, []string{last}, series(t, n, "coppice_snapshot_last_success"))
	require.Equal(t, []string{`coppice_snapshot_failures_total{kind="local"} 0`}, series(t, n, "coppice_snapshot_fail"))
}
