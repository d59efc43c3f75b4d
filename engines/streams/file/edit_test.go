package file

import "strings"

func split(s string) []string { return strings.Split(strings.TrimSuffix(s, "\n"), "\n") }

func join(lines []string) string { return strings.Join(lines, "\n") + "\n" }

// changed returns a line with the outcome's code changed, if it has one.
func changed(line string) string {
	if strings.Contains(line, `"code":0`) {
		return strings.Replace(line, `"code":0`, `"code":7`, 1)
	}
	return strings.Replace(line, `"code":1`, `"code":7`, 1)
}
