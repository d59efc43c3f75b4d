package main

import (
	"bufio"
	_ "embed"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

//go:embed otp.erl
var otpProgram []byte

// otpNode is an Erlang node that measures on demand. It is idle while another program runs.
type otpNode struct {
	dir string
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// otpWork names the Erlang function of each row that OTP has, with the names of its figures.
var otpWork = map[string]string{
	"A restart, error":                "restart",
	"B one_for_all of 1,000, a group": "group",
	"C temporary child":               "temporary",
	"D 100,000 children":              "many",
	"E call, 1 caller":                "call1",
	"E call, 64 callers":              "call64",
	"E cast 1 to 1":                   "cast1",
	"E cast 8 to 1":                   "cast8",
	"F fan-out 100, a delivery":       "fanout",
	"F 1,000 filters, an event":       "filters",
}

// startOTP starts an Erlang node. Without Erlang it returns nil, and why.
func startOTP() (*otpNode, string) {
	for _, tool := range []string{"erl", "erlc"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, "The column OTP is missing: " + tool + " is not installed."
		}
	}

	n, err := compileOTP()
	if err != nil {
		return nil, "The column OTP is missing: " + err.Error()
	}
	return n, ""
}

func compileOTP() (*otpNode, error) {
	dir, err := os.MkdirTemp("", "bench-otp-")
	if err != nil {
		return nil, err
	}
	source := filepath.Join(dir, "otp.erl")
	if err := os.WriteFile(source, otpProgram, 0o600); err != nil {
		return nil, err
	}
	if out, err := exec.Command("erlc", "-o", dir, source).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("erlc: %w: %s", err, out)
	}

	n := &otpNode{dir: dir, cmd: exec.Command("erl", "+P", "1000000", "-noshell", "-pa", dir, "-s", "otp", "main")}
	if n.in, err = n.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	n.cmd.Stderr, n.out = os.Stderr, bufio.NewReader(out)
	return n, n.cmd.Start()
}

// program returns the program of a row, or nil if there is none.
func (o *otpNode) program(row string) func(*meter) error {
	work, ok := otpWork[row]
	if !ok || o == nil {
		return nil
	}

	return func(m *meter) error {
		if _, err := fmt.Fprintf(o.in, "%s %d\n", work, m.n); err != nil {
			return err
		}
		answer, err := o.out.ReadString('\n')
		if err != nil {
			return fmt.Errorf("the Erlang node: %w", err)
		}

		// One figure, or pairs of a name and a figure with commas between them.
		for part := range strings.SplitSeq(strings.TrimSpace(answer), ",") {
			what, text, ok := strings.Cut(part, "=")
			if !ok {
				what, text = "", part
			}
			v, err := strconv.ParseFloat(text, 64)
			if err != nil {
				return fmt.Errorf("the Erlang node answered %q: %w", answer, err)
			}
			m.note(what, v)
		}
		return nil
	}
}

func (o *otpNode) stop() {
	_ = o.in.Close() // it ends at the end of its input
	_ = o.cmd.Wait()
	_ = os.RemoveAll(o.dir)
}
