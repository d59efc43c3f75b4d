package eventlog_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDocumentedTestsExist: every test that docs/eventlog.md names exists, and every seeded mistake
// has its row.
func TestDocumentedTestsExist(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("..", "docs", "eventlog.md"))
	require.NoError(t, err)
	tests := map[string]bool{}

	for _, dir := range []string{".", "segment", "pebblefs", "../cmd/coppice/internal/logstream", "../node"} {
		files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
		require.NoError(t, err)

		for _, f := range files {
			src, err := os.ReadFile(f)
			require.NoError(t, err)
			for _, m := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`).FindAllStringSubmatch(
				string(src), -1) {
				tests[m[1]] = true
			}
		}
	}

	named := map[string]bool{}

	for _, m := range regexp.MustCompile("`(?:\\w+\\.)?((?:Test|Fuzz|Benchmark)\\w+)`").FindAllStringSubmatch(
		string(doc), -1) {
		named[m[1]] = true
		require.True(t, tests[m[1]], "docs/eventlog.md names %s, which does not exist", m[1])
	}

	for name := range tests {
		if strings.HasPrefix(name, "TestSeeded") {
			require.True(t, named[name], "docs/eventlog.md has no row for %s", name)
		}
	}

	require.Greater(t, len(named), 20)
}
