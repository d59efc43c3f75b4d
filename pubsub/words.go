package pubsub

import (
	"fmt"
	"slices"
	"strings"
)

// OneOf returns the family of filters on a property that has one of a few words as its value. The
// value of such a filter is one of these words, or several with bars between them; another one is
// refused. The filter matches an event for which has reports true for one of its words. has must
// not block, and must return the same for the same arguments.
func OneOf[E any](name string, words []string, has func(e E, word string) bool) Family[E] {
	return oneOf[E]{name, words, has}
}

type oneOf[E any] struct {
	name  string
	words []string
	has   func(E, string) bool
}

func (f oneOf[E]) Name() string { return f.name }

func (f oneOf[E]) Filter(value string) (Filter[E], error) {
	values := strings.Split(value, "|")
	for _, v := range values {
		if !slices.Contains(f.words, v) {
			return nil, fmt.Errorf("want one of %s, or several with | between them", strings.Join(f.words, ", "))
		}
	}
	slices.Sort(values)

	return words[E]{f, strings.Join(slices.Compact(values), "|")}, nil
}

// words is a filter of OneOf. Its value is sorted, so that two filters that match the same events
// have the same key.
type words[E any] struct {
	of    oneOf[E]
	value string
}

func (f words[E]) Key() string    { return Term(f.of.name, f.value) }
func (f words[E]) String() string { return f.Key() }

func (f words[E]) Match(e E) bool {
	for v := range strings.SplitSeq(f.value, "|") {
		if f.of.has(e, v) {
			return true
		}
	}
	return false
}
