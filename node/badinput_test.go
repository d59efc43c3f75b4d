package node

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The tests that the rows of docs/bad-input.md name exist.
func TestBadInputIsHeldByTests(t *testing.T) {
	doc, err := os.ReadFile("../docs/bad-input.md")
	require.NoError(t, err)
	rows := 0

	for line := range strings.Lines(string(doc)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 3 || strings.HasPrefix(cells[0], "---") || strings.TrimSpace(cells[0]) == "input" {
			continue
		}

		rows++
		file := regexp.MustCompile("`([^`]+)`").FindStringSubmatch(cells[2])
		require.NotNil(t, file, "no file in %q", line)
		text, err := os.ReadFile(filepath.Join("..", file[1]))
		require.NoError(t, err, line)
		names := regexp.MustCompile(`\b(Test|Fuzz)\w+`).FindAllString(cells[2], -1)
		if strings.HasSuffix(file[1], ".go") {
			require.NotEmpty(t, names, "no test in %q", line)
		}

		for _, name := range names {
			require.Contains(t, string(text), "func "+name+"(", "%s has no %s", file[1], name)
		}
	}

	require.Greater(t, rows, 30)
}
