// Package trouble says what is wrong with a node, one line for each trouble: what, where, since
// when, and what to do. The dashboard, "coppice top" and "coppice status" show the same list.
//
// A Watcher finds troubles once in a second, from facts that exist: the condition of the node, the
// events of its tree, the figures of its engines, filters, streams and disk. Looking sends no
// message to an engine and waits for none. A trouble that ends leaves the list; what has happened
// stays in the history of the tree.
package trouble

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Kind names a kind of trouble. The readiness states that are troubles are kinds, too.
type Kind string

// The kinds that are no states of the readiness.
const (
	CrashLoop   Kind = "crash_loop"           // a child ends abnormally again and again
	Orphan      Kind = "orphan"               // an incarnation ignores that it was told to stop
	MailboxFull Kind = "mailbox_full"         // an engine gets more than it handles
	Stuck       Kind = "engine_stuck"         // an engine has one message in hand for long
	SlowDisk    Kind = "slow_disk"            // the syncs of the event log take long
	LogFailed   Kind = "log_failed"           // the event log takes no more
	DiskLow     Kind = "disk_low"             // little of the disk is free
	Lagging     Kind = "stream_lags"          // a sink lacks blocks
	StreamDown  Kind = "stream_down"          // a stream waits for an operator
	HotFilter   Kind = "hot_filter"           // a filter of events does not keep up
	Poisoned    Kind = "poisoned_transaction" // a transaction ends workers or processes
	Process     Kind = "consensus_process"    // the process of the consensus does not run
)

// Page names a page of the dashboard.
type Page string

// The pages on which a trouble can be looked at.
const (
	TreePage    Page = "tree"
	TopPage     Page = "top"
	EventsPage  Page = "events"
	ChainPage   Page = "chain"
	DiskPage    Page = "disk"
	StreamsPage Page = "streams"
)

// Trouble is one thing that is wrong.
type Trouble struct {
	Kind   Kind
	Grave  bool      // the node does not do its work because of it
	Text   string    // what is wrong, in one line
	Where  string    // a path of the tree, the name of a stream, the id of a transaction; may be empty
	Page   Page      // that shows more
	Since  time.Time // when it was first seen
	Advice string    // what to do
}

// key tells troubles apart: a trouble whose text changes is the same one.
func (t Trouble) key() string { return string(t.Kind) + " " + t.Where }

// sorted puts the gravest first, and the oldest of them.
func sorted(list []Trouble) []Trouble {
	slices.SortStableFunc(list, func(a, b Trouble) int {
		if a.Grave != b.Grave {
			if a.Grave {
				return -1
			}
			return 1
		}
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.key(), b.key()))
	})
	return list
}

// longest bounds the text of a trouble. The page that shows more has the rest.
const longest = 300

// line returns text as one line of a bounded length.
func line(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > longest {
		text = strings.ToValidUTF8(text[:longest], "") + "…"
	}
	return text
}
