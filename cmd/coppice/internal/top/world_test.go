package top

import (
	"io"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/coppice-go/coppice/cmd/coppice/internal/eventline"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// start is the time of the world that the tests show. Times of day are shown in the local zone, so
// the events of the world have heads of their own.
var start = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

// world is a view with a clock that the test moves.
type world struct {
	t   testing.TB
	m   *Model
	now time.Time
}

func newWorld(t testing.TB, o Options, columns, rows int) *world {
	w := &world{t: t, now: start}
	o.Interval = time.Second
	w.m = newModel(o, asker{ctx: t.Context()}, stylesFor(io.Discard), func() time.Time { return w.now })
	w.tell(tea.WindowSizeMsg{Width: columns, Height: rows})
	return w
}

// tell gives the view messages. It does not run the commands that follow: they ask a node.
func (w *world) tell(all ...tea.Msg) {
	for _, msg := range all {
		next, _ := w.m.Update(msg)
		w.m = next.(*Model)
	}
}

// keys types keys.
func (w *world) keys(all ...string) {
	named := map[string]tea.KeyType{"enter": tea.KeyEnter, "esc": tea.KeyEsc, "up": tea.KeyUp, "down": tea.KeyDown,
		"left": tea.KeyLeft, "right": tea.KeyRight, "tab": tea.KeyTab, "home": tea.KeyHome, "end": tea.KeyEnd,
		"pgdown": tea.KeyPgDown, "backspace": tea.KeyBackspace}
	for _, k := range all {
		if t, ok := named[k]; ok {
			w.tell(tea.KeyMsg{Type: t})
			continue
		}
		for _, r := range k {
			w.tell(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune{r}})
		}
	}
}

func at(before time.Duration) *timestamppb.Timestamp { return timestamppb.New(start.Add(-before)) }

// child is a place of the world.
func child(path string, restart apiv1.Restart, note string, kids ...*apiv1.Child) *apiv1.Child {
	c := &apiv1.Child{Path: path, Id: base(path), Type: apiv1.ChildType_CHILD_TYPE_WORKER, Children: kids,
		Spec: &apiv1.ChildSpec{Restart: restart, Shutdown: "5s", Note: note},
		Live: &apiv1.Live{State: apiv1.ChildState_CHILD_STATE_RUNNING, Incarnation: uint64(10 + len(path)),
			Started: at(2*time.Hour + 5*time.Minute)}}
	return c
}

func super(path string, s apiv1.Strategy, max uint32, per time.Duration, note string,
	kids ...*apiv1.Child) *apiv1.Child {
	c := child(path, apiv1.Restart_RESTART_PERMANENT, note, kids...)
	c.Type = apiv1.ChildType_CHILD_TYPE_SUPERVISOR
	c.Spec.Strategy, c.Spec.MaxRestarts, c.Spec.Period = s, max, durationpb.New(per)
	return c
}

const (
	oneForAll = apiv1.Strategy_STRATEGY_ONE_FOR_ALL
	oneForOne = apiv1.Strategy_STRATEGY_ONE_FOR_ONE
	dynamic   = apiv1.Strategy_STRATEGY_DYNAMIC
	permanent = apiv1.Restart_RESTART_PERMANENT
	temporary = apiv1.Restart_RESTART_TEMPORARY
	restarted = "crash: storage: \x1b[31mpebble\x1b[0m: \"no space left on device\""
)

// tree is a tree in which the storage was restarted, and the logger is being restarted.
func tree() *apiv1.Child {
	worker := child("coppice/node/transactions/mempool/workers/1a2b3c4d", temporary, "one transaction")
	workers := super("coppice/node/transactions/mempool/workers", dynamic, 0, time.Second, "", worker)
	workers.Live.Instances = 1
	storage := child("coppice/node/transactions/storage", permanent, "the state")
	storage.Live.Restarts, storage.Live.LastExit, storage.Live.Started = 2, restarted, at(90*time.Second)
	transactions := super("coppice/node/transactions", oneForAll, 3, 10*time.Second, "what orders and executes",
		storage,
		child("coppice/node/transactions/ordering", permanent, "the order of the blocks"),
		super("coppice/node/transactions/mempool", oneForAll, 0, 5*time.Second, "",
			child("coppice/node/transactions/mempool/pool", permanent, "what waits for a place"), workers))
	logger := child("coppice/node/logger", permanent, "owns the event log")
	logger.Live.State, logger.Live.LastExit = apiv1.ChildState_CHILD_STATE_RESTARTING, "error: sync failed"
	node := super("coppice/node", oneForAll, 5, time.Minute, "restarts as a whole",
		child("coppice/node/router", permanent, "the addresses of all engines"), logger, transactions)
	node.Live.InWindow = 5

	return super("coppice", oneForAll, 3, time.Minute, "the root of the engines", node)
}

