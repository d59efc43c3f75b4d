package arch_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestTheConformanceOfTheRounds compares docs/rounds-conformance.md with the tests that exist: each
// item from 58 to 83 has a row, and each test that a row names exists.
func TestTheConformanceOfTheRounds(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "rounds-conformance.md"))
	if err != nil {
		t.Fatal(err)
	}

	exist := existingTests(t)
	row := regexp.MustCompile("^\\| ([^|]+) \\| [^|]+ \\| ([^|]+) \\|$")
	named := regexp.MustCompile("`((?:Test|Benchmark)\\w+)`")
	items := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		m := row.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil || m[2] == "tests" {
			continue
		}
		items[m[1]] = true
		tests := named.FindAllStringSubmatch(m[2], -1)
		if len(tests) == 0 {
			t.Errorf("item %s names no test", m[1])
		}
		for _, name := range tests {
			if !exist[name[1]] {
				t.Errorf("item %s: there is no %s", m[1], name[1])
			}
		}
	}

	for item := 58; item <= 83; item++ {
		if !items[strconv.Itoa(item)] {
			t.Errorf("item %d has no row", item)
		}
	}
}

// existingTests returns the names of all tests and benchmarks.
func existingTests(t *testing.T) map[string]bool {
	t.Helper()
	exist := map[string]bool{}
	function := regexp.MustCompile(`(?m)^func ((?:Test|Benchmark)\w+)\(`)
	for _, f := range goFiles(t) {
		if !f.test {
			continue
		}
		source, err := os.ReadFile(filepath.Join("..", "..", f.path))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range function.FindAllStringSubmatch(string(source), -1) {
			exist[m[1]] = true
		}
	}
	return exist
}

// TestTheTestsOfResetsExist compares docs/resets.md with the tests that exist: each item from 37 to
// 57 and each of the seven seeded mistakes has a row, and each test that a row names exists.
func TestTheTestsOfResetsExist(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "resets.md"))
	if err != nil {
		t.Fatal(err)
	}
	items, mistakes, _ := strings.Cut(string(text), "## Seeded mistakes")

	exist := existingTests(t)
	for _, m := range regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(string(text), -1) {
		if !exist[m[1]] {
			t.Errorf("there is no %s", m[1])
		}
	}
	for item := 37; item <= 57; item++ {
		if !regexp.MustCompile(`(?m)^\| ` + strconv.Itoa(item) + ` \| .*Test`).MatchString(items) {
			t.Errorf("item %d has no row that names a test", item)
		}
	}
	if n := len(regexp.MustCompile("(?m)^\\| [^`]+ \\| `Test").FindAllString(mistakes, -1)); n != 7 {
		t.Errorf("%d seeded mistakes, want 7", n)
	}
}
