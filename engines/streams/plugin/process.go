package plugin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"

	"github.com/coppice-go/coppice/engines/streams/plugin/wire"
	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/process"
)

// program runs the process of a plugin for go-plugin, as a child of a supervisor.
type program struct {
	name  string
	image *os.File
	keys  keys
	env   []string

	stdout *io.PipeReader // the handshake
	stderr *io.PipeReader // nothing: what it writes is kept in errors
	write  *io.PipeWriter

	end  context.CancelFunc
	ref  supervisor.Ref
	done chan struct{}
	exit supervisor.Exit

	mu          sync.Mutex
	first, last []string // lines of standard error
}

// newProgram returns the runner of a copy of a program. cmd has the variables of go-plugin.
func newProgram(k keys, image *os.File, cmd *exec.Cmd) *program {
	p := &program{name: k.Path, image: image, keys: k, env: append(k.environment(), cmd.Env...),
		done: make(chan struct{})}
	p.stdout, p.write = io.Pipe()
	var nothing *io.PipeWriter
	p.stderr, nothing = io.Pipe()
	nothing.Close()

	return p
}

// Start starts the process. It ends by Kill alone: the context is that of the start.
func (p *program) Start(context.Context) error {
	child := process.Child(process.Spec{
		Name: "plugin", Path: p.keys.Path, Args: p.keys.Args, Executable: p.image, Env: p.env,
		Grace:   supervisor.Brutal, // Close has asked its sink to end already
		Limits:  process.Limits{Memory: uint64(p.keys.Memory), Files: uint64(p.keys.Files), NoCore: true},
		MaxLine: maxLine, Stdout: p.out, Stderr: p.err,
	})
	child.Restart = supervisor.Temporary
	s, err := supervisor.New(supervisor.Spec{Name: "plugin", Build: supervisor.Children()})
	if err != nil {
		return err
	}

	// The tree is of the process alone. The sink ends it, also when its own child ends without a
	// Close.
	ctx, cancel := context.WithCancel(context.Background())
	run, err := s.Start(ctx)
	if err != nil {
		cancel()
		return err
	}
	if p.ref, err = run.StartChild(ctx, child); err != nil {
		cancel()
		return err
	}
	p.end = cancel
	go p.await()

	return nil
}

func (p *program) await() {
	p.exit = <-supervisor.Monitor(p.ref)
	p.write.Close()
	p.end()
	close(p.done)
}

// maxLine and maxLines bound what is kept of standard error: so many lines of its beginning, which
// in a crash of Go has the cause, and as many of its end.
const (
	maxLine  = 1 << 10
	maxLines = 8
)

// out passes the lines of standard output to go-plugin, which wants the first.
func (p *program) out(line []byte) {
	_, _ = p.write.Write(append(line[:len(line):len(line)], '\n')) // nobody reads after the end
}

// err keeps a few lines of standard error.
func (p *program) err(line []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.first) < maxLines {
		p.first = append(p.first, string(line))
		return
	}
	p.last = append(p.last, string(line))
	if len(p.last) > maxLines {
		p.last = append(p.last[:0], p.last[1:]...)
	}
}

// writer cuts what is written into lines of at most maxLine bytes.
type writer func(line []byte)

func (w writer) Write(b []byte) (int, error) {
	for line := range bytes.Lines(b) {
		line = bytes.TrimRight(line, "\n")
		w(line[:min(len(line), maxLine)])
	}
	return len(b), nil
}

// said returns what is kept of what the process wrote, for an error.
func (p *program) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.first) == 0 {
		return ""
	}
	text := "; it wrote: " + strings.Join(p.first, " | ")
	if len(p.last) > 0 {
		text += " … " + strings.Join(p.last, " | ")
	}
	return text
}

// ended returns the error of a process that has ended, or nil.
func (p *program) ended() error {
	select {
	case <-p.done:
	default:
		return nil
	}
	if p.exit.Err != nil {
		return fmt.Errorf("the process has ended: %w%s", p.exit.Err, p.said())
	}
	return fmt.Errorf("the process has ended%s", p.said())
}

// Wait implements runner.AttachedRunner.
func (p *program) Wait(ctx context.Context) error {
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Kill ends the process with its group, and returns when it has ended.
func (p *program) Kill(context.Context) error {
	if p.end != nil {
		p.end()
		<-p.done
	}
	return nil
}

// ID is the number of the process.
func (p *program) ID() string {
	if info, ok := p.ref.Info().(process.Info); ok {
		return fmt.Sprint(info.PID)
	}
	return ""
}

// The rest of runner.Runner.

func (p *program) Stdout() io.ReadCloser           { return p.stdout }
func (p *program) Stderr() io.ReadCloser           { return p.stderr }
func (p *program) Name() string                    { return p.name }
func (p *program) Diagnose(context.Context) string { return strings.TrimPrefix(p.said(), "; ") }

func (p *program) PluginToHost(network, address string) (string, string, error) {
	return network, address, nil
}

func (p *program) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}

var _ runner.Runner = (*program)(nil)

// errNoRunner means that go-plugin has not asked for a process.
var errNoRunner = errors.New("the plugin was not started")

// startTime bounds the start of a process up to its handshake.
const startTime = 20 * time.Second

// launch starts a copy of a program, and returns the client of its service.
func launch(k keys, copied *os.File, service plugin.Plugin) (*plugin.Client, *program, any, error) {
	var p *program
	client := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  wire.Handshake,
		Plugins:          plugin.PluginSet{wire.Name: service},
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		AutoMTLS:         true,
		SkipHostEnv:      true,
		StartTimeout:     startTime,
		Logger:           hclog.NewNullLogger(),
		GRPCDialOptions:  dialOptions,
		SyncStderr:       writer(func(line []byte) { p.err(line) }), // what os.Stderr becomes in a Go plugin
		RunnerFunc: func(_ hclog.Logger, cmd *exec.Cmd, _ string) (runner.Runner, error) {
			p = newProgram(k, copied, cmd)
			return p, nil
		},
	})

	protocol, err := client.Client()
	var dispensed any
	if err == nil {
		dispensed, err = protocol.Dispense(wire.Name)
	}
	if err == nil && p == nil {
		err = errNoRunner
	}
	if err != nil {
		if p != nil {
			err = fmt.Errorf("%w%s", err, p.said())
			_ = p.Kill(context.Background())
		}
		return nil, nil, nil, err
	}

	return client, p, dispensed, nil
}
