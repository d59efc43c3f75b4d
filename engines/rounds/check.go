package rounds

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Fault is one mistake in a table or a service. It is an error.
type Fault struct {
	App     string `json:"app"`
	Round   Name   `json:"round,omitempty"`
	Event   Event  `json:"event,omitempty"`
	Problem string `json:"problem"`
	Fix     string `json:"fix"`
}

func (f Fault) Error() string {
	var b strings.Builder
	b.WriteString(f.App)
	if f.Round != "" {
		fmt.Fprintf(&b, ", round %s", f.Round)
	}
	if f.Event != "" {
		fmt.Fprintf(&b, ", event %s", f.Event)
	}
	fmt.Fprintf(&b, ": %s; %s", f.Problem, f.Fix)
	return b.String()
}

var roundName = regexp.MustCompile(`^[a-z_]+$`)

// Check returns every fault of the table, sorted by round and event. A table without faults can
// run.
func (t Table[S]) Check() []Fault {
	c := checker[S]{t: t}
	c.app()
	for _, name := range t.names() {
		c.round(name)
	}
	c.timeouts()
	c.reach()
	return c.faults
}

type checker[S any] struct {
	t      Table[S]
	faults []Fault
}

func (c *checker[S]) fault(round Name, event Event, fix, problem string, args ...any) {
	c.faults = append(c.faults,
		Fault{App: c.t.Label, Round: round, Event: event, Problem: fmt.Sprintf(problem, args...),
			Fix: fix})
}

func (c *checker[S]) app() {
	if !strings.HasSuffix(c.t.Label, "AbciApp") || c.t.Label == "AbciApp" {
		c.fault("", "", "choose a label such as OracleAbciApp", "label %q does not end in AbciApp", c.t.Label)
	}
	for _, start := range c.t.starts() {
		if _, ok := c.t.Rounds[start]; !ok {
			c.fault(start, "", "add it to Rounds, or begin in another round",
				"the app begins in a round that it does not have")
		}
	}
}

func (c *checker[S]) round(name Name) {
	row := c.t.Rounds[name]
	if !roundName.MatchString(string(name)) {
		c.fault(name, "", "rename it", "the name has characters other than a to z and underscores")
	}
	if row.Round == nil {
		c.fault(name, "", "set Round", "the row has no round")
		return
	}

	inner, _ := kind(row.Round)
	emits := map[Event]bool{}
	for _, e := range inner.Events() {
		if emits[e] = true; row.On[e] == "" {
			c.fault(name, e, "add a transition", "the round emits it, and no transition takes it")
		}
	}

	for _, e := range slices.Sorted(maps.Keys(row.On)) {
		if isFinal(inner) {
			c.fault(name, e, "remove the transition, or choose another type of round", "a final round has a transition")
			continue
		}
		if _, isTimeout := c.t.Timeouts[e]; !emits[e] && !isTimeout {
			c.fault(name, e, "remove the transition, or add a timeout of that name", "the round never emits it")
		}
		if _, ok := c.t.Rounds[row.On[e]]; !ok && row.On[e] != "" {
			c.fault(name, e, "add the round, or go to another",
				"the transition leads to %s, which the app does not have", row.On[e])
		}
	}
}

func (c *checker[S]) timeouts() {
	for _, e := range slices.Sorted(maps.Keys(c.t.Timeouts)) {
		if c.t.Timeouts[e] <= 0 {
			c.fault("", e, "give it a positive duration", "the timeout is %v", c.t.Timeouts[e])
		}

		named := false
		for _, row := range c.t.Rounds {
			named = named || row.On[e] != ""
		}
		if !named {
			c.fault("", e, "remove it, or add a transition", "no transition names the timeout")
		}
	}
}

// reach finds rounds that no path leads to, and rounds that no path leads out of.
func (c *checker[S]) reach() {
	reached := c.t.reachable(c.t.starts()...)
	finals := c.t.finals()

	for _, name := range c.t.names() {
		if !reached[name] {
			c.fault(name, "", "add a transition to it, or remove it", "the round is never reached")
			continue
		}

		ahead := c.t.reachable(name)
		leaves := slices.ContainsFunc(finals, func(f Name) bool { return ahead[f] })
		if len(finals) > 0 && !leaves {
			c.fault(name, "", "add a transition that leads to a final round",
				"dead end: no final round is reached from here")
		}
	}
}

// reachable returns the rounds to which a path leads from one of the given rounds, with these.
func (t Table[S]) reachable(from ...Name) map[Name]bool {
	seen := map[Name]bool{}
	for len(from) > 0 {
		name := from[len(from)-1]
		from = from[:len(from)-1]
		row, ok := t.Rounds[name]
		if !ok || seen[name] {
			continue
		}

		seen[name] = true
		for _, next := range row.On {
			from = append(from, next)
		}
	}
	return seen
}

