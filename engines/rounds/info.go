package rounds

import "time"

// Info describes a round to people and to tools that watch a service.
type Info struct {
	Name        Name           `json:"name"`
	Description string         `json:"description"`
	Transitions map[Event]Name `json:"transitions"`
}

// Infos describes the rounds of the service and of its background apps. Final rounds that are
// linked are left out, and transitions to them lead to where their links do.
func (s *Service[S]) Infos() map[Name]Info {
	out := map[Name]Info{}
	for name, p := range s.places {
		if _, linked := s.links[name]; linked {
			continue
		}
		info := Info{Name: name, Description: p.About, Transitions: map[Event]Name{}}
		for e, next := range p.On {
			info.Transitions[e] = s.follow(next)
		}
		out[name] = info
	}
	return out
}

// Entered returns the block time at which the current round was entered, as its deadlines tell; ok
// is false if it has none. The time moves with the deadlines.
func (s *Service[S]) Entered(st State[S]) (t time.Time, ok bool) {
	d, armed := st.Deadline()
	place := s.places[st.Round]
	if !armed || place.app == nil {
		return t, false
	}
	return d.At.Add(-place.app.Timeouts[d.Event]), true
}
