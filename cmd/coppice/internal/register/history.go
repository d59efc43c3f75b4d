// Package register runs clients that write and read registers on one or more nodes. It records each
// operation, its answer and when they happened, and checks that the history is linearizable: that
// each operation can have taken effect at one instant between its call and its return.
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
	CAS                 // write Value if the register has Expected or, with Absent, no value
)

// Input is what an operation was asked to do.
type Input struct {
	Key      string
	Kind     Kind
	Value    string // Put, CAS
	Expected string // CAS
	Absent   bool   // CAS: the register is expected to have no value
}

// Output is the outcome of an operation.
type Output struct {
	Unknown  bool   // it may have taken effect, may still, or may never
	Found    bool   // Get
	Value    string // Get, if Found
	Conflict bool   // CAS: the register had another value, and nothing was written
}

// never is the return time of an operation with an unknown outcome. It is after all others, so that
// the operation may take effect at any time after its call, even after everything that was read.
const never = math.MaxInt64

// History records the operations of clients, with the times of their calls and returns. It is safe
// for concurrent use.
type History struct {
	begin time.Time

	mu      sync.Mutex
	ops     []porcupine.Operation
	clients int
}

// NewHistory returns an empty history.
func NewHistory() *History { return &History{begin: time.Now()} }

// now returns the time since the history began, by the monotonic clock.
func (h *History) now() int64 { return int64(time.Since(h.begin)) }

// client returns the number of a new client. A client has one operation at a time, so a worker
// whose operation has an unknown outcome goes on under a new number.
func (h *History) client() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clients++
	return h.clients - 1
}

// add records an operation that ends now. It leaves out a get with an unknown outcome, which proves
// nothing.
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

// Count counts the operations of a history.
type Count struct {
	Keys      int
	Gets      int
	Puts      int
	CAS       int // compare-and-sets that wrote
	Conflicts int // compare-and-sets that did not
	Unknown   int // writes without an answer
}

// Operations returns how many operations there are.
func (c Count) Operations() int { return c.Gets + c.Puts + c.CAS + c.Conflicts + c.Unknown }

// Count counts the operations so far.
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
