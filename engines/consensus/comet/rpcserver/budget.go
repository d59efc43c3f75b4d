package rpcserver

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	rpctypes "github.com/cometbft/cometbft/rpc/jsonrpc/types"
	"golang.org/x/sync/semaphore"
)

// Limits of the RPC for strangers.
const (
	// MostOfAnswer is the number of bytes after which a batch gets no further answers, and that the
	// transactions or blocks of a page may have. A single block is always answered.
	MostOfAnswer = 32 << 20

	// budgetBytes is the memory that the answers in progress may take together, by estimate.
	budgetBytes = 128 << 20

	// patience is how long a call waits for its share of the budget.
	patience = 5 * time.Second
)

// perByte is the estimated memory that an answer takes for each byte of a block: its parts, the
// decoded block, and its JSON, which CometBFT builds several times.
const perByte = 8

// perByteOfBody is the estimated memory that a request takes for each of its bytes.
const perByteOfBody = 4

// ErrBusy is the error if the answers in progress leave no memory for another one in time.
var ErrBusy = errors.New("the RPC is busy with large requests or answers")

// errLarge is the error if a page of an answer would have more bytes than MostOfAnswer.
var errLarge = fmt.Errorf("the answer would have more than %d bytes: ask for fewer items with per_page or limit",
	int64(MostOfAnswer))

// budget is memory that calls share. It is safe for concurrent use.
type budget struct {
	weights *semaphore.Weighted
	size    int64
	wait    time.Duration
}

func newBudget(size int64) *budget {
	return &budget{weights: semaphore.NewWeighted(size), size: size, wait: patience}
}

// take waits for n bytes, or for the whole budget if n is more, and returns what it took.
func (b *budget) take(ctx context.Context, n int64) (taken int64, err error) {
	n = min(n, b.size)
	ctx, cancel := context.WithTimeoutCause(ctx, b.wait, ErrBusy)
	defer cancel()

	if err := b.weights.Acquire(ctx, n); err != nil {
		if cause := context.Cause(ctx); errors.Is(cause, ErrBusy) {
			return 0, fmt.Errorf("%w: they take %d MiB; try again, or ask for less at once", ErrBusy, b.size>>20)
		}
		return 0, err
	}

	return n, nil
}

func (b *budget) give(n int64) { b.weights.Release(n) }

// limits are what the listeners for strangers share.
type limits struct {
	budget *budget
	bodies *budget  // of requests that are read
	most   int64    // bytes of all answers of a batch, or of the items of a page
	meters sync.Map // string: *metered, the websockets by remote address
}

func newLimits() *limits {
	return &limits{budget: newBudget(budgetBytes), bodies: newBudget(budgetBytes), most: MostOfAnswer}
}

// share is what one call over HTTP holds of a budget, until its answer has been written.
type share struct {
	budget *budget

	mu   sync.Mutex
	held int64
}

type shareKey struct{}

// with returns a context in which take draws on the share.
func (s *share) with(ctx context.Context) context.Context {
	return context.WithValue(ctx, shareKey{}, s)
}

// release gives back what the call holds.
func (s *share) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.budget.give(s.held)
	s.held = 0
}

// take takes n bytes of the budget for the answer to a call. When the call has its answer, or an
// error, it says with settle how many bytes the answer has at least.
func (l *limits) take(call *rpctypes.Context, n int64) (settle func(size int64), err error) {
	ctx := call.Context()
	if m, ok := l.meters.Load(call.RemoteAddr()); ok && call.WSConn != nil {
		return m.(*metered).take(ctx, n)
	}

	s, ok := ctx.Value(shareKey{}).(*share)
	if !ok {
		return nil, fmt.Errorf("a call from %q has no share of the budget", call.RemoteAddr())
	}

	taken, err := l.budget.take(ctx, n)
	if err != nil {
		return nil, err
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	s.held += taken

	return func(int64) {}, nil
}

// limited makes an answer with a share of the budget for an answer of that cost.
func limited[R any](l *limits, call *rpctypes.Context, cost int64, f func() (R, int64, error)) (R, error) {
	settle, err := l.take(call, cost)
	if err != nil {
		return *new(R), err
	}

	r, size, err := f()
	settle(size)

	return r, err
}
