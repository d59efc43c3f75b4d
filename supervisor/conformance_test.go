package supervisor_test

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// suite lists the cases of OTP's supervisor_SUITE.
const suite = `
sup_start_normal sup_start_ignore_init sup_start_ignore_child sup_start_ignore_temporary_child sup_start_ignore_temporary_child_start_child
sup_start_ignore_temporary_child_start_child_simple sup_start_ignore_permanent_child_start_child_simple sup_start_error_return sup_start_fail
sup_start_child_returns_error sup_start_restart_child_returns_error sup_start_child_returns_error_simple sup_start_map sup_start_map_simple
sup_start_map_faulty_specs sup_stop_infinity sup_stop_timeout sup_stop_timeout_dynamic sup_stop_brutal_kill sup_stop_brutal_kill_dynamic sup_stop_race
sup_stop_non_shutdown_exit_dynamic external_start_no_progress_log permanent_normal permanent_shutdown permanent_abnormal transient_normal transient_shutdown
transient_abnormal temporary_normal temporary_shutdown temporary_abnormal faulty_application_shutdown child_adm child_adm_simple extra_return child_specs
child_specs_map sup_flags multiple_restarts one_for_one one_for_one_escalation one_for_all one_for_all_escalation one_for_all_other_child_fails_restart
simple_one_for_one simple_one_for_one_shutdown simple_one_for_one_extra simple_one_for_one_escalation simple_one_for_one_corruption
simple_one_for_one_restart_ignore rest_for_one rest_for_one_escalation rest_for_one_other_child_fails_restart child_unlink tree nonsignificant_temporary
nonsignificant_transient significant_temporary significant_transient significant_simple significant_bystander significant_escalation
significant_upgrade_never_any significant_upgrade_any_never significant_upgrade_never_all significant_upgrade_all_never significant_upgrade_any_all
significant_upgrade_all_any significant_upgrade_child count_children count_children_supervisor count_restarting_children get_callback_module
do_not_save_start_parameters_for_temporary_children do_not_save_child_specs_for_temporary_children simple_one_for_one_scale_many_temporary_children
temporary_bystander simple_global_supervisor hanging_restart_loop hanging_restart_loop_rest_for_one hanging_restart_loop_simple code_change code_change_map
code_change_simple code_change_simple_map order_of_children scale_start_stop_many_children format_log_1 format_log_2 already_started_outside_supervisor
which_children which_children_simple_one_for_one`

// lacking lists the cases that OTP's suite lacks, by the first words of their rows. hazards lists
// errors that were seen in other supervisors.
var (
	lacking = []string{"the boundary of the window", "simultaneous deaths", "revival in a group restart",
		"give-up under a transient parent", "a hung start",
		"a call into one's own supervisor", "Goexit", "orphans"}
	hazards = []string{"a child's normal exit touches siblings, or counts", "an attempt that does not count",
		"a start that fails once inside a restart is not tried again",
		"a stop whose caller has left leaks", "a stuck grandchild is missing from the root's report",
		"a supervisor cannot be served again", "a stale handle works",
		"an exit is lost in a race between start and link"}
	// deviations lists the rules that the closed list may name.
	deviations = []string{"4", "15", "41", "54", "58", "60", "71, 73", "77"}
	erlangOnly = []int{76, 77}
)

// table returns the rows of the first table below a heading.
func table(t *testing.T, doc, heading string) [][]string {
	t.Helper()
	_, rest, ok := strings.Cut(doc, "\n"+heading+"\n")
	require.True(t, ok, "no heading %q", heading)
	var rows [][]string

	for line := range strings.Lines(rest) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			if len(rows) > 0 {
				break
			}
			continue
		}

		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}

		rows = append(rows, cells)
	}

	require.Greater(t, len(rows), 2, heading)

	return rows[2:] // without the head and the rule below it
}

var quoted = regexp.MustCompile("`(\\w+)`")

func names(cell string) (out []string) {
	for _, m := range quoted.FindAllStringSubmatch(cell, -1) {
		out = append(out, m[1])
	}
	return out
}

var link = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)

// unlinked returns the text of a cell without the targets of its links.
func unlinked(cell string) string { return link.ReplaceAllString(cell, "$1") }

