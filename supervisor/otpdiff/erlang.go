package otpdiff

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

//go:embed otpdiff.erl
var driver []byte

// erlang is an Erlang process that plays histories.
type erlang struct {
	cmd    *exec.Cmd
	in     *os.File
	out    *os.File
	reader *bufio.Reader
	stderr bytes.Buffer
	dir    string
}

// compileDriver writes the driver into a directory and compiles it there.
func compileDriver(ctx context.Context, dir string) error {
	name := filepath.Join(dir, "otpdiff.erl")
	if err := os.WriteFile(name, driver, 0o644); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "erlc", "-o", dir, name)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("erlc otpdiff.erl: %w\n%s", err, out)
	}

	return nil
}

// launchErlang compiles the driver and starts it. Close ends it.
func launchErlang(ctx context.Context) (*erlang, error) {
	dir, err := os.MkdirTemp("", "otpdiff")
	if err != nil {
		return nil, err
	}

	e := &erlang{dir: dir}
	if err := e.start(ctx); err != nil {
		e.Close()
		return nil, err
	}

	return e, nil
}

func (e *erlang) start(ctx context.Context) error {
	if err := compileDriver(ctx, e.dir); err != nil {
		return err
	}
	theirIn, ourOut, err := os.Pipe()
	if err != nil {
		return err
	}
	defer theirIn.Close()

	e.in = ourOut
	ourIn, theirOut, err := os.Pipe()
	if err != nil {
		return err
	}
	defer theirOut.Close()

	e.out, e.reader = ourIn, bufio.NewReader(ourIn)
	// There is one scheduler, and all code is loaded before a history is played, so an empty run
	// queue means that nothing can run.
	e.cmd = exec.CommandContext(ctx, "erl", "+S", "1:1", "-noshell", "-noinput", "-boot", "start_clean", "-pa", e.dir,
		"-s", "otpdiff", "main")
	e.cmd.ExtraFiles = []*os.File{theirIn, theirOut}
	e.cmd.Env = append(os.Environ(), "ERL_CRASH_DUMP=/dev/null")
	e.cmd.Stdout, e.cmd.Stderr = &e.stderr, &e.stderr

	return e.cmd.Start()
}

// send sends a history to the driver. receive returns the traces in the order of send.
func (e *erlang) send(h History) error {
	b := external([]byte{131}, h.term())
	b = append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
	_, err := e.in.Write(b)
	return err
}

// patience bounds the wait for one trace. The longest histories sleep for some seconds.
const patience = 2 * time.Minute

// receive returns the trace of the oldest history whose trace was not received yet.
func (e *erlang) receive() (string, error) {
	var size [4]byte
	if err := e.out.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	if _, err := io.ReadFull(e.reader, size[:]); err != nil {
		return "", fmt.Errorf("erl: %w\n%s", err, e.stderr.Bytes())
	}
	b := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(e.reader, b); err != nil {
		return "", fmt.Errorf("erl: %w", err)
	}

	return string(b), nil
}

// Close ends the Erlang process and removes its files.
func (e *erlang) Close() {
	if e.in != nil {
		e.in.Close()
	}

	if e.cmd != nil && e.cmd.Process != nil {
		_ = e.cmd.Process.Kill() // the end of its input would end it too, unless a history hangs
		_ = e.cmd.Wait()
	}

	if e.out != nil {
		e.out.Close()
	}

	os.RemoveAll(e.dir)
}
