package metrics

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const rulesDir = "../../packaging/prometheus"

// needPromtool skips the test where Prometheus is not installed. Where COPPICE_REQUIRE names
// "promtool", as in CI, it fails instead.
func needPromtool(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err == nil {
		return path
	}

	demanded := strings.FieldsFunc(os.Getenv("COPPICE_REQUIRE"), func(r rune) bool { return r == ',' || r == ' ' })
	if slices.Contains(demanded, "promtool") {
		t.Fatal("promtool is not installed, and COPPICE_REQUIRE demands promtool")
	}
	t.Skip("promtool is not installed")

	return ""
}

// Prometheus itself evaluates each rule on series for which it fires and for which it does not.
func TestTheAlertRulesFire(t *testing.T) {
	promtool := needPromtool(t)
	for _, args := range [][]string{
		{"check", "rules", "coppice.rules.yml"}, {"test", "rules", "coppice.rules.test.yml"},
	} {
		cmd := exec.Command(promtool, args...)
		cmd.Dir = rulesDir
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
}

func readRules(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(rulesDir, name))
	require.NoError(t, err)
	return string(b)
}

var (
	alertLine  = regexp.MustCompile(`(?m)^ *- alert: (\w+)$`)
	alertRow   = regexp.MustCompile("(?m)^\\| `(Coppice\\w+)` \\|")
	testedLine = regexp.MustCompile(`(?m)^ *alertname: (\w+)\n *exp_alerts:\n`) // with an alert that fires
	exprLine   = regexp.MustCompile(`(?m)^ *expr: (?:>-\n((?: {10}.*\n)+)|(.*)\n)`)
	ruleMetric = regexp.MustCompile(`\b(?:coppice|process|go)_\w+`)
)

func names(re *regexp.Regexp, text string) (found []string) {
	for _, m := range re.FindAllStringSubmatch(text, -1) {
		found = append(found, m[1])
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// Each rule is tested and documented, and asks for series that a node has.
func TestTheAlertRulesAreOfThisProgram(t *testing.T) {
	rules := readRules(t, "coppice.rules.yml")
	alerts := names(alertLine, rules)
	require.Greater(t, len(alerts), 10)
	require.Equal(t, alerts, names(testedLine, readRules(t, "coppice.rules.test.yml")))

	doc, err := os.ReadFile("../../docs/metrics.md")
	require.NoError(t, err)
	require.Equal(t, alerts, names(alertRow, string(doc)))

	text := scrape(t, used(full()))
	exprs := exprLine.FindAllStringSubmatch(rules, -1)
	require.Len(t, exprs, len(alerts))

	for _, e := range exprs {
		for _, metric := range ruleMetric.FindAllString(e[1]+e[2], -1) {
			require.Regexp(t, `(?m)^`+metric+`[{ ]`, text, "no node has this series")
		}

		for _, label := range regexp.MustCompile(`\b(\w+)="(\w+)"`).FindAllString(e[1]+e[2], -1) {
			require.Contains(t, text, label, "no node has this label")
		}
	}
}
