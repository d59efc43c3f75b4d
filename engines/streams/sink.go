package streams

import (
	"cmp"
	"context"
	"errors"
	"fmt"
)

// Sink writes units to an external system, in which it keeps the cursor too. One goroutine calls
// its methods, but Observe and Read may run beside Write, and on a Sink that was never opened.
//
// An error of a method has a class (Fail, Reject); one without is Bug. After an error, the caller
// makes a new Sink and opens it. A method returns soon after its context has ended; the system may
// or may not have what was under way, and the next Open finds out.
type Sink interface {
	// Open claims the sink: from then on a Write of a claim with a lower epoch fails with Fenced,
	// wherever it runs. If the sink has seen an epoch of o.Epoch or above, Open fails with Fenced
	// and changes nothing. It returns where the sink stands: what is past the last whole unit is
	// removed or will be replaced. The cursor counts only once the claim is accepted.
	Open(ctx context.Context, o Opening) (Cursor, error)

	// Write writes the units of a delivery. It returns nil when the sink has all of them, at the
	// level of Factory.Ack. In one atomic step with a unit's events it checks the epoch, and moves
	// the cursor to the unit's End. Where the system has transactions, readers see whole units.
	//
	// A unit at or below the cursor is skipped. A unit whose End.After is not the cursor is refused
	// with BadOrder, and nothing of it stays. If d.Next returns an error other than io.EOF, Write
	// returns that error; the units before it may stay, nothing of the last one does. A delivery
	// without events is a beat: it checks the epoch and changes Cursor.Beat, if the sink has beats.
	Write(ctx context.Context, d Delivery) error

	// Observe returns where the sink stands, and changes nothing. For a sink that nobody has
	// claimed it returns the zero Cursor.
	Observe(ctx context.Context) (Cursor, error)

	// Read passes the stored events of the units from one position to another to f, in order, each
	// unit with its End, in which After is nil. It returns the first error of f. ErrNoRead means
	// that the sink cannot read.
	Read(ctx context.Context, from, to Position, f func(Event) error) error

	// Close ends the use of the sink. Of a unit that Write has not finished nothing stays, or it is
	// removed by the next Open.
	Close(ctx context.Context) error
}

// Delivery is a sequence of whole units, in order.
type Delivery interface {
	// Next returns the next event; a unit's last one is an End. io.EOF ends the delivery, and comes
	// after an End or at once. The event is valid until the next call. Next waits while events of
	// more bytes are outstanding than the slot may have.
	Next(ctx context.Context) (Event, error)

	// Credit says that the sink has taken over events of so many bytes (Event.Size), and no longer
	// needs their memory. It may be called from any goroutine.
	Credit(bytes int)
}

// Opening is what a sink is told when it is claimed.
type Opening struct {
	Slot       string // name of the slot
	ChainID    string // of the writer's chain now
	Definition string // hash of the definition
	Epoch      uint64 // of the claim
	Holder     string // names the node, for people

	// Native is Cursor.Native as this node last knew it; empty if it knows none.
	Native string
}

// Cursor returns the cursor after the unit that end closes; end's body is an *End.
func (o Opening) Cursor(end Event) Cursor {
	b := end.Body.(*End)
	return Cursor{
		ChainID: end.ChainID, Position: end.Position, Events: b.Events, BlockHash: b.BlockHash, AppHash: b.AppHash,
		Digest: b.Digest, Definition: o.Definition, Epoch: o.Epoch,
	}
}

// Moved returns the event that ends a topic or stream which stands at a cursor. Its data goes on in
// the one with the name to.
func (o Opening) Moved(at Cursor, to string) Event {
	place := Place{ChainID: cmp.Or(at.ChainID, o.ChainID), Position: at.Position, Index: at.Events}
	return Event{Place: place, Body: &Moved{To: to}}
}

// ErrNoRead means that a sink cannot read what it holds.
var ErrNoRead = errors.New("the sink cannot be read")

// The optional interfaces of a Sink.
type (
	// Limiter is a Sink whose limits depend on its server. Limits may be
	// called before Open.
	Limiter interface {
		Limits(ctx context.Context) (Limits, error)
	}

	// Checker is a Sink that can say, without a claim, what would hinder it: reach, rights, limits,
	// schema. It changes nothing. notes are what the operator should know nevertheless.
	Checker interface {
		Check(ctx context.Context) (notes []string, err error)
	}

	// Rewinder is a Sink that can remove the units after to, which it holds. It is called after
	// Open. After is nil to remove all.
	Rewinder interface {
		Rewind(ctx context.Context, to *Position) (Cursor, error)
	}

	// Forgetter is a Sink that can remove all that it has made in the external system.
	Forgetter interface {
		Forget(ctx context.Context) error
	}

	// Previewer is a Sink that can show an event as it would be written.
	Previewer interface {
		Preview(e Event) (string, error)
	}
)

