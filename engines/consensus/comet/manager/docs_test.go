package manager

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Each test that the checklist of docs/manager.md names is there.
func TestTheChecklistNamesTests(t *testing.T) {
	const root = "../../../.."
	doc, err := os.ReadFile(filepath.Join(root, "docs/manager.md"))
	require.NoError(t, err)
	_, table, ok := strings.Cut(string(doc), "## What the tests hold")
	require.True(t, ok)

	var all strings.Builder
	for _, dir := range []string{"engines/consensus/comet", "node"} {
		read := func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			data, err := os.ReadFile(path)
			all.Write(data)
			return err
		}
		require.NoError(t, filepath.WalkDir(filepath.Join(root, dir), read))
	}

	names := regexp.MustCompile(`\bTest[A-Za-z0-9]+`).FindAllString(table, -1)
	require.Greater(t, len(names), 40)
	for _, name := range names {
		require.True(t, strings.Contains(all.String(), "func "+name+"("), "docs/manager.md names %s", name)
	}
}
