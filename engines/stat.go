package engines

import "time"

// Stat is what an engine is doing. Reading it costs a few loads, and neither waits for the engine
// nor sends it a message.
type Stat struct {
	Name        string
	Incarnation uint64
	Path        string // of the supervised child; "" outside of a tree

	Len, Cap int           // messages that wait, and how many may
	Posted   int           // messages that the engine has sent to itself
	Oldest   time.Duration // age of the message in hand since it was sent; 0 if there is none

	InHand   string        // type of the message in hand; "" if there is none
	Handling time.Duration // since the handler of that message began; since it was sent if that is not known

	Handled uint64        // messages whose handlers have returned, since the incarnation began
	Busy    time.Duration // in handlers, since the incarnation began; of fast ones a part is measured
}

// Stat returns what the engine is doing.
func (m *Mailbox) Stat() Stat {
	s := Stat{
		Name: m.name, Incarnation: m.incarnation, Path: m.path, Cap: m.size, Oldest: m.Oldest(),
		Busy: time.Duration(m.busy.Load()),
	}

	m.mu.Lock()
	left := m.left.Load()
	handled := m.taken.Load() - left
	s.Len, s.Posted = len(m.queue.in)+int(left), len(m.posted)
	m.mu.Unlock()

	if h := m.current.Load(); h != nil && m.hand.Load() != 0 {
		handled--
		s.InHand, s.Handling = h.kind, s.Oldest
		if began := m.began.Load(); began != 0 {
			s.Handling = time.Duration(clock() - began)
		}
		s.Busy += s.Handling
	}

	s.Handled = uint64(max(0, handled))

	return s
}
