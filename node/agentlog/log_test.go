package agentlog

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/rounds"
)

// The expressions of a reader of such logs, written from the specification (3.8): what stands in
// front of each line, and what each kind of line is.
var (
	row = regexp.MustCompile(
		`^\[(\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2},\d{3})\] \[(INFO|WARNING|ERROR|DEBUG)\] \[([^\]]+)\] (.+)$`)
	kinds = map[string]*regexp.Regexp{
		"round":     regexp.MustCompile(`Entered in the '([a-z_]+)' round for period (\d+)`),
		"behaviour": regexp.MustCompile(`Entered in the '([a-z_]+)' behaviour`),
		"done":      regexp.MustCompile(`'([a-z_]+)' round is done with event: Event\.([A-Z_]+)`),
		"block":     regexp.MustCompile(`arrived block with timestamp: (.+)`),
		"time":      regexp.MustCompile(`current AbciApp time: (.+)`),
		"timeout": regexp.MustCompile(
			`scheduling timeout of (\d+\.\d+) seconds for event Event\.([A-Z_]+) with deadline (.+)`),
	}
)

// parse reads a line as such a reader does: the kind, and then its parts.
func parse(t *testing.T, line string) (agent string, parts []string) {
	t.Helper()
	head := row.FindStringSubmatch(line)
	require.NotNil(t, head, line)
	for kind, e := range kinds {
		if m := e.FindStringSubmatch(head[4]); m != nil {
			require.Nil(t, parts, "two kinds: %s", line)
			parts = append([]string{kind}, m[1:]...)
		}
	}
	return head[3], parts
}

// The lines are those that readers of such logs look for. Item 78.
func TestTheLinesAreThoseThatReadersLookFor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "logs", "agent.txt")
	now := time.Date(2026, 1, 31, 12, 0, 0, 123_999_999, time.FixedZone("elsewhere", 0))
	l, err := Open(Options{Path: path, Agent: "agent0", Now: func() time.Time { return now }})
	require.NoError(t, err)

	block := time.Date(2026, 1, 31, 12, 0, 0, 54_321_000, time.UTC)
	l.Block(block)
	l.Done("observe", rounds.Done)
	l.Entered("estimate", 3, block, []rounds.Deadline{
		{Event: rounds.Timeout, At: block.Add(7 * time.Second)},
		{Event: "OTHER_TIMEOUT", At: block.Add(7500 * time.Millisecond).Truncate(time.Second)}})
	l.Behaviour("estimate")
	require.NoError(t, l.Close())

	data, err := os.ReadFile(path)
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	require.Equal(t, "[2026-01-31 12:00:00,123] [INFO] [agent0] arrived block with timestamp: "+
		"2026-01-31 12:00:00.054321", lines[0])

	var all [][]string
	for _, line := range lines {
		agent, parts := parse(t, line)
		require.Equal(t, "agent0", agent)
		all = append(all, parts)
	}
	require.Equal(t, [][]string{
		{"block", "2026-01-31 12:00:00.054321"}, {"time", "2026-01-31 12:00:00.054321"},
		{"done", "observe", "DONE"}, {"round", "estimate", "3"},
		{"timeout", "7.0", "ROUND_TIMEOUT", "2026-01-31 12:00:07.054321"},
		{"timeout", "6.945679", "OTHER_TIMEOUT", "2026-01-31 12:00:07"}, {"behaviour", "estimate"},
	}, all)
}

// A file of the bound's size is put aside, and one that is there is continued. A node without an
// agent has a name in the lines, too.
func TestTheFileIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.txt")
	now := func() time.Time { return time.Unix(1000, 0) }
	for range 2 {
		f, err := openFile(path, 250, nil)
		require.NoError(t, err)
		l := &Log{file: f, agent: noAgent, now: now}
		l.Behaviour("observe")
		l.Behaviour("observe")
		require.NoError(t, l.Close())
	}

	line := "[1970-01-01 00:16:40,000] [INFO] [no_agent] Entered in the 'observe' behaviour\n"
	old, err := os.ReadFile(path + ".1")
	require.NoError(t, err)
	require.Equal(t, strings.Repeat(line, 3), string(old))
	young, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, line, string(young))
}

// An error is told once, and the log goes on when it can.
func TestAFailureIsToldOnce(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "agent.txt")
	failures := 0
	f, err := openFile(path, 10, func(error) { failures++ })
	require.NoError(t, err)
	f.write("123456789\n")
	require.NoError(t, os.Mkdir(path+".1", 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(path+".1", "x"), nil, 0o600))
	f.write("1\n")
	f.write("2\n")
	require.Equal(t, 1, failures)

	require.NoError(t, os.RemoveAll(path+".1"))
	f.write("3\n")
	require.Equal(t, 1, failures)
	require.NoError(t, f.close())
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "3\n", string(data))
}
