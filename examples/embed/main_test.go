package main

import (
	"os/exec"
	"strings"
	"testing"
)

// The program does both good jobs, says why the worker was started twice, and ends by itself.
func TestEmbed(t *testing.T) {
	out, err := exec.Command("go", "run", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}

	for _, want := range []string{"did first\n", "did last\n", "panic: a job that nobody expected",
		"automatic shutdown"} {
		if strings.Count(string(out), want) == 0 {
			t.Errorf("the output has no %q:\n%s", want, out)
		}
	}
}
