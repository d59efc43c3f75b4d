package supervisor

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// checkSpec checks the flags by OTP rules 1 to 4, and fills in the default intensity.
func checkSpec(s *Spec) error {
	bad := func(format string, a ...any) error {
		return fmt.Errorf("%w: supervisor %q: %s", ErrSpec, s.Name, fmt.Sprintf(format, a...))
	}

	switch {
	case strings.Contains(s.Name, "/"):
		return bad("Name contains a slash, which separates IDs in paths")
	case s.Strategy > RestForOne:
		return bad("Strategy is %v, expected OneForOne, OneForAll or RestForOne", s.Strategy)
	case s.AutoShutdown > AllSignificant:
		return bad("AutoShutdown is %v, expected Never, AnySignificant or AllSignificant", s.AutoShutdown)
	}

	for i, o := range s.Observers {
		if o == nil {
			return bad("Observers[%d] is nil", i)
		}
	}

	if err := s.Intensity.check(); err != nil {
		return bad("%v", err)
	}

	s.Intensity = s.Intensity.orDefault()

	return nil
}

var errIntensity = errors.New("Intensity")

func (i Intensity) check() error {
	switch {
	case i.Max < 0:
		return fmt.Errorf("%w.Max is %d, expected 0 or more", errIntensity, i.Max)
	case i.Period < 0:
		return fmt.Errorf("%w.Period is %v, expected more than 0", errIntensity, i.Period)
	case i.Max > 0 && i.Period == 0:
		return fmt.Errorf("%w.Max is %d without a Period", errIntensity, i.Max)
	}
	return nil
}

func (i Intensity) orDefault() Intensity {
	if i == (Intensity{}) {
		return Intensity{Max: 1, Period: 5 * time.Second}
	}
	return i
}

// CheckChildren checks specifications as a supervisor would, without making one (OTP rule 10). It
// checks each by itself, and that no ID is used twice. Without auto, a significant child is allowed
// whatever its supervisor's AutoShutdown is.
func CheckChildren(children []Child, auto ...AutoShutdown) error {
	mode := AnySignificant
	if len(auto) > 0 {
		mode = auto[0]
	}

	seen := make(map[string]bool, len(children))

	for i, c := range children {
		if err := c.check(mode); err != nil {
			return fmt.Errorf("child %d: %w", i, err)
		}
		if seen[c.ID] {
			return fmt.Errorf("child %d: %w: child %q: the ID is used twice", i, ErrSpec, c.ID)
		}
		seen[c.ID] = true
	}

	return nil
}

// check checks one child by OTP rules 5 to 7.
func (c Child) check(auto AutoShutdown) error {
	bad := func(format string, a ...any) error {
		return fmt.Errorf("%w: child %q: %s", ErrSpec, c.ID, fmt.Sprintf(format, a...))
	}

	if err := checkID(c.ID); err != nil {
		return bad("%v", err)
	}

	switch {
	case c.Start == nil:
		return bad("Start is nil")

	case c.Kind > DynamicKind:
		return bad("Kind is %v, expected Worker, SupervisorKind or DynamicKind", c.Kind)

	case c.Restart > Temporary:
		return bad("Restart is %v, expected Permanent, Transient or Temporary", c.Restart)

	case c.Ack > AckReady:
		return bad("Ack is %v, expected AckStart or AckReady", c.Ack)

	case c.Orphan > Abandon:
		return bad("Orphan is %v, expected Escalate, Wait or Abandon", c.Orphan)

	case c.Shutdown < 0 && c.Shutdown != Brutal:
		return bad("Shutdown is %v, expected a time, Brutal or Infinity", c.Shutdown)

	case c.StartTimeout < 0:
		return bad("StartTimeout is %v, expected a time or Infinity", c.StartTimeout)

	case c.Significant && auto == Never:
		return bad("it is significant, but the supervisor's AutoShutdown is Never")

	case c.Significant && c.Restart == Permanent:
		return bad("it is significant and permanent, but a permanent child never ends for good")
	}

	if err := c.Backoff.check(); err != nil {
		return bad("%v", err)
	}

	return nil
}

func checkID(id string) error {
	if id == "" {
		return errors.New("ID is empty")
	}
	if strings.Contains(id, "/") {
		return errors.New("ID contains a slash, which separates IDs in paths")
	}
	return nil
}

func (b Backoff) check() error {
	switch {
	case b.Min < 0 || b.Max < 0 || (b.Max != 0 && b.Max < b.Min):
		return fmt.Errorf("Backoff is from %v to %v, expected 0 <= Min <= Max", b.Min, b.Max)
	case b.Min == 0 && b != (Backoff{}):
		return errors.New("Backoff has no Min")
	case b.Factor != 0 && !(b.Factor >= 1):
		return fmt.Errorf("Backoff.Factor is %v, expected 1 or more", b.Factor)
	case !(b.Jitter >= 0 && b.Jitter <= 1):
		return fmt.Errorf("Backoff.Jitter is %v, expected 0 to 1", b.Jitter)
	}
	return nil
}

// Lint returns warnings about settings that are allowed but will surprise their user. A run emits
// the same warnings as Warned events.
func Lint(spec Spec, children []Child) []string {
	var out []string
	limit := spec.Intensity.orDefault()

	for _, c := range children {
		if d := c.Backoff.longest(); c.Backoff.Min > 0 && limit.fills(d) {
			out = append(out, fmt.Sprintf("child %q: with restarts up to %v apart, %d in %v is never exceeded, so "+
				"the restarts may go on for ever (OTP rule 47)",
				c.ID, d, limit.Max, limit.Period))
		}
		if spec.Strategy != OneForOne && c.Shutdown != Infinity && limit.fills(c.Shutdown) {
			out = append(out, fmt.Sprintf("child %q: a group restart may take its shutdown time of %v, so %d in %v "+
				"may never be exceeded (OTP rule 47)",
				c.ID, c.Shutdown, limit.Max, limit.Period))
		}
	}

	for _, c := range children {
		if c.Kind != Worker {
			for _, w := range lintSupervisor(c) {
				out = append(out, fmt.Sprintf("child %q: %s", c.ID, w))
			}
		}
	}

	if spec.AutoShutdown != Never {
		some := false
		for _, c := range children {
			some = some || c.Significant
		}
		if !some && len(children) > 0 {
			out = append(out, fmt.Sprintf("AutoShutdown is %v, but no child is significant", spec.AutoShutdown))
		}
	}

	return out
}

// fills reports whether restart attempts that come this far apart can never exceed the limit.
func (i Intensity) fills(apart time.Duration) bool {
	return i.Max > 0 && i.Max != Unlimited && apart > 0 && float64(apart)*float64(i.Max) >= float64(i.Period)
}

// lintSupervisor returns the warnings about a child that is a supervisor.
func lintSupervisor(c Child) []string {
	var out []string
	if c.Restart != Permanent && !c.Significant {
		out = append(out, fmt.Sprintf("a %v supervisor that gives up ends with the class shutdown: it is not "+
			"restarted and not reported (OTP rule 46)", c.Restart))
	}

	if c.Shutdown != 0 && c.Shutdown != Infinity {
		out = append(out, fmt.Sprintf("a supervisor with a shutdown time of %v may be left behind while its children "+
			"still run (OTP rule 64)", c.Shutdown))
	}

	return out
}
