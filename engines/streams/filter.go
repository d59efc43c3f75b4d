package streams

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
	"github.com/coppice-go/coppice/pubsub"
)

// Filter selects events. Its chains are of the grammar of docs/events.md; an event passes if it
// matches all terms of one chain. A filter without chains lets everything pass. The header and the
// End of a unit pass with any other event of the unit, and so do the events that tell of a chain's
// begin, a gap or a changed definition.
type Filter []pubsub.Chain[filtered]

// filtered is an event with what a filter may ask about its transaction.
type filtered struct {
	Event
	backend string
	code    logv1.Code
	inTx    bool // the event belongs to a transaction
}

// newTerms returns the terms of filters.
func newTerms() (*pubsub.Table[filtered], error) {
	var kinds, codes []string
	for _, k := range Kinds {
		kinds = append(kinds, string(k))
	}
	for c := range logv1.Code_name {
		codes = append(codes, codeName(logv1.Code(c)), strconv.Itoa(int(c)))
	}
	slices.Sort(codes)

	return pubsub.NewTable[filtered](
		pubsub.OneOf("kind", kinds, isKind),
		pubsub.Where("backend", matchBackend),
		pubsub.OneOf("code", codes, hasCode),
		pubsub.Where("key", matchKey),
		pubsub.OneOf("changed", []string{"put", "delete", "value"}, isChanged),
	)
}

// ParseFilter returns the filter with the given chains.
func ParseFilter(chains []string) (Filter, error) {
	terms, err := newTerms()
	if err != nil {
		return nil, err
	}

	var f Filter
	for i, text := range chains {
		c, err := terms.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("chain %d of the filter: %w", i+1, err)
		}
		f = append(f, c)
	}
	return f, nil
}

// match reports whether an event passes by its own content. A key of the state passes as itself,
// and as the change that wrote it.
func (f Filter) match(e filtered) bool {
	if k, ok := e.Body.(*Key); ok && len(f) > 0 {
		asChange := e
		asChange.Body = &Change{Key: k.Key, Value: k.Value}
		if f.matches(asChange) {
			return true
		}
	}
	return f.matches(e)
}

func (f Filter) matches(e filtered) bool {
	return len(f) == 0 || slices.ContainsFunc(f, func(c pubsub.Chain[filtered]) bool { return c.Match(e) })
}

// structural reports whether an event passes with any other of its unit.
func structural(b Body) bool {
	switch b.Kind() {
	case KindBlock, KindEnd, KindReset, KindStarted, KindGap, KindRedefined, KindMoved, KindRejected:
		return true
	}
	return false
}

func isKind(e filtered, word string) bool { return word == string(e.Body.Kind()) }

func matchBackend(e filtered, value string) bool {
	return e.inTx && slices.Contains(strings.Split(value, "|"), e.backend)
}

// hasCode compares the code of the event's transaction: its name or its number.
func hasCode(e filtered, word string) bool {
	return e.inTx && (word == codeName(e.code) || word == strconv.Itoa(int(e.code)))
}

// codeName returns the name of a code without CODE_, in lower case.
func codeName(c logv1.Code) string { return strings.ToLower(strings.TrimPrefix(c.String(), "CODE_")) }

func matchKey(e filtered, value string) bool {
	key := e.Key()
	return key != nil && bytes.HasPrefix(key, []byte(value))
}

// isChanged reports whether an event is a put, a delete, or a put of another value than before.
func isChanged(e filtered, word string) bool {
	c, ok := e.Body.(*Change)
	switch {
	case !ok:
		return false
	case word == "value":
		return !c.Delete && !(c.Before.State == BeforeValue && bytes.Equal(c.Before.Value, c.Value))
	}
	return c.Delete == (word == "delete")
}

// asksForValues reports whether the filter needs the values before changes.
func (f Filter) asksForValues() bool {
	return slices.ContainsFunc(f, func(c pubsub.Chain[filtered]) bool {
		return slices.ContainsFunc(c, func(t pubsub.Filter[filtered]) bool {
			words, ok := strings.CutPrefix(t.Key(), "changed=")
			return ok && slices.Contains(strings.Split(words, "|"), "value")
		})
	})
}
