package chain

import (
	"fmt"
	"unicode/utf8"

	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// Attribute is one entry of an event that a transaction emits. Keys may repeat.
type Attribute struct{ Key, Value string }

// Limits of the events that a transaction emits, on every chain. Emitted events count toward
// MaxOutcomeBytes with their texts, EmittedOverhead each and AttributeOverhead for each attribute.
const (
	MaxEmittedBytes   = 64 << 10 // of one event, with its overhead
	EmittedOverhead   = 32
	AttributeOverhead = 16
)

// NewEmitted returns the event that View.Emit adds to a result. The error is an ErrBadEvent if the
// event is too long, has no type, or is not UTF-8.
func NewEmitted(typ string, attributes []Attribute) (*logv1.Emitted, error) {
	e := &logv1.Emitted{Type: typ}
	valid := utf8.ValidString(typ)
	for _, a := range attributes {
		valid = valid && utf8.ValidString(a.Key) && utf8.ValidString(a.Value)
		e.Attributes = append(e.Attributes, &logv1.Attribute{Key: a.Key, Value: a.Value})
	}

	switch size := EmittedSize([]*logv1.Emitted{e}); {
	case typ == "":
		return nil, fmt.Errorf("%w: it has no type", ErrBadEvent)
	case !valid:
		return nil, fmt.Errorf("%w: %.60q or its attributes are not UTF-8", ErrBadEvent, typ)
	case size > MaxEmittedBytes:
		return nil, fmt.Errorf("%w: %.60q has %d bytes, want at most %d", ErrBadEvent, typ, size, MaxEmittedBytes)
	}

	return e, nil
}

// EmittedSize returns what emitted events count toward MaxOutcomeBytes.
func EmittedSize(events []*logv1.Emitted) (n int) {
	for _, e := range events {
		n += EmittedOverhead + len(e.Type)
		for _, a := range e.Attributes {
			n += AttributeOverhead + len(a.Key) + len(a.Value)
		}
	}
	return n
}
