package supervisor

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"reflect"
	"strconv"
	"sync/atomic"
)

// PartitionSpec specifies a fixed number of children of one kind, with the IDs "0" to "n-1". Each
// key routes to one of them.
type PartitionSpec struct {
	Name string
	// Partitions is the number of partitions, 1 or more.
	Partitions int
	// Start makes the service of one incarnation of a partition.
	Start func(ctx context.Context, partition int) (Service, error)
	// Child is the template of each partition; its ID and Start are not used, and it cannot be
	// significant.
	Child     Child
	Strategy  Strategy
	Intensity Intensity
	// Observers get the events; see Spec.Observers.
	Observers []Observer
}

// Partition is a Supervisor of partitions. Its methods are safe for concurrent use.
type Partition struct {
	*Supervisor
	most int
	now  atomic.Int64
	seed maphash.Seed
}

// NewPartition checks the specification and makes a Partition of it.
func NewPartition(spec PartitionSpec) (*Partition, error) {
	if spec.Partitions < 1 {
		return nil, fmt.Errorf("%w: partitioned supervisor %q: Partitions is %d, expected 1 or more", ErrSpec,
			spec.Name, spec.Partitions)
	}

	if spec.Start == nil {
		return nil, fmt.Errorf("%w: partitioned supervisor %q: Start is nil", ErrSpec, spec.Name)
	}

	children := make([]Child, spec.Partitions)
	for i := range children {
		c := spec.Child
		c.ID = strconv.Itoa(i)
		c.Start = func(ctx context.Context) (Service, error) { return spec.Start(ctx, i) }
		children[i] = c
	}

	if err := CheckChildren(children, Never); err != nil {
		return nil, err
	}

	p := &Partition{most: spec.Partitions, seed: maphash.MakeSeed()}
	p.now.Store(int64(spec.Partitions))
	var err error
	p.Supervisor, err = New(Spec{
		Name: spec.Name, Strategy: spec.Strategy, Intensity: spec.Intensity, Observers: spec.Observers,
		Build: func(context.Context) ([]Child, error) {
			p.now.Store(int64(p.most)) // the specification is the truth (OTP rule 32)
			return children, nil
		},
	})

	if err != nil {
		return nil, err
	}

	return p, nil
}

// Partitions returns the number of partitions that run now.
func (p *Partition) Partitions() int { return int(p.now.Load()) }

// Route returns the partition of a key. Integers of all types are routed by their remainder, all
// other keys by a hash that holds for the life of p. A key that is neither a []byte nor comparable
// panics. Route returns -1 if there is no partition.
func (p *Partition) Route(key any) int {
	n := p.now.Load()
	if n == 0 {
		return -1
	}
	if k, ok := key.([]byte); ok {
		return int(maphash.Bytes(p.seed, k) % uint64(n))
	}

	switch v := reflect.ValueOf(key); {
	case v.CanInt():
		return int(((v.Int() % n) + n) % n)
	case v.CanUint():
		return int(v.Uint() % uint64(n))
	default:
		return int(maphash.Comparable(p.seed, key) % uint64(n))
	}
}

// Child returns the incarnation that a key routes to. It returns ErrNotFound if there are no
// partitions, and ErrNotRunning or ErrRestarting if the partition does not run.
func (p *Partition) Child(key any) (Ref, error) {
	i := p.Route(key)
	if i < 0 {
		return Ref{}, fmt.Errorf("partitioned supervisor %s has no partitions: %w", p, ErrNotFound)
	}

	info, err := p.WhichChild(strconv.Itoa(i))
	switch {
	case err != nil:
		return Ref{}, err
	case info.State == Restarting:
		return Ref{}, fmt.Errorf("partition %d of %s %w", i, p, ErrRestarting)
	case info.Ref == Ref{}:
		return Ref{}, fmt.Errorf("partition %d of %s %w", i, p, ErrNotRunning)
	}

	return info.Ref, nil
}

// Resize changes the number of partitions that run: from 0 to the number specified. Partitions keep
// their IDs, and those from n on are stopped. A restart of the supervisor brings all of them back.
// Resize is one management call: it waits for its turn, other calls wait until it has ended, and if
// ctx ends after it has begun, it continues. If a partition does not start, Resize ends with an
// error, and the partitions before that one run. If a partition does not stop in time (ErrOrphan),
// Resize continues with the others. It can be repeated after an error. A caller in a partition that
// would be stopped gets ErrWouldDeadlock, and nothing changes.
func (p *Partition) Resize(ctx context.Context, n int) error {
	if n < 0 || n > p.most {
		return fmt.Errorf("%w: partitioned supervisor %s: resize to %d, expected 0 to %d", ErrSpec, p, n, p.most)
	}
	r, err := p.current()
	if err != nil {
		return err
	}

	caller := r.childOf(ctx)
	_, err = r.do(ctx, func() (Ref, error) { return Ref{}, p.resize(r, n, caller) })
	return err
}

// resize runs in the supervisor's goroutine, for a call from the partition caller or from none.
func (p *Partition) resize(r *Run, n int, caller *incarnation) (err error) {
	for i := n; i < p.most; i++ {
		if rec := r.lookup(strconv.Itoa(i)); rec != nil && rec.inc != nil && rec.inc == caller {
			return fmt.Errorf("stop of partition %d of %s: %w", i, p, ErrWouldDeadlock)
		}
	}

	old := p.Partitions()
	if n < old {
		p.now.Store(int64(n)) // no key is routed to the partitions that are about to stop
	}

	for i := p.most - 1; i >= n; i-- {
		if e := r.terminateChild(strconv.Itoa(i), caller); e != nil && !safeIs(e, ErrNotFound) {
			err = errors.Join(err, e)
		}
		if r.ending != nil || r.stopping() {
			return errors.Join(err, r.gone())
		}
	}

	for i := old; i < n; i++ {
		_, err := r.restartChild(strconv.Itoa(i))
		if err != nil && !safeIs(err, ErrRunning) && !safeIs(err, ErrRestarting) {
			return err
		}
		p.now.Store(int64(i + 1))
	}

	return err
}
