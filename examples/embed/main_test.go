package main

import (
	"os/exec"
	"strings"
	"testing"
)

// The program ends by itself, has done both good jobs, and says why the worker was started twice.
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
