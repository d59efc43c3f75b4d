package pubsub

import (
	"context"
	"fmt"
	"slices"
)

// registry adds subscriptions to the tree of agents and removes them. It starts the agents that a
// subscription's chain lacks, and retires those that no subscription needs any more. Only the
// registry changes the tree, one request at a time. An agent leaves the tree when it is retired, so
// a subscription never joins an agent that is about to end: the registry starts a new one.
type registry[E any] struct {
	in      *incarnation[E]
	started uint64 // how many agents it has started
}

func (r *registry[E]) run(ctx context.Context, faults faults) error {
	for {
		select {
		case <-r.in.wake:
			if err := r.serve(ctx, r.in.takeRequests()); err != nil {
				return err
			}
		case f := <-faults:
			f.Do(ctx)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// serve handles the requests. An error ends the registry, because the tree of agents is then not
// what it should be. If the agent did not start because the incarnation is over, serve returns nil:
// nobody waits for a reply any more, and the registry waits to be stopped.
func (r *registry[E]) serve(ctx context.Context, requests []request[E]) error {
	for _, q := range requests {
		if q.joined == nil {
			r.leave(q.subscription)
			continue
		}

		if err := r.join(ctx, q.subscription); err != nil {
			r.in.endWithFilters()
			if r.in.ended() != nil {
				return nil
			}
			return err
		}

		close(q.joined)
	}
	return nil
}

// join makes s an output of the last agent of its chain, and starts the agents that the chain
// lacks.
func (r *registry[E]) join(ctx context.Context, s *Subscription[E]) error {
	if s.Err() != nil {
		r.in.forget(s)
		return nil
	}

	at := r.in.broker

	for _, filter := range s.chain {
		child, ok := at.children[filter.Key()]
		if !ok {
			var err error
			if child, err = r.grow(ctx, at, filter); err != nil {
				return err
			}
		}
		at = child
	}

	s.agent = at
	at.subscribers.Add(1)
	at.outputs.add(s)

	return nil
}

// grow adds an agent for filter, as a child of parent.
func (r *registry[E]) grow(ctx context.Context, parent *agent[E], filter Filter[E]) (*agent[E], error) {
	if f, ok := filter.(is[E]); ok && f.of.get != nil {
		return r.growIndexed(ctx, parent, f)
	}

	a := newAgent(r.in, r.nextID(), parent, filter)
	if err := r.start(ctx, a, a.chain.String()); err != nil {
		return nil, err
	}

	r.in.addAgent(a)
	parent.children[filter.Key()] = a
	parent.outputs.add(a.in)

	return a, nil
}

// growIndexed adds an agent that an index agent serves, and starts that one if it is the first.
func (r *registry[E]) growIndexed(ctx context.Context, parent *agent[E], filter is[E]) (*agent[E], error) {
	by := parent.indexes[filter.of]
	if by == nil {
		by = newAgent(r.in, r.nextID(), parent, nil)
		by.index = newIndex(filter.of)
		if err := r.start(ctx, by, append(slices.Clone(parent.chain), filter).String()); err != nil {
			return nil, err
		}
		parent.indexes[filter.of] = by
		parent.outputs.add(by.in)
	}

	a := newAgent(r.in, by.id, parent, filter)
	a.in, a.index = by.in, by.index
	by.index.add(filter.value, a)
	r.in.addAgent(a)
	parent.children[filter.Key()] = a

	return a, nil
}

func (r *registry[E]) nextID() string {
	r.started++
	return fmt.Sprintf("agent-%d", r.started)
}

func (r *registry[E]) start(ctx context.Context, a *agent[E], chain string) error {
	if _, err := r.in.filters.Load().dynamic.StartChild(ctx, a.id, a); err != nil {
		return fmt.Errorf("start the agent for %s: %w", chain, err)
	}
	return nil
}

// leave removes s from its agent. If that agent then has neither subscriptions nor child agents,
// leave retires it, and likewise each agent above it.
func (r *registry[E]) leave(s *Subscription[E]) {
	at := s.agent
	if at == nil {
		return // it ended before its join was handled
	}

	at.subscribers.Add(-1)
	at.outputs.remove(s)

	for at.parent != nil && at.subscribers.Load() == 0 && len(at.children) == 0 {
		delete(at.parent.children, at.filter.Key())
		r.in.removeAgent(at)
		r.retire(at)
		at = at.parent
	}
}

// retire ends the goroutine that serves a, unless it serves other agents too.
func (r *registry[E]) retire(a *agent[E]) {
	if a.index != nil {
		of := a.index.of
		if a.index.remove(a.filter.(is[E]).value) > 0 {
			return
		}
		by := a.parent.indexes[of]
		delete(a.parent.indexes, of)
		a = by
	}

	a.parent.outputs.remove(a.in)
	close(a.retired)
}
