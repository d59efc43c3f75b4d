package metrics

import (
	"github.com/coppice-go/coppice/engines/streams"
)

// atRisk is beside the state of a slot: half of its cap is used.
const atRisk = "at_risk"

// streamSampled are the metrics of the streams to sinks.
var streamSampled = []described{
	{"coppice_stream_state", "1 for the state that the stream is in, 0 for the others; at_risk, of which half of " +
		"the cap is used, is beside another state.", []string{"slot", "state"}},
	{"coppice_stream_lag_events", "About how many events the sink lacks, by the bytes that it lacks. Absent until " +
		"the stream has delivered something.", []string{"slot"}},
	{"coppice_stream_lag_heights", "Blocks that the sink lacks.", []string{"slot"}},
	{"coppice_stream_lag_bytes", "Bytes of the event log that the sink lacks.", []string{"slot"}},
	{"coppice_stream_lag_seconds", "Block time of the last block minus that of the sink's last block.",
		[]string{"slot"}},
	{"coppice_stream_log_held_bytes", "Bytes of the event log that would be removed without streams.",
		[]string{"slot"}},
	{"coppice_stream_cap_free_bytes", "Bytes of the event log that may still be kept for the stream. Absent if it " +
		"has no cap.", []string{"slot"}},
	{"coppice_stream_delivered_events_total", "Events that the sink has acknowledged.", []string{"slot"}},
	{"coppice_stream_delivered_bytes_total", "Bytes of the events that the sink has acknowledged.",
		[]string{"slot"}},
	{"coppice_stream_rejected_total", "Events that the sink or a codec refused for good, and that were put aside.",
		[]string{"slot"}},
	{"coppice_stream_parked", "Events that are put aside.", []string{"slot"}},
	{"coppice_stream_retries_total", "Failures of the stream, by their class.", []string{"slot", "class"}},
	{"coppice_stream_restarts_total", "Restarts of the stream after a failure of class bug.", []string{"slot"}},
	{"coppice_stream_rewinds_total", "Times that the sink's cursor had gone back.", []string{"slot"}},
	{"coppice_stream_takeovers_total", "Times that this node became the writer of a sink that another one wrote.",
		[]string{"slot"}},
	{"coppice_stream_bootstrap_ratio", "How much of a bootstrap from a snapshot is done; 1 if none is under way.",
		[]string{"slot"}},
	{"coppice_stream_orphans_total", "Uses of the sink that ignored the end of their context.", []string{"slot"}},
}

func (s sample) slots(list []streams.Status) {
	for _, st := range list {
		for _, state := range streams.States() {
			s.gauge("coppice_stream_state", truth(st.State == state), st.Name, string(state))
		}
		s.gauge("coppice_stream_state", truth(st.AtRisk), st.Name, atRisk)

		if st.LagEvents >= 0 {
			s.gauge("coppice_stream_lag_events", float64(st.LagEvents), st.Name)
		}
		s.gauge("coppice_stream_lag_heights", float64(st.LagHeights), st.Name)
		s.gauge("coppice_stream_lag_bytes", float64(st.LagBytes), st.Name)
		s.gauge("coppice_stream_lag_seconds", st.LagSeconds, st.Name)
		s.gauge("coppice_stream_log_held_bytes", float64(st.HeldBytes), st.Name)
		if st.FreeBytes >= 0 {
			s.gauge("coppice_stream_cap_free_bytes", float64(st.FreeBytes), st.Name)
		}

		c := st.Counts
		s.counter("coppice_stream_delivered_events_total", c.Events, st.Name)
		s.counter("coppice_stream_delivered_bytes_total", c.Bytes, st.Name)
		s.counter("coppice_stream_rejected_total", c.Rejected, st.Name)
		s.gauge("coppice_stream_parked", float64(st.Parked), st.Name)
		s.counter("coppice_stream_restarts_total", c.Restarts, st.Name)
		s.counter("coppice_stream_rewinds_total", c.Rewinds, st.Name)
		s.counter("coppice_stream_takeovers_total", c.Takeovers, st.Name)
		s.gauge("coppice_stream_bootstrap_ratio", st.Bootstrapped, st.Name)
		s.counter("coppice_stream_orphans_total", c.Orphans, st.Name)
		for class, n := range c.Retries {
			s.counter("coppice_stream_retries_total", n, st.Name, string(class))
		}
	}
}
