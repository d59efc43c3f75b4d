package register

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// Config configures the clients of Run.
type Config struct {
	Nodes   []*client.Client
	PerNode int           // how many clients each node has; each has one operation at a time
	Seed    uint64        // of the clients' choices
	Prefix  string        // of the keys
	Every   time.Duration // how often the key changes, so that each history is short enough to check
	Timeout time.Duration // of an operation, whose outcome is then unknown
	Pause   time.Duration // the longest pause of a client between two operations
	Stop    <-chan struct{}
}

// Run runs the clients until Stop is closed and the operations under way have ended, or until ctx
// ends. It returns an error if a node's answer is impossible for a register.
func (h *History) Run(ctx context.Context, c Config) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	var all sync.WaitGroup

	for i, node := range c.Nodes {
		for k := range c.PerNode {
			w := &worker{Config: c, h: h, node: node, name: fmt.Sprintf("%d.%d", i, k),
				rand: rand.New(rand.NewPCG(c.Seed, uint64(i*c.PerNode+k)))}
			all.Go(func() {
				if err := w.run(ctx); err != nil {
					cancel(fmt.Errorf("register client %s: %w", w.name, err))
				}
			})
		}
	}

	all.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}

	return nil
}

// worker is a client.
type worker struct {
	Config
	h    *History
	node *client.Client
	name string
	rand *rand.Rand

	writes int
	key    string
	last   Output // the register as this client last saw it
	fresh  bool   // last is from the client's last operation
}

func (w *worker) run(ctx context.Context) error {
	id := w.h.client()
	for {
		select {
		case <-w.Stop:
			return nil
		case <-ctx.Done():
			return nil
		case <-time.After(time.Duration(w.rand.Int64N(int64(w.Pause) + 1))):
		}

		in := w.next()
		call := w.h.now()
		limited, cancel := context.WithTimeout(ctx, w.Timeout)
		out, err := w.do(limited, in)
		cancel()

		switch {
		case errors.Is(err, errNotDone):
			continue
		case err != nil:
			return fmt.Errorf("%v: %w", in, err)
		}

		w.h.add(id, in, call, out)
		if out.Unknown {
			id = w.h.client()
		}

		w.learn(in, out)
	}
}

// next chooses an operation. Every value is written only once, so that a value that is read shows
// which operation wrote it.
func (w *worker) next() Input {
	key := fmt.Sprintf("%s%d", w.Prefix, w.h.now()/int64(w.Every))
	if key != w.key {
		w.key, w.last, w.fresh = key, Output{}, false
	}

	in := Input{Key: key, Kind: Get}

	switch n := w.rand.IntN(10); {
	case n < 2:
		in.Kind = Put
	case w.fresh && n < 8, n < 3: // most CAS should succeed, so expect a value that was just read or written
		in.Kind, in.Expected, in.Absent = CAS, w.last.Value, !w.last.Found
	}

	if in.Kind != Get {
		w.writes++
		in.Value = fmt.Sprintf("%s-%d", w.name, w.writes)
	}

	return in
}

// learn updates w.last, the client's idea of the register, from an operation and its outcome.
func (w *worker) learn(in Input, out Output) {
	w.fresh = !out.Unknown && !out.Conflict
	switch {
	case !w.fresh:
	case in.Kind == Get:
		w.last = out
	default:
		w.last = Output{Found: true, Value: in.Value}
	}
}

// errNotDone means that an operation had no effect and never will.
var errNotDone = errors.New("not done")

// do executes an operation. A get is one of two ordered reads, chosen at random: the API's
// consistent get, or a transaction that reads.
func (w *worker) do(ctx context.Context, in Input) (Output, error) {
	key := []byte(in.Key)
	var op kv.Op

	switch {
	case in.Kind == Get && w.rand.IntN(4) > 0:
		value, found, err := w.node.GetConsistent(ctx, key)
		if err != nil {
			return Output{Unknown: true}, unless(ctx, err)
		}
		return Output{Found: found, Value: string(value)}, nil

	case in.Kind == Get:
		op = kv.Read(key)

	case in.Kind == Put:
		op = kv.Put(key, []byte(in.Value))

	case in.Absent:
		op = kv.CASAbsent(key, []byte(in.Value))

	default:
		op = kv.CAS(key, []byte(in.Expected), []byte(in.Value))
	}

	body, err := kv.Encode(op)
	if err != nil {
		return Output{}, err
	}

	res, err := w.node.SubmitWait(ctx, chain.NewTx(kv.Name, body, time.Minute))
	switch {
	case errors.Is(err, client.ErrUnknown), errors.Is(err, client.ErrPending):
		return Output{Unknown: true}, nil
	case errors.Is(err, client.ErrExpired),
		err != nil && ctx.Err() != nil && !errors.As(err, new(*client.RefusedError)):
		return Output{}, errNotDone // it expired, or no node was reached
	case err != nil:
		return Output{}, err
	}

	return answered(in, res)
}

// unless returns nil if ctx has ended, because err is then only the end of ctx, and err otherwise.
func unless(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// answered returns the output of an operation whose transaction has the result res.
func answered(in Input, res *logv1.TxResult) (Output, error) {
	switch {
	case in.Kind == CAS && res.Code == logv1.Code_CODE_FAILED && strings.Contains(res.Log, kv.ErrConflict.Error()):
		return Output{Conflict: true}, nil
	case res.Code == logv1.Code_CODE_EXPIRED:
		return Output{}, errNotDone
	case res.Code != logv1.Code_CODE_OK:
		return Output{}, fmt.Errorf("%v: %s", res.Code, res.Log)
	case in.Kind != Get:
		return Output{}, nil
	}

	answers, err := kv.DecodeResult(res.Data)
	switch {
	case err != nil:
		return Output{}, err
	case len(answers) != 1:
		return Output{}, fmt.Errorf("%d answers to one read", len(answers))
	}

	return Output{Found: answers[0].Found, Value: string(answers[0].Value)}, nil
}
