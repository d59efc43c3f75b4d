package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	rpchttp "github.com/cometbft/cometbft/rpc/client/http"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/node/api"
)

// target is one way to run CometBFT with an application.
type target struct {
	name     string
	o        options
	dir      string
	own      bool // the node is coppice
	byAPI    bool // transactions come in by coppice's API
	rpc      string
	programs []*exec.Cmd
	pipes    []io.Closer
	log      *os.File
	api      *client.Client
	app      []string // arguments of serve-app; nil if the application runs in CometBFT's process
	socket   string
}

func (o options) target(name, dir string) (*target, error) {
	t := &target{name: name, o: o, dir: dir}
	t.socket = filepath.Join(dir, "app.sock")
	app := []string{"--socket", t.socket, "--dir", filepath.Join(dir, "app")}

	switch name {
	case "coppice":
		t.own, t.byAPI = true, true

	case "coppice-rpc":
		t.own = true

	case "synced":
		t.app = append(app, "--sync")

	case "plain":
		t.app = app

	case "inprocess":
	default:
		return nil, fmt.Errorf("target %q: want coppice, coppice-rpc, synced, plain or inprocess", name)
	}

	return t, nil
}

// start starts the target's programs and waits until they answer. For every target, coppice makes
// the CometBFT home.
func (t *target) start(ctx context.Context) (err error) {
	if t.log, err = os.Create(filepath.Join(t.dir, "log")); err != nil {
		return err
	}
	rpc, err := freePort()
	if err != nil {
		return err
	}

	home := filepath.Join(t.dir, "home")
	out, err := exec.CommandContext(ctx, filepath.Join(t.o.bin, "coppice"), "init", "--home", home, "--listen",
		"127.0.0.1:0", "--consensus", "cometbft",
		"--rpc", rpc, "--p2p", "127.0.0.1:0", "--empty-every", t.o.empty.String()).CombinedOutput()
	if err != nil {
		return fmt.Errorf("coppice init: %w: %s", err, out)
	}

	t.rpc = "http://" + rpc

	if t.own {
		err = t.startOwn(home)
	} else {
		err = t.startKVStore(filepath.Join(home, "comet"))
	}

	if err != nil {
		return err
	}

	return t.ready(ctx, home)
}

func (t *target) startOwn(home string) error {
	if t.o.profile == "" {
		return t.run(filepath.Join(t.o.bin, "coppice"), "start", "--home", home)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	dir := filepath.Join(t.o.profile, t.name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}

	return t.run(self, nodeCommand, "--home", home, "--profile", dir)
}

func (t *target) startKVStore(home string) error {
	app := "persistent_kvstore"
	if t.app != nil {
		if err := os.Mkdir(filepath.Join(t.dir, "app"), 0o700); err != nil {
			return err
		}
		self, err := os.Executable()
		if err != nil {
			return err
		}
		if err := t.run(self, append([]string{appCommand}, t.app...)...); err != nil {
			return err
		}
		if err := poll(func() error { _, err := os.Stat(t.socket); return err }); err != nil {
			return err
		}

		app = "unix://" + t.socket
	}

	return t.run(filepath.Join(t.o.bin, "cometbft"), "start", "--home", home, "--proxy_app", app)
}

func (t *target) run(program string, args ...string) error {
	c := exec.Command(program, args...)
	c.Stdout, c.Stderr = t.log, t.log
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	stdin, err := c.StdinPipe() // for programs that watch their parent
	if err != nil {
		return err
	}

	t.pipes = append(t.pipes, stdin)
	if err := c.Start(); err != nil {
		return err
	}

	t.programs = append(t.programs, c)

	return nil
}

// ready waits until the target takes transactions.
func (t *target) ready(ctx context.Context, home string) error {
	c, err := rpchttp.New(t.rpc, "/websocket")
	if err != nil {
		return err
	}

	err = poll(func() error { _, err := c.Status(ctx); return err })
	if err == nil && t.byAPI {
		err = poll(func() error {
			f, err := api.ReadNodeFile(home)
			if err != nil {
				return err
			}
			t.api = client.New(f.Address)
			_, err = t.api.Status(ctx)
			return err
		})
	}
	if err != nil {
		log, _ := os.ReadFile(t.log.Name())
		return fmt.Errorf("%s did not start: %w\n%s", t.name, err, log)
	}

	return nil
}

// stop ends the programs, the last one first.
func (t *target) stop() error {
	var errs []error
	for i := len(t.programs) - 1; i >= 0; i-- {
		c := t.programs[i]
		errs = append(errs, c.Process.Signal(syscall.SIGTERM))
		late := time.AfterFunc(10*time.Second, func() { c.Process.Kill() })
		c.Wait() // the status does not matter after the measurement
		late.Stop()
	}

	if t.log != nil {
		t.log.Close()
	}
	return errors.Join(errs...)
}

// usage is what the processes of a target use, in CPU seconds and resident bytes: our node or the
// application, and CometBFT.
type usage struct {
	app, comet spent
}

type spent struct {
	cpu time.Duration
	rss int64 // resident bytes now
}

func (u usage) since(before usage) usage {
	u.app.cpu -= before.app.cpu
	u.comet.cpu -= before.comet.cpu
	return u
}

func (t *target) usage() (u usage) {
	if t.own {
		pid := t.programs[0].Process.Pid
		u.app = usageOf(pid)
		data, _ := os.ReadFile(filepath.Join(t.dir, "home", "comet", "pid"))
		if child, err := strconv.Atoi(strings.TrimSpace(string(data))); err == nil {
			u.comet = usageOf(child)
		}
		return u
	}

	if len(t.programs) == 2 {
		u.app = usageOf(t.programs[0].Process.Pid)
	}

	u.comet = usageOf(t.programs[len(t.programs)-1].Process.Pid)
	return u
}

// usageOf returns the system's account of a process, or zero if there is none.
func usageOf(pid int) (p spent) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return p
	}

	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	const utime, stime, rss = 11, 12, 21 // counted from the field after the name
	const tick = 10 * time.Millisecond

	for _, i := range []int{utime, stime} {
		n, _ := strconv.ParseInt(fields[i], 10, 64)
		p.cpu += time.Duration(n) * tick
	}

	pages, _ := strconv.ParseInt(fields[rss], 10, 64)
	p.rss = pages * int64(os.Getpagesize())

	return p
}

func poll(f func() error) error {
	var err error
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = f(); err == nil {
			return nil
		}
	}
	return err
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
