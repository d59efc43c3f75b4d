package register

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// content is the state of a register.
type content struct {
	found bool
	value string
}

// model is the specification of a register: it executes one operation after the other.
var model = porcupine.Model{
	Init: func() any { return content{} },
	Step: func(state, input, output any) (bool, any) {
		s, in, out := state.(content), input.(Input), output.(Output)
		written := content{true, in.Value}

		switch in.Kind {
		case Get:
			return s == content{out.Found, out.Value}, s
		case Put:
			return true, written
		}

		holds := s.found == !in.Absent && (in.Absent || s.value == in.Expected)
		if !holds {
			written = s
		}

		return out.Unknown || holds == !out.Conflict, written
	},
	DescribeOperation: func(input, output any) string {
		return fmt.Sprintf("%v → %v", input.(Input), output.(Output))
	},
	DescribeState: func(state any) string {
		if s := state.(content); s.found {
			return s.value
		}
		return "-"
	},
}

// Verdict is the outcome of a check.
type Verdict struct {
	Count
	Not       []string // keys whose history is not linearizable
	Undecided []string // keys whose check took too long
}

// Linearizable reports whether the history of each key is linearizable.
func (v Verdict) Linearizable() bool { return len(v.Not)+len(v.Undecided) == 0 }

// Check checks the history of each key, for at most limit each. Registers are independent, so the
// whole history is linearizable if that of each key is. Check draws the first history that is not
// linearizable into the file picture, unless that name is empty.
func (h *History) Check(limit time.Duration, picture string) (Verdict, error) {
	v := Verdict{Count: h.Count()}
	for _, ops := range byKey(h.all()) {
		key := ops[0].Input.(Input).Key
		switch porcupine.CheckOperationsTimeout(model, ops, limit) {
		case porcupine.Ok:
		case porcupine.Unknown:
			v.Undecided = append(v.Undecided, key)

		case porcupine.Illegal:
			v.Not = append(v.Not, key)
			if picture == "" || len(v.Not) > 1 {
				continue
			}
			if err := draw(ops, limit, picture); err != nil {
				return v, err
			}
		}
	}

	return v, nil
}

// draw writes a picture of a history to a file.
func draw(ops []porcupine.Operation, limit time.Duration, name string) error {
	_, info := porcupine.CheckOperationsVerbose(model, ops, limit)
	f, err := os.Create(name)
	if err != nil {
		return err
	}

	if err := porcupine.Visualize(model, info, f); err != nil {
		f.Close()
		return err
	}

	return f.Close()
}

// byKey groups operations by their key, in the order of the first call for each key.
func byKey(ops []porcupine.Operation) [][]porcupine.Operation {
	slices.SortStableFunc(ops, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	var out [][]porcupine.Operation
	at := make(map[string]int)

	for _, op := range ops {
		key := op.Input.(Input).Key
		i, known := at[key]
		if !known {
			i = len(out)
			at[key], out = i, append(out, nil)
		}
		out[i] = append(out[i], op)
	}

	return out
}
