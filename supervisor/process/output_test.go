package process

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// Any output is read completely, in bounded pieces, however it arrives.
func TestLines(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.StringOfN(rapid.SampledFrom([]rune("ab\n\r")), 0, 200, -1).Draw(t, "in")
		limit := rapid.IntRange(16, 40).Draw(t, "limit")
		var got []string
		lines(iotest.OneByteReader(strings.NewReader(in)), limit, func(l []byte) { got = append(got, string(l)) })

		var want []string

		for rest := in; rest != ""; {
			line, after, ended := strings.Cut(rest, "\n")
			rest = after
			end := ""
			if ended {
				end = "\n"
			}

			long := false

			for len(line)+len(end) > limit { // the end must fit into the last piece
				n := min(len(line), limit)
				want, line, long = append(want, line[:n]), line[n:], true
			}

			if ended {
				line = strings.TrimSuffix(line, "\r")
			}
			if line != "" || ended && !long {
				want = append(want, line)
			}
		}

		require.Equal(t, want, got)
	})
}

func TestTail(t *testing.T) {
	var k tail
	require.Nil(t, k.last())
	for n := range KeptLines + 3 {
		k.add([]byte(fmt.Sprint(n)))
	}

	k.add([]byte(strings.Repeat("y", 2*KeptLineBytes)))
	got := k.last()
	require.Len(t, got, KeptLines)
	require.Equal(t, "4", got[0])
	require.Len(t, got[KeptLines-1], KeptLineBytes)
}

func TestExitError(t *testing.T) {
	gone := errors.New("no child processes")
	for want, e := range map[string]*ExitError{
		"db (pid 7): exit status 3": {Status: 3},
		"db (pid 7): exit status 1, when asked to end": {Status: 1,
			Asked: true},
		"db (pid 7): signal 6 (aborted), core dumped; last on stderr: b | c | d | e | f": {Status: -1,
			Signal: syscall.SIGABRT, CoreDumped: true, LastLines: strings.Split("abcdef", "")},
		"db (pid 7): signal 9 (killed), as it did not end when asked to; last on stderr: I stay": {Status: -1,
			Signal: syscall.SIGKILL, Asked: true, Forced: true, LastLines: []string{"I stay"}},
		"db (pid 7): how it ended is unknown: no child processes; last on stderr: somebody waited me": {Status: -1,
			unknown: gone, LastLines: []string{"somebody waited me"}},
	} {
		e.Name, e.PID = "db", 7
		require.EqualError(t, e, want)
	}

	e := &ExitError{Asked: true}
	e.read(nil, gone)
	require.ErrorIs(t, e, gone)
	require.False(t, e.obeyed(syscall.SIGTERM))
	require.Equal(t, "abnormal", ExitZeroAbnormal.String())
	require.Equal(t, "normal", ExitZeroNormal.String())
}
