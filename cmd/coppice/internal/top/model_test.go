package top

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	tea "github.com/charmbracelet/bubbletea"
	"github.com/stretchr/testify/require"

	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

var errDown = errors.New("dial tcp 127.0.0.1:7070: connect: connection refused")

func routerPlace() *apiv1.InspectChildResponse {
	return &apiv1.InspectChildResponse{Child: child("coppice/node/router", permanent, ""),
		RestartsWith: []string{"router", "logger", "transactions"}}
}

func small(t *testing.T) *world {
	w := newWorld(t, Options{Token: true}, 80, 24)
	w.full()
	return w
}

// A place is marked for three seconds after it has changed.
func TestChangedPlacesAreMarked(t *testing.T) {
	w := small(t)
	w.keys("2")
	require.Contains(t, w.screenText(), " *  ├ router")
	w.now = w.now.Add(markFor - time.Millisecond)
	require.Contains(t, w.screenText(), " *  ├ router")
	w.now = w.now.Add(time.Millisecond)
	require.NotContains(t, w.screenText(), "*")
}

// The node's death is on the screen, and so is its return, with what it then sends.
func TestANodeThatDies(t *testing.T) {
	w := small(t)
	w.tell(treeLostMsg{errDown})
	w.now = w.now.Add(12 * time.Second)
	w.tell(statusMsg{err: errDown})
	require.Contains(t, w.screenText(), "NO ANSWER for 12s, trying again: dial tcp")

	w.tell(statusMsg{status: &apiv1.StatusResponse{Readiness: &apiv1.Readiness{State: "starting", Reason: "replay"}}})
	require.Contains(t, w.screenText(), "NOT READY: starting (replay)")

	w.tell(treeMsg{&apiv1.TreeDeltaResponse{Snapshot: tree(), Seq: 1}})
	require.Empty(t, w.m.crashes, "those of the process that died are not counted for the new one")
}

// A node that does not know the stream of the tree is not a dead one.
func TestAnAnswerIsNoDeath(t *testing.T) {
	w := small(t)
	w.tell(treeLostMsg{unimplemented()})
	require.True(t, w.m.link.up)
	require.Contains(t, w.screenText(), "the node does not show its tree")
}

// Nothing that the node sends acts on the terminal, in any view. (screenText looks for escapes.)
func TestNoTextActsOnTheTerminal(t *testing.T) {
	const evil = "\x1b]0;x\x07\x1b[2J\u009b31m\r\n\u202e"
	w := newWorld(t, Options{Token: true}, 200, 60)
	w.full()
	c := tree()
	c.Children[0].Id, c.Children[0].Spec.Note, c.Children[0].Live.LastExit = evil, evil, evil
	status := &apiv1.StatusResponse{ChainId: evil, Readiness: &apiv1.Readiness{State: evil, Reason: evil,
		Warnings: []*apiv1.ReadinessWarning{{State: evil, Reason: evil}}}}
	is := routerPlace()
	is.Child.Path, is.Child.Live.LastExit, is.LastStack, is.Stacks = evil, evil, evil, evil
	is.State = map[string]string{evil: evil}
	is.RestartsWith, is.Engine = []string{evil}, &apiv1.Engine{Name: evil, InHand: evil}
	w.tell(statusMsg{status: status, host: &apiv1.HostStatusResponse{Home: evil, Version: evil}},
		treeMsg{&apiv1.TreeDeltaResponse{Snapshot: c}}, treeLostMsg{unimplemented()},
		enginesMsg{engines: []*apiv1.Engine{{Name: evil, Path: evil, InHand: evil}}},
		chainMsg{rounds: evil, missing: []string{evil}, streams: []*apiv1.Stream{{Name: evil, State: evil}}},
		diskMsg{missing: []string{evil}, figures: figures{"a": 1},
			snapshots: []*apiv1.Snapshot{{Id: evil, Problem: evil}}})
	w.m.place = placePage{path: evil, deep: true, placeMsg: placeMsg{path: evil, is: is, err: errors.New(evil)}}

	for v := range viewCount {
		w.m.view = v
		s := w.screenText()
		require.NotContains(t, s, "\u202e")
		require.NotContains(t, s, "\u009b")
		require.NotContains(t, s, "\r")
	}
}

