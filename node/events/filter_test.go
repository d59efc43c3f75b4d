package events

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/pubsub"
	"github.com/coppice-go/coppice/supervisor"
)

// named holds the events that docs/events.md mentions.
var named = map[string]engines.Event{
	"BlockCommitted": engines.RecordLogged{Index: 4, Kind: chain.KindBlockCommitted},
	"TxLaunched":     engines.RecordLogged{Index: 2, Kind: chain.KindTxLaunched},
	"crash of coppice/node/logger": engines.TreeChanged{Event: supervisor.ChildExited{
		Header: supervisor.Header{Root: "host", Path: "coppice/node/logger"},
		Exit:   supervisor.Exit{Class: supervisor.Abnormal, Err: errors.New("Disk is full")},
	}},
	"crash of coppice/nodeless": engines.TreeChanged{Event: supervisor.ChildExited{
		Header: supervisor.Header{Root: "host", Path: "coppice/nodeless"},
		Exit:   supervisor.Exit{Class: supervisor.Abnormal, Err: errors.New("boom")},
	}},
	"stop of coppice/node": engines.TreeChanged{Event: supervisor.ChildStopped{
		Header: supervisor.Header{Root: "host", Path: "coppice/node"},
		Exit:   supervisor.Exit{Class: supervisor.Shutdown},
	}},
	"start of coppice/node/logger": engines.TreeChanged{
		Event: supervisor.ChildStarted{Header: supervisor.Header{Root: "host", Path: "coppice/node/logger"}}},
}

// The examples of docs/events.md match the events that they are said to match, and no others.
func TestTheDocumentedFilters(t *testing.T) {
	doc, err := os.ReadFile("../../docs/events.md")
	require.NoError(t, err)
	_, rows, ok := strings.Cut(string(doc), "| filter | matches | does not match |\n|---|---|---|\n")
	require.True(t, ok)
	rows, _, _ = strings.Cut(rows, "\n\n")
	row := regexp.MustCompile("^\\| `(.*?)` \\| (.*) \\| (.*) \\|$")
	names := regexp.MustCompile("`([^`]*)`")
	n := 0

	for line := range strings.Lines(rows) {
		f := row.FindStringSubmatch(strings.TrimSpace(line))
		require.NotNil(t, f, line)
		chain, err := Filters().Parse(strings.ReplaceAll(f[1], `\|`, "|"))
		require.NoError(t, err)

		for i, want := range []bool{true, false} {
			for _, name := range names.FindAllStringSubmatch(f[2+i], -1) {
				e := named[name[1]]
				require.NotNil(t, e, name[1])
				require.Equal(t, want, chain.Match(e), "%s and %s", f[1], name[1])
				n++
			}
		}
	}

	require.Greater(t, n, 15)
}

// I10: an invalid filter is refused, and the error names the place.
func TestBadFiltersAreNamed(t *testing.T) {
	for text, want := range map[string]string{
		"knd=x":                     `at byte 0 of "knd=x": no filter is called "knd", want one of class, kind, path, reason, type`,
		"kind=BlockCommitted,class": `at byte 20`,
		"kind=Nonsense":             `filter "kind" does not take "Nonsense": want one of ChainStarted, TxLaunched`,
		"kind=Killed|":              `does not take "Killed|"`,
		"type=both":                 `want one of record, tree, readiness, process, or several with | between them`,
		`path=""`:                   `want a path such as coppice/node`,
		"path=/coppice":             `want ids joined by single slashes`,
		"path=a//b":                 `want ids joined by single slashes`,
	} {
		_, err := chainOf(api.EventsQuery{Filter: text})
		require.ErrorIs(t, err, pubsub.ErrFilter, text)
		require.ErrorContains(t, err, want, text)
	}

	full := strings.TrimSuffix(strings.Repeat("type=tree,", pubsub.MaxChain), ",")
	_, err := chainOf(api.EventsQuery{Filter: full})
	require.NoError(t, err)
	_, err = chainOf(api.EventsQuery{Filter: full, Kinds: []string{"Killed"}})
	require.ErrorIs(t, err, pubsub.ErrFilter)
}

// Two filters that match the same events are equal, so that streams share their agent.
func TestFiltersHaveOneForm(t *testing.T) {
	a, err := chainOf(api.EventsQuery{Kinds: []string{"TxLaunched", "Killed", "TxLaunched"}})
	require.NoError(t, err)
	b, err := chainOf(api.EventsQuery{Filter: ` kind=Killed|TxLaunched `})
	require.NoError(t, err)
	require.Equal(t, "kind=Killed|TxLaunched", a.String())
	require.Equal(t, a.String(), b.String())
	require.Equal(t, []eventlog.Kind{chain.KindTxLaunched}, matching(a))
	tree, err := chainOf(api.EventsQuery{Filter: "reason=x"})
	require.NoError(t, err)
	require.Empty(t, matching(tree), "a stream that matches no record needs no log")
}

// A stream knows all kinds of events of the supervisor except EventsDropped, which it sends as
// Dropped.
func TestEveryEventOfATreeHasItsKind(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../../supervisor/event.go", nil, 0)
	require.NoError(t, err)
	var all []string

	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Name.Name == "isEvent" {
			if name := f.Recv.List[0].Type.(*ast.Ident).Name; name != "EventsDropped" {
				all = append(all, name)
			}
		}
	}

	require.ElementsMatch(t, all, api.TreeKinds())
}

func seq(e engines.Event) uint64 { return e.(engines.TreeChanged).Event.Head().Seq }

// Memory is limited: a reader that does not read loses the oldest events, and learns how many.
func TestTheFeedIsBounded(t *testing.T) {
	f := newFeed(4)
	put := func(n int) {
		for range n {
			f.add(engines.TreeChanged{Event: supervisor.Reloaded{Header: supervisor.Header{Seq: f.next + 1}}})
		}
	}
	put(2)
	place := f.end()
	changed := f.changed()
	put(1)
	<-changed
	batch, missed, place := f.read(place, make([]engines.Event, 0, 8))
	require.Zero(t, missed)
	require.Len(t, batch, 1)
	require.EqualValues(t, 3, seq(batch[0]))
	put(7)
	batch, missed, place = f.read(place, make([]engines.Event, 0, 3))
	require.EqualValues(t, 3, missed)
	require.Len(t, batch, 3, "as many as there is room for")
	require.EqualValues(t, 7, seq(batch[0]))
	batch, missed, _ = f.read(place, batch[:0])
	require.Zero(t, missed)
	require.Len(t, batch, 1)
	require.EqualValues(t, 10, seq(batch[0]))
}
