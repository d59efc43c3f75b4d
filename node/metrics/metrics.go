package metrics

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/mempool"
	"github.com/coppice-go/coppice/engines/router"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/api"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	"github.com/coppice-go/coppice/supervisor/treemetrics"
)

// Sources holds the functions that each scrape calls. All are safe for concurrent use. Those
// without a context return at once; the others return before their context ends.
type Sources struct {
	Version string // of the program
	Up      func() bool
	Ready   func() consensus.Condition
	Streams func() int // number of open streams of events
	Tree    func() treemetrics.Snapshot
	Engines func() []router.Entry
	Log     func() (stat eventlog.Stat, opened bool)
	Storage func(context.Context) (storage.Stat, error)
	Chain   func(context.Context) (chain.State, error)
	Pool    func(context.Context) (mempool.Stat, error)

	Snapshots func() []SnapshotStat
	Gates     func() []GateStat

	// Slots returns the streams to sinks. head is where the chain stands, if it could be had.
	Slots func(head chain.State) []streams.Status
}

// GateStat are the figures of a gate, at which blocks wait for sinks.
type GateStat struct {
	Name         string
	Held, Spills bool
	Exempt       int // sinks that it does not wait for
}

// SnapshotStat are the figures of the snapshots of one kind. The counts begin with the process.
type SnapshotStat struct {
	Kind          string // "local", or "peers" for those that peers join with
	Taken, Failed uint64
	Kept          int
	Bytes         int64     // of the newest one
	Last          time.Time // when the newest one was taken; zero: there is none
}

// Metrics is a node's registry, with the counters and histograms that parts of the node update. Its
// methods are safe for concurrent use and never wait.
type Metrics struct {
	registry *prometheus.Registry

	calls       *prometheus.HistogramVec
	syncs       prometheus.Histogram
	records     *prometheus.CounterVec
	recordBytes *prometheus.CounterVec
	byKind      [16]kindCounters // children of the two before, by kind, looked up once
	commits     prometheus.Histogram
	blockTxs    prometheus.Histogram
	interval    prometheus.Histogram
	lastBlock   atomic.Int64 // Unix nanoseconds of the last commit here; 0 before the first
	refused     *prometheus.CounterVec
	requests    *prometheus.CounterVec
	latency     *prometheus.HistogramVec
	gateWaits   *prometheus.HistogramVec
	slotAcks    *prometheus.HistogramVec
}

type kindCounters struct{ records, bytes prometheus.Counter }

// Buckets, in seconds: quick for work of microseconds, slow for work that waits for a disk or for
// other work.
var (
	quick = prometheus.ExponentialBuckets(2e-6, 4, 12)     // 2 µs to 8 s
	slow  = prometheus.ExponentialBuckets(100e-6, 2.5, 12) // 100 µs to 2.4 s
)

