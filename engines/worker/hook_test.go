package worker

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// hook is a backend whose EndBlock is the function f.
type hook struct {
	code
	name string
	f    func(v chain.View, b chain.Block) error
}

func (h hook) Name() string                               { return h.name }
func (h hook) EndBlock(v chain.View, b chain.Block) error { return h.f(v, b) }

// EndBlock records what hooks hand in.
func (s *store) EndBlock(_ context.Context, v chain.Version, changes []*logv1.Change) error {
	s.at, s.changes = v, changes
	return nil
}

var ended = chain.Block{Period: 1, Height: 5, Txs: [][]byte{nil, nil}, Time: time.UnixMilli(2_000)}

func writes(key, value string) func(chain.View, chain.Block) error {
	return func(v chain.View, _ chain.Block) error { return v.Put([]byte(key), []byte(value)) }
}

func endBlock(t *testing.T, s *store, hooks ...chain.BlockBackend) []*logv1.HookFailure {
	t.Helper()
	failures, err := Hooks{Backends: hooks, Store: s}.EndBlock(t.Context(), ended)
	require.NoError(t, err)
	require.Equal(t, chain.Version{Period: 1, Height: 5, Index: 2}, s.at)
	return failures
}

func TestHooksSeeTheHooksBefore(t *testing.T) {
	s := &store{value: []byte("of the state")}
	failures := endBlock(t, s, hook{name: "a", f: writes("k", "of a")}, hook{name: "b", f: func(v chain.View,
		b chain.Block) error {
		value, found, err := v.Get([]byte("k"))
		require.NoError(t, err)
		require.True(t, found)
		require.Equal(t, "of a", string(value))

		value, _, err = v.Get([]byte("other"))
		require.NoError(t, err)
		require.Equal(t, "of the state", string(value))

		at, err := v.Version()
		require.NoError(t, err)
		require.Equal(t, ended.HookVersion(), at)
		now, err := v.BlockTime()
		require.NoError(t, err)
		require.Equal(t, ended.Time, now)
		require.Equal(t, ended.Height, b.Height)

		return v.Delete([]byte("k"))
	}}, hook{name: "c", f: func(v chain.View, _ chain.Block) error {
		_, found, err := v.Get([]byte("k"))
		require.False(t, found, "b has deleted it")
		return err
	}})

	require.Empty(t, failures)
	require.Len(t, s.changes, 2)
	for _, c := range s.changes {
		require.Equal(t, ended.HookVersion(), chain.VersionFromProto(c.Version))
	}
}

// What a hook does wrong drops its own writes and no others, and is named.
func TestAHookThatFailsWritesNothing(t *testing.T) {
	big := strings.Repeat("x", chain.MaxHookBytes/2)

	for name, tc := range map[string]struct {
		hook func(v chain.View) error
		want logv1.Code
		log  string
	}{
		"error":  {func(chain.View) error { return errors.New("no") }, logv1.Code_CODE_FAILED, "no"},
		"panic":  {func(chain.View) error { panic("oh") }, logv1.Code_CODE_PANICKED, "panicked: oh"},
		"goexit": {func(chain.View) error { runtime.Goexit(); return nil }, logv1.Code_CODE_PANICKED, "goroutine"},
		"too much": {func(v chain.View) error {
			v.Put([]byte("1"), []byte(big))
			return v.Put([]byte("2"), []byte(big))
		}, logv1.Code_CODE_LIMIT, "of the hooks there are"},
		"a reserved key": {func(v chain.View) error {
			v.Put([]byte(chain.RoundsPrefix+"round"), nil)
			return nil // it counts, whatever the code returns
		}, logv1.Code_CODE_LIMIT, "reserved"},
		"a long text": {func(chain.View) error { panic(strings.Repeat("\xff", 10_000)) },
			logv1.Code_CODE_PANICKED, "panicked: ?"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &store{}
			failures := endBlock(t, s,
				hook{name: "a", f: writes("before", "1")},
				hook{name: "b", f: func(v chain.View, b chain.Block) error {
					require.NoError(t, v.Put([]byte("lost"), nil))
					return tc.hook(v)
				}},
				hook{name: "c", f: writes("after", "1")})

			require.Len(t, failures, 1)
			require.Equal(t, "b", failures[0].Backend)
			require.Equal(t, tc.want, failures[0].Code)
			require.Contains(t, failures[0].Log, tc.log)
			require.LessOrEqual(t, len(failures[0].Log), chain.MaxResultLogBytes)
			require.Len(t, s.changes, 2)
			require.Equal(t, "before", string(s.changes[0].Key))
			require.Equal(t, "after", string(s.changes[1].Key))
		})
	}
}

// The hooks of a block share their room, in their order.
func TestHooksShareTheirRoom(t *testing.T) {
	s := &store{}
	half := strings.Repeat("x", chain.MaxHookBytes/2)
	failures := endBlock(t, s, hook{name: "a", f: writes("a", half)}, hook{name: "b", f: writes("b", half)},
		hook{name: "c", f: writes("c", "")})
	require.Len(t, failures, 1)
	require.Equal(t, "b", failures[0].Backend)
	require.Len(t, s.changes, 2)
}

// Transactions may be bounded as tightly as a genesis wants; hooks are not.
func TestHooksHaveNoLimitOfOperations(t *testing.T) {
	s := &store{}
	failures := endBlock(t, s, hook{name: "a", f: func(v chain.View, _ chain.Block) error {
		for range chain.DefaultParams().MaxTxOps + 1 {
			if _, _, err := v.Get([]byte("k")); err != nil {
				return err
			}
		}
		return v.Step(1 << 62)
	}})
	require.Empty(t, failures)
}

// A read that fails is not the hook's fault: it has no result, whatever the hook makes of it.
func TestAFailedReadIsNoResultOfAHook(t *testing.T) {
	s := &store{err: errors.New("down")}
	for name, f := range map[string]func(v chain.View) error{
		"returned": func(v chain.View) error { _, _, err := v.Get([]byte("k")); return err },
		"ignored":  func(v chain.View) error { v.Get([]byte("k")); return nil },
		"panic":    func(v chain.View) error { _, _, err := v.Get([]byte("k")); panic(err) },
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Hooks{Store: s, Backends: []chain.BlockBackend{hook{name: "a",
				f: func(v chain.View, _ chain.Block) error { return f(v) }}}}.EndBlock(t.Context(), ended)
			require.ErrorContains(t, err, "backend a at the end of block 5")
			require.ErrorIs(t, err, s.err)
			require.Zero(t, s.at, "nothing was handed in")
		})
	}
}

// A hook that has dealt with a failure is named, and its writes stand.
func TestAFailureThatAHookHasDealtWithIsReported(t *testing.T) {
	s := &store{}
	failures := endBlock(t, s, hook{name: "a", f: func(v chain.View, _ chain.Block) error {
		require.NoError(t, v.Put([]byte("k"), nil))
		return chain.Reported{Err: errors.New("a part of it failed")}
	}})
	require.Len(t, failures, 1)
	require.Equal(t, logv1.Code_CODE_OK, failures[0].Code)
	require.Equal(t, "a part of it failed", failures[0].Log)
	require.Len(t, s.changes, 1)
}