// tells the view all that a node answers.
func (w *world) full() {
	crash := &apiv1.TreeEvent{Seq: 7, Time: at(90 * time.Second), Kind: "ChildExited",
		Path: "coppice/node/transactions/storage", Incarnation: 40, Class: apiv1.ExitClass_EXIT_CLASS_ABNORMAL,
		Text:  "coppice/node/transactions/storage #40 ended: " + restarted,
		Stack: "goroutine 7 [running]:\n\tmain.f()\n"}
	status := &apiv1.StatusResponse{ChainId: "wood-1", Period: 1, Height: 12345, Ready: true,
		AppHash: []byte{1, 2, 3, 4, 5, 6, 7, 8}, Consensus: "cometbft", Profile: "default", PoolSize: 12,
		Readiness: &apiv1.Readiness{State: "ready", Since: at(2 * time.Hour),
			Warnings: []*apiv1.ReadinessWarning{{State: "clock_ahead",
				Reason: "this clock is 2 s ahead of the validators'"}},
			Process: &apiv1.ConsensusProcess{State: "running", Text: "started", Since: at(2 * time.Hour), Resets: 1}}}
	host := &apiv1.HostStatusResponse{Pid: 4242, Version: "v1.2.3", Started: at(2 * time.Hour), Home: "/srv/coppice"}

	w.tell(statusMsg{status: status, host: host},
		treeMsg{&apiv1.TreeDeltaResponse{Snapshot: tree(), Seq: 9, Orphans: 1}},
		adminMsg(true), crashesMsg{[]*apiv1.TreeEvent{crash}}, troubles())
	w.now = start.Add(10 * time.Second)
	status.Height += 11
	w.tell(statusMsg{status: status}, enginesMsg{engines: engines()}, world7(), disk())
	w.m.events.open = true
	w.tell(eventsMsg{lines: []eventline.Line{
		{Head: "10:00:01.000", Kind: "ChildStarted #41", Text: "coppice/node/transactions/storage #41 started"},
		{Head: "10:00:02.000", Kind: "ChildExited #40", Text: "storage ended: \x1b]0;owned\x07", Bad: true},
		{Head: "977", Kind: "BlockCommitted", Text: "height 12356 of period 1, 3 results"}}})
	c := child("coppice/node/router", permanent, "the addresses of all engines")
	c.Live.Incarnation, c.Live.Restarts, c.Live.LastExit = 77, 1, "killed: panic"
	c.Live.Started = timestamppb.New(w.now)
	w.tell(treeMsg{&apiv1.TreeDeltaResponse{Seq: 10, Orphans: 1, Changes: []*apiv1.ChildChange{{Child: c}}}})
}

func troubles() troublesMsg {
	return troublesMsg{[]*apiv1.Trouble{
		{Kind: "no_quorum", Grave: true, Page: "chain", Since: at(5 * time.Minute),
			Text:   "not ready, no quorum: validators with 20 of 40 of the power are present",
			Advice: "start the validators that are named, or mend the network between them"},
		{Kind: "mailbox_full", Where: "coppice/node/transactions/mempool/pool", Page: "top", Since: at(7 * time.Second),
			Text:   "the mailbox of pool is full: 950 of 1024 messages wait; \x1b[2Jmempool.submit is in hand for 7.1s",
			Advice: "see what it has in hand, and who sends"},
	}}
}

func engines() []*apiv1.Engine {
	ms := func(n int) *durationpb.Duration { return durationpb.New(time.Duration(n) * time.Millisecond) }
	return []*apiv1.Engine{
		{Name: "logger", Path: "coppice/node/logger", Incarnation: 12, Mailbox: 3, Capacity: 1024, Oldest: ms(2),
			InHand: "logger.append", Handling: ms(1), Handled: 120456, Busy: ms(8000), Rate: 812.4, BusyShare: 0.62},
		{Name: "pool", Path: "coppice/node/transactions/mempool/pool", Mailbox: 950, Capacity: 1024, Oldest: ms(7400),
			InHand: "mempool.submit", Handling: ms(7100), Handled: 90210, Busy: ms(9000), Rate: 12, BusyShare: 0.99},
		{Name: "router", Path: "coppice/node/router", Capacity: 64},
		{Name: "storage", Path: "coppice/node/transactions/storage", Capacity: 256, Handled: 4711, Rate: 3.5,
			BusyShare: 0.03},
	}
}

