package metrics

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/mempool"
	"github.com/coppice-go/coppice/engines/router"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/api"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/treemetrics"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var update = flag.Bool("update", false, "write the table of docs/metrics.md anew")

// full returns sources that have a figure for everything.
func full() Sources {
	tree := &treemetrics.Metrics{}
	at := func(path string) supervisor.Header { return supervisor.Header{Root: "host", Path: path} }
	tree.Observe(supervisor.ChildStarted{Header: at("coppice")})
	tree.Observe(supervisor.ChildExited{Header: at("coppice"), Exit: supervisor.Exit{Class: supervisor.Abnormal}})
	tree.Observe(supervisor.RestartScheduled{Header: at("coppice")})
	return Sources{
		Slots: func(head chain.State) []streams.Status {
			retries := map[streams.Class]uint64{streams.Unreachable: 4}
			return []streams.Status{{Name: "ledger", State: streams.Retrying, AtRisk: true, LagEvents: 7,
				LagHeights: head.Height, LagSeconds: 1.5, HeldBytes: 70, FreeBytes: 30,
				Counts: streams.Counts{Events: 9, Retries: retries}}}
		},
		Gates:   func() []GateStat { return []GateStat{{Name: "books", Held: true, Exempt: 2}} },
		Version: "v1", Up: func() bool { return true }, Streams: func() int { return 2 },
		Ready: func() (c consensus.Condition) {
			c.Is(consensus.NoQuorum, "2 of 4 validators")
			c.Warn(consensus.ClockBehind, "by an hour")
			c.Figures = consensus.Figures{PeersConnected: 1, PeersConfigured: 3, PowerPresent: 20, PowerTotal: 40,
				Signing: consensus.Signs, Evidence: 1, ClockOffset: -time.Hour}
			c.Process = &consensus.Process{State: "stalled", Restarts: 2, Resets: 1}
			return c
		},
		Tree: func() treemetrics.Snapshot {
			return tree.Snapshot(supervisor.Tree{ID: "host", Kind: supervisor.SupervisorKind, State: supervisor.Running,
				Intensity: supervisor.Intensity{Max: 4, Period: time.Second}, InWindow: 1,
				Children: []supervisor.Tree{{ID: "coppice", Path: "coppice", State: supervisor.Running}}})
		},
		Engines: func() []router.Entry {
			return []router.Entry{{Name: "pool", Waiting: 3, Oldest: 1500 * time.Millisecond, Up: true},
				{Name: "storage"}}
		},
		Log: func() (eventlog.Stat, bool) {
			return eventlog.Stat{First: 2, Durable: 9, Segments: make([]eventlog.SegmentStat, 3), Bytes: 77}, true
		},
		Storage: func(context.Context) (storage.Stat, error) {
			return storage.Stat{Applied: 8, DiskBytes: 4, Pebble: storage.PebbleStat{ReadAmp: 2, WriteAmp: 1.5}}, nil
		},
		Chain: func(context.Context) (chain.State, error) {
			return chain.State{Height: 5, Time: time.Unix(100, 0)}, nil
		},
		Pool: func(context.Context) (mempool.Stat, error) {
			return mempool.Stat{Txs: 6, Oldest: time.Second}, nil
		},
		Snapshots: func() []SnapshotStat {
			return []SnapshotStat{{Kind: "local", Taken: 3, Failed: 1, Kept: 2, Bytes: 50, Last: time.Unix(200, 0)},
				{Kind: "peers"}}
		},
	}
}