// Check returns every fault of the service: of its apps, of their links and of the background
// rounds.
func (s *Service[S]) Check() []Fault {
	var faults []Fault
	own := func(round Name, event Event, fix, problem string, args ...any) {
		faults = append(faults,
			Fault{App: s.label, Round: round, Event: event, Problem: fmt.Sprintf(problem, args...), Fix: fix})
	}

	apps := s.apps()
	if len(s.tables) == 0 {
		own("", "", "give Compose a table", "the service has no app")
	}

	owner, label := map[Name]string{}, map[string]bool{}
	keeps, periods := 0, 0
	for _, t := range apps {
		faults = append(faults, t.Check()...)
		if label[t.Label] {
			own("", "", "rename one", "two apps have the label %s", t.Label)
		}
		label[t.Label] = true

		for _, name := range t.names() {
			if other, taken := owner[name]; taken {
				own(name, "", "rename one", "the round is in two apps, %s and %s", other, t.Label)
			}
			owner[name] = t.Label
		}

		if t.Keep != nil {
			keeps++
		}
		if t.period != nil {
			periods++
		}
	}

	if keeps > 1 {
		own("", "", "keep what outlives a period in one of them", "%d apps have a Keep", keeps)
	}
	if periods > 1 {
		own("", "", "use one ResetApp", "%d apps end the periods", periods)
	}

	s.checkTimeouts(apps, own)
	s.checkLinks(own)
	for _, b := range s.backgrounds {
		if label[b.Label] {
			own("", "", "rename it", "a background round has the label of another, %s", b.Label)
		}
		label[b.Label] = true
		s.checkBackground(b, own)
	}

	return faults
}

type report func(round Name, event Event, fix, problem string, args ...any)

// apps returns the apps of the service, with those of its background rounds.
func (s *Service[S]) apps() []Table[S] {
	apps := slices.Clone(s.tables)
	for _, b := range s.backgrounds {
		if b.App != nil {
			apps = append(apps, *b.App)
		}
	}
	return apps
}

func (s *Service[S]) checkTimeouts(apps []Table[S], own report) {
	first := map[Event]Table[S]{}
	for _, t := range apps {
		for _, e := range slices.Sorted(maps.Keys(t.Timeouts)) {
			other, taken := first[e]
			if taken && other.Timeouts[e] != t.Timeouts[e] {
				own("", e, "give one of them another name", "one event with two timeouts: %v in %s, %v in %s",
					other.Timeouts[e],
					other.Label, t.Timeouts[e], t.Label)
			}
			if !taken {
				first[e] = t
			}
		}
	}
}

func (s *Service[S]) checkLinks(own report) {
	finals, starts := map[Name]bool{}, map[Name]bool{}
	for _, t := range s.tables {
		for _, f := range t.finals() {
			finals[f] = true
		}
		for _, name := range t.starts() {
			starts[name] = true
		}
	}

	for _, from := range slices.Sorted(maps.Keys(s.links)) {
		to := s.links[from]
		if !finals[from] {
			own(from, "", "link a final round", "the link to %s does not begin at a final round", to)
		}
		if !starts[to] {
			own(from, "", "link to the start of an app, or add the round to Also",
				"the link ends at %s, in which no app begins", to)
		}
		if _, linked := s.links[s.follow(from)]; linked {
			own(from, "", "remove one link of the ring", "its links lead back to themselves")
		}
	}
}

func (s *Service[S]) checkBackground(b Background[S], own report) {
	if b.Round == nil {
		own("", "", "set Round", "background round %s has no round", b.Label)
		return
	}

	inner, _ := kind(b.Round)
	switch {
	case b.Kind == EverRunning && (b.App != nil || b.On != ""):
		own("", b.On, "remove App and On", "background round %s is ever running and starts an app", b.Label)
	case b.Kind != EverRunning && b.App == nil:
		own("", b.On, "set App", "background round %s is %s and has no app to start", b.Label, b.Kind)
	case b.Kind != EverRunning && !slices.Contains(inner.Events(), b.On):
		own("", b.On, "choose one of "+fmt.Sprint(inner.Events()),
			"background round %s never emits the event that starts its app",
			b.Label)
	case b.Kind == Normal && len(b.App.finals()) == 0:
		own("", b.On, "add a final round to "+b.App.Label,
			"background round %s never gives back the round that it interrupts", b.Label)
	}
}
