package command

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/consensus/comet/child"
)

// Each leaf command has a file of its own, named after the command's path: log_dump.go for "coppice
// log dump".
func TestEachCommandHasItsFile(t *testing.T) {
	owners := map[string]string{} // by file
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		for _, child := range c.Commands() {
			walk(child)
		}

		path, _ := strings.CutPrefix(c.CommandPath(), "coppice ")
		if c.HasSubCommands() || path == "coppice" || path == child.Command { // that is a driver's own
			return
		}

		file := strings.NewReplacer(" ", "_", "-", "_").Replace(path) + ".go"
		require.Empty(t, owners[file], "%s is also the file of %q", file, path)
		owners[file] = path
		src, err := os.ReadFile(file)
		require.NoError(t, err, "the file of %q", path)
		require.Contains(t, string(src), strconv.Quote(c.Use), "%s does not make the command %q", file, path)
	}
	walk(newRoot(Program{}))
	require.Greater(t, len(owners), 30)
}

// The help of each command is at most 100 columns wide, has a short line, and has an example.
func TestHelpIsReadable(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		for _, child := range c.Commands() {
			walk(child)
		}

		var help bytes.Buffer
		c.SetOut(&help)
		require.NoError(t, c.Help())

		for line := range strings.Lines(help.String()) {
			require.LessOrEqual(t, utf8.RuneCountInString(strings.TrimRight(line, "\n")), 100, "%q: %s",
				c.CommandPath(), line)
		}

		require.NotEmpty(t, c.Short, c.CommandPath())
		require.LessOrEqual(t, len(c.Short), 75, "%q: %s", c.CommandPath(), c.Short)
		require.False(t, strings.HasSuffix(c.Short, "."), c.CommandPath())
		require.True(t, c.Hidden || c.HasExample(), "%q has no example", c.CommandPath())
	}
	walk(newRoot(Program{}))
}
