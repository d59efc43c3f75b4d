package offline

import (
	"context"
	"fmt"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
)

// checkWhole reads what Verify reads, and returns an error if Verify would. Unlike Verify it
// neither executes nor applies the records of the log again, so it needs no room for another state.
// It returns the state to which the log leads. A home in which no node was ever started is
// exit.ErrConfig.
func (h *StoppedHome) checkWhole(ctx context.Context, progress func(step string, done, total uint64)) (chain.State,
	error) {
	if err := checkFiles(h.home, false); err != nil {
		return chain.State{}, err
	}

	r := &verification{VerifyOptions: VerifyOptions{SkipReplay: true, Progress: progress, Disk: h.disk, Logs: h.logs},
		home: h.home, report: new(Verified)}
	defer r.closeState()

	begun, err := r.read(ctx)
	if err == nil && !begun {
		err = fmt.Errorf("%w: no node was ever started in %s: there is nothing to make smaller", exit.ErrConfig, h.home)
	}
	if err != nil {
		return chain.State{}, err
	}

	l, err := h.readCheckedLog()
	if err != nil {
		return chain.State{}, err
	}
	defer l.Close()

	if err := r.checkAgreement(l); err != nil {
		return chain.State{}, err
	}
	s, err := lastCommitted(l)
	if err != nil {
		return s, err
	}

	return s, checkConsensus(ctx, h.home, s)
}

// readCheckedLog opens the log for reading. Its frames were checked before.
func (h *StoppedHome) readCheckedLog() (*eventlog.Log, error) {
	return eventlog.OpenReadOnly(home.LogDir(h.home), eventlog.Options{FS: h.logs, QuickOpen: true})
}
