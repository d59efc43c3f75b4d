package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/coppice-go/coppice/node/api"
)

// coppice is a node of the kind solo in a home of its own.
type coppice struct {
	path, home string
	process    *process
}

func newCoppice(path, dir string) target {
	return &coppice{path: path, home: filepath.Join(dir, "home")}
}

func (c *coppice) start(ctx context.Context) error {
	if out, err := exec.CommandContext(ctx, c.path, "init", "--home", c.home, "--listen",
		"127.0.0.1:0").CombinedOutput(); err != nil {
		return fmt.Errorf("coppice init: %w: %s", err, out)
	}

	return c.run(ctx)
}

// run starts the process and waits until it is ready.
func (c *coppice) run(ctx context.Context) (err error) {
	if c.process, err = begin(filepath.Dir(c.home), c.path, "start", "--home", c.home); err != nil {
		return err
	}
	return c.process.await(func() error {
		return exec.CommandContext(ctx, c.path, "status", "--home", c.home, "--json").Run()
	})
}

func (c *coppice) load(ctx context.Context, r row, o options, length time.Duration) (m measured, err error) {
	out, err := exec.CommandContext(ctx, c.path, "load", "--home", c.home, "--json", "--clients",
		strconv.Itoa(r.clients), "--batch", strconv.Itoa(r.batch), "--size", strconv.Itoa(o.size), "--duration",
		length.String()).Output()
	if err != nil {
		return m, fmt.Errorf("coppice load: %w: %s", err, out)
	}
	return m, json.Unmarshal(out, &m)
}

// address returns where the present process listens. The file of a process that was killed stays,
// so its process id counts.
func (c *coppice) address() (string, error) {
	f, err := api.ReadNodeFile(c.home)
	if err == nil && f.PID != c.process.cmd.Process.Pid {
		err = errors.New("the new process does not listen yet")
	}
	return f.Address, err
}

// counted reads the metrics of the node.
func (c *coppice) counted() (n counts, err error) {
	f, err := api.ReadNodeFile(c.home)
	if err != nil {
		return n, err
	}
	res, err := http.Get("http://" + f.Address + "/metrics")
	if err != nil {
		return n, err
	}
	defer res.Body.Close()

	for s := bufio.NewScanner(res.Body); s.Scan(); {
		name, value, _ := strings.Cut(s.Text(), " ")
		switch name {
		case "coppice_eventlog_sync_duration_seconds_count":
			n.syncs, err = strconv.ParseFloat(value, 64)
		case "coppice_block_height":
			n.blocks, err = strconv.ParseFloat(value, 64)
		}
		if err != nil {
			return n, err
		}
	}

	return n, nil
}

func (c *coppice) stop() error { return c.process.end(syscall.SIGTERM) }

// process is a program that runs until it is ended.
type process struct {
	cmd *exec.Cmd
	log *os.File
}

// begin starts a program. Its output goes to a file in dir. It dies with this process.
func begin(dir, path string, args ...string) (*process, error) {
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}

	p := &process{exec.Command(path, args...), log}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}

	return p, p.cmd.Start()
}

// await waits until ready returns nil.
func (p *process) await(ready func() error) error {
	var err error
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = ready(); err == nil {
			return nil
		}
	}

	said, _ := os.ReadFile(p.log.Name())
	return fmt.Errorf("%s did not start: %w\n%s", p.cmd.Path, err, said)
}

// end ends the program with a signal, and by SIGKILL if it does not end in time.
func (p *process) end(s syscall.Signal) error {
	if p == nil || p.cmd.Process == nil {
		return nil
	}
	defer p.log.Close()

	if err := p.cmd.Process.Signal(s); err != nil {
		return err
	}
	late := time.AfterFunc(20*time.Second, func() { p.cmd.Process.Kill() })
	defer late.Stop()
	p.cmd.Wait() // the status does not matter after the measurement

	return nil
}
