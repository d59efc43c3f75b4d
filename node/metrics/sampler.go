package metrics

import (
	"cmp"
	"context"
	"runtime"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/supervisor"
)

// patience is the time that all engines together have to answer a scrape.
const patience = 500 * time.Millisecond

// sampler is the collector of the metrics that are read at a scrape.
type sampler struct {
	Sources
	descs map[string]*prometheus.Desc
}

// sampled lists the metrics that are read at a scrape: name, help and labels.
var sampled = slices.Concat(nodeSampled, streamSampled)

// described is the name of a metric, with its help and its labels.
type described struct {
	name, help string
	labels     []string
}

var nodeSampled = []described{
	{"coppice_build_info", "Always 1; the labels name the program's version.", []string{"version", "go_version"}},
	{"coppice_up", "1 while the whole tree is running, whether or not the node is ready.", nil},

	{"coppice_ready", "1 while the node is ready, like /readyz.", nil},
	{"coppice_readiness_state", "1 for the state that the node is in, 0 for the others.", []string{"state"}},
	{"coppice_readiness_warning", "1 for a state that the node warns of, although it does not decide whether " +
		"the node is ready.", []string{"state"}},
	{"coppice_readiness_state_age_seconds", "Time since the node entered its state.", nil},
	{"coppice_peers_connected", "Peers that the consensus is connected to.", nil},
	{"coppice_peers_configured", "Peers that the consensus always tries to reach.", nil},
	{"coppice_peers_height", "The highest height that a peer has committed; 0 if it is not known.", nil},
	{"coppice_consensus_height", "Height of the last committed block, as the consensus knows it.", nil},
	{"coppice_catching_up", "1 while the consensus fetches blocks or a snapshot from peers.", nil},
	{"coppice_voting_power_present", "Voting power of the validators that were heard from.", nil},
	{"coppice_voting_power", "Voting power of all validators.", nil},
	{"coppice_validator_signing", "1 while this validator signs blocks, 0 while it is one and does not; absent if " +
		"the node is no validator.", nil},
	{"coppice_validator_evidence", "Proofs of misbehaviour of this validator in blocks since the process started.",
		nil},
	{"coppice_consensus_restarts", "Restarts of the consensus's process that nobody asked for, since the node's " +
		"process started; absent if it has none.", nil},
	{"coppice_consensus_resets", "Resets of the consensus's process that succeeded, since the node's process " +
		"started; absent if it has none.", nil},
	{"coppice_clock_offset_seconds", "This node's clock minus the validators' clocks, by their votes for the last " +
		"block; 0 if it is not known.", nil},
	{"coppice_hold_seconds", "Time since the decision on the reset of the chain that is under way; 0 if there is " +
		"none.", nil},
	{"coppice_scrape_answered", "1 if this part of the node answered the scrape in time; its figures are " +
		"missing otherwise.", []string{"part"}},
	{"coppice_event_streams", "Open streams of events.", nil},

	{"coppice_tree_starts_total", "Acknowledged starts of a child, restarts included.", []string{"path"}},
	{"coppice_tree_start_failures_total", "Failed starts of a child.", []string{"path"}},
	{"coppice_tree_restarts_total", "Attempts to restart a child, as its supervisor's limit counts them.",
		[]string{"path"}},
	{"coppice_tree_exits_total", "Times that a child ended by itself, by class: normal, shutdown, abnormal.",
		[]string{"path", "class"}},
	{"coppice_tree_stops_total", "Times that a child ended because its supervisor stopped it.", []string{"path"}},
	{"coppice_tree_giveups_total", "Times that a supervisor gave up.", []string{"path"}},
	{"coppice_tree_orphans_total", "Incarnations that did not end within their shutdown time.", []string{"path"}},
	{"coppice_tree_orphans", "Incarnations that were given up as orphans and are still running.", nil},
	{"coppice_tree_running", "Running incarnations: 1 or 0, or the number of a dynamic supervisor's children.",
		[]string{"path"}},
	{"coppice_tree_restart_window_used_ratio", "Share of its restart limit that a supervisor has used: at 1, the " +
		"next restart is one too many. Absent for a supervisor with a limit of 0.", []string{"path"}},
	{"coppice_tree_events_lost_total", "Events that the counters of the tree missed, because there were too " +
		"many at once.", nil},

	{"coppice_engine_up", "1 while the engine can be called.", []string{"engine"}},
	{"coppice_engine_mailbox_messages", "Messages waiting in the engine's mailbox.", []string{"engine"}},
	{"coppice_engine_oldest_message_age_seconds",
		"Age of the oldest unfinished message of the engine: the one that it is handling.", []string{"engine"}},

	{"coppice_eventlog_first_index", "Index of the oldest record that the log keeps.", nil},
	{"coppice_eventlog_durable_index", "Index of the newest durable record.", nil},
	{"coppice_eventlog_segments", "Segments of the event log.", nil},
	{"coppice_eventlog_retained_bytes", "Bytes of the records that the log keeps.", nil},
	{"coppice_eventlog_pending_bytes", "Bytes that were appended but not written yet.", nil},
	{"coppice_eventlog_failed", "1 once the event log has failed; then the process ends.", nil},

	{"coppice_block_height", "Height of the last committed block.", nil},
	{"coppice_block_time_seconds", "Block time of the last committed block, in seconds since 1970.", nil},

	{"coppice_storage_applied_index", "Index in the event log of the last record that the state includes.", nil},
	{"coppice_storage_durable_applied_index", "Index in the event log of the last record that the state would " +
		"include after a crash; the rest is redone from the log.", nil},
	{"coppice_storage_keys", "Keys in the latest state.", nil},
	{"coppice_storage_remembered_ids", "Remembered ids of applied transactions.", nil},
	{"coppice_storage_disk_bytes", "Bytes of the state's files.", nil},
	{"coppice_storage_memtable_bytes", "Bytes of the state in memtables.", nil},
	{"coppice_storage_read_amplification", "Tables that one read of the state may have to search.", nil},
	{"coppice_storage_write_amplification", "Bytes written for each byte of state since the state was opened.", nil},
	{"coppice_storage_compaction_debt_bytes", "Bytes of the state that wait for compaction.", nil},
	{"coppice_storage_flushes_total", "Memtables written out since the state was opened.", nil},
	{"coppice_storage_compactions_total", "Compactions since the state was opened.", nil},
	{"coppice_storage_cache_hits_total", "Reads of a table block that was in the cache, since the state was opened.",
		nil},
	{"coppice_storage_cache_misses_total", "Reads of a table block that was not in the cache, since the state " +
		"was opened.", nil},

	{"coppice_snapshots", "Snapshots of the state on disk: local ones, and those for peers.", []string{"kind"}},
	{"coppice_snapshots_taken_total", "Snapshots that were taken.", []string{"kind"}},
	{"coppice_snapshot_failures_total", "Snapshots that could not be taken.", []string{"kind"}},
	{"coppice_snapshot_last_success_timestamp_seconds", "When the newest snapshot on disk was taken, in seconds " +
		"since 1970. Absent if there is none.", []string{"kind"}},
	{"coppice_snapshot_age_seconds", "Time since the newest snapshot on disk was taken. Absent if there is none.",
		[]string{"kind"}},
	{"coppice_snapshot_bytes", "Bytes of the newest snapshot on disk.", []string{"kind"}},

	{"coppice_gate_held", "1 while a block waits at the gate, without progress of a sink.", []string{"gate"}},
	{"coppice_gate_spilling", "1 while the gate lets blocks pass without its sinks, and the log keeps more.",
		[]string{"gate"}},
	{"coppice_gate_exempt", "Sinks of the gate that it does not wait for, by an operator's word.", []string{"gate"}},

	{"coppice_pool_transactions", "Accepted transactions without a result.", nil},
	{"coppice_pool_bytes", "Bytes of the accepted transactions without a result.", nil},
	{"coppice_pool_queued_transactions", "Accepted transactions without a place in a block.", nil},
	{"coppice_pool_in_flight_transactions", "Accepted transactions that a worker executes ahead of their place.", nil},
	{"coppice_pool_oldest_age_seconds",
		"Time since the oldest accepted transaction without a result was submitted here.", nil},
}