// A kill wants the name of what is killed, and leads to no call before.
func TestAKillWantsTheName(t *testing.T) {
	w := small(t)
	w.keys("2", "down", "down", "k")
	require.Equal(t, killing, w.m.mode)
	w.tell(consequencesMsg{path: "coppice/node/router", is: routerPlace()})
	s := w.screenText()
	require.Contains(t, s, "Its end also restarts logger, transactions.")
	require.Contains(t, s, "This restart is one too many: coppice/node gives up")

	w.keys("route")
	_, cmd := w.m.Update(tea.KeyMsg{Type: tea.KeyEnter})
	require.Nil(t, cmd)
	require.Contains(t, w.screenText(), "not killed: route is not router")

	w.keys("k", "router")
	_, cmd = w.m.Update(tea.KeyMsg{Type: tea.KeyEnter})
	require.NotNil(t, cmd)

	w.keys("k", "router", "esc")
	require.Equal(t, moving, w.m.mode)
}

// Without the admin token, and with --read-only, no key leads to an action.
func TestNoActions(t *testing.T) {
	for name, o := range map[string]Options{"read-only": {Token: true, ReadOnly: true}, "no token": {},
		"refused": {Token: true}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, o, 80, 24)
			w.full()
			if name == "refused" {
				w.tell(adminMsg(false))
			}
			for _, v := range []string{"2", "3", "4"} {
				w.keys(v, "k")
				require.Equal(t, moving, w.m.mode)
				require.Contains(t, w.screenText(), "no actions")
				w.keys("esc")
				require.NotContains(t, w.screenText(), "k kill")
			}
		})
	}
}

// The tree folds, finds and scrolls, and the selection never leaves the screen.
func TestTheTreeMoves(t *testing.T) {
	w := small(t)
	w.keys("2", "home", "down", "left")
	require.NotContains(t, w.screenText(), "router")
	w.keys("right", "right")
	require.Equal(t, "coppice/node/router", w.m.chosen)

	w.keys("end")
	require.Equal(t, "coppice/node/transactions/mempool/workers", w.m.chosen)
	w.keys("left", "left", "left") // up, fold, up
	require.Equal(t, "coppice/node/transactions", w.m.chosen)

	w.keys("/", "1a2b", "enter")
	require.Contains(t, w.screenText(), "1a2b3c4d", "a search shows what is folded")
	require.NotContains(t, w.screenText(), "router")
	w.keys("esc")
	require.Contains(t, w.screenText(), "router")

	w.tell(tea.WindowSizeMsg{Width: 80, Height: 10})
	for range 10 {
		w.keys("down")
		require.Contains(t, w.screenText(), ">")
	}
}

// Joined to its snapshot, the stream of changes gives the tree as it is.
func TestChangesJoinTheSnapshot(t *testing.T) {
	var p places
	p.reset(tree(), start)

	added := child("coppice/node/transactions/mempool/workers/new", temporary, "")
	p.apply(&apiv1.ChildChange{Child: added}, start)
	require.NotNil(t, p.by[added.Path])
	p.apply(&apiv1.ChildChange{Child: &apiv1.Child{Path: added.Path}, Gone: true}, start)
	require.Nil(t, p.by[added.Path])

	whole := super("coppice/node", oneForAll, 5, time.Minute, "", child("coppice/node/logger", permanent, ""),
		child("coppice/node/router", permanent, ""))
	p.apply(&apiv1.ChildChange{Child: whole, Whole: true}, start.Add(time.Minute))
	var order []string
	for _, r := range p.rows(func(*place) bool { return false }, "", nil) {
		order = append(order, r.Path)
	}
	require.Equal(t, []string{"coppice", "coppice/node", "coppice/node/logger", "coppice/node/router"}, order)
	require.Len(t, p.by, 4, "nothing of what is gone is left")
	require.True(t, p.by["coppice/node/logger"].marked(start.Add(time.Minute)), "its state changed")
	require.False(t, p.by["coppice/node/router"].marked(start.Add(time.Minute)))

	p.apply(&apiv1.ChildChange{Child: child("coppice/nowhere/x", permanent, "")}, start)
	require.Len(t, p.by, 4)
}

// The engines are sorted by every column, in both orders.
func TestEnginesAreSorted(t *testing.T) {
	w := small(t)
	w.keys("4")
	first := func() string { return w.m.engines[0].Name }
	require.Equal(t, "pool", first(), "the busiest")

	for range columns {
		w.keys(">")
		a := first()
		w.keys("r")
		require.NotEqual(t, a, first(), columns[w.m.column].name)
		w.keys("r")
	}
	require.Contains(t, w.screenText(), ">!pool", "a mailbox above 85 % is marked")
}

// While the view is paused, it asks for nothing but the status, and says that it is paused.
func TestPause(t *testing.T) {
	w := small(t)
	w.keys("p")
	require.Contains(t, w.screenText(), "PAUSED")
	w.keys("4")
	require.Empty(t, w.m.busy["engines"])
	w.keys("p")
	require.NotContains(t, w.screenText(), "PAUSED")
}

