package kv_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coppice-go/coppice/engines/backend/backendtest"
	"github.com/coppice-go/coppice/engines/backend/kv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// execute runs the text form against the state.
func execute(t testing.TB, state *backendtest.State, text string) ([]kv.Answer, error) {
	t.Helper()
	ops, err := kv.ParseText(text)
	require.NoError(t, err)
	body, err := kv.Encode(ops...)
	require.NoError(t, err)
	require.NoError(t, kv.New().Check(body))
	data, err := state.Execute(kv.New(), body)
	if err != nil {
		return nil, err
	}

	answers, err := kv.DecodeResult(data)
	require.NoError(t, err)

	return answers, nil
}

func TestOperations(t *testing.T) {
	for _, c := range []struct {
		name   string
		before map[string]string
		text   string
		after  map[string]string // nil: as before
		err    error
		says   string
	}{
		{"put", nil, "put a 1", map[string]string{"a": "1"}, nil, ""},
		{"put an empty value", nil, `put a ""`, map[string]string{"a": ""}, nil, ""},
		{"delete", map[string]string{"a": "1", "b": "2"}, "delete a", map[string]string{"b": "2"}, nil, ""},
		{"delete what is absent", nil, "delete a", map[string]string{}, nil, ""},

		{"append to nothing", nil, "append s b", map[string]string{"s": "b"}, nil, ""},
		{"append keeps byte order", nil, "append s b\nappend s a\nappend s B\nappend s ab",
			map[string]string{"s": "B\na\nab\nb"}, nil, ""},
		{"append twice", map[string]string{"s": "a\nb"}, "append s b", map[string]string{"s": "a\nb"}, nil, ""},
		{"append to an empty value", map[string]string{"s": ""}, "append s b", nil, kv.ErrNotSet,
			`operation 1 (append "s"): value is not a set: line 1: the member is empty`},
		{"append to what is not sorted", map[string]string{"s": "b\na"}, "put x y\nappend s c", nil, kv.ErrNotSet,
			`operation 2 (append "s"): value is not a set: line 2: "a" does not come after "b"`},
		{"append to a repeated member", map[string]string{"s": "a\na"}, "append s c", nil, kv.ErrNotSet,
			`line 2: "a" does not come after "a"`},
		{"append to a long member", map[string]string{"s": strings.Repeat("m", 1025)}, "append s c", nil, kv.ErrNotSet,
			"1025 bytes, want at most 1024"},

		{"cas equals", map[string]string{"a": "1"}, "cas a equals 1 2", map[string]string{"a": "2"}, nil, ""},
		{"cas equals the empty value", map[string]string{"a": ""}, `cas a equals "" 2`,
			map[string]string{"a": "2"}, nil, ""},
		{"cas differs", map[string]string{"a": "3"}, "cas a equals 1 2", nil, kv.ErrConflict,
			`operation 1 (cas "a"): condition does not hold: the value is "3", want "1"`},
		{"cas on nothing", nil, `cas a equals "" 2`, nil, kv.ErrConflict, `the key is absent, want ""`},
		{"cas absent", nil, "cas a absent 1", map[string]string{"a": "1"}, nil, ""},
		{"cas absent on an empty value", map[string]string{"a": ""}, "cas a absent 1", nil, kv.ErrConflict,
			`the value is "", want the key absent`},

		{"add to nothing", nil, "add n 5", map[string]string{"n": "5"}, nil, ""},
		{"add zero to nothing", nil, "add n 0", map[string]string{"n": "0"}, nil, ""},
		{"add below zero", map[string]string{"n": "2"}, "add n -5", map[string]string{"n": "-3"}, nil, ""},
		{"add to the last", map[string]string{"n": "9223372036854775806"}, "add n 1",
			map[string]string{"n": "9223372036854775807"}, nil, ""},
		{"add past the last", map[string]string{"n": "9223372036854775807"}, "add n 1", nil, kv.ErrOverflow,
			`operation 1 (add "n"): counter overflow: 9223372036854775807 + 1 is outside int64`},
		{"add to the first", map[string]string{"n": "0"}, "add n -9223372036854775808",
			map[string]string{"n": "-9223372036854775808"}, nil, ""},
		{"add past the first", map[string]string{"n": "-1"}, "add n -9223372036854775808", nil, kv.ErrOverflow,
			"-1 + -9223372036854775808"},
		{"add to a word", map[string]string{"n": "one"}, "add n 1", nil, kv.ErrNotCounter,
			`got "one", want decimal digits of an int64`},
		{"add to another form of a number", map[string]string{"n": "+1"}, "add n 1", nil, kv.ErrNotCounter, `"+1"`},
		{"add to a padded number", map[string]string{"n": "01"}, "add n 1", nil, kv.ErrNotCounter, `"01"`},
		{"add to minus zero", map[string]string{"n": "-0"}, "add n 1", nil, kv.ErrNotCounter, `"-0"`},
		{"add to the empty value", map[string]string{"n": ""}, "add n 1", nil, kv.ErrNotCounter, `""`},

		{"require equals", map[string]string{"a": "1"}, "require a equals 1\nput b 2",
			map[string]string{"a": "1", "b": "2"}, nil, ""},
		{"require equals fails", map[string]string{"a": "1"}, "put b 2\nrequire a equals 2", nil, kv.ErrConflict,
			`operation 2 (require "a"): condition does not hold: the value is "1", want "2"`},
		{"require equals on nothing", nil, "require a equals 2", nil, kv.ErrConflict, "the key is absent"},
		{"require exists", map[string]string{"a": ""}, "require a exists", nil, nil, ""},
		{"require exists fails", nil, "require a exists", nil, kv.ErrConflict, "the key is absent, want a value"},
		{"require absent", nil, "require a absent", nil, nil, ""},
		{"require absent fails", map[string]string{"a": ""}, "require a absent", nil, kv.ErrConflict,
			`want the key absent`},

		{"operations see those before", nil, "put a 1\ncas a equals 1 2\ndelete a\nrequire a absent\nadd a 1\nadd a " +
			"1\nrequire a equals 2",
			map[string]string{"a": "2"}, nil, ""},
		{"all or none", map[string]string{"a": "1"}, "put b 2\ndelete a\nadd n 1\nappend s m\nrequire zz exists", nil,
			kv.ErrConflict, "operation 5"},
	} {
		t.Run(c.name, func(t *testing.T) {
			state := &backendtest.State{Keys: c.before}
			_, err := execute(t, state, c.text)
			if c.err == nil {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, c.err)
				require.ErrorContains(t, err, c.says)
			}

			if c.after == nil {
				c.after = c.before
			}

			require.Equal(t, len(c.after), len(state.Keys))
			for k, v := range c.after {
				require.Equal(t, v, state.Keys[k])
			}
		})
	}
}

