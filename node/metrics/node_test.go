package metrics_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
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