// The screen has no place for more at any size, and nothing panics.
func TestEverySizeWorks(t *testing.T) {
	for _, columns := range []int{1, 2, 10, 40, 79, 121} {
		for _, rows := range []int{1, 2, 3, 5, 9, 30} {
			w := newWorld(t, Options{Token: true}, columns, rows)
			w.full()
			w.m.place = placePage{path: storagePlace().path, placeMsg: storagePlace()}
			for v := range viewCount {
				w.m.view = v
				w.screenText()
				w.keys("down", "down", "up")
			}
			w.keys("?")
			w.screenText()
		}
	}
}

// Ten thousand places cost a screen, not ten thousand rows.
func BenchmarkView(b *testing.B) {
	root := super("coppice", oneForAll, 1, time.Second, "")
	for i := range 10000 {
		root.Children = append(root.Children, child(fmt.Sprintf("coppice/%d", i), permanent, ""))
	}
	w := newWorld(b, Options{}, 80, 24)
	w.m.view = treeView
	w.tell(treeMsg{&apiv1.TreeDeltaResponse{Snapshot: root}})
	for b.Loop() {
		_ = w.m.View()
	}
}

func TestWords(t *testing.T) {
	require.Equal(t, "1,234,567", number(1234567))
	require.Equal(t, "999", number(999))
	require.Equal(t, "2h5m", ago(2*time.Hour+5*time.Minute+3*time.Second))
	require.Equal(t, "0s", ago(-time.Second))
	require.Equal(t, "1m", period(time.Minute))
	require.Equal(t, "1h", period(time.Hour))
	require.Equal(t, "10s", period(10*time.Second))
	require.Equal(t, "2 crashes", plural(2, "crash"))
	require.Equal(t, "▁█", spark([]float64{9, 0, 8}, 2))
	require.Equal(t, "größ…", cut("größer als", 5))
	require.Equal(t, 4, width("日本"))
	require.Equal(t, "日…", cut("日本", 3))

	for _, l := range wrap(strings.Repeat("x", 25)+" größer 日本日本日本", 10, normal) {
		require.LessOrEqual(t, width(l[0].text), 10)
	}
}

func unimplemented() error {
	return connect.NewError(connect.CodeUnimplemented, errors.New("no such call\x1b[2J"))
}

// Keys that are typed fast come in one message. What is pasted is no command.
func TestKeysComeTogether(t *testing.T) {
	w := small(t)
	w.tell(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune("2/router")})
	require.Equal(t, "router", w.m.search)
	w.keys("esc")

	w.tell(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune("4k"), Paste: true})
	require.Equal(t, treeView, w.m.view)
	require.Equal(t, moving, w.m.mode)
}

// The paths below the root do not begin with the root's.
func TestTheRootIsAboveItsChildren(t *testing.T) {
	var p places
	p.reset(super("host", oneForOne, 1, time.Second, ""), start)
	p.apply(&apiv1.ChildChange{Child: child("coppice", permanent, "")}, start)
	require.Same(t, p.root, p.by["coppice"].up)
	require.Nil(t, p.above("host"))
}

// Ten troubles at once have a line each on the first screen of a small terminal, and the first line
// of the screen says how many there are. Fewer also say what to do.
func TestEachTroubleHasALine(t *testing.T) {
	w := newWorld(t, Options{}, 80, 24)
	w.full()
	var list []*apiv1.Trouble
	kinds := []string{"crash_loop", "orphan", "mailbox_full", "slow_disk", "consensus_down", "no_quorum", "stream_lags",
		"hot_filter", "poisoned_transaction", "disk_low"}
	for _, kind := range kinds {
		list = append(list, &apiv1.Trouble{Kind: kind, Text: "this is " + kind, Since: at(time.Minute), Page: "tree",
			Advice: "do something about " + kind})
	}
	w.tell(troublesMsg{list})
	s := w.screenText()
	require.Contains(t, strings.Split(s, "\n")[0], "10 troubles: crash loop")
	for _, kind := range kinds {
		require.Contains(t, s, "this is "+kind)
	}

	w.tell(troublesMsg{list[:1]})
	require.Contains(t, w.screenText(), "do something about crash_loop; see tree")
	w.tell(troublesMsg{[]*apiv1.Trouble{}})
	require.Contains(t, w.screenText(), "no troubles")
}

// Keys lead to the parts of the view of the chain.
func TestKeysOfTheChain(t *testing.T) {
	w := small(t)
	for key, heading := range sections {
		w.keys("6", key)
		require.Contains(t, w.screenText(), heading, key)
	}
	w.m.chain.streams = nil
	w.keys("s")
	require.Contains(t, w.screenText(), "this node has none: Streams")
}
