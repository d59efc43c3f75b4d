package command

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/cmd/coppice/internal/eventline"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/exit"
)

// eventsFlags are the flags of "events".
type eventsFlags struct {
	follow, asJSON, tree bool
	filter               string
	after                string
	from                 client.Cursor // what after says
	kinds                []string
	limit                uint64
}

func (a *app) eventsCommand() *cobra.Command {
	var o eventsFlags
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Print the records of the event log and, live, the events of the tree",
		Long: `Events prints the records of the running node's event log, from the oldest to the newest, and ends.
With --follow it begins now, or after --after, and prints records, events of the supervision tree
and changes of the readiness as they come, until it is interrupted. It goes on while the node, or
its process, is down. It misses no record and prints none twice. Events of the tree and changes of
the readiness are in no log: those that happen while nobody follows are not printed.

Each record has a cursor, which is its index in the log. --after CURSOR begins with the next record.
With --json, each event also has the history in which the record was written. --after HISTORY:INDEX
is refused if the log was restored or replaced since and has another record there; the error says up
to which record both are the same.

A filter is a list of terms, separated by commas, that must all match. A term may have several
values, separated by |:
  type=record|tree|readiness
                        records of the log, events of the tree, or changes of the readiness
  kind=KIND             ` + wrapWords(api.EventKinds(), 24, 100) + `
  path=PATH             events of the tree at or below this path
  class=CLASS           ends in the tree that are normal, shutdown or abnormal
  reason=TEXT           events of the tree whose reason contains this text`,
		Example: `  coppice events --kinds BlockCommitted
  coppice events --follow
  coppice events --follow --filter 'path=coppice/node/transactions,class=abnormal'
  coppice events --follow --after 120 --json | jq -c .cursor
  coppice events --tree`,
		Args: words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(cmd); err != nil {
				return err
			}
			if _, err := a.resolve(); err != nil {
				return a.nodeError(cmd.Context(), err)
			}

			out := bufio.NewWriter(cmd.OutOrStdout())
			err := a.events(cmd, o, out)
			return errors.Join(err, out.Flush())
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.follow, "follow", false, "go on with new events; without --after, begin now")
	f.BoolVar(&o.asJSON, "json", false, "print one JSON object per line")
	f.BoolVar(&o.tree, "tree", false, "print only events of the tree; implies --follow")
	f.StringVar(&o.filter, "filter", "", "print only what matches, such as 'kind=BlockCommitted|TxExpired'")
	f.StringVar(&o.after, "after", "0",
		"begin after the record with this index, or HISTORY:INDEX; 0 begins with the oldest that is kept")
	f.StringSliceVar(&o.kinds, "kinds", nil, "print only records and events of these kinds")
	completeList(cmd, "kinds", api.EventKinds())
	f.Uint64Var(&o.limit, "limit", 0, "end after this many events; 0 is no limit")

	return cmd
}

// check returns an error if flags contradict each other. It then sets the flags that follow from
// others: --tree implies --follow.
func (o *eventsFlags) check(cmd *cobra.Command) error {
	for _, k := range o.kinds {
		if !slices.Contains(api.EventKinds(), k) {
			return usageError(cmd, "--kinds has %q, want some of %s", k, strings.Join(api.EventKinds(), ", "))
		}
	}

	if o.tree {
		if cmd.Flags().Changed("after") {
			return usageError(cmd, "--after is for records; --tree prints none")
		}
		o.follow = true
		o.filter = strings.TrimPrefix(o.filter+",type=tree", ",")
	}

	if o.follow && !cmd.Flags().Changed("after") {
		o.from = client.Cursor{Index: client.FromNow}
		return nil
	}

	var err error
	if o.from, err = client.ParseCursor(o.after); err != nil {
		return usageError(cmd, "--after: %w", err)
	}
	return nil
}

// errLimit ends the stream when --limit is reached.
var errLimit = errors.New("limit reached")

// events prints events until there are no more, --limit is reached, or it is interrupted.
func (a *app) events(cmd *cobra.Command, o eventsFlags, out *bufio.Writer) error {
	ctx, cancel := context.WithCancelCause(cmd.Context())
	defer cancel(nil)

	late := time.AfterFunc(a.timeout, func() {
		cancel(fmt.Errorf("no answer from the node within %v (--timeout)", a.timeout))
	})
	defer late.Stop()

	print := printEvent
	if o.asJSON {
		print = printEventJSON
	}

	p, printed := paintFor(os.Stdout), uint64(0)
	err := a.client().Events(ctx, client.EventsOptions{After: o.from.Index, History: o.from.History,
		Filter: o.filter, Kinds: o.kinds, Once: !o.follow}, func(e client.Event) error {
		late.Stop() // the node answers: from now on only an interruption ends --follow
		if e.Type() == "cursor" {
			return out.Flush()
		}
		if err := print(out, p, e); err != nil {
			return err
		}
		if printed++; printed == o.limit {
			return errLimit
		}
		if o.follow {
			return out.Flush()
		}

		return nil
	})
	switch {
	case errors.Is(err, errLimit):
		return nil
	case o.follow && errors.Is(context.Cause(cmd.Context()), errInterrupted):
		return nil // this is how --follow ends
	case connect.CodeOf(err) == connect.CodeInvalidArgument:
		return &exitError{exit.Usage, a.nodeError(ctx, err)}
	}

	return a.nodeError(ctx, err)
}

func printEventJSON(w io.Writer, _ paint, e client.Event) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(e)
}

// printEvent writes a line: the index of a record, or the time of an event of the tree, then the
// kind, and what happened.
func printEvent(w io.Writer, p paint, e client.Event) error {
	l := eventline.Of(e)
	if l.Bad {
		l.Text = p.bad(l.Text)
	}

	_, err := fmt.Fprintf(w, "%s  %s  %s\n", p.dim(fmt.Sprintf("%12s", l.Head)),
		p.bold(fmt.Sprintf("%-22s", l.Kind)), l.Text)
	return err
}