func TestReadAnswersInOrder(t *testing.T) {
	state := &backendtest.State{Keys: map[string]string{"a": "1", "e": ""}}
	answers, err := execute(t, state, "read a\nread e\nread none\nput a 2\nread a\nread a")
	require.NoError(t, err)
	require.Equal(t, []kv.Answer{
		{Found: true, Value: []byte("1")}, {Found: true}, {}, {Found: true, Value: []byte("2")},
		{Found: true, Value: []byte("2")},
	}, answers)
}

func TestBodyWithoutReadHasAnEmptyResult(t *testing.T) {
	body, err := kv.Encode(kv.Put([]byte("a"), []byte("1")))
	require.NoError(t, err)
	data, err := new(backendtest.State).Execute(kv.New(), body)
	require.NoError(t, err)
	require.Empty(t, data)
	answers, err := kv.DecodeResult(data)
	require.NoError(t, err)
	require.Empty(t, answers)
}

// Only reads wait for the place in the order, so a body of blind writes must not make any.
func TestBlindWritesNeverWait(t *testing.T) {
	state := &backendtest.State{}
	_, err := execute(t, state, "put a 1\ndelete b\nput c 2")
	require.NoError(t, err)
	require.Zero(t, state.Reads)
}

func TestSetIsBounded(t *testing.T) {
	members := make([]string, kv.MaxMembers)
	for i := range members {
		members[i] = fmt.Sprintf("%06d", i)
	}

	full := strings.Join(members, "\n")
	state := &backendtest.State{Keys: map[string]string{"s": full}}

	_, err := execute(t, state, "append s 000007")
	require.NoError(t, err, "a member that is there needs no room")
	require.GreaterOrEqual(t, state.Steps, uint64(len(full)), "an append costs the set's size")

	_, err = execute(t, state, "append s one-more")
	require.ErrorIs(t, err, kv.ErrSetFull)
	require.Equal(t, full, state.Keys["s"])
}

