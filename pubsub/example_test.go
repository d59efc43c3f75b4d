package pubsub_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/coppice-go/coppice/pubsub"
	"github.com/coppice-go/coppice/supervisor"
)

// Event is an event of these examples. Its index is its place in the log.
type Event struct {
	Index int
	Kind  string
	Path  string
}

var (
	ByKind = pubsub.Equal("kind", func(e Event) string { return e.Kind })
	ByPath = pubsub.Under("path", func(e Event) string { return e.Path })
)

func Example() {
	ctx := context.Background()
	bus, _ := pubsub.New[Event](pubsub.Options{})
	tree, _ := supervisor.New(bus.Spec()) // most programs put the Spec below a supervisor of theirs
	run, err := tree.Start(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer run.Stop(ctx)

	exits, err := bus.SubscribeWait(ctx, pubsub.Chain[Event]{ByKind.Is("ChildExited"), ByPath.Is("coppice/node")},
		pubsub.DropOldest{Buffer: 100})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer exits.Close()

	_ = bus.Publish(Event{1, "ChildStarted", "coppice/node/logger"})
	_ = bus.Publish(Event{2, "ChildExited", "coppice/node/logger"})
	_ = bus.Publish(Event{3, "ChildExited", "coppice/pubsub"})
	_ = bus.Publish(Event{4, "ChildExited", "coppice/node"})

	for range 2 {
		e, err := exits.Next(ctx)
		fmt.Println(e, err)
	}
	// Output:
	// {2 ChildExited coppice/node/logger} <nil>
	// {4 ChildExited coppice/node} <nil>
}

func ExampleTable_Parse() {
	table, _ := pubsub.NewTable[Event](ByKind, ByPath)
	chain, err := table.Parse(`kind=ChildExited, path="coppice/node/"`)
	fmt.Println(chain, err)
	_, err = table.Parse("kind=ChildExited,pth=coppice")
	fmt.Println(err)
	// Output:
	// kind=ChildExited,path=coppice/node <nil>
	// pubsub: bad filter: at byte 17 of "kind=ChildExited,pth=coppice": no filter is called "pth", want one of kind, path
}

// A subscriber that needs every event keeps a cursor into the log, and reads the log wherever the
// bus reports that something is missing.
func Example_catchUp() {
	ctx := context.Background()
	bus, _ := pubsub.New[Event](pubsub.Options{})
	tree, _ := supervisor.New(bus.Spec())
	run, err := tree.Start(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer run.Stop(ctx)

	var log []Event // in a program it is durable
	record := func() {
		e := Event{Index: len(log) + 1}
		log = append(log, e) // first the log,
		_ = bus.Publish(e)   // then the bus, which may be down
	}
	record()

	cursor := 0
	take := func(events ...Event) {
		for _, e := range events {
			if e.Index > cursor { // otherwise both the log and the bus delivered it
				cursor = e.Index
				fmt.Println("event", e.Index)
			}
		}
	}

	for life := range 2 {
		events, err := bus.SubscribeWait(ctx, nil, pubsub.DropOldest{Buffer: 2})
		if err != nil {
			fmt.Println(err)
			return
		}

		record()              // comes by the bus as well as from the log
		take(log[cursor:]...) // once subscribed, read the log to its end
		for range 4 {
			record() // more than the buffer holds
		}

		if life == 0 {
			_ = run.Kill("broker", errors.New("an accident"))
			<-events.Done()
			record() // only the log has it
		}

		for life == 0 || cursor < len(log) {
			e, err := events.Next(ctx)
			var gap *pubsub.Gap
			if errors.As(err, &gap) {
				take(log[cursor:]...)
			} else if err != nil {
				break // ErrDown: subscribe again
			} else {
				take(e)
			}
		}
	}
	// Output:
	// event 1
	// event 2
	// event 3
	// event 4
	// event 5
	// event 6
	// event 7
	// event 8
	// event 9
	// event 10
	// event 11
	// event 12
}

// A family of a few words refuses the others.
func ExampleOneOf() {
	filters, _ := pubsub.NewTable(pubsub.OneOf("kind", []string{"put", "delete"},
		func(e Event, word string) bool { return e.Kind == word }))

	c, _ := filters.Parse("kind=put|delete")
	fmt.Println(c, c.Match(Event{Kind: "put"}))

	_, err := filters.Parse("kind=putt")
	fmt.Println(err)
	// Output:
	// kind=delete|put true
	// pubsub: bad filter: at byte 0 of "kind=putt": filter "kind" does not take "putt": want one of put, delete, or several with | between them
}