// TestConformance compares docs/otp-conformance.md with the tests that exist.
func TestConformance(t *testing.T) {
	text, err := os.ReadFile("../docs/otp-conformance.md")
	require.NoError(t, err)
	doc := string(text)

	tests := map[string]bool{}
	files, err := filepath.Glob("*_test.go")
	require.NoError(t, err)

	for _, file := range files {
		source, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, m := range regexp.MustCompile(`(?m)^func Test(\w+)\(`).FindAllSubmatch(source, -1) {
			tests[string(m[1])] = true
		}
		require.NotRegexp(t, `\bt\.Skip`, string(source), "%s skips a test", file)
	}

	require.Greater(t, len(tests), 100)
	// held checks that a row names tests, all of which exist, or says that the case is Erlang's
	// alone.
	held := func(row []string, erlang bool) {
		t.Helper()
		cell := row[len(row)-1]

		if erlang {
			require.True(t, strings.HasPrefix(cell, "Erlang-only: ") && len(cell) > 40, "%q gives no reason", row)
			return
		}

		found := 0

		for _, name := range names(cell) {
			if tests[name] {
				found++
			} else if strings.Contains(name, "_") || strings.HasPrefix(name, "Rule") {
				t.Errorf("%s: there is no Test%s", row[0], name)
			}
		}

		require.NotZero(t, found, "%q names no test", row)
	}

	var rules []int

	for _, row := range table(t, doc, "## Rules and their tests") {
		n, err := strconv.Atoi(unlinked(row[0]))
		require.NoError(t, err, row)
		require.Equal(t, fmt.Sprintf("[%d](otp-rules.md#rule-%[1]d)", n), row[0])
		rules = append(rules, n)
		erlang := slices.Contains(erlangOnly, n)
		held(row, erlang)
		if erlang {
			continue
		}

		numbered := false
		for name := range tests {
			numbered = numbered || strings.Contains(name, fmt.Sprintf("Rule%02d", n))
		}

		require.True(t, numbered, "-run Rule%02d runs nothing", n)
	}

	require.Len(t, rules, 81)
	for i, n := range rules {
		require.Equal(t, i+1, n)
	}

	for _, row := range table(t, doc, "## Exit classes and their tests") {
		held(row, false)
	}

	cases := map[string]bool{}

	for _, row := range table(t, doc, "## The cases of supervisor_SUITE") {
		held(row, row[1] == "—")
		for _, name := range names(row[0]) {
			require.False(t, cases[name], "%s is there twice", name)
			cases[name] = true
		}
	}

	require.Len(t, cases, 93)
	for _, name := range strings.Fields(suite) {
		require.True(t, cases[name], "the case %s is missing", name)
	}

	for heading, all := range map[string][]string{"## What OTP's suite lacks": lacking, "## Hazards": hazards} {
		var said []string
		for _, row := range table(t, doc, heading) {
			held(row, false)
			said = append(said, row[0])
		}

		for _, want := range all {
			require.True(t, slices.ContainsFunc(said, func(s string) bool {
				return strings.HasPrefix(s, want)
			}), "%s: %q is missing", heading, want)
		}
	}

	// The list of deviations is closed. One more is a decision, with a record of its own.
	var listed []string

	for _, row := range table(t, doc, "## Deviations") {
		listed = append(listed, unlinked(row[0]))
		for _, m := range regexp.MustCompile(`\]\((adr/[^)]+)\)`).FindAllStringSubmatch(row[3], -1) {
			require.FileExists(t, filepath.Join("..", "docs", m[1]))
		}
	}

	require.Equal(t, deviations, listed)
}

var (
	ruleHeading = regexp.MustCompile(`(?m)^### Rule (\d+)$`)
	ruleLink    = regexp.MustCompile(`#rule-(\d+)\)`)
	citation    = regexp.MustCompile(`(?i)\brules? (\d+(?:(?:,| and| to| or|, and) \d+)*)`)
	wrapped     = regexp.MustCompile(`\n\s*(//|%+)\s*`)
	number      = regexp.MustCompile(`\d+`)
)

// Every rule that the code or a document cites is in docs/otp-rules.md, which has 81 in order.
func TestCitedRulesAreWritten(t *testing.T) {
	rules, err := os.ReadFile("../docs/otp-rules.md")
	require.NoError(t, err)
	headings := ruleHeading.FindAllSubmatch(rules, -1)
	require.Len(t, headings, 81)
	written := map[string]bool{}

	for i, m := range headings {
		require.Equal(t, strconv.Itoa(i+1), string(m[1]))
		written[string(m[1])] = true
	}

	check := func(path string, cited string) {
		if !written[cited] {
			t.Errorf("%s cites rule %s, which docs/otp-rules.md does not have", path, cited)
		}
	}

	for _, path := range []string{"../docs/otp-rules.md", "../docs/otp-conformance.md"} {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, m := range ruleLink.FindAllSubmatch(text, -1) {
			check(path, string(m[1]))
		}
	}

	cited := 0
	require.NoError(t, filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !slices.Contains([]string{".go", ".erl"}, filepath.Ext(path)) {
			return err
		}

		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}

		for _, m := range citation.FindAllSubmatch(wrapped.ReplaceAll(text, []byte(" ")), -1) {
			for _, n := range number.FindAllString(string(m[1]), -1) {
				check(path, n)
				cited++
			}
		}

		return nil
	}))

	require.Greater(t, cited, 100)
}

// Importing the package brings in suture, and nothing else outside the standard library.
func TestDependencies(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f",
		"{{if not .Standard}}{{.ImportPath}}{{end}}", ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Equal(t, []string{"github.com/coppice-go/coppice/supervisor", "github.com/thejerf/suture/v4"},
		slices.Sorted(slices.Values(strings.Fields(string(out)))))
}

// The package and the packages below it build for all systems that people run it on. From empty
// caches that compiles the standard library for each system, so all but the first wait for
// COPPICE_SOAK.
func TestBuildsForOtherSystems(t *testing.T) {
	systems := []string{"linux"}
	if os.Getenv("COPPICE_SOAK") != "" {
		systems = append(systems, "darwin", "windows")
	}

	for _, system := range systems {
		cmd := exec.CommandContext(t.Context(), "go", "build", "./...")
		cmd.Env = append(os.Environ(), "GOOS="+system, "CGO_ENABLED=0", "GOFLAGS=") // no -race, which wants cgo
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s: %s", system, out)
	}
}