func newSampler(s Sources) *sampler {
	c := &sampler{Sources: s, descs: make(map[string]*prometheus.Desc, len(sampled))}
	for _, m := range sampled {
		c.descs[m.name] = prometheus.NewDesc(m.name, m.help, m.labels, nil)
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *sampler) Describe(to chan<- *prometheus.Desc) {
	for _, m := range sampled {
		to <- c.descs[m.name]
	}
}

// sample is one scrape.
type sample struct {
	*sampler
	to chan<- prometheus.Metric
}

func (s sample) gauge(name string, value float64, labels ...string) {
	s.to <- prometheus.MustNewConstMetric(s.descs[name], prometheus.GaugeValue, value, labels...)
}

func (s sample) counter(name string, value uint64, labels ...string) {
	s.to <- prometheus.MustNewConstMetric(s.descs[name], prometheus.CounterValue, float64(value), labels...)
}

func (s sample) answered(part string, ok bool) bool {
	s.gauge("coppice_scrape_answered", truth(ok), part)
	return ok
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Collect implements prometheus.Collector.
func (c *sampler) Collect(to chan<- prometheus.Metric) {
	s := sample{c, to}
	s.gauge("coppice_build_info", 1, c.Version, runtime.Version())
	s.gauge("coppice_up", truth(c.Up()))
	s.readiness(c.Ready())
	s.gauge("coppice_event_streams", float64(c.Streams()))
	s.tree()
	s.engines()
	s.log()
	s.snapshots()
	s.gates()
	ctx, cancel := context.WithTimeout(context.Background(), patience) // a collector gets no context
	defer cancel()

	s.slots(s.Slots(s.storage(ctx)))
	s.pool(ctx)
}

func (s sample) readiness(c consensus.Condition) {
	warned := make(map[consensus.Readiness]bool)
	for _, w := range c.Warnings {
		warned[w.State] = true
	}

	for _, state := range consensus.ReadinessStates() {
		s.gauge("coppice_readiness_state", truth(c.State == state), string(state))
		s.gauge("coppice_readiness_warning", truth(warned[state]), string(state))
	}

	s.gauge("coppice_ready", truth(c.Able()))
	s.gauge("coppice_readiness_state_age_seconds", time.Since(c.Since).Seconds())
	s.gauge("coppice_peers_connected", float64(c.PeersConnected))
	s.gauge("coppice_peers_configured", float64(c.PeersConfigured))
	s.gauge("coppice_peers_height", float64(c.PeersHeight))
	s.gauge("coppice_consensus_height", float64(c.Height))
	s.gauge("coppice_catching_up", truth(c.CatchingUp))
	s.gauge("coppice_voting_power_present", float64(c.PowerPresent))
	s.gauge("coppice_voting_power", float64(c.PowerTotal))
	if c.Signing != consensus.NotSigning {
		s.gauge("coppice_validator_signing", truth(c.Signing == consensus.Signs))
	}
	s.gauge("coppice_validator_evidence", float64(c.Evidence))
	if p := c.Process; p != nil {
		s.gauge("coppice_consensus_restarts", float64(p.Restarts))
		s.gauge("coppice_consensus_resets", float64(p.Resets))
	}
	s.gauge("coppice_clock_offset_seconds", c.ClockOffset.Seconds())
	held := 0.0
	if c.Hold != nil {
		held = time.Since(c.Hold.Since).Seconds()
	}
	s.gauge("coppice_hold_seconds", held)
}

func (s sample) tree() {
	snap := s.Tree()
	for _, f := range snap.Paths {
		path := cmp.Or(f.Path, snap.Root)
		s.counter("coppice_tree_starts_total", f.Starts, path)
		s.counter("coppice_tree_start_failures_total", f.StartFailures, path)
		s.counter("coppice_tree_restarts_total", f.Restarts, path)
		s.counter("coppice_tree_exits_total", f.Exits.Normal, path, "normal")
		s.counter("coppice_tree_exits_total", f.Exits.Shutdown, path, "shutdown")
		s.counter("coppice_tree_exits_total", f.Exits.Abnormal, path, "abnormal")
		s.counter("coppice_tree_stops_total", f.Stops, path)
		s.counter("coppice_tree_orphans_total", f.Orphans, path)
		if f.GiveUps > 0 || f.Gauge != nil && f.Gauge.Kind != supervisor.Worker {
			s.counter("coppice_tree_giveups_total", f.GiveUps, path)
		}
		if f.Gauge == nil {
			continue
		}

		s.gauge("coppice_tree_running", float64(f.Gauge.Running), path)
		if f.Gauge.Max > 0 { // with a limit of 0 it would be full for ever
			s.gauge("coppice_tree_restart_window_used_ratio", f.Gauge.WindowUse(), path)
		}
	}

	s.gauge("coppice_tree_orphans", float64(snap.OrphansNow))
	s.counter("coppice_tree_events_lost_total", snap.EventsLost)
}

func (s sample) engines() {
	for _, e := range s.Engines() {
		s.gauge("coppice_engine_up", truth(e.Up), e.Name)
		if e.Up {
			s.gauge("coppice_engine_mailbox_messages", float64(e.Waiting), e.Name)
			s.gauge("coppice_engine_oldest_message_age_seconds", e.Oldest.Seconds(), e.Name)
		}
	}
}

func (s sample) log() {
	st, opened := s.Log()
	if !s.answered("eventlog", opened) {
		return
	}

	s.gauge("coppice_eventlog_first_index", float64(st.First))
	s.gauge("coppice_eventlog_durable_index", float64(st.Durable))
	s.gauge("coppice_eventlog_segments", float64(len(st.Segments)))
	s.gauge("coppice_eventlog_retained_bytes", float64(st.Bytes))
	s.gauge("coppice_eventlog_pending_bytes", float64(st.Pending))
	s.gauge("coppice_eventlog_failed", truth(st.Err != nil))
}

func (s sample) gates() {
	for _, g := range s.Gates() {
		s.gauge("coppice_gate_held", truth(g.Held), g.Name)
		s.gauge("coppice_gate_spilling", truth(g.Spills), g.Name)
		s.gauge("coppice_gate_exempt", float64(g.Exempt), g.Name)
	}
}

func (s sample) snapshots() {
	for _, st := range s.Snapshots() {
		s.gauge("coppice_snapshots", float64(st.Kept), st.Kind)
		s.counter("coppice_snapshots_taken_total", st.Taken, st.Kind)
		s.counter("coppice_snapshot_failures_total", st.Failed, st.Kind)
		s.gauge("coppice_snapshot_bytes", float64(st.Bytes), st.Kind)
		if !st.Last.IsZero() {
			s.gauge("coppice_snapshot_last_success_timestamp_seconds", float64(st.Last.UnixNano())/1e9, st.Kind)
			s.gauge("coppice_snapshot_age_seconds", max(0, time.Since(st.Last)).Seconds(), st.Kind)
		}
	}
}

// storage returns where the chain stands, or the zero State if storage does not answer.
func (s sample) storage(ctx context.Context) (head chain.State) {
	st, err := s.Storage(ctx)
	head, errChain := s.Chain(ctx)
	if !s.answered("storage", err == nil && errChain == nil) {
		return chain.State{}
	}

	s.gauge("coppice_block_height", float64(head.Height))
	if !head.Time.IsZero() {
		s.gauge("coppice_block_time_seconds", float64(head.Time.UnixNano())/1e9)
	}

	s.gauge("coppice_storage_applied_index", float64(st.Applied))
	s.gauge("coppice_storage_durable_applied_index", float64(st.DurableApplied))
	s.gauge("coppice_storage_keys", float64(st.Keys))
	s.gauge("coppice_storage_remembered_ids", float64(st.IDs))
	s.gauge("coppice_storage_disk_bytes", float64(st.DiskBytes))
	p := st.Pebble
	s.gauge("coppice_storage_memtable_bytes", float64(p.MemTableBytes))
	s.gauge("coppice_storage_read_amplification", float64(p.ReadAmp))
	s.gauge("coppice_storage_write_amplification", p.WriteAmp)
	s.gauge("coppice_storage_compaction_debt_bytes", float64(p.CompactionDebt))
	s.counter("coppice_storage_flushes_total", uint64(p.Flushes))
	s.counter("coppice_storage_compactions_total", uint64(p.Compactions))
	s.counter("coppice_storage_cache_hits_total", uint64(p.CacheHits))
	s.counter("coppice_storage_cache_misses_total", uint64(p.CacheMisses))

	return head
}

func (s sample) pool(ctx context.Context) {
	st, err := s.Pool(ctx)
	if !s.answered("pool", err == nil) {
		return
	}

	s.gauge("coppice_pool_transactions", float64(st.Txs))
	s.gauge("coppice_pool_bytes", float64(st.Bytes))
	s.gauge("coppice_pool_queued_transactions", float64(st.Queued))
	s.gauge("coppice_pool_in_flight_transactions", float64(st.Workers))
	s.gauge("coppice_pool_oldest_age_seconds", st.Oldest.Seconds())
}
