package pubsub

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
)

// Family makes the filters of one name: the family "kind" makes kind=a, kind=b and so on.
//
// Filter returns the filter for a value, or an error that says why the value is invalid. The
// filter's key is a term of this name. The value in the key may be a normal form of the given
// value. Filter must accept a normal form too, and use it unchanged.
type Family[E any] interface {
	Name() string
	Filter(value string) (Filter[E], error)
}

// Attribute is the Family of filters that compare one attribute of an event with a value. Equal,
// Under and Where return one.
type Attribute[E any] struct {
	name   string
	match  func(e E, value string) bool
	normal func(value string) string // nil if each value is its own normal form
	get    func(e E) string          // of Equal: the only value that matches; nil if match must be asked
}

// Equal returns the family of filters that match an event if get returns exactly the value. get
// must not block, and must return the same for the same event. Filters of one Equal attribute
// behind the same chain cost an event one call of get, however many there are.
func Equal[E any](name string, get func(E) string) *Attribute[E] {
	a := Where(name, func(e E, value string) bool { return get(e) == value })
	a.get = get
	return a
}

// Under returns the family of filters that match an event if get returns the path given as value,
// or a path below it. Paths are compared by whole '/' elements: a/b is under a, ab is not. Slashes
// at the value's end are ignored. Every path is under the empty one.
func Under[E any](name string, get func(E) string) *Attribute[E] {
	a := Where(name, func(e E, value string) bool {
		path := get(e)
		return value == "" || strings.HasPrefix(path, value) && (len(path) == len(value) || path[len(value)] == '/')
	})
	a.normal = func(value string) string { return strings.TrimRight(value, "/") }
	return a
}

// Where returns the family of filters that match an event if match reports true for the event and
// the value. match must not block, and must return the same for the same arguments.
func Where[E any](name string, match func(e E, value string) bool) *Attribute[E] {
	return &Attribute[E]{name: name, match: match}
}

// Name returns the name that the terms of the family begin with.
func (a *Attribute[E]) Name() string { return a.name }

// Is returns the filter for this value. Filters of one attribute are comparable, and equal if their
// values are.
func (a *Attribute[E]) Is(value string) Filter[E] {
	if a.normal != nil {
		value = a.normal(value)
	}
	return is[E]{a, value}
}

// Filter implements Family. It returns what Is returns, and never fails.
func (a *Attribute[E]) Filter(value string) (Filter[E], error) { return a.Is(value), nil }

type is[E any] struct {
	of    *Attribute[E]
	value string
}

func (f is[E]) Key() string    { return Term(f.of.name, f.value) }
func (f is[E]) Match(e E) bool { return f.of.match(e, f.value) }
func (f is[E]) String() string { return f.Key() }

// Table holds the families by name and reads the text form of chains. It does not change, so any
// number of goroutines may use it.
type Table[E any] struct {
	families map[string]Family[E]
}

// NewTable returns a table of these families. It returns an ErrFilter if a name is bad or occurs
// twice.
func NewTable[E any](families ...Family[E]) (*Table[E], error) {
	t := &Table[E]{families: make(map[string]Family[E], len(families))}
	for _, f := range families {
		name := f.Name()
		if err := checkName(name); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrFilter, err)
		}
		if _, twice := t.families[name]; twice {
			return nil, fmt.Errorf("%w: two families are called %q", ErrFilter, name)
		}
		t.families[name] = f
	}

	return t, nil
}

// Names returns the names of the families, sorted.
func (t *Table[E]) Names() []string { return slices.Sorted(maps.Keys(t.families)) }

// Parse reads a chain from its text form:
//
//	chain = [ term { "," term } ]
//	term  = name "=" value
//	name  = letter { letter | digit | "_" | "." | "-" }
//	value = bare | a Go string in double quotes
//
// where bare is one or more printing characters other than comma, double quote, backslash and
// space. Spaces around a term are ignored. The empty text is the empty chain, which matches every
// event. An error is an ErrFilter and says at which byte of the text it arose, what was found there
// and what was expected.
func (t *Table[E]) Parse(text string) (Chain[E], error) {
	var chain Chain[E]
	rest := strings.TrimLeftFunc(text, unicode.IsSpace)
	if rest == "" {
		return chain, nil
	}

	for {
		at := len(text) - len(rest)
		name, value, after, err := scanTerm(rest)
		if err == nil && len(chain) == MaxChain {
			err = fmt.Errorf("want at most %d filters in a chain", MaxChain)
		}

		var filter Filter[E]
		if err == nil {
			filter, err = t.filter(name, value)
		}
		if err != nil {
			return nil, parseError(text, at, err)
		}

		chain = append(chain, filter)

		after = strings.TrimLeftFunc(after, unicode.IsSpace)
		if after == "" {
			return chain, nil
		}

		if after[0] != ',' {
			return nil, parseError(text, len(text)-len(after),
				fmt.Errorf("want a comma or the end after the term%s", found(after)))
		}

		rest = strings.TrimLeftFunc(after[1:], unicode.IsSpace)
	}
}

func parseError(text string, at int, err error) error {
	return fmt.Errorf("%w: at byte %d of %q: %w", ErrFilter, at, text, err)
}

func (t *Table[E]) filter(name, value string) (Filter[E], error) {
	family, ok := t.families[name]
	if !ok {
		return nil, fmt.Errorf("no filter is called %q, want one of %s", name, strings.Join(t.Names(), ", "))
	}
	filter, err := family.Filter(value)
	if err != nil {
		return nil, fmt.Errorf("filter %q does not take %q: %w", name, value, err)
	}
	key := filter.Key()
	if err := checkKey(key); err != nil {
		return nil, fmt.Errorf("family %q (%T): %w", name, family, err)
	}
	if !strings.HasPrefix(key, name+"=") {
		return nil, fmt.Errorf("family %q (%T) made the key %q, want a term of its own name", name, family, key)
	}

	return filter, nil
}
