package rounds

import (
	"cmp"
	"reflect"
	"slices"
)

// Links connect apps: a final round of one to a round in which another begins.
type Links map[Name]Name

// Service is what an agent runs: the apps that Compose linked, and the background rounds beside
// them. A Service is not changed after it was made, and may be used by several goroutines.
type Service[S any] struct {
	label       string
	tables      []Table[S]
	links       Links
	backgrounds []Background[S] // by priority
	places      map[Name]place[S]
	start       Name
	keep        func(S) S
	period      *Period
	plain       bool // S holds no pointer, so that an assignment copies it

	oldest, newest uint32 // versions of the tables
}

// place is a round and the app that it belongs to.
type place[S any] struct {
	Row[S]
	inner      Round[S]
	rejoins    bool
	app        *Table[S]
	background int // index+1 of the background round whose app it is; 0: of the service itself
}

// Compose links apps to a service that begins with the first of them. A final round that is linked
// is replaced by the round that it is linked to; the others stay. Compose reports no error: Check
// names every fault.
func Compose[S any](label string, links Links, tables ...Table[S]) *Service[S] {
	s := &Service[S]{label: label, tables: tables, links: links, places: map[Name]place[S]{}, oldest: 1, newest: 1}
	s.plain = !holdsPointers(reflect.TypeFor[S]())
	for i := range tables {
		t := &tables[i]
		s.add(t, 0)
		if t.Keep != nil {
			s.keep = t.Keep
		}
		if t.period != nil {
			s.period = t.period
		}
	}

	if len(tables) > 0 {
		s.start = s.follow(tables[0].Start)
	}
	return s
}

// Beside returns a service that has background rounds, too.
func (s *Service[S]) Beside(rounds ...Background[S]) *Service[S] {
	out := Compose(s.label, s.links, s.tables...)
	out.oldest, out.newest = s.oldest, s.newest
	out.backgrounds = append(slices.Clone(s.backgrounds), rounds...)
	slices.SortStableFunc(out.backgrounds, func(a, b Background[S]) int { return cmp.Compare(a.Kind, b.Kind) })
	for i, b := range out.backgrounds {
		if b.App != nil {
			out.add(b.App, i+1)
		}
	}
	return out
}

func (s *Service[S]) add(t *Table[S], background int) {
	for name, row := range t.Rounds {
		inner, rejoins := kind(row.Round)
		s.places[name] = place[S]{Row: row, inner: inner, rejoins: rejoins, app: t, background: background}
	}
}

// follow returns the round that an entry into name leads to.
func (s *Service[S]) follow(name Name) Name {
	for range len(s.links) + 1 { // Check names a ring of links
		next, linked := s.links[name]
		if !linked {
			return name
		}
		name = next
	}
	return name
}

// WithVersions returns the service with versions of its tables. Raise newest whenever the same
// blocks would give another state. oldest is the lowest version whose blocks this one executes as
// that one did. A Service is of version 1 otherwise.
func (s *Service[S]) WithVersions(oldest, newest uint32) *Service[S] {
	out := *s
	out.oldest, out.newest = oldest, newest
	return &out
}

// Versions returns the versions of the tables.
func (s *Service[S]) Versions() (oldest, newest uint32) { return s.oldest, s.newest }

// Label returns the name that Compose was given.
func (s *Service[S]) Label() string { return s.label }

// Period returns how the service ends its periods; ok is false if it has none.
func (s *Service[S]) Period() (p Period, ok bool) {
	if s.period == nil {
		return Period{}, false
	}
	return *s.period, true
}

// Round returns the round of a name.
func (s *Service[S]) Round(name Name) (Round[S], bool) {
	p, ok := s.places[name]
	return p.inner, ok
}

// Backgrounds returns the background rounds, by priority.
func (s *Service[S]) Backgrounds() []Background[S] { return slices.Clone(s.backgrounds) }

// IsFinal reports whether the round is a final one, which no event leaves.
func (s *Service[S]) IsFinal(name Name) bool { return isFinal(s.places[name].inner) }

// Exits reports whether the app of the round is over when the round ends with the event.
func (s *Service[S]) Exits(name Name, e Event) bool {
	next, ok := s.places[s.places[name].On[e]]
	return ok && isFinal(next.inner)
}

// Endless reports whether the app of the round has no final round.
func (s *Service[S]) Endless(name Name) bool {
	p, ok := s.places[name]
	return ok && len(p.app.finals()) == 0
}

// LabelOf returns the label that payloads of the round carry.
func (s *Service[S]) LabelOf(name Name) string {
	if p, ok := s.places[name]; ok {
		return p.app.Label
	}
	return ""
}

// knows reports whether payloads may carry the label.
func (s *Service[S]) knows(label string) bool {
	if slices.ContainsFunc(s.tables, func(t Table[S]) bool { return t.Label == label }) {
		return true
	}
	return slices.ContainsFunc(s.backgrounds, func(b Background[S]) bool {
		return b.Label == label || b.App != nil && b.App.Label == label
	})
}

// copied returns a copy of the state of the app.
func (s *Service[S]) copied(app S) S {
	if s.plain {
		return app
	}
	return clone(app)
}

// holdsPointers reports whether a value of type t can share memory with a copy of it.
func holdsPointers(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Struct:
		for i := range t.NumField() {
			if holdsPointers(t.Field(i).Type) {
				return true
			}
		}
		return false
	case reflect.Array:
		return holdsPointers(t.Elem())
	case reflect.Map, reflect.Slice, reflect.Pointer, reflect.Interface, reflect.Func, reflect.Chan,
		reflect.UnsafePointer:
		return true
	default:
		return false
	}
}
