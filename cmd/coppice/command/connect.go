package command

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
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
)

// client returns a client of the node that the flags name.
func (a *app) client() *client.Client {
	opts := []client.Option{client.WithResolver(a.resolve), client.WithToken(a.readToken())}
	if a.http != nil {
		opts = append(opts, client.WithHTTPClient(a.http))
	}
	return client.New("", opts...)
}

// dial returns a client and a context for one call within --timeout. If the home has no running
// node, dial fails at once.
func (a *app) dial(parent context.Context) (context.Context, context.CancelFunc, *client.Client, error) {
	if _, err := a.resolve(); err != nil {
		return nil, nil, nil, a.nodeError(parent, err)
	}

	ctx, cancel := context.WithTimeoutCause(parent, a.timeout, fmt.Errorf("gave up after %v (--timeout)", a.timeout))
	return ctx, cancel, a.client(), nil
}

// resolve returns the node's address. The client calls it for each attempt, because a node that was
// restarted may listen on another address.
func (a *app) resolve() (string, error) {
	if a.address != "" {
		return a.address, nil
	}
	n, err := api.ReadNodeFile(a.home)
	return n.Address, err
}

// readToken returns the token to send to the node: the one of --token, or else the one in the home.
// It returns "" if it cannot read the home's file. The node then refuses the call if it requires a
// token.
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

// notRunning returns why no node of the home can answer. It returns nil if one may answer, or if
// the home is not known.
func (a *app) notRunning() error {
	if a.address != "" {
		return nil
	}

	n, err := api.ReadNodeFile(a.home)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !home.IsHome(a.home):
		return fmt.Errorf("no node is running: %s is no home; make one with 'coppice init --home %[1]s', or name "+
			"another with --home", a.home)
	case errors.Is(err, fs.ErrNotExist):
		return a.noNode()
	case err == nil && !alive(n.PID):
		return fmt.Errorf("no node is running in home %s: process %d was killed or crashed, and left its %s behind; "+
			"start it again with 'coppice start --home %[1]s': what was acknowledged is in the log",
			a.home, n.PID, api.NodeFileName)
	}

	return nil
}

// noNode is the error for a home that has no node.json.
func (a *app) noNode() error {
	return fmt.Errorf("no node is running in home %s (no %s); start one with 'coppice start --home %[1]s'",
		a.home, api.NodeFileName)
}

// alive reports whether a process with the id pid exists. It may be another process by now, because
// the system reuses ids. The result only decides the text of an error, so that does no harm.
func alive(pid int) bool {
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	defer func() { _ = p.Release() }() // it only frees memory of this process, and cannot fail

	err = p.Signal(syscall.Signal(0))
	return err == nil || errors.Is(err, fs.ErrPermission)
}

// nodeError returns the error to show to the user for err, the error of a call to the node. It
// returns nil if err is nil.
func (a *app) nodeError(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil && errors.Is(context.Cause(ctx), errInterrupted) {
		return context.Cause(ctx)
	}
	if why := a.notRunning(); why != nil && (errors.Is(err, syscall.ECONNREFUSED) || ctx.Err() != nil) {
		return why
	}

	wire := new(connect.Error)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return a.noNode()
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the node ended, or the connection broke, in the middle of the answer")
	case !errors.As(err, &wire):
		return err
	case ctx.Err() == nil:
		return errors.New(wire.Message())
	case wire.Code() == connect.CodeDeadlineExceeded || wire.Code() == connect.CodeCanceled:
		return context.Cause(ctx) // it is more precise than the code
	}

	return fmt.Errorf("%w; the last attempt: %s", context.Cause(ctx), wire.Message())
}

// notYet returns the error for an accepted transaction whose result did not come in time.
func notYet(id chain.TxID, why error) error {
	if pending, ok := why.(interface{ Unwrap() []error }); ok && errors.Is(why, client.ErrPending) {
		causes := pending.Unwrap()
		why = causes[len(causes)-1] // the rest is said here
	}

	return fmt.Errorf("accepted as %s, not in a block yet: coppice tx get %[1]s (%w)", id, why)
}

// running reports whether the command has to ask a running node: because --address names one, or
// because a running node uses the home. err is the error from opening the home. A home that is in
// use without a node is used by another command.
func (a *app) running(err error) bool {
	return a.address != "" || errors.Is(err, exit.ErrHomeInUse) && a.notRunning() == nil
}