// New returns the metrics of a node.
func New(s Sources) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		m.registry.MustRegister(c)
		return c
	}

	histograms := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
		m.registry.MustRegister(h)
		return h
	}

	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return histograms(name, help, buckets).WithLabelValues().(prometheus.Histogram)
	}

	m.calls = histograms("coppice_engine_call_duration_seconds",
		"Time from a call to an engine until its answer.", quick, "engine")
	m.syncs = histogram("coppice_eventlog_sync_duration_seconds",
		"Duration of a sync of the event log to the disk.", slow)
	m.records = counters("coppice_eventlog_records_total", "Records that became durable in the event log.", "kind")
	m.recordBytes = counters("coppice_eventlog_record_bytes_total",
		"Bytes of the records that became durable in the event log.", "kind")
	m.commits = histogram("coppice_storage_commit_duration_seconds",
		"Duration of a commit of a block to the state.", slow)
	m.blockTxs = histogram("coppice_block_transactions", "Transactions in each committed block.",
		[]float64{0, 1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000})

	m.interval = histogram("coppice_block_interval_seconds",
		"Time between the commits of two blocks, by this node's clock.", prometheus.ExponentialBuckets(1e-3, 3, 12))

	m.refused = counters("coppice_pool_refused_total",
		"Transactions that the pool refused, by the code that their clients received.", "code")

	m.requests = counters("coppice_api_requests_total",
		"Calls of the API that ended, streams included, by the Connect code of the answer.", "method", "code")

	m.latency = histograms("coppice_api_request_duration_seconds",
		"Time from the start of an API call until its answer, streams excluded.", slow, "method")

	m.gateWaits = histograms("coppice_gate_wait_duration_seconds",
		"Time that a block waited at a gate for sinks.", prometheus.ExponentialBuckets(1e-3, 4, 12), "gate")

	m.slotAcks = histograms("coppice_stream_ack_duration_seconds",
		"Time from the start of a delivery until the sink has acknowledged it.", slow, "slot")

	for _, name := range chain.KindNames() {
		kind, _ := chain.KindOf(name)
		m.byKind[kind] = kindCounters{m.records.WithLabelValues(name), m.recordBytes.WithLabelValues(name)}
	}

	for code := range apiv1.RefusedCode_name { // each counter starts at 0, so that its first increase is visible
		m.refused.WithLabelValues(refusedLabel(apiv1.RefusedCode(code)))
	}

	m.byKind[0] = kindCounters{m.records.WithLabelValues("other"), m.recordBytes.WithLabelValues("other")}
	m.registry.MustRegister(newSampler(s), collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	return m
}

// Handler returns the handler of scrapes. It refuses a scrape while four others are in progress.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry,
		promhttp.HandlerOpts{MaxRequestsInFlight: 4, ErrorHandling: promhttp.ContinueOnError})
}

// Registry returns the registry, to which an embedding program may add its own metrics.
func (m *Metrics) Registry() *prometheus.Registry { return m.registry }

// CallTimes returns an observer of the duration of calls to an engine.
func (m *Metrics) CallTimes(engine string) engines.Observer { return m.calls.WithLabelValues(engine) }

// Synced records the duration of a sync of the event log.
func (m *Metrics) Synced(took time.Duration) { m.syncs.Observe(took.Seconds()) }

// Logged counts a record that has become durable.
func (m *Metrics) Logged(kind eventlog.Kind, bytes int) {
	c := &m.byKind[0]
	if int(kind) < len(m.byKind) && m.byKind[kind].records != nil {
		c = &m.byKind[kind]
	}
	c.records.Inc()
	c.bytes.Add(float64(bytes))
}

// Committed records a committed block: its transactions, and the duration of the commit.
func (m *Metrics) Committed(txs int, took time.Duration) {
	m.commits.Observe(took.Seconds())
	m.blockTxs.Observe(float64(txs))
	now := time.Now().UnixNano()
	if last := m.lastBlock.Swap(now); last != 0 {
		m.interval.Observe(max(0, time.Duration(now-last).Seconds()))
	}
}

// Refused counts a refused transaction.
func (m *Metrics) Refused(code apiv1.RefusedCode) {
	m.refused.WithLabelValues(refusedLabel(code)).Inc()
}

func refusedLabel(c apiv1.RefusedCode) string {
	return strings.ToLower(strings.TrimPrefix(c.String(), "REFUSED_CODE_"))
}

// GateWaited records a block that has passed a gate, and how long it waited there for sinks.
func (m *Metrics) GateWaited(gate string, d time.Duration) {
	m.gateWaits.WithLabelValues(gate).Observe(d.Seconds())
}

// StreamAcked records a delivery that the sink of a slot has acknowledged.
func (m *Metrics) StreamAcked(slot string, took time.Duration) {
	m.slotAcks.WithLabelValues(slot).Observe(took.Seconds())
}

// Request records an API call that has ended.
func (m *Metrics) Request(r api.Request) {
	m.requests.WithLabelValues(r.Method, r.Code).Inc()
	if !r.Stream {
		m.latency.WithLabelValues(r.Method).Observe(r.Took.Seconds())
	}
}

// Routes returns the route of /metrics, which Prometheus reads.
func (m *Metrics) Routes() []api.Route {
	return []api.Route{{Pattern: "/metrics", Handler: api.Unread(m.Handler()), Class: api.Plain}}
}