// An error of the view is returned unchanged from every call of the view: the worker tells a
// poisoned view from a failed transaction by the view, never by the text.
func TestViewErrorIsReturnedAsItIs(t *testing.T) {
	down := errors.New("storage is down")
	const text = "put a 1\nread a\nappend s m\nadd n 1\ncas a equals 1 2\nrequire a equals 2\ndelete a"
	state := &backendtest.State{}
	_, err := execute(t, state, text)
	require.NoError(t, err)
	calls := state.Calls
	require.Greater(t, calls, 14)

	for at := 1; at <= calls; at++ {
		state := &backendtest.State{FailAt: at, Fail: down}
		_, err := execute(t, state, text)
		require.ErrorIs(t, err, down)
		require.True(t, state.Returned == down, "call %d: Execute returned %v", at, state.Returned)
		require.Equal(t, at, state.Calls, "nothing is asked of a poisoned view")
	}
}

func TestMembers(t *testing.T) {
	members, err := kv.Members([]byte("a\nb"))
	require.NoError(t, err)
	require.Equal(t, [][]byte{[]byte("a"), []byte("b")}, members)
	_, err = kv.Members([]byte("a\nb\n"))
	require.ErrorIs(t, err, kv.ErrNotSet)
	require.ErrorContains(t, err, "line 3: the member is empty")
}

// model executes operations on plain maps, numbers and sorted slices. It shares no code with the
// backend, so that the property tests can compare the two.
type model map[string]string

// run returns the index of the operation that failed, or -1.
func (m model) run(ops []kv.Op) (answers []kv.Answer, failed int) {
	for i, o := range ops {
		key := string(o.Key)
		old, found := m[key]

		switch o.Kind {
		case kv.KindPut:
			m[key] = string(o.Value)

		case kv.KindDelete:
			delete(m, key)

		case kv.KindAppend:
			set := map[string]bool{string(o.Value): true}
			if found {
				last := ""
				for _, line := range strings.Split(old, "\n") {
					if line <= last || len(line) > kv.MaxMemberBytes {
						return nil, i
					}
					set[line], last = true, line
				}
			}

			var lines []string
			for line := range set {
				lines = append(lines, line)
			}

			slices.Sort(lines)
			m[key] = strings.Join(lines, "\n")

		case kv.KindAdd:
			n, err := strconv.ParseInt(old, 10, 64)
			if found && (err != nil || fmt.Sprint(n) != old) {
				return nil, i
			}
			sum := n + o.Delta // wraps around
			if (sum > n) != (o.Delta > 0) && o.Delta != 0 {
				return nil, i
			}

			m[key] = fmt.Sprint(sum)

		case kv.KindCAS, kv.KindRequire:
			ok := map[kv.Cond]bool{kv.Equals: found && old == string(o.Expected), kv.Exists: found,
				kv.Absent: !found}[o.Cond]
			if !ok {
				return nil, i
			}
			if o.Kind == kv.KindCAS {
				m[key] = string(o.Value)
			}

		case kv.KindRead:
			a := kv.Answer{Found: found}
			if old != "" {
				a.Value = []byte(old)
			}
			answers = append(answers, a)
		}
	}
	return answers, -1
}

func TestModelOverflows(t *testing.T) {
	for _, c := range []struct {
		n, delta int64
		overflow bool
	}{{math.MaxInt64, 1, true}, {math.MinInt64, -1, true}, {math.MaxInt64, 0, false},
		{math.MinInt64, math.MaxInt64, false}, {-1, math.MinInt64, true}} {
		_, failed := model{"n": fmt.Sprint(c.n)}.run([]kv.Op{kv.Add([]byte("n"), c.delta)})
		require.Equal(t, c.overflow, failed == 0, "%d + %d", c.n, c.delta)
	}
}
