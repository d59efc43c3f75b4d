package gate

import (
	"time"

	"github.com/coppice-go/coppice/engines/streams"
)

// Sink is what a gate knows of a sink.
type Sink struct {
	// At is the newest unit that the sink has, or that its filter has left nothing of, whoever
	// wrote it. It counts only if Known is set: the sink itself has said where it stands, to this
	// process.
	At    streams.Position
	Known bool

	// Progress is when the sink last took something or moved; zero: not in this process.
	Progress time.Time

	State    string // of the slot, for people
	Paused   bool   // by an operator
	Degraded bool   // it has parked events
	Lost     bool   // the log is no longer kept for it

	// Exempt is until when an operator has lifted the sink's gates.
	Exempt time.Time

	// Behind is how many bytes the log keeps for the sink.
	Behind int64

	// NoRoom says that the disk has too little room to keep more of the log for the sink.
	NoRoom bool
}

// Sinks are the sinks of a node. They are safe for concurrent use, and only Drop waits.
type Sinks interface {
	// Sink returns where a sink stands; ok is false if there is none of that name.
	Sink(name string) (s Sink, ok bool)

	// Ack returns what an acknowledgment of a sink means; ok is false if there is none of that
	// name.
	Ack(name string) (level streams.AckLevel, ok bool)

	// Names returns the names of all sinks, sorted.
	Names() []string

	// Changed returns a channel that is closed when one of the answers of Sink has changed.
	Changed() <-chan struct{}

	// Drop makes the log no longer be kept for a sink, durably. why says what did it.
	Drop(name, why string) error
}

// None are the sinks of a node that has none.
type None struct{}

// Sink implements Sinks.
func (None) Sink(string) (Sink, bool) { return Sink{}, false }

// Ack implements Sinks.
func (None) Ack(string) (streams.AckLevel, bool) { return 0, false }

// Names implements Sinks.
func (None) Names() []string { return nil }

// Changed implements Sinks.
func (None) Changed() <-chan struct{} { return nil }

// Drop implements Sinks.
func (None) Drop(string, string) error { return nil }
