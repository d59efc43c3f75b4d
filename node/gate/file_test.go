package gate

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/streams"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), FileName)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// Section 2: the table of fields, with its defaults.
func TestAGateHasTheDefaultsOfTheTable(t *testing.T) {
	gates, err := Read(write(t, `
[[gate]]
name = "books"
sinks = ["ledger"]
n = "all"

[[gate]]
name = "mirrors"
sinks = ["a", "b", "ledger"]
n = 2
max_lag = 9
timeout = "0s"
on_exceed = "halt"
ack = "received"
accept_degraded = true

[[gate]]
name = "slow"
sinks = ["a"]
n = 1
max_lag = 9
low_water = 0
spill_bytes = 1048576
spill_time = "5m"
then = "drop"
`), newSinks("a", "b", "ledger"))
	require.NoError(t, err)
	require.Equal(t, []Gate{
		{Name: "books", Sinks: []string{"ledger"}, Timeout: 30 * time.Second, OnExceed: Spill, SpillBytes: 4 << 30,
			SpillTime: time.Hour, Then: Pause, Ack: streams.Durable},
		{Name: "mirrors", Sinks: []string{"a", "b", "ledger"}, Need: 2, MaxLag: 9, LowWater: 4, OnExceed: Halt,
			SpillBytes: 4 << 30, SpillTime: time.Hour, Then: Pause, Ack: streams.Received, AcceptDegraded: true},
		{Name: "slow", Sinks: []string{"a"}, Need: 1, MaxLag: 9, Timeout: 30 * time.Second, OnExceed: Spill,
			SpillBytes: 1 << 20, SpillTime: 5 * time.Minute, Then: Drop, Ack: streams.Durable},
	}, gates)
}

// R22 and section 4: a bad file is refused with file, line and column, all problems at once.
func TestABadFileOfGatesSaysWhere(t *testing.T) {
	const good = "name = \"g\"\nsinks = [\"a\"]\nn = 1\n"
	for text, want := range map[string]string{
		"[[gate]]\n" + good + "speed = 1":                           `5:1: unknown key "speed" of a gate`,
		"[[gate]]\n" + good + "  max_lag = -1":                      `5:3: max_lag: -1, want a number from 0`,
		"[[gate]]\n" + good + "max_lag = \"1\"":                     `5:1: max_lag: 1, want a number from 0`,
		"[[gate]]\n" + good + "max_lag = 2\nlow_water = 3":          `6:1: low_water: 3 is above max_lag = 2`,
		"[[gate]]\n" + good + "timeout = \"soon\"":                  `5:1: timeout: soon, want a duration such as "30s"`,
		"[[gate]]\n" + good + "timeout = \"-1s\"":                   `5:1: timeout: -1s, want`,
		"[[gate]]\n" + good + "on_exceed = \"stop\"":                `5:1: on_exceed: stop, want one of ["halt" "pause" "drop" "spill"]`,
		"[[gate]]\n" + good + "then = \"spill\"":                    `5:1: then: spill, want one of ["halt" "pause" "drop"]`,
		"[[gate]]\n" + good + "on_exceed = \"halt\"\nthen=\"drop\"": `6:1: then: is for on_exceed = "spill" only`,
		"[[gate]]\n" + good + "spill_bytes = 0":                     `5:1: spill_bytes: want 1 or more bytes`,
		"[[gate]]\n" + good + "spill_time = \"0s\"":                 `5:1: spill_time: 0s, want a duration`,
		"[[gate]]\n" + good + "ack = \"processed\"":                 `3:1: sinks: an acknowledgment of a means "durable", and the gate wants "processed"`,
		"[[gate]]\n" + good + "ack = \"seen\"":                      `5:1: ack: seen, want one of ["received" "durable" "processed"]`,
		"[[gate]]\n" + good + "accept_degraded = 1":                 `5:1: accept_degraded: 1, want true or false`,
		"[[gate]]\nname = \"g\"\nsinks = [\"a\"]\nn = 2":            `4:1: n: 2 of 1 sinks`,
		"[[gate]]\nname = \"g\"\nsinks = [\"a\"]\nn = \"some\"":     `4:1: n: some, want a number of sinks, or "all"`,
		"[[gate]]\nname = \"g\"\nsinks = [\"a\"]\nn = 0":            `4:1: n: 0, want a number of sinks, or "all"`,
		"[[gate]]\nname = \"g\"\nsinks = [\"a\", \"a\"]\nn = 1":     `3:1: sinks: names "a" twice`,
		"[[gate]]\nname = \"g\"\nsinks = [\"z\"]\nn = 1":            `3:1: sinks: there is no sink "z", want some of: a, b`,
		"[[gate]]\nname = \"g\"\nsinks = []\nn = \"all\"":           `3:1: sinks: names no sink`,
		"[[gate]]\nname = \"g\"\nsinks = [1]\nn = \"all\"":          `3:1: sinks: [1], want a list of names of sinks`,
		"\n[[gate]]\nname = \"g\"\nn = 1":                           `2:3: sinks: is missing`,
		"[[gate]]\nname = \"Two words\"\nsinks = [\"a\"]\nn = 1":    `2:1: name: "Two words" is no name of a gate`,
		"[[gate]]\n" + good + "[[gate]]\n" + good:                   `6:1: name: "g" is the name of an earlier gate`,
		"gates = 1":                      `1:1: unknown key "gates", want [[gate]]`,
		"[gate]\nname = \"g\"":           `1:2: gate is no list of tables, want [[gate]]`,
		"gate = [{name = \"g\", n = 1}]": `1:1: sinks: is missing`,
		"[[gate]]\nname = g":             `2:8: `,
	} {
		_, err := Parse("streams/gates.toml", []byte(text), newSinks("a", "b"))
		require.ErrorIs(t, err, ErrFile, text)
		require.Contains(t, err.Error(), "streams/gates.toml:"+want, text)
	}

	_, err := Parse("gates.toml", []byte("[[gate]]\nname = 1\nn = 0\nfast = true\n"), newSinks())
	require.Len(t, strings.Split(err.Error(), "\n"), 4, "all problems at once: %v", err)
}

// A node without a file of gates has none, and one without sinks refuses a gate.
func TestNoFileIsNoGate(t *testing.T) {
	gates, err := Read(filepath.Join(t.TempDir(), FileName), None{})
	require.NoError(t, err)
	require.Empty(t, gates)

	_, err = Parse("gates.toml", []byte("[[gate]]\nname = \"g\"\nsinks = [\"a\"]\nn = 1"), None{})
	require.ErrorContains(t, err, `gates.toml:3:1: sinks: there is no sink "a", want some of: (none is defined)`)
}

// A start that leaves out a sink that does not exist is refused.
func TestOnlyASinkThatExistsIsLeftOut(t *testing.T) {
	_, err := New(Options{File: write(t, ""), Data: t.TempDir(), Sinks: newSinks("a"), Without: []string{"b"}})
	require.ErrorIs(t, err, ErrWithout)
	require.ErrorContains(t, err, `"b" is left out, want one of: a`)
}
