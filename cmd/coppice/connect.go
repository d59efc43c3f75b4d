package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"connectrpc.com/connect"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/node"
	"github.com/coppice-go/coppice/node/api"
)

// client is a client of the node that the flags name.
func (a *app) client() *client.Client {
	opts := []client.Option{client.WithResolver(a.resolve), client.WithToken(a.readToken())}
	if a.http != nil {
		opts = append(opts, client.WithHTTPClient(a.http))
	}
	return client.New("", opts...)
}

// dial is client, for one call within the timeout. A home whose node does not run is an error at once.
func (a *app) dial(parent context.Context) (context.Context, context.CancelFunc, *client.Client, error) {
	if _, err := a.resolve(); err != nil {
		return nil, nil, nil, a.nodeError(parent, err)
	}
	ctx, cancel := context.WithTimeoutCause(parent, a.timeout, fmt.Errorf("gave up after %v (--timeout)", a.timeout))
	return ctx, cancel, a.client(), nil
}

// resolve is the node's address, read anew at each attempt: a node that was started again may listen elsewhere.
func (a *app) resolve() (string, error) {
	if a.address != "" {
		return a.address, nil
	}
	n, err := api.ReadNodeFile(a.home)
	return n.Address, err
}

// readToken is the token to show; none where the home's can not be read, and then the node says whether it wants one.
func (a *app) readToken() string {
	if a.token != "" {
		return a.token
	}
	b, err := os.ReadFile(filepath.Join(a.home, api.TokenFileName))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// notRunning says why no node of the home can answer; nil where one may, or the home is not known.
func (a *app) notRunning() error {
	if a.address != "" {
		return nil
	}
	again := "start it with 'coppice start --home " + a.home + "'"
	n, err := api.ReadNodeFile(a.home)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !node.IsHome(a.home):
		return fmt.Errorf("not running: %s is no home: make one with 'coppice init --home %s', or name another with --home", a.home, a.home)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("not running: there is no %s in home %s; %s", api.NodeFileName, a.home, again)
	case err == nil && !alive(n.PID):
		return fmt.Errorf("not running: process %d is gone and has left its %s behind, so it was killed or crashed; %s: what was acknowledged is in the log",
			n.PID, api.NodeFileName, strings.Replace(again, "it with", "it again with", 1))
	}
	return nil
}

// alive tells whether there is a process of that id. It may be another one by now, which only makes the message less certain.
func alive(pid int) bool {
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	defer func() { _ = p.Release() }() // frees what this process has of it, and nothing there can fail
	err = p.Signal(syscall.Signal(0))
	return err == nil || errors.Is(err, fs.ErrPermission)
}

// nodeError says in words what kept a call from the node.
func (a *app) nodeError(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil && errors.Is(context.Cause(ctx), errInterrupted) {
		return context.Cause(ctx)
	}
	if why := a.notRunning(); why != nil && errors.Is(err, syscall.ECONNREFUSED) {
		return why
	}
	wire := new(connect.Error)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("no node is running for home %s (there is no %s)", a.home, api.NodeFileName)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the node ended, or was cut off, in the middle of its answer")
	case !errors.As(err, &wire):
		return err
	case ctx.Err() == nil:
		return errors.New(wire.Message())
	case wire.Code() == connect.CodeDeadlineExceeded || wire.Code() == connect.CodeCanceled: // which says the same in other words
		return context.Cause(ctx)
	}
	return fmt.Errorf("%w; the last attempt: %s", context.Cause(ctx), wire.Message())
}

// notYet says that the node has a transaction whose result did not come in time.
func notYet(id engines.TxID, why error) error {
	return fmt.Errorf("accepted as %s, not in a block yet: coppice tx get %[1]s (%w)", id, why)
}

// running tells whether the command is to ask a node: one that an address names, or one that has
// the home.
func (a *app) running(err error) bool { return a.address != "" || errors.Is(err, node.ErrHomeInUse) }
