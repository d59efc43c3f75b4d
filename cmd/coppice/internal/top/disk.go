package top

import (
	"maps"
	"slices"
	"time"

	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// diskMsg is what the view of the disk shows.
type diskMsg struct {
	figures   figures
	snapshots []*apiv1.Snapshot
	missing   []string
}

type diskPage diskMsg

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// slowSync is the time of a sync above which a disk is slow: see CoppiceSlowDisk in
// docs/metrics.md.
const slowSync = 100 * time.Millisecond

func (m *Model) diskLines() []line {
	f := m.disk.figures
	var out []line
	for _, why := range m.disk.missing {
		out = append(out, line{in(bad, "not known: %s", why)})
	}
	if len(f) == 0 {
		return append(out, line{in(dim, "asking …")})
	}

	row := func(name, format string, args ...any) {
		out = append(out, line{in(dim, "%s ", pad(name, 22)), text(format, args...)})
	}
	bytesOf := func(name string) string { return size(f.value(name)) }
	count := func(name string) string { return number(uint64(f.value(name))) }

	out = append(out, title("Event log"))
	if f.value("coppice_eventlog_failed") > 0 {
		out = append(out, line{in(bad, "THE LOG HAS FAILED: it takes no more records")})
	}
	row("records", "%s to %s", count("coppice_eventlog_first_index"), count("coppice_eventlog_durable_index"))
	row("kept", "%s in %s segments", bytesOf("coppice_eventlog_retained_bytes"), count("coppice_eventlog_segments"))
	row("waiting to be written", "%s", bytesOf("coppice_eventlog_pending_bytes"))
	out = append(out, m.syncLine())

	out = append(out, nil, title("State"))
	row("on disk", "%s, %s keys", bytesOf("coppice_storage_disk_bytes"), count("coppice_storage_keys"))
	row("applied", "record %s, %s durable", count("coppice_storage_applied_index"),
		count("coppice_storage_durable_applied_index"))
	row("memtables", "%s", bytesOf("coppice_storage_memtable_bytes"))
	row("compaction debt", "%s, read amplification %s, write amplification %.1f",
		bytesOf("coppice_storage_compaction_debt_bytes"), count("coppice_storage_read_amplification"),
		f.value("coppice_storage_write_amplification"))
	p50, p99, n := f.quantiles("coppice_storage_commit_duration_seconds")
	row("commits", "%s, half within %s, 99%% within %s", number(n), p50, p99)

	return append(out, m.snapshotLines()...)
}

// syncLine says how long the syncs of the log take.
func (m *Model) syncLine() line {
	p50, p99, n := m.disk.figures.quantiles("coppice_eventlog_sync_duration_seconds")
	l := line{in(dim, "%s ", pad("syncs", 22)), text("%s, half within %s, 99%% within %s", number(n), p50, p99)}
	if p50 > bound(slowSync) {
		l = append(l, in(bad, "  SLOW DISK"))
	}
	return l
}

func (m *Model) snapshotLines() []line {
	out := []line{nil, title("Snapshots")}
	if len(m.disk.snapshots) == 0 {
		return append(out, line{in(dim, "none")})
	}

	for _, s := range m.disk.snapshots {
		l := line{text("%s  height %s, %s, taken %s ago", s.Id, number(s.Height), size(float64(s.Bytes)),
			since(s.Created, m.clock()))}
		if s.Problem != "" {
			l = append(l, in(bad, "  unusable: %s", s.Problem))
		}
		out = append(out, l)
	}

	return out
}