// used returns a Metrics that has received everything once.
func used(s Sources) *Metrics {
	m := New(s)
	m.CallTimes("pool").Observe(0.001)
	m.Synced(time.Millisecond)
	m.Logged(chain.KindTxLaunched, 40)
	m.Logged(99, 1)
	m.Committed(3, time.Millisecond)
	m.Committed(4, time.Millisecond)
	m.Refused(apiv1.RefusedCode_REFUSED_CODE_POOL_FULL)
	m.Request(api.Request{Method: "NodeService/Submit", Code: "ok", Took: time.Millisecond})
	m.Request(api.Request{Method: "NodeService/Follow", Code: "unavailable", Took: time.Hour, Stream: true})
	m.GateWaited("books", time.Second)
	m.StreamAcked("ledger", time.Millisecond)

	return m
}

func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	body, err := io.ReadAll(w.Result().Body)
	require.NoError(t, err)
	require.Equal(t, 200, w.Code, "%s", body)
	return string(body)
}

// Names, units, types and help follow Prometheus' rules.
func TestMetricsPassTheLinter(t *testing.T) {
	problems, err := promlint.New(strings.NewReader(scrape(t, used(full())))).Lint()
	require.NoError(t, err)
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestFigures(t *testing.T) {
	text := scrape(t, used(full()))
	for _, line := range []string{
		`coppice_up 1`, `coppice_event_streams 2`, `coppice_build_info{go_version="go1.`,
		`coppice_tree_restarts_total{path="coppice"} 1`, `coppice_tree_exits_total{class="abnormal",path="coppice"} 1`,
		`coppice_tree_restart_window_used_ratio{path="host"} 0.25`, `coppice_tree_running{path="coppice"} 1`,
		`coppice_engine_up{engine="storage"} 0`, `coppice_engine_mailbox_messages{engine="pool"} 3`,
		`coppice_engine_oldest_message_age_seconds{engine="pool"} 1.5`,
		`coppice_engine_call_duration_seconds_count{engine="pool"} 1`,
		`coppice_eventlog_records_total{kind="TxLaunched"} 1`,
		`coppice_eventlog_record_bytes_total{kind="TxLaunched"} 40`,
		`coppice_eventlog_records_total{kind="other"} 1`, `coppice_eventlog_durable_index 9`,
		`coppice_eventlog_segments 3`,
		`coppice_eventlog_sync_duration_seconds_count 1`, `coppice_eventlog_retained_bytes 77`,
		`coppice_storage_applied_index 8`, `coppice_storage_write_amplification 1.5`,
		`coppice_storage_commit_duration_seconds_count 2`,
		`coppice_block_height 5`, `coppice_block_time_seconds 100`, `coppice_block_transactions_sum 7`,
		`coppice_block_interval_seconds_count 1`,
		`coppice_stream_state{slot="ledger",state="retrying"} 1`, `coppice_stream_state{slot="ledger",state="live"} 0`,
		`coppice_stream_state{slot="ledger",state="at_risk"} 1`, `coppice_stream_lag_events{slot="ledger"} 7`,
		`coppice_stream_lag_heights{slot="ledger"} 5`, `coppice_stream_lag_seconds{slot="ledger"} 1.5`,
		`coppice_stream_log_held_bytes{slot="ledger"} 70`, `coppice_stream_cap_free_bytes{slot="ledger"} 30`,
		`coppice_stream_retries_total{class="unreachable",slot="ledger"} 4`,
		`coppice_stream_delivered_events_total{slot="ledger"} 9`,
		`coppice_stream_ack_duration_seconds_count{slot="ledger"} 1`,
		`coppice_pool_transactions 6`, `coppice_pool_oldest_age_seconds 1`,
		`coppice_pool_refused_total{code="pool_full"} 1`,
		`coppice_snapshots{kind="local"} 2`, `coppice_snapshots_taken_total{kind="local"} 3`,
		`coppice_snapshot_failures_total{kind="local"} 1`, `coppice_snapshot_failures_total{kind="peers"} 0`,
		`coppice_snapshot_last_success_timestamp_seconds{kind="local"} 200`, `coppice_snapshot_bytes{kind="local"} 50`,
		`coppice_snapshot_age_seconds{kind="local"} `,
		`coppice_api_requests_total{code="ok",method="NodeService/Submit"} 1`,
		`coppice_api_requests_total{code="unavailable",method="NodeService/Follow"} 1`,
		`coppice_api_request_duration_seconds_count{method="NodeService/Submit"} 1`, `go_goroutines `,
	} {
		require.Contains(t, text, "\n"+line)
	}

	require.NotContains(t, text, `coppice_api_request_duration_seconds_count{method="NodeService/Follow"}`,
		"a stream's time says nothing")
	require.NotContains(t, text, `coppice_engine_mailbox_messages{engine="storage"}`, "what is down has no mailbox")
}

// I8: a part that does not answer is left out, and the rest is there.
func TestWhatIsDownIsLeftOut(t *testing.T) {
	s := full()
	down := errors.New("down")
	s.Storage = func(context.Context) (storage.Stat, error) { return storage.Stat{}, down }
	s.Pool = func(ctx context.Context) (mempool.Stat, error) { // the pool hangs
		<-ctx.Done()
		return mempool.Stat{}, ctx.Err()
	}
	s.Log = func() (eventlog.Stat, bool) { return eventlog.Stat{}, false }
	text := scrape(t, New(s))
	for _, part := range []string{"eventlog", "storage", "pool"} {
		require.Contains(t, text, fmt.Sprintf("coppice_scrape_answered{part=%q} 0\n", part))
	}

	require.Contains(t, text, "coppice_tree_running")
	require.NotContains(t, text, "coppice_pool_transactions")
	require.NotContains(t, text, "coppice_storage_keys")
}

var (
	helpLine = regexp.MustCompile(`(?m)^# HELP (coppice_\w+) (.*)$`)
	typeLine = regexp.MustCompile(`(?m)^# TYPE (coppice_\w+) (\w+)$`)
	label    = regexp.MustCompile(`(\w+)="`)
)

// table returns the documentation of all metrics of our own.
func table(t *testing.T) string {
	t.Helper()
	text := scrape(t, used(full()))
	types := map[string]string{}
	for _, f := range typeLine.FindAllStringSubmatch(text, -1) {
		types[f[1]] = f[2]
	}

	for _, m := range sampled {
		require.NotEmpty(t, types[m.name], "%s: full has no figure for it", m.name)
	}

	var rows []string

	for _, f := range helpLine.FindAllStringSubmatch(text, -1) {
		name := f[1]
		labels := map[string]bool{}

		for _, series := range regexp.MustCompile(`(?m)^`+name+`(?:_bucket)?\{(.*)\} `).FindAllStringSubmatch(text,
			-1) {
			for _, l := range label.FindAllStringSubmatch(series[1], -1) {
				labels["`"+l[1]+"`"] = l[1] != "le"
			}
		}

		delete(labels, "`le`")
		list := strings.Join(slices.Sorted(maps.Keys(labels)), ", ")
		rows = append(rows, fmt.Sprintf("| `%s` | %s | %s | %s |\n", name, types[name], cmp.Or(list, "–"), f[2]))
	}

	slices.Sort(rows)

	return "| metric | type | labels | |\n|---|---|---|---|\n" + strings.Join(rows, "")
}

// docs/metrics.md lists every metric: its name, type, labels and meaning.
func TestMetricsAreDocumented(t *testing.T) {
	const name, begin, end = "../../docs/metrics.md", "<!-- table -->\n", "<!-- end of table -->\n"
	doc, err := os.ReadFile(name)
	require.NoError(t, err)
	head, rest, ok := strings.Cut(string(doc), begin)
	require.True(t, ok)
	got, tail, ok := strings.Cut(rest, end)
	require.True(t, ok)
	want := table(t)

	if *update {
		require.NoError(t, os.WriteFile(name, []byte(head+begin+want+end+tail), 0o644))
		return
	}

	require.Equal(t, want, got, "run: go test ./node/metrics -run Documented -update")
}
