package testnet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/internal/flock"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/supervisor"
)

// request is what the control socket receives. One of its fields is set.
type request struct {
	Ask       bool          `json:"ask,omitempty"` // whether the testnet runs
	Stop      bool          `json:"stop,omitempty"`
	Partition *[][]int      `json:"partition,omitempty"`
	Signal    *signalOfNode `json:"signal,omitempty"`
	Add       *AddOptions   `json:"add,omitempty"`
}

// signalOfNode asks for a signal to a node.
type signalOfNode struct {
	Node   int            `json:"node"`
	Comet  bool           `json:"comet"` // its CometBFT, not the node itself
	Signal syscall.Signal `json:"signal"`
}

// lockName is the file that a run holds a lock on, in the testnet's directory.
const lockName = "testnet.lock"

// lock takes the lock of a run. The lock belongs to the open file, so it ends with the process. If
// another run has it, lock returns exit.ErrHomeInUse.
func (n *Net) lock() (io.Closer, error) {
	f, err := flock.TryLock(filepath.Join(n.Dir, lockName))
	switch {
	case errors.Is(err, flock.ErrLocked):
		return nil, fmt.Errorf("%w: this testnet runs already", exit.ErrHomeInUse)
	case err != nil:
		return nil, err
	}

	return f, nil
}

// take takes the lock, and then the control socket. A killed run may have left its socket behind,
// and take replaces it. Only the lock makes that safe: without it, two runs could both find that
// the old socket does not answer, and both replace it.
func (r *running) take(ctx context.Context) (err error) {
	if r.lockFile, err = r.lock(); err != nil {
		return err
	}
	if r.control, err = r.listen(ctx); err != nil {
		return errors.Join(err, r.lockFile.Close())
	}
	return nil
}

// release releases what take took.
func (r *running) release() {
	r.control.Close() // a second Close does no harm
	r.lockFile.Close()
}

// listen listens on the control socket. The lock must be held.
func (r *running) listen(ctx context.Context) (net.Listener, error) {
	path := r.socketPath()
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}

	return l, nil
}

// startControl starts an incarnation of the server of the control socket.
func (r *running) startControl(ctx context.Context) (supervisor.Service, error) {
	l := r.control
	if r.taken { // the previous incarnation has closed it
		var err error
		if l, err = r.listen(ctx); err != nil {
			return nil, err
		}
	}

	r.taken = true
	s := &http.Server{Handler: http.HandlerFunc(r.serveControl), ReadHeaderTimeout: 10 * time.Second}
	return supervisor.ServiceFunc(func(ctx context.Context) error {
		defer s.Close()

		if err := supervisor.Go(ctx, func(context.Context) error {
			if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		}); err != nil {
			return err
		}

		<-ctx.Done()
		return context.Cause(ctx)
	}), nil
}

func (r *running) serveControl(w http.ResponseWriter, req *http.Request) {
	var q request
	err := json.NewDecoder(req.Body).Decode(&q)
	if err == nil {
		err = r.do(q)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
}

// do executes a request, and returns when it is done. A stop is only begun.
func (r *running) do(q request) error {
	r.changing.Lock()
	defer r.changing.Unlock()

	switch {
	case q.Ask:
		return nil

	case q.Stop:
		go r.sup.Stop(context.Background()) // it ends this server too
		return nil

	case q.Partition != nil:
		return r.partition(*q.Partition)

	case q.Signal != nil:
		return r.signal(*q.Signal)

	case q.Add != nil:
		return r.add(*q.Add)
	}

	return errors.New("the request is empty")
}

// signal sends a signal to a node or to its CometBFT. The process may have just ended, but the
// system does not give its id to another process that soon.
func (r *running) signal(s signalOfNode) error {
	if s.Node < 0 || s.Node >= r.Nodes {
		return fmt.Errorf("node %d: want 0 to %d", s.Node, r.Nodes-1)
	}

	pid := r.pid(s.Node)

	if s.Comet {
		data, err := os.ReadFile(filepath.Join(comethome.Dir(r.Home(s.Node)), "pid"))
		if err != nil {
			return fmt.Errorf("node %d has no CometBFT running: %w", s.Node, err)
		}
		if pid, err = strconv.Atoi(strings.TrimSpace(string(data))); err != nil {
			return err
		}
	}

	if pid == 0 {
		return fmt.Errorf("node %d does not run", s.Node)
	}

	return syscall.Kill(pid, s.Signal)
}

// Stop stops a running testnet, and returns when it has stopped.
func (n *Net) Stop(ctx context.Context) error {
	if err := n.ask(ctx, request{Stop: true}); err != nil {
		return err
	}
	for {
		l, err := n.lock()
		if err == nil {
			return l.Close()
		}
		if !errors.Is(err, exit.ErrHomeInUse) {
			return err
		}

		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Running returns an error unless the testnet runs.
func (n *Net) Running(ctx context.Context) error { return n.ask(ctx, request{Ask: true}) }

// Partition cuts the links between the given groups of nodes of a running testnet. Without groups,
// it opens all links again.
func (n *Net) Partition(ctx context.Context, groups [][]int) error {
	return n.ask(ctx, request{Partition: &groups})
}

// Signal sends a signal to a node of a running testnet, or to its CometBFT.
func (n *Net) Signal(ctx context.Context, i int, comet bool, sig syscall.Signal) error {
	return n.ask(ctx, request{Signal: &signalOfNode{i, comet, sig}})
}

// ask sends a request to the run of the testnet.
func (n *Net) ask(ctx context.Context, q request) error {
	body, err := json.Marshal(q)
	if err != nil {
		return err
	}

	transport := &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", n.socketPath())
		}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://testnet/", bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Do(req)
	if err != nil {
		return fmt.Errorf("the testnet in %s does not run: %w", n.Dir, err)
	}
	defer resp.Body.Close()

	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		return errors.New(strings.TrimSpace(string(text)))
	}

	return nil
}