func world7() chainMsg {
	c := chainMsg{
		pool: &apiv1.PoolResponse{Size: 12, Bytes: 4096, Queued: 9, Executing: 3,
			Oldest: durationpb.New(2 * time.Minute),
			Txs:    []*apiv1.PoolTx{{Id: []byte{0xaa, 0xbb, 0xcc}, Backend: "kv", Bytes: 321}}},
		peers: &apiv1.PeersResponse{Connected: 2, Configured: 3, Height: 12356, PeersHeight: 12400, PowerPresent: 20,
			PowerTotal: 40, Missing: []string{"validator-3", "validator-4"}, Signing: "missing",
			Round: "12357/4/prevote",
			Peers: []*apiv1.NetworkPeer{{Id: "ab12", Name: "node\x1b[2J2", Address: "10.0.0.2:26656",
				Outbound: true}}},
		streams: []*apiv1.Stream{{Name: "ledger", State: "live", Stands: &apiv1.StreamPosition{Height: 12356}},
			{Name: "search", State: "retrying", Stands: &apiv1.StreamPosition{Height: 11000}, LagHeights: 1356,
				LagEvents: 40680, LagBytes: 3 << 20, LagSeconds: 1234,
				LastCause: &apiv1.StreamCause{Text: "dial tcp 10.0.0.9:9092: connection refused"}}},
		rounds: "round         propose, count 41\nhave spoken   agent-1, agent-2\n",
	}
	for i := range 21 {
		failed := uint32(0)
		if i == 2 {
			failed = 1
		}
		c.blocks = append(c.blocks, &apiv1.BlockInfo{Height: uint64(12356 - i), Failed: failed,
			Time: at(time.Duration(900*i) * time.Millisecond), Txs: uint32(3 + i%5), Bytes: uint64(2000 + 100*i),
			Hash: []byte{0xde, 0xad, byte(i), 4, 5, 6, 7, 8}})
	}
	return c
}

func disk() diskMsg {
	raw := `# HELP coppice_eventlog_segments x
coppice_eventlog_first_index 1
coppice_eventlog_durable_index 98765
coppice_eventlog_retained_bytes 7.3400320e+07
coppice_eventlog_segments 12
coppice_eventlog_pending_bytes 4096
coppice_eventlog_failed 0
coppice_eventlog_sync_duration_seconds_bucket{le="0.001"} 10
coppice_eventlog_sync_duration_seconds_bucket{le="0.25"} 99
coppice_eventlog_sync_duration_seconds_bucket{le="+Inf"} 100
coppice_eventlog_sync_duration_seconds_count 100
coppice_storage_disk_bytes 1.5e+07
coppice_storage_keys 54321
coppice_storage_applied_index 98760
coppice_storage_durable_applied_index 98000
coppice_storage_memtable_bytes 65536
coppice_storage_compaction_debt_bytes 1.2e+06
coppice_storage_read_amplification 4
coppice_storage_write_amplification 3.25
coppice_storage_commit_duration_seconds_bucket{le="0.001"} 60
coppice_storage_commit_duration_seconds_bucket{le="0.01"} 100
coppice_storage_commit_duration_seconds_bucket{le="+Inf"} 100
coppice_storage_commit_duration_seconds_count 100
`
	return diskMsg{figures: parseFigures([]byte(raw)), snapshots: []*apiv1.Snapshot{
		{Id: "1-12000-96000", Height: 12000, Bytes: 5 << 20, Created: at(20 * time.Minute)},
		{Id: "1-11000-88000", Height: 11000, Bytes: 4 << 20, Created: at(2 * time.Hour),
			Problem: "CURRENT is missing"}}}
}

// place is the answer about the storage.
func storagePlace() placeMsg {
	c := tree().Children[0].Children[2].Children[0]
	return placeMsg{path: c.Path,
		is: &apiv1.InspectChildResponse{Child: c, LastStack: "goroutine 7 [running]:\n\tmain.f()\n",
			RestartsWith: []string{"storage", "ordering", "mempool"}, Engine: engines()[3]},
		history: &apiv1.HistoryResponse{More: true, Events: []*apiv1.TreeEvent{
			{Seq: 7, Time: at(90 * time.Second), Kind: "ChildExited", Incarnation: 40, Path: c.Path,
				Class: apiv1.ExitClass_EXIT_CLASS_ABNORMAL, Text: "storage #40 ended: " + restarted,
				Stack: "goroutine 7 [running]:\n\tmain.f()\n"}}},
		orphans: []*apiv1.Orphan{{Path: c.Path, Incarnation: 39, Since: at(5 * time.Minute), Goroutines: 2,
			Stacks: "2 @ 0x1 0x2\n\tstorage.write\n"}, {Path: "coppice/pubsub/broker"}}}
}
