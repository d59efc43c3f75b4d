// Package register runs clients that write and read registers of a node or of many, records what
// each was asked and answered and when, and checks that the history is linearizable: that each
// operation can have taken effect at one instant between its call and its return.
package register

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// Kind says what an operation does.
type Kind uint8

// The kinds of operations.
const (
	Get Kind = iota + 1 // a consistent read
	Put                 // write Value
	CAS                 // write Value where the register has Expected, or nothing if Absent
)

// Input is what an operation was asked for.
type Input struct {
	Key      string
	Kind     Kind
	Value    string // Put, CAS
	Expected string // CAS
	Absent   bool   // CAS: expected is that there is no value
}

// Output is what an operation answered.
type Output struct {
	Unknown  bool   // it took effect, or will, or never: nobody knows
	Found    bool   // Get
	Value    string // Get, where Found
	Conflict bool   // CAS: the register did not have what was expected, and nothing was written
}

// never is when an operation of an unknown outcome returns: after all others, so that it may take
// effect at any time after its call, and after everything that was read.
const never = math.MaxInt64

// History is what clients did, in real time. It is for many goroutines.
type History struct {
	begin time.Time

	mu      sync.Mutex
	ops     []porcupine.Operation
	clients int
}

// NewHistory returns an empty one.
func NewHistory() *History { return &History{begin: time.Now()} }

// now is the time since the begin, by the monotonic clock.
func (h *History) now() int64 { return int64(time.Since(h.begin)) }

// client answers the number of a new client. A client has one operation at a time, so who does not
// wait for an unknown outcome goes on as another one.
func (h *History) client() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clients++
	return h.clients - 1
}

// add records an operation that ends now. One of an unknown outcome that cannot have changed
// anything says nothing, and is left out.
func (h *History) add(client int, in Input, call int64, out Output) {
	op := porcupine.Operation{ClientId: client, Input: in, Call: call, Output: out, Return: h.now()}
	if out.Unknown {
		if in.Kind == Get {
			return
		}
		op.Return = never
	}

	h.mu.Lock()
	defer h.mu.Unlock()

	h.ops = append(h.ops, op)
}

// Count is how many operations of each kind a history has.
type Count struct {
	Keys      int
	Gets      int
	Puts      int
	CAS       int // that wrote
	Conflicts int // CAS that did not
	Unknown   int // writes without an answer
}

// Operations is how many there are.
func (c Count) Operations() int { return c.Gets + c.Puts + c.CAS + c.Conflicts + c.Unknown }

// Count counts.
func (h *History) Count() Count {
	var c Count
	keys := make(map[string]bool)

	for _, op := range h.all() {
		in, out := op.Input.(Input), op.Output.(Output)
		keys[in.Key] = true

		switch {
		case out.Unknown:
			c.Unknown++

		case in.Kind == Get:
			c.Gets++

		case in.Kind == Put:
			c.Puts++

		case out.Conflict:
			c.Conflicts++

		default:
			c.CAS++
		}
	}

	c.Keys = len(keys)

	return c
}

func (h *History) all() []porcupine.Operation {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.ops)
}

func (in Input) String() string {
	switch {
	case in.Kind == Put:
		return fmt.Sprintf("put %s", in.Value)
	case in.Kind == CAS && in.Absent:
		return fmt.Sprintf("cas absent %s", in.Value)
	case in.Kind == CAS:
		return fmt.Sprintf("cas %s %s", in.Expected, in.Value)
	}
	return "get"
}

func (o Output) String() string {
	switch {
	case o.Unknown:
		return "unknown"
	case o.Conflict:
		return "conflict"
	case o.Found:
		return o.Value
	}
	return "-"
}