// AckLevel says what an acknowledgment means.
type AckLevel int

// The levels of acknowledgment. A higher one means more.
const (
	Received  AckLevel = iota + 1 // the system has it, perhaps only in memory
	Durable                       // it survives a crash of the system's machine
	Processed                     // it is durable, and what the system derives from it is made
)

func (a AckLevel) String() string {
	switch a {
	case Received:
		return "received"
	case Durable:
		return "durable"
	case Processed:
		return "processed"
	}
	return "unknown"
}

// ParseAckLevel returns the level with a name.
func ParseAckLevel(s string) (AckLevel, bool) {
	for a := Received; a <= Processed; a++ {
		if a.String() == s {
			return a, true
		}
	}
	return 0, false
}

// Limits are the longest that a sink takes, in bytes. 0 means no limit of the sink's own.
type Limits struct {
	Key     int
	Payload int // of one event; a longer payload comes in parts
	Header  int // of a name in a header: chain id, type of an emitted event
}

// MaxPayload is the longest payload that an event has, in bytes, whatever the sink takes; a longer
// one comes in parts. No value of a key is longer.
const MaxPayload = 16 << 20

// PayloadLimit returns the longest payload of an event for a sink with these limits.
func (l Limits) PayloadLimit() int {
	if l.Payload <= 0 || l.Payload > MaxPayload {
		return MaxPayload
	}
	return l.Payload
}

// Factory makes the sinks of a kind.
type Factory struct {
	Kind    string // as in a definition
	Version string // a change of what is written, for the same events, changes it
	Ack     AckLevel
	Limits  Limits

	// Projection returns what the kind's own keys change about what is written, for the hash of the
	// definition; nil: nothing.
	Projection func(d Definition) string

	// AckOf returns what an acknowledgment means under a definition, if the definition's own keys
	// say so; nil: Ack.
	AckOf func(d Definition) AckLevel

	// New returns a sink for a definition. It checks the definition's own keys, opens nothing, and
	// fails with Misconfigured. Secrets are asked for by name when they are needed.
	New func(d Definition, s Secrets) (Sink, error)
}

// Class is the class of a failure. It decides what happens next; docs/streams.md has the table.
type Class string

// The classes of failures.
const (
	Unreachable   Class = "unreachable"   // refused, timeout, in recovery, read-only
	Full          Class = "full"          // the server's disk or quota
	Unauthorised  Class = "unauthorised"  // bad password, missing right
	Misconfigured Class = "misconfigured" // missing table, limit too small
	RejectedEvent Class = "rejected"      // one event is refused for good; see Reject
	Fenced        Class = "fenced"        // a newer epoch writes
	Foreign       Class = "foreign"       // another chain, or another hash at the height
	Ahead         Class = "ahead"         // the sink is above the log
	Regressed     Class = "regressed"     // the sink's cursor went back
	GapInLog      Class = "gap"           // the log lacks what the sink needs next
	Lost          Class = "lost"          // the slot passed its cap
	BadOrder      Class = "order"         // a unit does not rest on the sink's cursor: read it again
	Bug           Class = "bug"           // panic, breach of the contract, deadline passed
)

// Failure is an error with its class. Fail and Reject make it.
type Failure struct {
	Class Class
	Place Place // of the refused event, with RejectedEvent
	Err   error
}

func (f *Failure) Error() string {
	if f.Class == RejectedEvent {
		return fmt.Sprintf("%s is refused: %v", f.Place, f.Err)
	}
	return f.Err.Error()
}

// Unwrap returns the failure without its class.
func (f *Failure) Unwrap() error { return f.Err }

// Fail returns err with a class. It returns nil if err is nil, and err itself if it has a class.
func Fail(c Class, err error) error {
	if err == nil || errors.As(err, new(*Failure)) {
		return err
	}
	return &Failure{Class: c, Err: err}
}

// Reject returns the failure of one event that is refused for good, however often it comes.
func Reject(at Place, err error) error { return &Failure{Class: RejectedEvent, Place: at, Err: err} }

// ClassOf returns the class of an error of a sink: that of Fail or Reject, Unreachable for the end
// of a context, otherwise Bug. It is empty for nil.
func ClassOf(err error) Class {
	var f *Failure
	switch {
	case err == nil:
		return ""
	case errors.As(err, &f):
		return f.Class
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return Unreachable
	}
	return Bug
}
