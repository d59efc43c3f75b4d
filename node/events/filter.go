package events

import (
	"fmt"
	"strings"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/pubsub"
)

// Types of events, the values of the filter "type".
const (
	TypeRecord    = "record"
	TypeTree      = "tree"
	TypeReadiness = "readiness"
	TypeProcess   = "process"

	typeGate = "gate" // on the bus only: a client learns of it from the readiness
)

// Filters returns the filter language of events, over the events of the bus. See docs/events.md.
func Filters() *pubsub.Table[engines.Event] {
	t, err := pubsub.NewTable[engines.Event](filterKind, filterType, filterClass, filterPath, filterReason)
	if err != nil {
		panic(err) // a mistake in this file
	}
	return t
}

var (
	filterType  = anyOf("type", []string{TypeRecord, TypeTree, TypeReadiness, TypeProcess}, typeOf)
	filterKind  = anyOf("kind", api.EventKinds(), kindOf)
	filterClass = anyOf("class", []string{"normal", "shutdown", "abnormal"}, classOf)

	// filterPath matches only events of the tree: a record has no path, not even an empty one.
	filterPath = pathFilter{pubsub.Under("path", func(e engines.Event) string {
		if t, ok := e.(engines.TreeChanged); ok {
			return t.Event.Head().Subject()
		}
		return ""
	})}

	filterReason = pubsub.Where("reason", func(e engines.Event, value string) bool {
		reason := ""

		switch e := e.(type) {
		case engines.TreeChanged:
			_, reason = api.Reason(e.Event)
		case engines.ReadinessChanged:
			reason = e.State + ": " + e.Reason
		case engines.ProcessChanged:
			reason = e.State + ": " + e.Text
		default:
			return false
		}

		return strings.Contains(strings.ToLower(reason), strings.ToLower(value))
	})
)

func anyOf(name string, words []string, get func(engines.Event) string) pubsub.Family[engines.Event] {
	return pubsub.OneOf(name, words, func(e engines.Event, word string) bool { return get(e) == word })
}

func typeOf(e engines.Event) string {
	switch e.(type) {
	case engines.RecordLogged:
		return TypeRecord
	case engines.ReadinessChanged:
		return TypeReadiness
	case engines.ProcessChanged:
		return TypeProcess
	case engines.GateChanged:
		return typeGate
	}
	return TypeTree
}

func kindOf(e engines.Event) string {
	switch e := e.(type) {
	case engines.RecordLogged:
		return chain.KindName(e.Kind)
	case engines.TreeChanged:
		return api.TreeKind(e.Event)
	case engines.ReadinessChanged:
		return api.ReadinessKind
	case engines.ProcessChanged:
		return api.ProcessKind
	}
	return ""
}

func classOf(e engines.Event) string {
	t, ok := e.(engines.TreeChanged)
	if !ok {
		return ""
	}
	class, _ := api.Reason(t.Event)
	return strings.ToLower(strings.TrimPrefix(class.String(), "EXIT_CLASS_"))
}

// pathFilter is the family of the filters on the path of an event of the tree. It refuses malformed
// paths.
type pathFilter struct {
	under *pubsub.Attribute[engines.Event]
}

func (f pathFilter) Name() string { return f.under.Name() }

func (f pathFilter) Filter(value string) (pubsub.Filter[engines.Event], error) {
	switch {
	case strings.Trim(value, "/") == "":
		return nil, fmt.Errorf("want a path such as coppice/node")
	case strings.HasPrefix(value, "/") || strings.Contains(value, "//"):
		return nil, fmt.Errorf("want ids joined by single slashes, such as coppice/node")
	}
	return f.under.Is(value), nil
}

// chainOf returns the filter of a query, with the query's kinds as one more term.
func chainOf(q api.EventsQuery) (pubsub.Chain[engines.Event], error) {
	table := Filters()
	chain, err := table.Parse(q.Filter)
	if err != nil || len(q.Kinds) == 0 {
		return chain, err
	}
	kinds, err := table.Parse(pubsub.Term(filterKind.Name(), strings.Join(q.Kinds, "|")))
	if err != nil {
		return nil, err
	}

	if len(chain) == pubsub.MaxChain {
		return nil, fmt.Errorf("%w: want at most %d filters in a chain, kinds being one", pubsub.ErrFilter,
			pubsub.MaxChain)
	}

	return append(chain, kinds...), nil
}

// matching returns the kinds of records that the filter matches. It can try each kind by itself,
// because a filter looks at the kind of a record and at none of its other fields.
func matching(filter pubsub.Chain[engines.Event]) (kinds []eventlog.Kind) {
	for _, name := range chain.KindNames() {
		kind, _ := chain.KindOf(name)
		if filter.Match(engines.RecordLogged{Kind: kind}) {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}
